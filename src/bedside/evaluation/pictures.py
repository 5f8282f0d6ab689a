"""The worst cases as one picture: where prediction and truth part, for a person to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bedside.atomic import written_atomically
from bedside.evaluation.cases import CaseResult, Evaluation, Segmenter
from bedside.io.datasets.case import Case, read_case
from bedside.spec.card import DISCLAIMER
from bedside.spec.deployment import Label
from bedside.volume import Box

_TILE_PX = 420
_CAPTION_PX = 50
_LEGEND_PX = 62
_GAP_PX = 12
_COLUMNS = 3
_MARGIN = 0.25
_TINT = 0.7
_OVERSAMPLE = 3
_PAPER, _INK, _FAINT = (18, 20, 24), (236, 238, 240), (150, 156, 164)


@dataclass(frozen=True)
class _Tile:
    """One case, ready to be drawn: a frame (C, H, W), its label maps and its scores."""

    frame: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    result: CaseResult
    index: int


def write_worst_cases(
    path: Path,
    evaluation: Evaluation,
    *,
    segmenter: Segmenter,
    cases: Sequence[Case],
    count: int = 6,
) -> Path:
    """Draw the cases with the lowest mean Dice, worst first, and write them as one PNG.

    The experts' contour is drawn in the label's colour, the predicted one in a light tint
    of it. Of a cine, the frame that fits worst is shown. The cases are segmented again, so
    that a whole data set's predictions need not be kept.

    Args:
        path: The file to write.
        evaluation: Says which cases are the worst.
        segmenter: What `evaluation` was made with.
        cases: The cases that `evaluation` is of.
        count: How many to draw.

    Returns:
        `path`.

    Raises:
        OutputError: If it cannot be written.
    """
    labels = segmenter.spec.labels
    by_id = {case.case_id: case for case in cases}
    tiles = [
        _draw(_look(segmenter, by_id[result.case_id], result), labels)
        for result in evaluation.worst(count)
    ]
    with written_atomically(path) as temporary:
        _arrange(tiles, labels).save(temporary, format="PNG", optimize=True)
    return path


def _look(segmenter: Segmenter, case: Case, result: CaseResult) -> _Tile:
    """Segment a case again and pick its worst frame."""
    labels = segmenter.spec.labels
    source, truth = read_case(case, tuple(label.value for label in labels))
    prediction = segmenter.segment_cine(source.cine).labels.array
    wrong = ((truth != prediction).sum(axis=(1, 2))) / np.maximum(
        ((truth > 0) | (prediction > 0)).sum(axis=(1, 2)), 1
    )
    index = int(wrong.argmax())
    return _Tile(source.cine.decode(index), truth[index], prediction[index], result, index)


def _draw(tile: _Tile, labels: Sequence[Label]) -> Image.Image:
    """Draw one case with its contours, its name and its Dice."""
    box = _box_around((tile.truth > 0) | (tile.prediction > 0))
    scale = _TILE_PX / max(box.height, box.width)
    size = (max(1, round(box.width * scale)), max(1, round(box.height * scale)))
    fine = (size[0] * _OVERSAMPLE, size[1] * _OVERSAMPLE)
    picture = cv2.resize(_to_rgb(tile.frame)[box.slices], fine, interpolation=cv2.INTER_CUBIC)
    # Truth below and wider, so that it shows on both sides of a prediction that agrees; first
    # labels last, so that an inner structure keeps the line that it shares with an outer one.
    for labelled, lighten, width in ((tile.truth, False, 2), (tile.prediction, True, 1)):
        for label in reversed(labels):
            lines = _contours((labelled == label.value)[box.slices], fine)
            color = tint(label.color) if lighten else label.color
            cv2.drawContours(picture, lines, -1, color, width * _OVERSAMPLE)
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    canvas = Image.new("RGB", (_TILE_PX, _TILE_PX + _CAPTION_PX), _PAPER)
    corner = ((_TILE_PX - size[0]) // 2, _CAPTION_PX + (_TILE_PX - size[1]) // 2)
    canvas.paste(Image.fromarray(picture), corner)
    _caption(canvas, tile, labels)
    return canvas


def _caption(canvas: Image.Image, tile: _Tile, labels: Sequence[Label]) -> None:
    """Write name and mean Dice in a first line, the structures' Dice in a second."""
    draw = ImageDraw.Draw(canvas)
    frame = f", frame {tile.index + 1}" if tile.result.frames > 1 else ""
    mean = f"mean Dice {tile.result.mean_dice:.3f}"
    large, small = ImageFont.load_default(16), ImageFont.load_default(13)
    draw.text((2, 4), f"{tile.result.case_id}{frame}", fill=_INK, font=large)
    draw.text((_TILE_PX - 2, 4), mean, fill=_INK, font=large, anchor="ra")
    x = 2.0
    for label in labels:
        text = f"{label.name} {tile.result.structures[label.name].dice:.3f}"
        draw.text((x, 27), text, fill=tint(label.color), font=small)
        x += draw.textlength(text, font=small) + 14


def _arrange(tiles: Sequence[Image.Image], labels: Sequence[Label]) -> Image.Image:
    """Put the tiles in rows, and a legend under them."""
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    step = (_TILE_PX + _GAP_PX, _TILE_PX + _CAPTION_PX + _GAP_PX)
    size = (_GAP_PX + columns * step[0], _GAP_PX + rows * step[1] + _LEGEND_PX)
    sheet = Image.new("RGB", size, _PAPER)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        sheet.paste(tile, (_GAP_PX + column * step[0], _GAP_PX + row * step[1]))
    _legend(ImageDraw.Draw(sheet), labels, top=size[1] - _LEGEND_PX)
    return sheet


def _legend(draw: ImageDraw.ImageDraw, labels: Sequence[Label], *, top: int) -> None:
    """Say what each line is; the colours are those of the contours."""
    font, small = ImageFont.load_default(14), ImageFont.load_default(12)
    x = float(_GAP_PX)
    for label in labels:
        for shift, color, width in ((0, label.color, 2), (6, tint(label.color), 1)):
            draw.line((x, top + 8 + shift, x + 24, top + 8 + shift), fill=color, width=width)
        draw.text((x + 31, top + 2), label.name, fill=_INK, font=font)
        x += 31 + draw.textlength(label.name, font=font) + 22
    note = f"Full colour: experts. Thin and light: prediction. {DISCLAIMER}"
    draw.text((_GAP_PX, top + 30), note, fill=_FAINT, font=small)


def tint(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Lighten a colour; predictions are drawn so."""
    red, green, blue = (round(part + (255 - part) * _TINT) for part in color)
    return red, green, blue


def _contours(mask: np.ndarray, size: tuple[int, int]) -> Sequence[np.ndarray]:
    """Trace a mask after enlarging it smoothly, so that the line is not a staircase."""
    smooth = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    found: Sequence[np.ndarray] = cv2.findContours(
        (smooth >= 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )[0]
    return found


def _box_around(mask: np.ndarray) -> Box:
    """Find the box around a mask with a margin, within the image; all of it if empty."""
    height, width = mask.shape
    if not mask.any():
        return Box(0, 0, height, width)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    margin = round(_MARGIN * max(np.ptp(rows), np.ptp(columns))) + 1
    return Box(
        max(0, int(rows[0]) - margin),
        max(0, int(columns[0]) - margin),
        min(height, int(rows[-1]) + 1 + margin),
        min(width, int(columns[-1]) + 1 + margin),
    )


def _to_rgb(frame: np.ndarray) -> np.ndarray:
    """Turn a frame (C, H, W) of any range into (H, W, 3) uint8 to look at."""
    pixels = np.moveaxis(frame if len(frame) == 3 else np.repeat(frame[:1], 3, axis=0), 0, -1)
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    low, high = np.percentile(pixels, (0.5, 99.5))
    scaled = (pixels - low) / max(float(high - low), 1e-9)
    return np.ascontiguousarray((np.clip(scaled, 0, 1) * 255).astype(np.uint8))
