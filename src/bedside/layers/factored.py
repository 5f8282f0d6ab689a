"""Low-rank convolutions: products of smaller ones.

Nothing stands between the factors, so that they are one linear map until the norm.
"""

from collections import OrderedDict
from collections.abc import Mapping

from torch import nn

from bedside.errors import SpecError
from bedside.layers.conv import CONVOLUTIONS, Conv, ConvNorm, choose_convolution
from bedside.spec.model import check_paths


class FactoredConv(nn.Sequential):
    """A convolution of low rank: `narrow` to few channels, a `core` between few, `widen`.

    A 1x1 convolution of rank r is `narrow` and `widen` alone. One of more taps is a core of
    the same taps and stride between 1x1 convolutions; a side whose rank is full has none.

    Args:
        whole: The convolution to stand in for; without bias, and not of groups.
        ranks: One rank for a 1x1 convolution; else those of the channels in and out.

    Raises:
        SpecError: If there are more or fewer ranks, or they save nothing.

    Source:
        Kim et al., Compression of Deep Convolutional Neural Networks, ICLR 2016 (Tucker-2).

    Example:
        >>> layer = FactoredConv(nn.Conv2d(8, 16, 3, padding=1, bias=False), (4, 6))
        >>> [tuple(part.weight.shape) for part in layer]
        [(4, 8, 1, 1), (6, 4, 3, 3), (16, 6, 1, 1)]
    """

    def __init__(self, whole: Conv, ranks: tuple[int, ...]) -> None:
        wide_in, wide_out, kernel = whole.in_channels, whole.out_channels, whole.kernel_size[0]
        check_ranks(wide_in, wide_out, kernel, ranks)
        axes = whole.weight.ndim - 2
        point = choose_convolution(axes)
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        if kernel == 1 or ranks[0] < wide_in:
            parts["narrow"] = point(wide_in, ranks[0], 1, bias=False)
        if kernel > 1:
            parts["core"] = CONVOLUTIONS[axes](
                ranks[0], ranks[1], kernel, whole.stride, whole.padding, bias=False  # type: ignore[arg-type]
            )  # fmt: skip
        if kernel == 1 or ranks[1] < wide_out:
            parts["widen"] = point(ranks[-1], wide_out, 1, bias=False)
        super().__init__(parts)


def check_ranks(wide_in: int, wide_out: int, kernel: int, ranks: tuple[int, ...]) -> None:
    """Check that ranks are below a convolution's size.

    Args:
        wide_in: Channels in.
        wide_out: Channels out.
        kernel: Kernel size.
        ranks: As in `FactoredConv`.

    Raises:
        SpecError: If there are more or fewer ranks than it takes, a rank is above the
            channels, or none is below.

    Example:
        >>> check_ranks(8, 16, 1, (8,))
        Traceback (most recent call last):
        bedside.errors.SpecError: ranks (8,) of a 1x1 convolution of 8 to 16 channels: expected \
1 to 7.
    """
    size = f"a {kernel}x{kernel} convolution of {wide_in} to {wide_out} channels"
    if len(ranks) != (1 if kernel == 1 else 2):
        raise SpecError(
            f"ranks {ranks} of {size}: expected one rank for 1x1, two (in, out) for more taps."
        )
    if kernel == 1 and ranks[0] >= min(wide_in, wide_out):
        raise SpecError(f"ranks {ranks} of {size}: expected 1 to {min(wide_in, wide_out) - 1}.")
    if kernel > 1:
        full = (wide_in, wide_out)
        if any(rank > most for rank, most in zip(ranks, full, strict=True)) or ranks == full:
            raise SpecError(f"ranks {ranks} of {size}: expected at most {full}, one of them below.")


def list_factorable(model: nn.Module) -> dict[str, ConvNorm]:
    """Find, by path, the convolutions that may be factored: their own, and not depthwise."""
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, ConvNorm)
        and isinstance(module[0], nn.Conv2d | nn.Conv3d)
        and module[0].groups == 1
    }


def factor_convolutions(model: nn.Module, ranks: Mapping[str, tuple[int, ...]]) -> None:
    """Replace a model's convolutions by products with fresh weights.

    Args:
        model: Changed in place.
        ranks: By the path of a convolution with its norm.

    Raises:
        SpecError: If a path is that of none, or its ranks are not below its size.
    """
    known = list_factorable(model)
    check_paths("ranks", ranks, known)
    for path, rank in ranks.items():
        try:
            known[path][0] = FactoredConv(known[path][0], rank)  # type: ignore[arg-type]
        except SpecError as error:
            raise SpecError(f"{path}: {error}") from error
