"""Weights of few bits: rounded in every forward pass, with straight-through gradients.

A rounded weight is an integer times one scale per output channel. A batch norm that folds
into the convolution at export changes the scale and not the integers.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import nn

from bedside.errors import SpecError
from bedside.layers.conv import BranchedConvNorm, Conv, ConvNorm, fold_branches

# Largest integer of each number of bits, and how far beyond the range that it may cover the
# scale is searched: few levels pay for the tails of a distribution more dearly.
_LARGEST = {8: 127, 4: 7, 2: 3}
_REACH = {
    8: (1.0,),
    4: (1.0, 1.15, 1.3, 1.45, 1.6, 1.8, 2.0),
    2: (1.0, 1.2, 1.4, 1.6, 1.8, 2.1, 2.4, 2.7),
}
# Bits of f32's mantissa that a scale does without, so that integer times scale is exact, and
# rounding what was rounded changes nothing.
_DROPPED_BITS = 8


@torch.no_grad()
def round_weights(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the nearest weights that are integers times a scale per output channel.

    In 8 and 4 bits integers reach to +-127 and +-7, in 2 bits they are -3, -1, 1 and 3, in 1
    bit the two signs. The scale is searched for the least squared error. Ternary weights took
    a fifth less room than 4 levels, and trained worse (`benchmarks/lowbit.md`).

    Args:
        weight: (out_channels, ...) float32.
        bits: One of 8, 4, 2 and 1.

    Returns:
        Like `weight`. Rounded again, they stay as they are.

    Source:
        One bit: XNOR-Net's weights, Rastegari et al., ECCV 2016.

    Example:
        >>> round_weights(torch.tensor([[0.5, -1.0, 0.25, 0.75]]), 1).tolist()
        [[0.625, -0.625, 0.625, 0.625]]
        >>> round_weights(torch.tensor([[0.2, -0.75, 0.3, 0.75]]), 2).tolist()
        [[0.25, -0.75, 0.25, 0.75]]
    """
    rows = weight.reshape(len(weight), -1).float()
    if bits == 1:
        rounded = _trim(rows.abs().mean(1, keepdim=True)) * torch.where(rows < 0, -1.0, 1.0)
    else:
        rounded = _search(rows, largest=_LARGEST[bits], reach=_REACH[bits], odd=bits == 2)
    return rounded.reshape(weight.shape).to(weight)


def _search(
    rows: torch.Tensor, *, largest: int, reach: tuple[float, ...], odd: bool
) -> torch.Tensor:
    """Round each row to the multiples, or the odd multiples, of the scale that fit it best."""
    best = torch.zeros_like(rows)
    least = torch.full_like(rows[:, :1], torch.inf)
    highest = rows.abs().amax(1, keepdim=True)
    for factor in reach:
        scale = _trim(highest / (largest * factor))
        steps = rows / scale.clamp_min(1e-30)
        integers = 2 * (steps / 2).floor() + 1 if odd else steps.round()
        integers = integers.clamp(-largest, largest)
        products = (rows * integers).sum(1, keepdim=True)
        # The scale that fits these integers best.
        fitted = _trim(products / integers.square().sum(1, keepdim=True).clamp_min(1.0)) * integers
        error = (fitted - rows).square().sum(1, keepdim=True)
        best = torch.where(error < least, fitted, best)
        least = torch.minimum(error, least)
    return best


def _trim(scale: torch.Tensor) -> torch.Tensor:
    """Round positive f32 to fewer bits, so that products with integers up to 127 are exact."""
    step = 1 << _DROPPED_BITS
    return ((scale.view(torch.int32) + step // 2) & -step).view(torch.float32)


class Rounded:
    """Mixin of a convolution with rounded weights; see `round_convolution`.

    The parameter keeps its place and its name, so that optimizers, averages and checkpoints
    see what they saw before; only who asks for `weight` to compute with it gets it rounded.
    """

    bits: int
    PLAIN: type[nn.Module]
    _parameters: Mapping[str, nn.Parameter]
    _seen: tuple[Any, torch.Tensor] | None = None

    @property
    def weight(self) -> torch.Tensor:
        """The rounded weights; their gradient passes to the parameter unchanged."""
        parameter = self._parameters["weight"]
        if torch.is_grad_enabled():
            return parameter + (round_weights(parameter, self.bits) - parameter).detach()
        # Where nothing is learned, the same weights are asked for again and again.
        state = (self.bits, parameter.data_ptr(), parameter._version)
        if self._seen is None or self._seen[0] != state:
            self._seen = (state, round_weights(parameter, self.bits))
        return self._seen[1]


_CLASSES: dict[type[nn.Module], Any] = {}


def _rounded_class(plain: type[nn.Module]) -> Any:
    """Return the class of rounded convolutions of a plain one."""
    if plain not in _CLASSES:
        _CLASSES[plain] = type(f"Rounded{plain.__name__}", (Rounded, plain), {"PLAIN": plain})
    return _CLASSES[plain]


def round_convolution(convolution: nn.Module, bits: int) -> None:
    """Let a convolution compute with rounded weights, in place."""
    if not isinstance(convolution, Rounded):
        convolution.__class__ = _rounded_class(type(convolution))
    cast(Rounded, convolution).bits = bits


def attach_bits(model: nn.Module, bits: Mapping[str, int]) -> nn.Module:
    """Let some convolutions of a network compute with rounded weights, in place.

    Names and values of its state stay as they are.

    Args:
        model: The network.
        bits: Number of bits by path of a `ConvNorm`, or of a convolution without one.

    Returns:
        The model.

    Raises:
        SpecError: If a path is not that of a convolution which can have few bits.
    """
    for path, number in bits.items():
        for convolution in find_convolutions(model, path):
            round_convolution(convolution, number)
    return model


@torch.no_grad()
def round_to_bits(model: nn.Module) -> nn.Module:
    """Write the rounded weights into a network and make its convolutions plain again, in place.

    Returns:
        The model, which computes what it did.
    """
    for module in model.modules():
        if isinstance(module, Rounded):
            rounded = module.weight
            module.__class__ = module.PLAIN
            module.weight.copy_(rounded)
    return model


def to_plain(model: nn.Module) -> nn.Module:
    """Copy of a network with rounded weights stored and parallel branches folded."""
    return fold_branches(round_to_bits(copy.deepcopy(model)))


def find_convolutions(model: nn.Module, path: str) -> list[Conv]:
    """Return the convolutions of one path.

    Raises:
        SpecError: If there are none, or they belong to parallel branches, whose sum lies on
            no grid.
    """
    found = dict(list_convolutions(model))
    if path not in found:
        raise SpecError(
            f'bits are given for "{path}", which is no convolution that can have few; such are '
            f"{', '.join(list(found)[:3])} ... Shared convolutions have the bits of "
            "their owner, and parallel branches have none."
        )
    return found[path]


def list_convolutions(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, list[Conv]]]:
    """List the convolutions that can have few bits, by path.

    Args:
        model: A network, or a part of one.
        prefix: Its own path.

    Yields:
        Path of a `ConvNorm`, or of a convolution without one, and the convolutions there.
    """
    for name, child in model.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, BranchedConvNorm):
            continue
        if isinstance(child, Conv | ConvNorm):
            inside: list[Any] = [part for part in child.modules() if isinstance(part, Conv)]
            if inside:
                yield path, inside
        else:
            yield from list_convolutions(child, f"{path}.")
