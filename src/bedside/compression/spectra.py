"""Spectra of convolutions, and the cost of their low-rank products."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch

from bedside.compression.input_statistics import Inputs, white
from bedside.compression.slicing import multiply_out
from bedside.layers.conv import Conv, ConvNorm
from bedside.layers.factored import list_factorable
from bedside.models import TrainedNetwork, create
from bedside.spec.model import check_paths

Ranks = tuple[int, ...]
# Least scale of a channel behind its norm, as a share of the largest.
_SCALE_FLOOR = 1e-3


@dataclass(frozen=True)
class Candidate:
    """A convolution that would cost less as a product.

    Attributes:
        path: Of the convolution with its norm.
        ranks: What it would be factored to.
        energy: Share of the variance of its results that is kept, 0 to 1.
        parameters: Weights before and after.
        relative_macs: Multiplications after over those before; below 1.
    """

    path: str
    ranks: Ranks
    energy: float
    parameters: tuple[int, int]
    relative_macs: float


@dataclass(frozen=True)
class Spectrum:
    """The energies of a convolution's weight along its channels.

    Attributes:
        path: Of the convolution with its norm.
        shape: Shape of the weight, (out, in, *taps).
        stride: Stride.
        sides: Squared singular values, largest first, summing to 1: one of a 1x1
            convolution, else one of the channels in and one of those out.
    """

    path: str
    shape: tuple[int, ...]
    stride: int
    sides: tuple[torch.Tensor, ...]

    @property
    def parameters(self) -> int:
        """Weights of the convolution as a whole."""
        return math.prod(self.shape)

    def choose(self, keep_energy: float, *, round_to: int) -> Candidate | None:
        """Ranks that keep a share of the energy; None if the product costs as much."""
        # Each side loses an equal part of what may be lost.
        allowed = (1 - keep_energy) / len(self.sides)
        ranks = tuple(_count(side, 1 - allowed, round_to) for side in self.sides)
        full = (self.shape[1], self.shape[0])
        macs = relative_macs(self.shape, ranks, stride=self.stride)
        if ranks == full or macs >= 1:
            return None
        lost = sum(float(side[r:].sum()) for side, r in zip(self.sides, ranks, strict=True))
        after = round(relative_macs(self.shape, ranks) * self.parameters)
        return Candidate(self.path, ranks, 1 - lost, (self.parameters, after), macs)


def _count(side: torch.Tensor, energy: float, round_to: int) -> int:
    """Count the directions that hold so much energy, rounded up to a multiple.

    Example:
        >>> _count(torch.tensor([0.6, 0.3, 0.1]), 0.9, 1)
        2
    """
    rank = int((side.cumsum(0) < energy - 1e-6).sum()) + 1
    return min(math.ceil(rank / round_to) * round_to, len(side))


def relative_macs(shape: tuple[int, ...], ranks: Ranks, *, stride: int = 1) -> float:
    """Return the multiplications of a product over those of the whole convolution.

    Args:
        shape: Shape of the weight, (out, in, *taps).
        ranks: As in `ModelSpec.ranks`.
        stride: Stride of the convolution; what comes before it works on more positions.

    Example:
        >>> relative_macs((64, 64, 1, 1), (16,))
        0.5
        >>> round(relative_macs((64, 64, 3, 3), (32, 64)), 3)
        0.556
    """
    out, wide, *taps = shape
    area = math.prod(taps)
    if area == 1:
        return ranks[0] * (wide + out) / (wide * out)
    narrow = wide * ranks[0] * stride ** len(taps) if ranks[0] < wide else 0
    widen = ranks[1] * out if ranks[1] < out else 0
    return (narrow + ranks[0] * ranks[1] * area + widen) / (wide * out * area)


def read_spectra(
    network: TrainedNetwork, inputs: Inputs | None, paths: Iterable[str] | None
) -> list[Spectrum]:
    """Spectra of convolutions, weighted by their norms and inputs.

    Args:
        network: Whose.
        inputs: From `measure_inputs`; without, all inputs count alike.
        paths: Which; None for all.

    Raises:
        SpecError: If a path is that of no convolution.
    """
    known, strides = factorable_weights(network), _strides(network)
    wanted = dict.fromkeys(known if paths is None else paths)
    check_paths("paths", wanted, known)
    spectra = []
    for path in wanted:
        whole = known[path].double()
        statistics = (inputs or {}).get(path) or white(whole.shape[1])
        weighted = weigh(whole, statistics.root()[0], scale_of_norm(network.weights, path))
        sides = [weighted.flatten(1)]
        if math.prod(whole.shape[2:]) > 1:
            sides.insert(0, weighted.transpose(0, 1).flatten(1))
        energies = [torch.linalg.svdvals(side).square() for side in sides]
        shares = tuple(energy / energy.sum().clamp(min=1e-30) for energy in energies)
        spectra.append(Spectrum(path, tuple(whole.shape), strides[path], shares))
    return spectra


def factorable_weights(network: TrainedNetwork) -> dict[str, torch.Tensor]:
    """Return the whole weights of all convolutions that may be factored, by path."""
    return {path: multiply_out(network.weights, path) for path in _list_whole(network)}


def _strides(network: TrainedNetwork) -> dict[str, int]:
    return {path: int(conv.stride[0]) for path, conv in _list_whole(network).items()}


def _list_whole(network: TrainedNetwork) -> dict[str, Conv]:
    """Convolutions of the network without ranks, on the meta device."""
    with torch.device("meta"):
        modules: dict[str, ConvNorm] = list_factorable(create(replace(network.spec, ranks={})))
    return {path: module[0] for path, module in modules.items()}  # type: ignore[misc]


def scale_of_norm(weights: Mapping[str, torch.Tensor], path: str) -> torch.Tensor:
    """Scale of the norm behind a convolution per channel, (out,), in float64."""
    norm = f"{path}.1"
    deviation = (weights[f"{norm}.running_var"].double() + 1e-5).sqrt()
    scale = weights[f"{norm}.weight"].double().abs() / deviation
    return scale.clamp(min=float(scale.max()) * _SCALE_FLOOR + 1e-12)


def weigh(whole: torch.Tensor, root: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Multiply rows by the norm's scale, and columns by the root of the input's covariance."""
    return torch.einsum("o,oi...,ij->oj...", scale, whole, root)
