"""Pictures of a result for a person: thin contours over the frames, a legend, a contact sheet."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from bedside.atomic import write_bytes, written_atomically
from bedside.errors import GeometryError
from bedside.io.captions import DARK, GAP_PX, draw_bar, draw_legend
from bedside.io.contours import draw_contours
from bedside.io.gif import FilmWriter
from bedside.spec.deployment import Label
from bedside.volume import Box, Cine, LabelMap
from bedside.workers import map_in_turn

_LEAST_HEIGHT_PX = 480
_DEFAULT_DELAY_MS = 80.0
_MOST_FILM_FRAMES = 150
# A walk through a scan; every fifth slice of 300 shows what there is, in a second less of work.
_MOST_FILM_SLICES = 60
_TILE_WIDTH_PX = 640


@dataclass(frozen=True)
class Overlay:
    """A cine and its labels, with how they are shown; `plan_overlay` makes one.

    Attributes:
        cine: The frames.
        labels: The labels, on the same grid.
        structures: What the labels mean, and their colours.
        scale: Whole number of screen pixels per source pixel, (rows, columns).
        window: Intensities that become black and white.
        line_px: Width of a contour on the screen.
    """

    cine: Cine
    labels: LabelMap
    structures: tuple[Label, ...]
    scale: tuple[int, int]
    window: tuple[float, float]
    line_px: int


def plan_overlay(cine: Cine, labels: LabelMap, structures: Sequence[Label]) -> Overlay:
    """Decide how a cine is shown: at least 480 rows high, one intensity window for all frames.

    Args:
        cine: The frames.
        labels: One label map a frame, on the frames' grid.
        structures: What the label values mean.

    Raises:
        GeometryError: If labels and frames differ in number or size.
    """
    frames, _, height, width = cine.shape
    if labels.array.shape != (frames, height, width):
        raise GeometryError(
            f"labels of shape {labels.array.shape} do not fit frames of shape "
            f"{(frames, height, width)}; draw them on the grid that they were made on."
        )
    scale = screen_scale(height, labels.spacing_mm or cine.spacing_mm)
    line_px = max(1, round(height * scale[0] / 900))
    return Overlay(cine, labels, tuple(structures), scale, display_window(cine), line_px)


def screen_scale(height: int, spacing_mm: tuple[float, float] | None) -> tuple[int, int]:
    """Choose whole factors that make a frame at least 480 rows high and keep its aspect.

    Args:
        height: Rows of the frame.
        spacing_mm: (row, column) spacing; square pixels if None.

    Returns:
        Screen pixels per source pixel, (rows, columns).

    Example:
        >>> screen_scale(240, None)
        (2, 2)
        >>> screen_scale(600, (0.3, 0.15))
        (2, 1)
    """
    row, column = spacing_mm or (1.0, 1.0)
    aspect = min(max(row / column, 1 / 8), 8.0)
    low = max(1, math.ceil(_LEAST_HEIGHT_PX / (height * max(aspect, 1.0))))
    if aspect >= 1:
        return max(1, round(low * aspect)), low
    rows = max(1, math.ceil(_LEAST_HEIGHT_PX / height))
    return rows, max(1, round(rows / aspect))


def display_window(cine: Cine) -> tuple[float, float]:
    """Find the intensities shown as black and white, the same for every frame.

    Bytes are shown as they are. Anything else is stretched between its 0.5th and 99.5th
    percentile, taken over up to five frames spread over the cine.
    """
    frames = [cine.decode(index) for index in spread(len(cine), 5)]
    if frames[0].dtype == np.uint8:
        return 0.0, 255.0
    values = np.concatenate([frame[np.isfinite(frame)].ravel() for frame in frames])
    if values.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, (0.5, 99.5)))
    return low, max(high, low + 1e-6)


def spread(count: int, wanted: int) -> list[int]:
    """Choose `wanted` of `count` frames evenly, first and last among them; all if fewer.

    Example:
        >>> spread(30, 4)
        [0, 10, 19, 29]
    """
    return [
        int(index) for index in np.unique(np.linspace(0, count - 1, min(wanted, count)).round())
    ]


def to_display(frame: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Turn a decoded frame into a picture.

    Args:
        frame: (C, H, W); three channels are RGB, of any other number the first is shown.
        window: Intensities that become black and white.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    planes = [_to_bytes(plane, window) for plane in (frame if frame.shape[0] == 3 else frame[:1])]
    return cv2.merge(planes if len(planes) == 3 else planes * 3)


def _to_bytes(plane: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Show a window of intensities as bytes; bytes are shown as they are."""
    if plane.dtype == np.uint8:
        return plane
    low, high = window
    values = plane.astype(np.float32)
    if plane.dtype.kind == "f":
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    scaled = (np.clip(values, low, high) - low) * (255.0 / (high - low))
    return np.asarray(scaled.round().astype(np.uint8))


def draw_frame(overlay: Overlay, index: int, *, line_px: int | None = None) -> np.ndarray:
    """Draw one frame, enlarged, with its contours and without any text.

    Args:
        overlay: What to draw, and how.
        index: Which frame, from 0.
        line_px: Width of the contours, where it is not the overlay's own.

    Returns:
        (rows x H, columns x W, 3) uint8, RGB.
    """
    return _draw_decoded(overlay, (index, overlay.cine.decode(index)), line_px=line_px)


def _draw_decoded(
    overlay: Overlay, frame: tuple[int, np.ndarray], *, line_px: int | None = None
) -> np.ndarray:
    """Draw a frame, given with its index, as `draw_frame` does."""
    rows, columns = overlay.scale
    index, decoded = frame
    picture = to_display(decoded, overlay.window)
    height, width = picture.shape[:2]
    # OpenCV aligns the outer edges, as the enlarged mask does: no half-pixel shift.
    picture = cv2.resize(picture, (width * columns, height * rows), interpolation=cv2.INTER_LINEAR)
    labels = overlay.labels.array[index]
    draw_contours(
        picture, labels, overlay.structures, overlay.scale, line_px=line_px or overlay.line_px
    )
    return np.asarray(picture)


def _draw_frames(
    overlay: Overlay, indices: Iterable[int], draw: Callable[[tuple[int, np.ndarray]], np.ndarray]
) -> Iterator[np.ndarray]:
    """Draw several frames side by side, in their order; they are decoded one after another."""
    return map_in_turn(draw, ((index, overlay.cine.decode(index)) for index in indices))


def write_overlay(overlay: Overlay, folder: Path) -> Path:
    """Write `overlay.gif` (a film, for several frames) or `overlay.png` (for one).

    The film plays at the speed of the recording where that is known. One of more than
    150 frames, or of more than 60 slices, leaves some out evenly; each shows its own number.

    Args:
        overlay: What to draw, and how.
        folder: Where to.

    Returns:
        The file written.

    Raises:
        OutputError: If it cannot be written.
    """
    captioned = _captioner(overlay)
    count = len(overlay.cine)
    if count == 1:
        return _write_png(next(_draw_frames(overlay, [0], captioned)), folder / "overlay.png")
    if overlay.cine.slice_spacing_mm is None:
        step = math.ceil(count / _MOST_FILM_FRAMES)
        delay_ms = (overlay.cine.frame_time_ms or _DEFAULT_DELAY_MS) * step
    else:
        step, delay_ms = math.ceil(count / _MOST_FILM_SLICES), _DEFAULT_DELAY_MS
    colors = [structure.color for structure in overlay.structures]
    target = folder / "overlay.gif"
    with written_atomically(target) as temporary, temporary.open("wb") as file:
        film = FilmWriter(file, colors, delay_ms=delay_ms)
        for picture in _draw_frames(overlay, range(0, count, step), captioned):
            film.add(picture)
        film.close()
    return target


def write_contact_sheet(
    overlay: Overlay, folder: Path, *, region: Box | None = None, tiles: int = 8
) -> Path:
    """Write `contact_sheet.png`: frames spread evenly over the cine, four to a row.

    Args:
        overlay: What to draw, and how.
        folder: Where to.
        region: What is shown of each frame; all of it if None.
        tiles: How many frames; all if there are fewer.

    Returns:
        The file written.

    Raises:
        OutputError: If it cannot be written.
    """
    return _write_png(draw_contact_sheet(overlay, region=region, tiles=tiles),
                      folder / "contact_sheet.png")  # fmt: skip


def draw_contact_sheet(
    overlay: Overlay, *, region: Box | None = None, tiles: int = 8, tile_px: int = _TILE_WIDTH_PX
) -> np.ndarray:
    """Draw a contact sheet.

    Args:
        overlay: What to draw, and how.
        region: What is shown of each frame; all of it if None.
        tiles: How many frames; all if there are fewer.
        tile_px: Largest width of a tile on the screen.

    Returns:
        (height, width, 3) uint8, RGB.
    """
    region = region or Box(0, 0, *overlay.cine.shape[2:])
    indices = spread(len(overlay.cine), tiles)
    tile = functools.partial(_draw_tile, overlay, region=region, tile_px=tile_px)
    columns = min(4, len(indices))
    rows = math.ceil(len(indices) / columns)
    sheet = np.empty((0, 0, 3), np.uint8)
    for place, picture in enumerate(_draw_frames(overlay, indices, tile)):
        height, width = (size + GAP_PX // 2 for size in picture.shape[:2])
        if not place:
            # The sheet is made once and filled, as it is the largest picture of all.
            legend = draw_legend(overlay.structures, columns * width)
            sheet = np.full((rows * height + len(legend), columns * width, 3), DARK, np.uint8)
            sheet[rows * height :] = legend
        top, left = place // columns * height, place % columns * width
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def encode_jpeg(picture: np.ndarray, *, quality: int = 88) -> bytes:
    """Encode an RGB picture as JPEG, for a page that carries its pictures within."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()


def _captioner(overlay: Overlay) -> Callable[[tuple[int, np.ndarray]], np.ndarray]:
    """Give a function that draws a frame, given with its index, between its bar and the legend."""
    width = max(overlay.cine.shape[3] * overlay.scale[1], 320)
    legend = draw_legend(overlay.structures, width)

    def captioned(frame: tuple[int, np.ndarray]) -> np.ndarray:
        picture = _draw_decoded(overlay, frame)
        spare = width - picture.shape[1]
        if spare:
            picture = np.pad(picture, ((0, 0), (spare // 2, spare - spare // 2), (0, 0)))
        return np.concatenate([draw_bar(frame[0], overlay.cine, width=width), picture, legend])

    return captioned


def _draw_tile(
    overlay: Overlay, frame: tuple[int, np.ndarray], *, region: Box, tile_px: int
) -> np.ndarray:
    """Draw one tile of the contact sheet: the region of a frame under a bar."""
    rows, columns = overlay.scale
    shrink = min(1.0, tile_px / (region.width * columns))
    line_px = max(overlay.line_px, math.ceil(1 / shrink))
    picture = _draw_decoded(overlay, frame, line_px=line_px)
    picture = picture[
        region.top * rows : region.bottom * rows, region.left * columns : region.right * columns
    ]
    if shrink < 1:
        size = (tile_px, max(1, round(picture.shape[0] * shrink)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    spare = max(0, 160 - picture.shape[1])
    picture = np.pad(picture, ((0, 0), (0, spare), (0, 0)))
    return np.concatenate([draw_bar(frame[0], overlay.cine, width=picture.shape[1]), picture])


def _write_png(picture: np.ndarray, target: Path) -> Path:
    """Write an RGB picture."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    write_bytes(target, encoded.tobytes())
    return target
