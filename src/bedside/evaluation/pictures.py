"""The worst cases as one picture, with the outlines of prediction and truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bedside.datasets.case import Case, read_case
from bedside.evaluation.cases import CaseResult, Evaluation, Segmenter
from bedside.evaluation.report import show_dice
from bedside.io.raster import own_png_info
from bedside.report.contours import (
    draw_contours,
    resize_labels,
    resize_picture,
    sort_inwards,
    trace_lines,
)
from bedside.spec.card import DISCLAIMER
from bedside.spec.deployment import Label
from bedside.system.atomic import written_atomically
from bedside.volume import Box

_TILE_PX = 420
_TITLE_PX, _LINE_PX = 26, 18
_GAP_PX = 12
_COLUMNS = 3
_MARGIN = 0.25
_EXPERT_PX = 2
_DASH_PX, _COLORED_PX = 9, 3
_PAPER, _INK, _FAINT = (18, 20, 24), (236, 238, 240), (150, 156, 164)
PREDICTED = (255, 255, 255)
"""Colour of a prediction's dashes; between them its structure's colour shows."""


@dataclass(frozen=True)
class Tile:
    """One case, ready to be drawn.

    Attributes:
        frame: (C, H, W) of any range.
        truth: (H, W) labels of experts.
        prediction: The same of the bundle.
        proportions: Height and width of a pixel, in mm or relative.
        result: Name and scores of the case.
        place: What stands below its name.
    """

    frame: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    proportions: tuple[float, float]
    result: CaseResult
    place: str


def write_worst_cases(
    path: Path,
    evaluation: Evaluation,
    *,
    segmenter: Segmenter,
    cases: Sequence[Case],
    count: int = 6,
) -> Path:
    """Draw the cases with the lowest mean Dice, worst first, and write them as one PNG.

    The experts' outlines are solid lines in the structures' colours, the predicted ones dashed
    in white and that colour. Of several frames or slices the one with the most wrong pixels is
    shown. The cases are segmented again, so that a whole data set's predictions need not be kept.

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
    tiles = [_look(segmenter, by_id[result.case_id], result) for result in evaluation.worst(count)]
    return write_tiles(path, tiles, labels)


def write_tiles(path: Path, tiles: Sequence[Tile], labels: Sequence[Label]) -> Path:
    """Draw cases with the outlines of truth and prediction, and write them as one PNG.

    Args:
        path: The file to write.
        tiles: The cases, at least one.
        labels: The structures.

    Returns:
        `path`.

    Raises:
        OutputError: If it cannot be written.
    """
    drawn = [_draw(tile, labels) for tile in tiles]
    with written_atomically(path) as temporary:
        _arrange(drawn, labels).save(temporary, format="PNG", optimize=True, pnginfo=own_png_info())
    return path


def pick_frame(truth: np.ndarray, prediction: np.ndarray) -> tuple[int, int]:
    """Pick the frame with the most wrong pixels; where none is wrong, that which shows most.

    Pixels and not their part: a slice with four of them can be all wrong.

    Args:
        truth: (F, H, W) labels.
        prediction: The same.

    Returns:
        Its index, and the number of its wrong pixels.
    """
    wrong = (truth != prediction).sum(axis=(1, 2))
    shown = ((truth > 0) | (prediction > 0)).sum(axis=(1, 2))
    index = int(np.lexsort((shown, wrong))[-1])
    return index, int(wrong[index])


def _look(segmenter: Segmenter, case: Case, result: CaseResult) -> Tile:
    """Segment a case again and pick the frame with the most wrong pixels."""
    labels = segmenter.spec.labels
    source, truth = read_case(case, tuple(label.value for label in labels))
    sequence = source.sequence
    prediction = segmenter.segment_sequence(sequence).labels.array
    index, wrong = pick_frame(truth, prediction)
    place = f"{wrong:,} px differ"
    if len(sequence) > 1:
        place = f"{sequence.unit} {index + 1}: {place}"
    return Tile(
        sequence.decode(index), truth[index], prediction[index], sequence.proportions, result, place
    )


def _draw(tile: Tile, labels: Sequence[Label]) -> Image.Image:
    """Draw one case with its outlines, its name and its Dice."""
    box = _box_around((tile.truth > 0) | (tile.prediction > 0))
    row_mm, column_mm = tile.proportions
    scale = _TILE_PX / max(box.height * row_mm, box.width * column_mm)
    size = (
        max(1, round(box.height * row_mm * scale)),
        max(1, round(box.width * column_mm * scale)),
    )
    picture = resize_picture(_to_rgb(tile.frame)[box.slices], size)
    inwards = sort_inwards(labels, np.stack([tile.truth, tile.prediction]))
    truth = resize_labels(np.ascontiguousarray(tile.truth[box.slices]), size)
    draw_contours(picture, truth, inwards, line_px=_EXPERT_PX)
    prediction = resize_labels(np.ascontiguousarray(tile.prediction[box.slices]), size)
    _draw_dashes(picture, prediction, inwards)
    top = _TITLE_PX + _LINE_PX * (1 + len(_wrap(_list_scores(tile, labels), _TILE_PX)))
    canvas = Image.new("RGB", (_TILE_PX, _TILE_PX + top), _PAPER)
    corner = ((_TILE_PX - size[1]) // 2, top + (_TILE_PX - size[0]) // 2)
    canvas.paste(Image.fromarray(picture), corner)
    _caption(canvas, tile, labels)
    return canvas


def _draw_dashes(picture: np.ndarray, labels: np.ndarray, structures: Sequence[Label]) -> None:
    """Draw the outline of every structure in place, in white dashes with its colour between.

    Args:
        picture: (height, width, 3) uint8, RGB.
        labels: (height, width) label values, on the screen.
        structures: What the values mean, and their colours; inner ones last.
    """
    lines = trace_lines(labels, [structure.value for structure in structures])
    for structure in structures:
        mask = np.asarray(labels == structure.value, np.uint8)
        for contour in cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]:
            columns, rows = contour[:, 0].T
            own = lines[rows, columns] == structure.value
            white = np.arange(len(rows)) % _DASH_PX >= _COLORED_PX
            picture[rows[own], columns[own]] = structure.color
            picture[rows[own & white], columns[own & white]] = PREDICTED


def _caption(canvas: Image.Image, tile: Tile, labels: Sequence[Label]) -> None:
    """Write name and mean Dice in a first line, the place in a second, then every structure's."""
    draw = ImageDraw.Draw(canvas)
    large, small = ImageFont.load_default(16), ImageFont.load_default(13)
    draw.text((2, 4), tile.result.case_id, fill=_INK, font=large)
    mean = f"mean Dice {show_dice(tile.result.mean_dice)}"
    draw.text((_TILE_PX - 2, 4), mean, fill=_INK, font=large, anchor="ra")
    draw.text((2, _TITLE_PX), tile.place, fill=_FAINT, font=small)
    texts = _list_scores(tile, labels)
    colors = dict(zip(texts, (label.color for label in labels), strict=True))
    for row, line in enumerate(_wrap(texts, _TILE_PX)):
        for x, text in line:
            place = (x, _TITLE_PX + _LINE_PX * (1 + row))
            draw.text(place, text, fill=colors[text], font=small)


def _list_scores(tile: Tile, labels: Sequence[Label]) -> list[str]:
    """Write the Dice of every structure behind its name."""
    structures = tile.result.structures
    return [f"{label.name} {show_dice(structures[label.name].dice)}" for label in labels]


def _wrap(texts: Sequence[str], width: int, *, before_px: int = 0) -> list[list[tuple[float, str]]]:
    """Lay texts out in lines of a width.

    Args:
        texts: In their order.
        width: Of a line.
        before_px: Room to the left of each text.

    Returns:
        For each line its texts, each behind the place where its room begins.
    """
    font = ImageFont.load_default(13)
    lines: list[list[tuple[float, str]]] = [[]]
    x = 2.0
    for text in texts:
        needed = before_px + font.getlength(text)
        if lines[-1] and x + needed > width:
            lines.append([])
            x = 2.0
        lines[-1].append((x, text))
        x += needed + 14
    return lines


def _arrange(tiles: Sequence[Image.Image], labels: Sequence[Label]) -> Image.Image:
    """Put the tiles in rows, and a legend under them."""
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    step = (_TILE_PX + _GAP_PX, max(tile.height for tile in tiles) + _GAP_PX)
    width = _GAP_PX + columns * step[0]
    legend = _draw_legend(labels, width)
    sheet = Image.new("RGB", (width, _GAP_PX + rows * step[1] + legend.height), _PAPER)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        # Captions differ in height: the pictures of a row stand on one line.
        spare = step[1] - _GAP_PX - tile.height
        sheet.paste(tile, (_GAP_PX + column * step[0], _GAP_PX + row * step[1] + spare))
    sheet.paste(legend, (0, sheet.height - legend.height))
    return sheet


def _draw_legend(labels: Sequence[Label], width: int) -> Image.Image:
    """Draw the legend: one line per contour, in its style."""
    lines = _wrap([label.name for label in labels], width - 2 * _GAP_PX, before_px=20)
    notice = _wrap(DISCLAIMER.replace(". ", ".\n").split("\n"), width - 2 * _GAP_PX)
    height = _LINE_PX * (len(lines) + 1 + len(notice)) + 2 * _GAP_PX
    legend = Image.new("RGB", (width, height), _PAPER)
    draw, font = ImageDraw.Draw(legend), ImageFont.load_default(13)
    colors = {label.name: label.color for label in labels}
    for row, line in enumerate(lines):
        for x, name in line:
            left, top = x + _GAP_PX, row * _LINE_PX
            draw.rectangle((left, top + 3, left + 11, top + 14), fill=colors[name])
            draw.text((left + 18, top), name, fill=_INK, font=font)
    top = len(lines) * _LINE_PX + 6
    color = labels[0].color
    draw.line((_GAP_PX, top + 8, _GAP_PX + 40, top + 8), fill=color, width=_EXPERT_PX)
    draw.text((_GAP_PX + 48, top), "experts", fill=_INK, font=font)
    left = _GAP_PX + 120
    draw.line((left, top + 8, left + 40, top + 8), fill=PREDICTED)
    for start in range(left, left + 40, _DASH_PX):
        draw.line((start, top + 8, start + _COLORED_PX - 1, top + 8), fill=color)
    draw.text((_GAP_PX + 168, top), "prediction", fill=_INK, font=font)
    for row, line in enumerate(notice):
        for x, sentence in line:
            place = (x + _GAP_PX - 2, top + _LINE_PX * (1 + row))
            draw.text(place, sentence, fill=_FAINT, font=font)
    return legend


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
