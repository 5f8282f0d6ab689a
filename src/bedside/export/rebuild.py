"""Import of a bundle into torch: the weights of its f32 graph in the network of its spec.

Batch norms of the graph are folded into convolutions, and its weights stored in few bits. The
network computes the same, and can be converted, compressed and trained further.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import onnx
import torch
from torch import nn

from bedside.bundle import Bundle
from bedside.errors import ExportError
from bedside.export.onnx import EXACT_TOLERANCE, STORED_TOLERANCE
from bedside.export.parity import check_parity, make_inputs
from bedside.graphs.constant_folding import fold_constants
from bedside.graphs.space_to_depth_stem import from_cells
from bedside.layers.conv import BranchedConvNorm, ConvNorm, Norm, fold_branches
from bedside.models import TrainedNetwork, create
from bedside.spec import ModelSpec

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
# Largest relative difference of shared weights, by rounding to 9 bits.
_LARGEST_RESIDUE = 0.01


@dataclass(frozen=True)
class _Folded:
    """One convolution of the graph: its name, weights and bias."""

    name: str
    weight: torch.Tensor
    bias: torch.Tensor


@dataclass(frozen=True)
class _Place:
    """The part of the model that one convolution of the graph was exported from.

    Attributes:
        path: Its path once branches are folded and shared convolutions are copies.
        module: The convolution, or the branched one.
        norm: The batch norm behind it, if there is one.
    """

    path: str
    module: nn.Module
    norm: Norm | None


def rebuild_network(bundle: Bundle) -> TrainedNetwork:
    """The network of a bundle with the weights of its f32 graph.

    Its batch norms are identities that add the folded bias. In evaluation mode it computes
    the same as the graph, which is checked in every installed runtime; before further training,
    call `restore_statistics`.

    Args:
        bundle: Any bundle that `bedside build` made.

    Raises:
        ExportError: If the graph is not of the network that the spec describes.
    """
    shape = (1, bundle.spec.input.channels, *bundle.spec.input.size_px)
    return rebuild_from_graph(bundle.read_graph("f32"), bundle.spec.model, input_shape=shape)


def rebuild_from_graph(
    graph: bytes, spec: ModelSpec, *, input_shape: tuple[int, ...]
) -> TrainedNetwork:
    """The network that a graph was exported from, with the graph's weights.

    Convolutions are found by their names, and by the order in which they run where the graph
    has other names. Parts used in training only, such as the boundary branch, are initialized anew.

    Args:
        graph: Serialized ONNX, made by `export_onnx`; weights in f32, f16 or small integers.
        spec: The network.
        input_shape: (1, C, *S) of the graph.

    Raises:
        ExportError: If their convolutions do not match, or the network gives other results than
            the graph.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # Plain convolutions, whose weights can be filled in: those of the graph are rounded.
        model = create(replace(spec, bits={})).eval()
    inputs = make_inputs(input_shape, count=2)
    places = _find_places(model, torch.from_numpy(inputs[-1]))
    pairs = _match(places, _read_convolutions(graph))
    lent: dict[nn.Module, torch.Tensor] = {}
    for place, folded in pairs:
        _fill(place, folded, lent)
    # Shared weights are equal up to rounding, and runtimes differ in how they compute with
    # integers and scales.
    exact = len(lent) == len(pairs) and b"DequantizeLinear" not in graph
    check_parity(
        graph, model, inputs=inputs, tolerance=EXACT_TOLERANCE if exact else STORED_TOLERANCE
    )
    return TrainedNetwork.of(model, spec)


@torch.no_grad()
def restore_statistics(network: TrainedNetwork, inputs: Iterable[np.ndarray]) -> TrainedNetwork:
    """Set the statistics of batch norms to those of some images; results stay the same.

    In training a batch norm divides by its batch's deviation, which a rebuilt one does not know;
    with these statistics, training continues where it ended.

    Args:
        network: As `rebuild_network` returns it, or any other.
        inputs: Tensors (B, C, *S) float32, preprocessed as in use; some tens of images do.

    Raises:
        ExportError: If there are no inputs.
    """
    model = network.create()
    norms = [module for module in model.modules() if isinstance(module, _NORMS)]
    sums: dict[nn.Module, torch.Tensor] = {}

    def add(norm: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        x = arguments[0].double().transpose(0, 1).flatten(1)
        seen = torch.stack([torch.full_like(x[:, 0], x.shape[1]), x.sum(1), x.square().sum(1)])
        sums[norm] = sums[norm] + seen if norm in sums else seen

    handles = [norm.register_forward_pre_hook(add) for norm in norms]
    for tensor in inputs:
        model(torch.from_numpy(tensor))
    for handle in handles:
        handle.remove()
    if not sums:
        raise ExportError("no inputs; give some tens of preprocessed images.")
    for norm in norms:
        if norm in sums:
            count, total, squares = sums[norm]
            mean = total / count
            _set_statistics(norm, mean, (squares / count - mean.square()).clamp_min(0))
    return TrainedNetwork.of(model, network.spec)


def _set_statistics(norm: Norm, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Set the statistics of a norm, and compensate for them in its weight and bias."""
    old_mean = cast(torch.Tensor, norm.running_mean).double()
    old_variance = cast(torch.Tensor, norm.running_var).double()
    scale = norm.weight.double() / (old_variance + norm.eps).sqrt()
    norm.bias.copy_(norm.bias.double() + scale * (mean - old_mean))
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    cast(torch.Tensor, norm.running_mean).copy_(mean)
    cast(torch.Tensor, norm.running_var).copy_(variance)


def _read_convolutions(graph: bytes) -> list[_Folded]:
    """A graph's convolutions in execution order, with weights in f32."""
    nodes = [n for n in onnx.load_from_string(graph).graph.node if n.op_type == "Conv"]
    constants = fold_constants(graph, {name for node in nodes for name in node.input[1:] if name})
    found = []
    for node in nodes:
        if any(name not in constants for name in node.input[1:] if name):
            raise ExportError(
                f'the weights of the convolution "{node.name}" are computed from the image; '
                "expected a graph that `bedside build` made."
            )
        weight = torch.from_numpy(constants[node.input[1]].astype(np.float32))
        has_bias = len(node.input) > 2 and bool(node.input[2])
        bias = (
            torch.from_numpy(constants[node.input[2]].astype(np.float32))
            if has_bias
            else torch.zeros(len(weight))
        )
        found.append(_Folded(node.input[1], weight, bias))
    return found


@torch.no_grad()
def _find_places(model: nn.Module, example: torch.Tensor) -> list[_Place]:
    """Convolutions of a model in execution order, each with the norm behind it."""
    branched = [m for m in model.modules() if isinstance(m, BranchedConvNorm)]
    inside = {part for unit in branched for part in unit.modules() if part is not unit}
    called: list[tuple[nn.Module, Any]] = []
    norms: dict[int, Norm] = {}

    def note(module: nn.Module, arguments: Any, output: Any) -> None:
        # The output is kept, so that no later tensor has its identity.
        called.append((module, output))

    def note_norm(norm: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        norms[id(arguments[0])] = cast(Norm, norm)

    handles = []
    for module in model.modules():
        if module in inside:
            continue
        if isinstance(module, (*_CONVOLUTIONS, BranchedConvNorm)):
            handles.append(module.register_forward_hook(note))
        elif isinstance(module, _NORMS):
            handles.append(module.register_forward_pre_hook(note_norm))
    model(example)
    for handle in handles:
        handle.remove()
    return [
        _Place(path, module, norms.get(id(output)))
        for path, (module, output) in zip(_folded_paths(model, example), called, strict=True)
    ]


def _folded_paths(model: nn.Module, example: torch.Tensor) -> list[str]:
    """Paths of convolutions in execution order once branches are folded, as in exported graphs."""
    folded = fold_branches(copy.deepcopy(model))
    paths: list[str] = []

    def note(path: str, module: nn.Module, arguments: Any) -> None:
        paths.append(path)

    for path, module in folded.named_modules(remove_duplicate=False):
        if isinstance(module, _CONVOLUTIONS):
            module.register_forward_pre_hook(partial(note, path))
    folded(example)
    return paths


def _match(places: list[_Place], found: list[_Folded]) -> list[tuple[_Place, _Folded]]:
    """Pair the model's convolutions with the graph's, by name or else by order."""
    if len(places) != len(found):
        raise ExportError(
            f"the graph has {len(found)} convolutions, the network of its spec has "
            f"{len(places)}: the graph is of another network."
        )
    by_name = {folded.name: folded for folded in found}
    names = [f"{place.path}.weight" for place in places]
    ordered = [by_name[name] for name in names] if set(names) <= set(by_name) else found
    pairs = [
        (place, _to_voxels(folded, _weight_shape(place.module)))
        for place, folded in zip(places, ordered, strict=True)
    ]
    for place, folded in pairs:
        seen, wanted = tuple(folded.weight.shape), _weight_shape(place.module)
        if seen != wanted:
            raise ExportError(
                f'the graph\'s convolution "{folded.name}" has weights of shape {seen}; '
                f'"{place.path}" of the spec takes {wanted}.'
            )
    return pairs


def _to_voxels(folded: _Folded, wanted: tuple[int, ...]) -> _Folded:
    """The 3x3x3 convolution that `read_by_cells` has rewritten; any other as it is."""
    outputs, *rest = wanted
    if rest != [1, 3, 3, 3] or folded.weight.shape != (outputs, 8, 2, 2, 2):
        return folded
    return replace(folded, weight=torch.from_numpy(from_cells(folded.weight.numpy())))


def _weight_shape(module: nn.Module) -> tuple[int, ...]:
    holder = module
    if isinstance(module, BranchedConvNorm):
        holder = cast(ConvNorm, module.branches[0])[0]
    return tuple(cast(torch.Tensor, holder.weight).shape)


@torch.no_grad()
def _fill(place: _Place, folded: _Folded, lent: dict[nn.Module, torch.Tensor]) -> None:
    """Write one convolution of the graph into the model."""
    module = place.module
    if isinstance(module, BranchedConvNorm):
        lent[module] = folded.weight
        _fill_branched(module, folded)
        return
    convolution = cast(nn.Conv2d, module)
    scale = torch.ones(len(folded.bias))
    if module in lent:
        scale = _relate(folded, lent[module])
    else:
        lent[module] = folded.weight
        convolution.weight.copy_(folded.weight)
    if place.norm is not None:
        _set_identity(place.norm, scale, folded.bias)
    elif convolution.bias is not None:
        convolution.bias.copy_(folded.bias)
    elif bool(folded.bias.any()):
        raise ExportError(f'the graph has a bias for "{place.path}", the spec has no place for it.')


def _fill_branched(module: BranchedConvNorm, folded: _Folded) -> None:
    """Write the folded convolution into the first branch, and scale the others to zero."""
    first, *others = (cast(ConvNorm, branch) for branch in module.branches)
    cast(nn.Conv2d, first[0]).weight.copy_(folded.weight)
    _set_identity(first.norm, torch.ones(len(folded.bias)), folded.bias)
    for norm in (*(branch.norm for branch in others), module.identity):
        _set_identity(norm, torch.zeros(len(folded.bias)), torch.zeros(len(folded.bias)))


def _set_identity(norm: Norm, scale: torch.Tensor, bias: torch.Tensor) -> None:
    """Set a norm to a plain scale and bias in evaluation mode."""
    cast(torch.Tensor, norm.running_mean).zero_()
    cast(torch.Tensor, norm.running_var).fill_(1 - norm.eps)
    norm.weight.copy_(scale)
    norm.bias.copy_(bias)


def _relate(folded: _Folded, shared_with: torch.Tensor) -> torch.Tensor:
    """Scale of each channel of a shared convolution against the one that owns the weights.

    Raises:
        ExportError: If they are no multiples of each other.
    """
    own, base = folded.weight.flatten(1), shared_with.flatten(1)
    scale = (own * base).sum(1) / base.square().sum(1).clamp_min(torch.finfo(base.dtype).tiny)
    residue = (own - scale[:, None] * base).norm() / own.norm().clamp_min(1e-12)
    if residue > _LARGEST_RESIDUE:
        raise ExportError(
            f'the weights of "{folded.name}" are no multiples of those that it shares '
            f"(a part of {float(residue):.2g} remains): the graph is of another network."
        )
    return scale
