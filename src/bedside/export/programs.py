"""Programs that converters take, and that can be truncated after any convolution.

Graph formats are converted from ONNX, torch's formats from a program of torch.export. Both know
the names of their convolutions, so that exports can be compared layer by layer.
"""

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from bedside.errors import ExportError
from bedside.layers.rounding import to_plain
from bedside.runtime import open_graph
from bedside.system.quiet import quiet

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
_WEIGHT = ".weight"


class Program(Protocol):
    """The input of a converter."""

    @property
    def layers(self) -> Mapping[str, str]:
        """Output of each convolution by the layer's name, in execution order."""

    def cut(self, layer: str) -> "Program":
        """The program truncated after one layer."""

    def predict(self, tensor: np.ndarray) -> np.ndarray:
        """Run it before any conversion."""


class GraphProgram:
    """An ONNX graph.

    Args:
        content: Serialized ONNX with one input and one output.
        names: Name of the layer behind each value, if the names of the weights do not contain it:
            those of the float graph that this one was made from.
    """

    def __init__(self, content: bytes, *, names: Mapping[str, str] | None = None) -> None:
        self.content = content
        self._names = names

    @cached_property
    def layers(self) -> Mapping[str, str]:
        """Output of each convolution by the layer's name, in execution order."""
        values = [n for n in onnx.load_from_string(self.content).graph.node if n.op_type == "Conv"]
        if self._names is None:
            return {
                node.input[1].removesuffix(_WEIGHT)
                if node.input[1].endswith(_WEIGHT)
                else node.output[0]: node.output[0]
                for node in values
            }
        return {
            self._names[node.output[0]]: node.output[0]
            for node in values
            if node.output[0] in self._names
        }

    @property
    def names(self) -> dict[str, str]:
        """Name of the layer behind each value."""
        return {value: layer for layer, value in self.layers.items()}

    def cut(self, layer: str) -> "GraphProgram":
        """The graph truncated after one layer."""
        model = onnx.load_from_string(self.content)
        wanted = self.layers[layer]
        needed, kept = {wanted}, []
        for node in reversed(model.graph.node):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(node)
        tensors = [tensor for tensor in model.graph.initializer if tensor.name in needed]
        graph = helper.make_graph(
            kept[::-1],
            "cut",
            list(model.graph.input),
            [helper.make_tensor_value_info(wanted, TensorProto.FLOAT, None)],
            tensors,
        )
        cut = helper.make_model(
            graph, ir_version=model.ir_version, opset_imports=model.opset_import
        )
        return GraphProgram(cut.SerializeToString())

    def predict(self, tensor: np.ndarray) -> np.ndarray:
        """Run the graph in the first runtime that is installed."""
        return open_graph(self.content).predict(tensor)


class TorchProgram:
    """A program of torch.export.

    Args:
        exported: The program, from one tensor of batch 1 to one tensor.
        example: An input.
        calibration: Tensors that a converter reads the ranges of 8 bits from; empty for floats.
    """

    def __init__(
        self, exported: Any, example: torch.Tensor, calibration: Sequence[np.ndarray] = ()
    ) -> None:
        self.exported = exported
        self.example = example
        self.calibration = calibration

    @classmethod
    def trace(
        cls, module: nn.Module, example: torch.Tensor, *, calibration: Sequence[np.ndarray] = ()
    ) -> "TorchProgram":
        """Export a module.

        Raises:
            ExportError: If torch cannot export it.
        """
        try:
            with quiet(), torch.no_grad():
                exported = torch.export.export(module, (example,))
        except Exception as error:  # torch's errors share no base
            lines = str(error).strip().splitlines() or [repr(error)]
            raise ExportError(f"torch cannot export the network: {lines[0]}") from error
        return cls(exported, example, calibration)

    @cached_property
    def layers(self) -> Mapping[str, str]:
        """Output of each convolution by the layer's name, in execution order."""
        found = {}
        for node in self.exported.graph.nodes:
            stack = list((node.meta.get("nn_module_stack") or {}).values())
            if stack and "conv" in str(node.target) and node.op == "call_function":
                found[_layer_name(stack[-1][0])] = node.name
        return found

    def cut(self, layer: str) -> "TorchProgram":
        """The program truncated after one layer."""
        with quiet():
            module = copy.deepcopy(self.exported.module(check_guards=False))
        nodes = {node.name: node for node in module.graph.nodes}
        output = next(node for node in module.graph.nodes if node.op == "output")
        output.replace_input_with(output.all_input_nodes[0], nodes[self.layers[layer]])
        module.graph.eliminate_dead_code()
        module.recompile()
        return TorchProgram.trace(module, self.example, calibration=self.calibration)

    def predict(self, tensor: np.ndarray) -> np.ndarray:
        """Run the program in torch."""
        with torch.inference_mode():
            logits: np.ndarray = self.exported.module()(torch.from_numpy(tensor)).float().numpy()
        return logits


def to_inference(model: nn.Module) -> nn.Module:
    """Copy a network for inference alone: each convolution with its batch norm in it.

    Weights are laid out as converters expect them, and nothing is computed in place.
    """
    module = to_plain(model).cpu().float().eval()
    _fuse(module)
    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()
    return module


def in_bf16(module: nn.Module, *, kept: tuple[str, ...] = ()) -> nn.Module:
    """A network of `to_inference` in bf16, with some layers in f32.

    Args:
        module: The network; it is copied.
        kept: Names of convolutions that stay in f32.
    """
    half = copy.deepcopy(module).to(torch.bfloat16)
    for name in kept:
        parent, _, own = name.rpartition(".")
        layer = copy.deepcopy(module.get_submodule(name))
        setattr(half.get_submodule(parent), own, _Between(layer, torch.float32, torch.bfloat16))
    return _Between(half, torch.bfloat16, torch.float32)


class _Between(nn.Module):
    """A module that computes in one type between modules of another."""

    def __init__(self, inner: nn.Module, inside: torch.dtype, outside: torch.dtype) -> None:
        super().__init__()
        self.inner, self._inside, self._outside = inner, inside, outside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.inner(x.to(self._inside)).to(self._outside)
        return result


def _layer_name(path: str) -> str:
    """Path of a layer without what `in_bf16` adds to it.

    Example:
        >>> _layer_name("inner.stem.0.0.inner")
        'stem.0.0'
    """
    return path.removeprefix("inner.").removesuffix(".inner")


def _fuse(module: nn.Module) -> None:
    """Fold batch norms into the convolutions before them, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU):
            setattr(module, name, nn.ReLU())
        _fuse(child)
    parts = list(module.named_children())
    for (name, first), (after, second) in itertools.pairwise(parts):
        if isinstance(first, _CONVOLUTIONS) and isinstance(second, _NORMS):
            setattr(module, name, torch.nn.utils.fusion.fuse_conv_bn_eval(first, second))
            setattr(module, after, nn.Identity())


ProgramMaker = Callable[[tuple[str, ...]], Program]
