"""Every structure of a label map is in its pictures, whatever its number, place and size."""

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import makers
from bedside.io.dicom.options import DicomOptions
from bedside.io.read_options import Limits, ReadOptions
from bedside.planning.colors import choose_color
from bedside.report import captions, contours, overlay
from bedside.spec import Label
from bedside.volume import Box, ImageSequence, LabelMap


def nested(shape=(64, 80)):
    """A cavity in a wall in a third structure; then each one's mask, the outer first."""
    rows, columns = np.indices(shape)
    far = np.hypot(rows - 30, columns - 40)
    return [far < radius for radius in (22, 12, 9)]


def touching(shape=(64, 80)):
    """Three blocks in a row; the middle one touches nothing but the others."""
    masks = np.zeros((3, *shape), bool)
    for place, mask in enumerate(masks):
        mask[20:40, 10 + 15 * place : 25 + 15 * place] = True
    masks[0][10:50, 5:60] = ~masks[1:].any(axis=0)[10:50, 5:60]
    return list(masks)


def one_pixel(shape=(64, 80)):
    """One pixel in a block, and one beside that pixel."""
    masks = np.zeros((3, *shape), bool)
    masks[0, 20:40, 20:40] = True
    masks[1, 30, 30] = masks[2, 30, 31] = True
    return list(masks)


def thin(shape=(64, 80)):
    """A wall of one pixel around a cavity, and a line of one pixel along the border."""
    masks = np.zeros((3, *shape), bool)
    masks[0, 20:40, 20:40] = True
    masks[1, 21:39, 21:39] = True
    masks[2, 63, :] = True
    return list(masks)


def paint(masks, values):
    """Draw masks over each other as labels of those values."""
    labels = np.zeros(masks[0].shape, np.uint8)
    for mask, value in zip(masks, values, strict=True):
        labels[mask] = value
    return labels


def make_structures(values):
    """Labels of these values, coloured as a planned recipe colours them."""
    colors = (choose_color(place) for place in range(len(values)))
    return [
        replace(makers.LABELS[0], value=value, name=f"structure {value}", color=color)
        for value, color in zip(values, colors, strict=True)
    ]


def plan(labels, structures, *, spacing_mm=None, frames=1):
    frame = np.full((1, *labels.shape), 90, np.uint8)
    sequence = ImageSequence((frames, 1, *labels.shape), lambda index: frame, spacing_mm=spacing_mm)
    stack = np.repeat(labels[None], frames, axis=0)
    return overlay.plan_overlay(sequence, LabelMap(stack, spacing_mm), structures)


def count_near(picture, color, *, within=0):
    """Count pixels of a colour, each channel within some steps."""
    return int((np.abs(picture.astype(int) - color).max(axis=-1) <= within).sum())


def crop(picture, structures):
    """Leave out the bar above and the legend below, which shows the colours too."""
    legend = captions.draw_legend(structures, picture.shape[1])
    assert (np.abs(picture[-len(legend) :].astype(int) - legend).max(axis=-1) < 60).mean() > 0.99
    return picture[captions.BAR_PX : -len(legend)]


def read(path, frame=0):
    with Image.open(path) as image:
        image.seek(frame)
        return np.asarray(image.convert("RGB"))


SHAPES = pytest.mark.parametrize("shape", [nested, touching, one_pixel, thin])
ORDERS = pytest.mark.parametrize("values", list(itertools.permutations([1, 2, 255])))
SPACINGS = pytest.mark.parametrize("spacing_mm", [None, (0.5, 1.5), (8.0, 0.7)])


@SHAPES
@ORDERS
@SPACINGS
def test_every_structure_is_in_every_picture(shape, values, spacing_mm, tmp_path):
    structures: list[Label] = make_structures(values)
    labels = paint(shape(), values)
    still = plan(labels, structures, spacing_mm=spacing_mm)
    film = plan(labels, structures, spacing_mm=spacing_mm, frames=2)
    region = Box(5, 5, 30, 60)
    png = read(overlay.write_overlay(still, tmp_path))
    gif = read(overlay.write_overlay(film, tmp_path), 1)
    sheet = overlay.draw_contact_sheet(film, region=region, tile_px=440)
    page = Image.open(io.BytesIO(overlay.encode_jpeg(sheet)))
    pictures = {"png": (png, 0), "gif": (gif, 0), "sheet": (sheet, 0)}
    pictures["page"] = (np.asarray(page), 60)
    for structure, (name, (picture, within)) in itertools.product(structures, pictures.items()):
        found = count_near(crop(picture, structures), structure.color, within=within)
        assert found >= 3, f"{structure.name} in {name}"


@SHAPES
@pytest.mark.parametrize("size", [(64, 80), (40, 50), (16, 20), (9, 200), (200, 9)])
def test_no_structure_is_lost_where_a_picture_is_smaller_than_its_frame(shape, size):
    labels = paint(shape(), [3, 1, 2])
    screen = contours.resize_labels(labels, size)
    assert screen.shape == size
    assert set(np.unique(screen)) - {0} == {1, 2, 3}


def test_a_large_frame_with_specks_keeps_them_all():
    labels = np.zeros((3000, 4000), np.uint8)
    labels[500:2500, 500:3500] = 40
    specks = {value: (700 + 3 * (value % 4), 800 + 2 * (value // 4)) for value in range(1, 30)}
    for value, place in specks.items():
        labels[place] = value
    screen = contours.resize_labels(labels, (300, 400))
    assert set(np.unique(screen)) == {0, 40, *specks}
    rows, columns = np.nonzero((screen > 0) & (screen < 40))
    assert np.ptp(rows) < 12
    assert np.ptp(columns) < 12
    assert abs(rows.mean() - 70) < 6
    assert abs(columns.mean() - 81) < 6


@pytest.mark.parametrize("spacing_mm", [(0.5, 1.5), (1.5, 0.5), (1.0, 1.3), (5.0, 0.4)])
def test_a_round_structure_is_round_in_every_picture(spacing_mm, tmp_path):
    # A disc of 20 mm on a grid of such pixels.
    shape = tuple(round(60 / spacing) for spacing in spacing_mm)
    rows, columns = np.indices(shape)
    middle = [size * spacing / 2 for size, spacing in zip(shape, spacing_mm, strict=True)]
    down = (rows + 0.5) * spacing_mm[0] - middle[0]
    across = (columns + 0.5) * spacing_mm[1] - middle[1]
    labels = (np.hypot(down, across) < 20).astype(np.uint8)
    drawn = plan(labels, makers.LABELS, spacing_mm=spacing_mm, frames=2)
    pictures = {
        "frame": overlay.draw_frame(drawn, 0),
        "sheet": crop(overlay.draw_contact_sheet(drawn, tile_px=300, tiles=1), drawn.structures),
    }
    for name, picture in pictures.items():
        line = np.nonzero((picture == makers.LABELS[0].color).all(axis=-1))
        height, width = (np.ptp(places) + 1 for places in line)
        # Up to a pixel of the coarse axis is missing on either side.
        coarse = max(spacing_mm) / 40
        assert height / width == pytest.approx(1, abs=0.02 + coarse), name
        # The line is thin: a few screen pixels a row at most.
        assert len(line[0]) < 4 * (height + width), name


def test_labels_beyond_the_region_of_a_sheet_are_shown():
    labels = np.zeros((64, 80), np.uint8)
    labels[50:60, 70:78] = 1
    sheet = overlay.draw_contact_sheet(
        plan(labels, makers.LABELS, frames=2), region=Box(5, 5, 30, 60)
    )
    assert count_near(crop(sheet, makers.LABELS), makers.LABELS[0].color) > 20


@pytest.mark.parametrize("count", [16, 100])
def test_many_colours_stay_apart_in_a_film(count, tmp_path):
    values = list(range(1, count + 1))
    labels = np.zeros((40, 100), np.uint8)
    labels[10, : len(values)] = values
    film = plan(labels, make_structures(values), frames=2)
    shown = crop(read(overlay.write_overlay(film, tmp_path)), film.structures)
    for structure in film.structures:
        assert count_near(shown, structure.color) >= 3, structure.name


def test_tall_frames_stay_in_bounds_on_a_sheet():
    labels = np.zeros((400, 20), np.uint8)
    sheet = overlay.draw_contact_sheet(plan(labels, makers.LABELS, frames=8), tile_px=200)
    assert sheet.shape[0] <= 2 * (200 + 28 + 5) + 4 * 28


@pytest.mark.parametrize(
    ("tags", "aspect"),
    [
        ({"PixelAspectRatio": ["2", "1"]}, 2.0),
        ({"ImagerPixelSpacing": [0.1, 0.2]}, 0.5),
        ({"PixelAspectRatio": ["0", "1"]}, 1.0),
        ({}, 1.0),
        # Where a scale is known it decides.
        ({"PixelSpacing": [0.5, 1.5], "PixelAspectRatio": ["2", "1"]}, 1 / 3),
    ],
)
@pytest.mark.parametrize("untrusted", [False, True])
def test_proportions_without_a_scale_are_those_of_the_header(tags, aspect, untrusted, tmp_path):
    dataset = makers.make_dicom(makers.make_fan(2), tags={"Modality": "XA", **tags})
    path = makers.write_dicom(dataset, tmp_path / "a.dcm")
    source = ReadOptions((), Limits(2048, 60.0, None) if untrusted else None, DicomOptions()).open(
        path
    )
    frames, _, height, width = source.sequence.shape
    labels = LabelMap(np.zeros((frames, height, width), np.uint8), source.sequence.spacing_mm)
    rows, columns = overlay.plan_overlay(source.sequence, labels, makers.LABELS).size
    assert (rows / height) / (columns / width) == pytest.approx(aspect, rel=0.02)
