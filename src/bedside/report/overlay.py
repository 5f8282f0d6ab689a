"""Pictures of a result: contours over the frames, a legend, a contact sheet."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from bedside.errors import GeometryError
from bedside.io.own_results import mark_png
from bedside.report.captions import DARK, GAP_PX, draw_bar, draw_legend
from bedside.report.contours import draw_contours, resize_labels, resize_picture, sort_inwards
from bedside.report.gif import FilmWriter
from bedside.report.screen import (
    SHADE,
    SHADED,
    display_window,
    screen_size,
    shade,
    spread,
    to_display,
)
from bedside.report.sides import name_edges, write_sides
from bedside.spec.confidence import Confidences
from bedside.spec.deployment import Label
from bedside.system.atomic import write_bytes, written_atomically
from bedside.system.parallel import ordered_map
from bedside.volume import Box, ImageSequence, LabelMap

_LONGEST_PX, _LONGEST_FILM_PX = 2048, 1280
_DEFAULT_DELAY_MS = 80.0
_MOST_FILM_FRAMES = 150
# Of a scan, every fifth of 300 slices shows enough, in a second less.
_MOST_FILM_SLICES = 60
_TILE_WIDTH_PX = 640
# As many frames say which structure lies within which.
_MOST_SORTED = 16


@dataclass(frozen=True)
class Overlay:
    """A sequence and its labels, and how they are shown; see `plan_overlay`.

    Attributes:
        sequence: The frames.
        labels: The labels, on the same grid.
        structures: What the labels mean, and their colours.
        inwards: The same, those within others last.
        size: (height, width) of a frame on the screen, in true proportions.
        window: Intensities that become black and white.
        line_px: Width of a contour on the screen.
        doubted: Values of each frame that are not to be trusted, whose contours are dashed; empty
            if nothing is known of that.
        sides: What the left and the top edge of a slice lie to in the patient, such as "R" and
            "A"; "" where that is not known.
        probabilities: (K, frames, height, width) of each class; where that of the likeliest is
            less than `screen.SURE`, a pixel is shaded. None to shade nothing.
    """

    sequence: ImageSequence
    labels: LabelMap
    structures: tuple[Label, ...]
    inwards: tuple[Label, ...]
    size: tuple[int, int]
    window: tuple[float, float]
    line_px: int
    doubted: tuple[frozenset[int], ...] = ()
    sides: tuple[str, str] = ("", "")
    probabilities: np.ndarray | None = None


def plan_overlay(
    sequence: ImageSequence,
    labels: LabelMap,
    structures: Sequence[Label],
    *,
    confidence: Sequence[Confidences] = (),
    with_sides: bool = False,
) -> Overlay:
    """Return how a sequence is shown: true proportions, one intensity window for all frames.

    Args:
        sequence: The frames.
        labels: One label map a frame, on the frames' grid.
        structures: What the label values mean.
        confidence: Of each frame, or of all together; empty if it is not known.
        with_sides: Whether the sides of the patient are written to the edges, where they are known.

    Raises:
        GeometryError: If labels and frames differ in number or size.
    """
    frames, _, height, width = sequence.shape
    if labels.array.shape != (frames, height, width):
        raise GeometryError(
            f"labels of shape {labels.array.shape} do not fit frames of shape "
            f"{(frames, height, width)}; draw them on the grid that they were made on."
        )
    longest_px = _LONGEST_PX if frames == 1 else _LONGEST_FILM_PX
    size = screen_size(
        (height, width), labels.spacing_mm or sequence.proportions, longest_px=longest_px
    )
    line_px = max(1, round(size[0] / 900))
    inwards = sort_inwards(structures, labels.array[spread(frames, _MOST_SORTED)])
    doubted = tuple(
        frozenset(
            label.value
            for label in structures
            if (sure := each.get(label.name)) is not None and not sure.trusted
        )
        for each in (confidence if len(confidence) == frames else [*confidence] * frames)
    )
    return Overlay(
        sequence, labels, tuple(structures), inwards, size, display_window(sequence), line_px,
        doubted, name_edges(sequence.geometry) if with_sides else ("", ""),
    )  # fmt: skip


def draw_frame(overlay: Overlay, index: int, *, size: tuple[int, int] | None = None) -> np.ndarray:
    """Draw one frame with its contours and without any text.

    Args:
        overlay: What to draw, and how.
        index: Which frame, from 0.
        size: (height, width) on the screen, where it is not the overlay's own.

    Returns:
        (height, width, 3) uint8, RGB.
    """
    return _draw_decoded(
        overlay, (index, overlay.sequence.decode(index)), size=size or overlay.size
    )


def _draw_decoded(
    overlay: Overlay, frame: tuple[int, np.ndarray], *, size: tuple[int, int]
) -> np.ndarray:
    """Draw a frame, given with its index, as `draw_frame` does."""
    index, decoded = frame
    picture = resize_picture(to_display(decoded, overlay.window), size)
    if overlay.probabilities is not None:
        shade(picture, overlay.probabilities[:, index].max(axis=0))
    labels = resize_labels(overlay.labels.array[index], size)
    dashed = overlay.doubted[index] if overlay.doubted else ()
    draw_contours(picture, labels, overlay.inwards, line_px=overlay.line_px, dashed=dashed)
    return picture


def _draw_frames(
    overlay: Overlay, indices: Iterable[int], draw: Callable[[tuple[int, np.ndarray]], np.ndarray]
) -> Iterator[np.ndarray]:
    """Draw several frames side by side, in their order; they are decoded one after another."""
    return ordered_map(draw, ((index, overlay.sequence.decode(index)) for index in indices))


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
    count = len(overlay.sequence)
    if count == 1:
        return _write_png(next(_draw_frames(overlay, [0], captioned)), folder / "overlay.png")
    if not overlay.sequence.has_slices:
        step = math.ceil(count / _MOST_FILM_FRAMES)
        delay_ms = (overlay.sequence.frame_time_ms or _DEFAULT_DELAY_MS) * step
    else:
        step, delay_ms = math.ceil(count / _MOST_FILM_SLICES), _DEFAULT_DELAY_MS
    colors = [structure.color for structure in overlay.structures]
    target = folder / "overlay.gif"
    with written_atomically(target) as temporary, temporary.open("wb") as file:
        film = FilmWriter(file, colors, delay_ms=delay_ms)
        shown = range(0, count, step)
        for index, picture in zip(shown, _draw_frames(overlay, shown, captioned), strict=True):
            film.add(picture, delay_ms=_delay_of(overlay.sequence, index, step))
        film.close()
    return target


def _delay_of(sequence: ImageSequence, index: int, step: int) -> float | None:
    """How long a frame of a film stays, where that varies."""
    if sequence.frame_starts_ms is None or index + step >= len(sequence):
        return None
    return sequence.frame_starts_ms[index + step] - sequence.frame_starts_ms[index]


def write_contact_sheet(
    overlay: Overlay, folder: Path, *, region: Box | None = None, tiles: int = 8
) -> Path:
    """Write `contact_sheet.png`: frames spread evenly over the sequence, four to a row.

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


def write_unsure_sheet(
    overlay: Overlay, probabilities: np.ndarray, folder: Path, *, region: Box | None = None
) -> Path:
    """Write `unsure.png`: the contact sheet, shaded where the network is less sure of a class.

    Args:
        overlay: What to draw, and how.
        probabilities: (K, frames, height, width), as the network has them: not calibrated.
        folder: Where to.
        region: What is shown of each frame; all of it if None.

    Returns:
        The file written.

    Raises:
        OutputError: If it cannot be written.
    """
    unsure = replace(overlay, probabilities=probabilities)
    return _write_png(draw_contact_sheet(unsure, region=region), folder / "unsure.png")


def draw_contact_sheet(
    overlay: Overlay, *, region: Box | None = None, tiles: int = 8, tile_px: int = _TILE_WIDTH_PX
) -> np.ndarray:
    """Draw a contact sheet.

    Args:
        overlay: What to draw, and how.
        region: What is shown of each frame; all of it if None.
        tiles: How many frames; all if there are fewer.
        tile_px: Longest side of a tile on the screen.

    Returns:
        (height, width, 3) uint8, RGB.
    """
    indices = spread(len(overlay.sequence), tiles)
    whole = Box(0, 0, *overlay.sequence.shape[2:])
    region = whole if region is None else _surround(region, overlay.labels.array[indices])
    tile = functools.partial(_draw_tile, overlay, region=region, tile_px=tile_px)
    columns = min(4, len(indices))
    rows = math.ceil(len(indices) / columns)
    sheet = np.empty((0, 0, 3), np.uint8)
    for place, picture in enumerate(_draw_frames(overlay, indices, tile)):
        height, width = (size + GAP_PX // 2 for size in picture.shape[:2])
        if not place:
            # The sheet is made once and filled, as it is the largest picture of all.
            legend = draw_legend(
                overlay.structures,
                columns * width,
                has_dashed=_has_dashed(overlay, indices),
                shade=None if overlay.probabilities is None else (SHADE, SHADED),
            )
            sheet = np.full((rows * height + len(legend), columns * width, 3), DARK, np.uint8)
            sheet[rows * height :] = legend
        top, left = place // columns * height, place % columns * width
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def encode_jpeg(picture: np.ndarray, *, quality: int = 88) -> bytes:
    """Encode an RGB picture as JPEG, for a page that carries its pictures within.

    Colour is kept as fine as brightness, or thin lines would lose theirs.
    """
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    fine = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality, *fine])
    return encoded.tobytes()


def _captioner(overlay: Overlay) -> Callable[[tuple[int, np.ndarray]], np.ndarray]:
    """Return a function from (index, frame) to the frame drawn between its bar and the legend."""
    width = max(overlay.size[1], 320)
    shown = range(len(overlay.sequence))
    legend = draw_legend(overlay.structures, width, has_dashed=_has_dashed(overlay, shown))

    def captioned(frame: tuple[int, np.ndarray]) -> np.ndarray:
        picture = _draw_decoded(overlay, frame, size=overlay.size)
        write_sides(picture, overlay.sides)
        spare = width - picture.shape[1]
        if spare:
            picture = np.pad(picture, ((0, 0), (spare // 2, spare - spare // 2), (0, 0)))
        return np.concatenate([draw_bar(frame[0], overlay.sequence, width=width), picture, legend])

    return captioned


def _has_dashed(overlay: Overlay, indices: Iterable[int]) -> bool:
    """Whether a contour in some of the frames is dashed, as it is not to be trusted."""
    drawn = ((overlay.doubted[index], index) for index in indices if overlay.doubted)
    return any(np.isin(overlay.labels.array[index], list(values)).any() for values, index in drawn)


def _surround(region: Box, labels: np.ndarray) -> Box:
    """Widen a region until it holds every label, (frames, height, width)."""
    held = np.asarray(labels.any(axis=0))
    held[region.slices] = True
    rows, columns = (np.flatnonzero(np.any(held, axis=axis)) for axis in (1, 0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def _draw_tile(
    overlay: Overlay, frame: tuple[int, np.ndarray], *, region: Box, tile_px: int
) -> np.ndarray:
    """Draw one tile of the contact sheet: the region of a frame under a bar."""
    shape = overlay.sequence.shape[2:]
    rows, columns = (size / source for size, source in zip(overlay.size, shape, strict=True))
    shrink = min(1.0, tile_px / max(region.height * rows, region.width * columns))
    # Drawn at the size of the tile: a line that is made smaller later is a faint one.
    rows, columns = rows * shrink, columns * shrink
    size = max(1, round(shape[0] * rows)), max(1, round(shape[1] * columns))
    picture = _draw_decoded(overlay, frame, size=size)
    picture = picture[
        round(region.top * rows) : round(region.bottom * rows),
        round(region.left * columns) : round(region.right * columns),
    ]
    write_sides(picture, overlay.sides)
    spare = max(0, 160 - picture.shape[1])
    picture = np.pad(picture, ((0, 0), (0, spare), (0, 0)))
    return np.concatenate([draw_bar(frame[0], overlay.sequence, width=picture.shape[1]), picture])


def _write_png(picture: np.ndarray, target: Path) -> Path:
    """Write an RGB picture."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    write_bytes(target, mark_png(encoded.tobytes()))
    return target
