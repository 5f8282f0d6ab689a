"""The rows of the ablation: each takes a recipe's network and switches one thing off or over."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from bedside.errors import SpecError
from bedside.models import create
from bedside.spec import LevelSpec, ModelSpec
from bedside.spec.model import CONV_BLOCKS

AS_IT_IS = "as-it-is"


@dataclass(frozen=True)
class Variant:
    """One row.

    Attributes:
        title: What differs, in the table.
        change: From the recipe's network to this row's.
    """

    title: str
    change: Callable[[ModelSpec], ModelSpec]


def at_attention(**settings: Any) -> Callable[[ModelSpec], ModelSpec]:
    """Change all levels with attention."""
    return lambda model: _change(model, settings, lambda level: level.block not in CONV_BLOCKS)


def at_convolutions(**settings: Any) -> Callable[[ModelSpec], ModelSpec]:
    """Change all levels of convolutions."""
    return lambda model: _change(model, settings, lambda level: level.block in CONV_BLOCKS)


def swap(block: str, *, exchange: bool = True) -> Callable[[ModelSpec], ModelSpec]:
    """Put another mechanism where there is attention, as far as that is possible of one size.

    Windows are those of the finest level with attention, since a level of another mechanism
    says nothing of windows; regions are as large, and a halo is half a window.
    """

    def change(model: ModelSpec) -> ModelSpec:
        window = find_window(model)
        levels = (
            level
            if level.block in CONV_BLOCKS
            else replace(
                level,
                block=block,  # type: ignore[arg-type]
                exchange=exchange,
                window=window,
                halo=window // 2,
                region=window,
            )
            for level in model.levels
        )
        return replace(model, levels=tuple(levels))

    return change


def dense_below(model: ModelSpec) -> ModelSpec:
    """Attend densely at the coarsest level only, where that can be afforded."""
    return replace(model, levels=(*model.levels[:-1], replace(model.levels[-1], block="dense")))


def in_two_scales(model: ModelSpec) -> ModelSpec:
    """Share windows of two sizes out to the heads, all in windows."""

    def split(level: LevelSpec) -> LevelSpec:
        if level.block in CONV_BLOCKS:
            return level
        return replace(level, block="window", window=(side, max(2, side // 2)))

    side = find_window(model)
    return replace(model, levels=tuple(split(level) for level in model.levels))


def find_window(model: ModelSpec) -> int:
    """Give the side of windows at the finest level with attention; 8 without one."""
    sides = [max(level.windows) for level in model.levels if level.block not in CONV_BLOCKS]
    return sides[0] if sides else 8


VARIANTS = {
    AS_IT_IS: Variant("the recipe's network", lambda model: model),
    "conv": Variant("attention -> convolutions", at_attention(block="conv")),
    "window-alone": Variant("windows, no exchange", swap("window", exchange=False)),
    "window": Variant("windows with exchange", swap("window")),
    "overlap": Variant("overlapping windows with exchange", swap("overlap")),
    "routed": Variant("routed regions with exchange", swap("routed")),
    "pooled": Variant("pooled keys", swap("pooled")),
    "linear": Variant("linear attention", swap("linear")),
    "dense": Variant("dense at the coarsest level", dense_below),
    "two-scales": Variant("windows of two sizes across heads", in_two_scales),
    "kv-heads-2": Variant("2 heads of keys and values, not 1", at_attention(kv_heads=2)),
    "shared": Variant("attention and MLP shared in a level", at_attention(shared="both")),
    "reparam": Variant("reparameterised convolutions on top", at_convolutions(block="reparam")),
    "deep-supervision": Variant(
        "deep supervision on", lambda model: replace(model, deep_supervision=True)
    ),
    "boundary": Variant("boundary branch on", lambda model: replace(model, boundary=True)),
}
"""Name of a row -> what differs in it."""


def list_variants(model: ModelSpec, size_px: tuple[int, ...] = ()) -> dict[str, ModelSpec]:
    """Each row's network; a row that changes nothing in this recipe is left out.

    Args:
        model: The recipe's network.
        size_px: Size of its input; with it, rows are left out too that are another network on
            paper and compute the same at this size, such as dense attention over one window.

    Example:
        >>> from bedside.models import named_spec
        >>> "window" in list_variants(named_spec("tiny"))
        False
    """
    found = {AS_IT_IS: model}
    for name, variant in VARIANTS.items():
        changed = variant.change(model)
        if changed in found.values() or (size_px and computes_the_same(changed, model, size_px)):
            continue
        found[name] = changed
    return found


def computes_the_same(one: ModelSpec, other: ModelSpec, size_px: tuple[int, ...]) -> bool:
    """Whether two networks with the same weights have the same logits at a size of input."""
    torch.manual_seed(0)
    first, second = create(one).eval(), create(other).eval()
    weights = first.state_dict()
    shapes = {name: value.shape for name, value in weights.items()}
    if shapes != {name: value.shape for name, value in second.state_dict().items()}:
        return False
    second.load_state_dict(weights)
    image = torch.rand(1, one.in_channels, *size_px)
    with torch.no_grad():
        return torch.allclose(first(image), second(image), rtol=1e-4, atol=1e-5)


def check_names(names: list[str]) -> None:
    """Refuse a row that there is not.

    Raises:
        SpecError: If a name is not in the table.
    """
    for name in names:
        if name not in VARIANTS:
            raise SpecError(f'no row "{name}"; choose one of {", ".join(VARIANTS)}.')


def _change(
    model: ModelSpec, settings: dict[str, Any], chosen: Callable[[LevelSpec], bool]
) -> ModelSpec:
    levels = (replace(level, **settings) if chosen(level) else level for level in model.levels)
    return replace(model, levels=tuple(levels))
