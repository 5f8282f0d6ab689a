"""Text on pictures: the bar above a frame and the legend below it."""

import functools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bedside.report.gif import Color
from bedside.spec.deployment import Label
from bedside.volume import ImageSequence

BAR_PX = 28
GAP_PX = 10
DARK = 18

_TEXT_PX = 17
_PATCH_PX = 20
_NOTICE = "Research use only"
_DASHED = "- - not to be trusted"


def draw_bar(index: int, sequence: ImageSequence, *, width: int) -> np.ndarray:
    """Draw the bar above a frame or slice: its number, counted from 1, and its time.

    Args:
        index: Which frame, from 0.
        sequence: Where it comes from.
        width: Width of the bar.

    Returns:
        (BAR_PX, width, 3) uint8, RGB.
    """
    bar = np.full((BAR_PX, width, 3), DARK, np.uint8)
    if len(sequence) > 1:
        _put_text(bar, f"{sequence.unit} {index + 1} / {len(sequence)}", GAP_PX)
    start_ms = sequence.start_ms(index)
    if start_ms is not None:
        time = f"{start_ms:.0f} ms"
        _put_text(bar, time, width - GAP_PX - draw_text(time).shape[1])
    return bar


def draw_legend(
    structures: Sequence[Label],
    width: int,
    *,
    has_dashed: bool = False,
    shade: tuple[Color, str] | None = None,
) -> np.ndarray:
    """Draw the strip below a picture: a patch of colour and a name for each structure.

    "Research use only" stands at its end.

    Args:
        structures: What is drawn, and in which colours.
        width: Width of the strip; names that do not fit side by side go below each other.
        has_dashed: Whether some contour is dashed, which is explained then.
        shade: Colour of what is shaded, and what that means; None if nothing is.

    Returns:
        (a multiple of BAR_PX, width, 3) uint8, RGB.
    """
    lines = [np.full((BAR_PX, width, 3), DARK, np.uint8)]
    left = GAP_PX
    entries: list[tuple[Color | None, str]] = [(each.color, each.name) for each in structures]
    entries += [shade] if shade else []
    entries += [(None, _DASHED)] if has_dashed else []
    for color, text in entries:
        patch = 0 if color is None else _PATCH_PX
        name = _shorten(text, width - 2 * GAP_PX - patch)
        needed = patch + draw_text(name).shape[1]
        if left + needed > width and left > GAP_PX:
            lines.append(np.full_like(lines[0], DARK))
            left = GAP_PX
        if color is not None:
            lines[-1][8:20, left : left + 12] = color
        _put_text(lines[-1], name, left + patch)
        left += needed + 2 * GAP_PX
    notice = width - GAP_PX - draw_text(_NOTICE).shape[1]
    if notice < left:
        lines.append(np.full_like(lines[0], DARK))
    _put_text(lines[-1], _NOTICE, max(0, notice), brightness=0.6)
    return np.concatenate(lines)


def _put_text(bar: np.ndarray, text: str, left: int, *, brightness: float = 0.95) -> None:
    """Write light text into a dark bar, in place, cut off where the bar ends."""
    drawn = draw_text(text)[: bar.shape[0], : max(0, bar.shape[1] - left)]
    top = (bar.shape[0] - drawn.shape[0]) // 2
    place = bar[top : top + drawn.shape[0], left : left + drawn.shape[1]]
    place[:] = np.maximum(place, (drawn * brightness).astype(np.uint8)[..., None])


def _shorten(text: str, width: int) -> str:
    """Cut a text that is wider than `width`, and end it with dots."""
    if draw_text(text).shape[1] <= width:
        return text
    while text and draw_text(f"{text}...").shape[1] > width:
        text = text[:-1]
    return f"{text}..."


@functools.lru_cache(maxsize=512)
def draw_text(text: str) -> np.ndarray:
    """Draw a line of text, white on black, (height, width) uint8."""
    font = _font()
    width = math.ceil(font.getlength(text)) + 1
    image = Image.new("L", (max(width, 1), _TEXT_PX + 5))
    ImageDraw.Draw(image).text((0, 1), text, fill=255, font=font)
    return np.asarray(image)


@functools.lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Load the font that Pillow carries."""
    return ImageFont.load_default(_TEXT_PX)
