import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import makers
from bedside.errors import GeometryError, OutputError
from bedside.report import captions, contours, gif, overlay, screen
from bedside.volume import Box, ImageSequence, LabelMap

RED, GREEN, BLUE = (label.color for label in makers.LABELS)


def make_cine(frames, *, frame_time_ms=None, spacing_mm=None):
    """A cine of (F, H, W) grey or (F, H, W, 3) colour frames."""
    channels = frames.shape[3] if frames.ndim == 4 else 1

    def decode(index):
        return np.moveaxis(frames[index].reshape(*frames.shape[1:3], channels), -1, 0)

    shape = (frames.shape[0], channels, *frames.shape[1:3])
    return ImageSequence(shape, decode, frame_time_ms=frame_time_ms, spacing_mm=spacing_mm)


def make_overlay(frames=4, **sequence):
    pixels, labels = makers.make_fan(frames), makers.make_labels(frames)
    return overlay.plan_overlay(make_cine(pixels, **sequence), LabelMap(labels), makers.LABELS)


def square_labels(value=1):
    labels = np.zeros((60, 50), np.uint8)
    labels[10:30, 15:40] = value
    return labels


def traced(labels, value, size, **line):
    """Opacity of an outline on the whole screen."""
    lines = contours.trace_lines(contours.resize_labels(labels, size), [2, 1, 3], **line)
    places, owners = contours.find_corners(lines)
    screen = (lines == value).astype(float)
    screen.ravel()[places[owners == value]] = 0.5
    return screen


@pytest.mark.parametrize("scale", [(1, 1), (2, 2), (3, 2), (4, 4), (1, 2.5), (3.7, 1.3)])
def test_a_square_s_line_lies_within_half_a_source_pixel_of_its_true_edge(scale):
    size = round(60 * scale[0]), round(50 * scale[1])
    rows, columns = np.nonzero(traced(square_labels(), 1, size) == 1)
    # Middles of screen pixels, in source pixels, where the square reaches from 10 to 30, 15 to 40.
    rows, columns = (rows + 0.5) * 60 / size[0], (columns + 0.5) * 50 / size[1]
    for found, edge in (
        (rows.min(), 10), (rows.max(), 30), (columns.min(), 15), (columns.max(), 40),
    ):  # fmt: skip
        assert abs(found - edge) <= 0.5
    distance = np.minimum.reduce([rows - 10, 30 - rows, columns - 15, 40 - columns])
    # A middle may lie on the edge itself.
    assert distance.min() >= 0
    assert distance.max() <= 0.5


def test_the_line_is_closed_and_one_pixel_wide():
    line = traced(square_labels(), 1, (120, 100)) == 1
    height, width = 40, 50
    assert line.sum() == 2 * (height + width) - 4
    assert (line.sum(axis=0)[32:78] == 2).all()


def test_a_wider_line_grows_inwards_only():
    thin, wide = (traced(square_labels(), 1, (120, 100), line_px=width) > 0 for width in (1, 3))
    assert (wide & thin).sum() == thin.sum()
    inside = np.kron(square_labels(), np.ones((2, 2))) > 0
    assert not (wide & ~inside).any()
    assert wide[40, 30:33].all()
    assert not wide[40, 33]


def test_a_structure_at_the_frame_s_border_is_closed_there():
    labels = np.zeros((20, 20), np.uint8)
    labels[:5, :5] = 1
    line = traced(labels, 1, (40, 40)) == 1
    assert line[0, :10].all()
    assert line[:10, 0].all()


@pytest.mark.parametrize(("inner", "outer"), [(1, 2), (2, 1), (255, 7)])
def test_a_shared_border_is_drawn_once_for_the_inner_structure(inner, outer):
    labels = square_labels(outer)
    labels[12:28, 17:38] = inner
    structures = [replace(makers.LABELS[0], value=value) for value in (inner, outer)]
    inwards = [structure.value for structure in contours.sort_inwards(structures, labels[None])]
    assert inwards == [outer, inner]
    lines = contours.trace_lines(contours.resize_labels(labels, (120, 100)), inwards)
    assert (lines[24, 34:76] == inner).all()
    assert (lines[20, 30:80] == outer).all()
    assert (lines[21:24, 31:79] == 0).all()


def test_a_structure_that_shares_all_its_border_is_drawn_beside_the_others():
    labels = square_labels(1)
    labels[15:25, 20:35] = 2
    # As in a cine in whose other frames 2 surrounds 1.
    lines = contours.trace_lines(contours.resize_labels(labels, (120, 100)), [2, 1])
    assert (lines[30, 40:70] == 2).all()
    assert (lines[29, 40:70] == 1).all()
    assert (lines[31:49, 41:69] == 0).all()


def test_a_label_that_is_nowhere_draws_nothing():
    picture = np.full((120, 100, 3), 7, np.uint8)
    contours.draw_contours(picture, np.zeros((120, 100), np.uint8), makers.LABELS)
    assert (picture == 7).all()


def test_a_drawn_frame_is_the_frame_but_for_its_lines():
    plan = make_overlay()
    drawn = overlay.draw_frame(plan, 1)
    assert drawn.shape == (480, 640, 3)
    lines = [traced(plan.labels.array[1], value, plan.size) for value in (1, 2, 3)]
    for line, color in zip(lines, (RED, GREEN, BLUE), strict=True):
        assert (drawn[line == 1] == color).all()
        assert (line == 1).any()
    elsewhere = np.max(lines, axis=0) == 0
    assert (np.ptp(drawn[elsewhere], axis=-1) == 0).all()


def test_the_enlarged_frame_is_not_shifted():
    frames = np.zeros((1, 40, 40), np.uint8)
    frames[0, 10:20, 10:20] = 255
    labels = np.zeros((1, 40, 40), np.uint8)
    plan = overlay.plan_overlay(make_cine(frames), LabelMap(labels), makers.LABELS)
    drawn = overlay.draw_frame(plan, 0)[..., 0].astype(float)
    middle = (drawn.sum(axis=0) * (np.arange(drawn.shape[1]) + 0.5)).sum() / drawn.sum()
    assert middle / plan.size[1] * 40 == pytest.approx(15, abs=0.01)


def test_labels_of_another_size_are_refused():
    labels = LabelMap(np.zeros((2, 10, 10), np.uint8))
    with pytest.raises(GeometryError, match=r"\(2, 10, 10\)"):
        overlay.plan_overlay(make_cine(makers.make_fan(2)), labels, makers.LABELS)


@pytest.mark.parametrize(
    ("shape", "proportions", "expected"),
    [
        ((240, 320), (1, 1), (480, 640)),
        ((480, 500), (1, 1), (480, 500)),
        ((100, 100), (1.0, 1.0), (500, 500)),
        ((600, 400), (0.3, 0.15), (1200, 400)),
        ((600, 400), (0.15, 0.3), (600, 800)),
        ((512, 512), (1.0, 1.3), (512, 666)),
        ((100, 60), (0.5, 1.5), (500, 900)),
        ((24, 512), (10.0, 0.5), (480, 512)),
        # Neither large nor thin ones pass the limit.
        ((4000, 3000), (1, 1), (2048, 1536)),
        ((20, 3000), (1, 1), (14, 2048)),
        ((20, 1000), (1, 1), (40, 2000)),
        ((64, 64), (0.01, 30.0), (1, 2048)),
    ],
)
def test_frames_are_shown_in_true_proportions_and_in_bounds(shape, proportions, expected):
    assert screen.screen_size(shape, proportions, longest_px=2048) == expected


def test_sixteen_bits_are_shown_between_their_percentiles_in_every_frame():
    frames = np.zeros((3, 20, 20), np.uint16)
    frames[0] = np.linspace(1000, 3000, 400).reshape(20, 20)
    frames[1:] = 2000
    sequence = make_cine(frames)
    window = screen.display_window(sequence)
    assert 1000 <= window[0] < 2000 < window[1] <= 3000
    shown = [screen.to_display(frame, window) for frame in sequence]
    assert shown[0].min() == 0
    assert shown[0].max() == 255
    assert (shown[1] == shown[2]).all()


def test_values_that_are_no_numbers_are_shown_as_black_or_white():
    frame = np.array([[[np.nan, 0.0], [1.0, np.inf]]], np.float32)
    shown = screen.to_display(frame, (0.0, 1.0))
    assert shown[..., 0].tolist() == [[0, 0], [255, 255]]


def test_colour_frames_keep_their_colour():
    frames = np.zeros((1, 20, 20, 3), np.uint8)
    frames[..., 2] = 200
    sequence = make_cine(frames)
    shown = screen.to_display(sequence.decode(0), screen.display_window(sequence))
    assert (shown == (0, 0, 200)).all()


def test_the_film_holds_every_frame_at_the_recorded_speed(tmp_path):
    path = overlay.write_overlay(make_overlay(30, frame_time_ms=33.333), tmp_path)
    assert path == tmp_path / "overlay.gif"
    with Image.open(path) as film:
        assert film.n_frames == 30
        assert film.info["loop"] == 0
        delays = []
        for index in range(30):
            film.seek(index)
            delays.append(film.info["duration"])
    assert set(delays) == {30, 40}
    assert sum(delays) == 1000


def test_no_frame_of_the_film_is_shorter_than_players_take(tmp_path):
    path = overlay.write_overlay(make_overlay(3, frame_time_ms=4.0), tmp_path)
    with Image.open(path) as film:
        assert film.info["duration"] == 20


def test_a_long_film_leaves_frames_out_and_keeps_its_time(tmp_path):
    pixels = np.zeros((320, 8, 8), np.uint8)
    plan = overlay.plan_overlay(
        make_cine(pixels, frame_time_ms=20.0), LabelMap(pixels), makers.LABELS
    )
    with Image.open(overlay.write_overlay(plan, tmp_path)) as film:
        assert film.n_frames == 107
        assert film.info["duration"] == 60


def test_the_film_s_colours_are_those_of_the_structures(tmp_path):
    plan = make_overlay(2)
    with Image.open(overlay.write_overlay(plan, tmp_path)) as film:
        film.seek(1)
        shown = np.asarray(film.convert("RGB")).astype(int)
    drawn = overlay.draw_frame(plan, 1).astype(int)
    top = 28
    shown = shown[top : top + drawn.shape[0], : drawn.shape[1]]
    line = traced(plan.labels.array[1], 1, plan.size) == 1
    assert (shown[line] == RED).all()
    grey = np.ptp(drawn, axis=-1) == 0
    # Half a step between 96 greys, and one for rounding.
    assert np.abs(shown[grey] - drawn[grey]).max() <= 3


def test_a_single_frame_is_a_picture(tmp_path):
    path = overlay.write_overlay(make_overlay(1), tmp_path)
    assert path == tmp_path / "overlay.png"
    with Image.open(path) as picture:
        assert picture.height > 480


def test_bar_and_legend_show_number_time_and_colours(tmp_path):
    plans = [make_overlay(2, frame_time_ms=time_ms) for time_ms in (None, 40.0)]
    bars = []
    for plan in plans:
        with Image.open(overlay.write_overlay(plan, tmp_path)) as film:
            film.seek(1)
            bars.append(np.asarray(film.convert("RGB"))[:28])
            legend = np.asarray(film.convert("RGB"))[-28:]
    middle = bars[0].shape[1] // 2
    assert bars[0][:, :middle].max() > 200
    assert bars[0][:, middle:].max() < 50
    assert bars[1][:, middle:].max() > 200
    for color in (RED, GREEN, BLUE):
        assert (legend == color).all(axis=-1).sum() >= 100


def test_pixels_are_shaded_where_the_network_is_unsure_and_nowhere_else(tmp_path):
    plan = make_overlay(2)
    height, width = plan.labels.array.shape[1:]
    probabilities = np.zeros((2, 2, height, width), np.float32)
    probabilities[0], probabilities[1] = 0.92, 0.08
    # Half a frame is a toss-up, in the second frame alone.
    probabilities[:, 1, : height // 2] = 0.5
    path = overlay.write_unsure_sheet(plan, probabilities, tmp_path)
    assert path == tmp_path / "unsure.png"
    with Image.open(path) as picture:
        unsure = np.asarray(picture.convert("RGB")).astype(int)
    plain = overlay.draw_contact_sheet(plan).astype(int)
    legend = len(captions.draw_legend(plan.structures, plain.shape[1]))
    assert unsure.shape == plain.shape
    differs = (unsure != plain).any(axis=-1)[:-legend]
    # Below the bar of the second tile, and in its upper half, but for the lines.
    rows, columns = np.nonzero(differs)
    bar, tile = captions.BAR_PX, plain.shape[1] // 2
    assert rows.min() == bar
    assert columns.min() == tile
    assert abs(rows.max() - (bar + (len(differs) - bar) / 2)) < 8
    middle = unsure[bar + 5, tile + 5]
    assert (
        np.abs(middle - (0.3 * plain[bar + 5, tile + 5] + 0.7 * np.array(screen.SHADE))).max() < 2
    )
    assert (unsure[-legend:] == screen.SHADE).all(axis=-1).sum() >= 100


def test_a_legend_too_long_for_one_line_takes_more():
    assert (
        captions.draw_legend(makers.LABELS, 150).shape[0]
        > captions.draw_legend(makers.LABELS, 900).shape[0]
    )


@pytest.mark.parametrize(("frames", "tiles", "grid"), [(30, 8, (2, 4)), (3, 3, (1, 3))])
def test_the_sheet_shows_frames_spread_over_the_cine(frames, tiles, grid, tmp_path):
    plan = make_overlay(frames)
    region = Box(4, 8, 44, 56)
    path = overlay.write_contact_sheet(plan, tmp_path, region=region)
    rows, columns = plan.size[0] // 48, plan.size[1] // 64
    tile = (40 * rows + 28 + 5, 48 * columns + 5)
    with Image.open(path) as sheet:
        shown = np.asarray(sheet)
    assert shown.shape[:2] == (grid[0] * tile[0] + 28, grid[1] * tile[1])
    indices = screen.spread(frames, 8)
    assert len(indices) == tiles
    assert (indices[0], indices[-1]) == (0, frames - 1)
    last = overlay.draw_frame(plan, frames - 1)[4 * rows : 44 * rows, 8 * columns : 56 * columns]
    top = (grid[0] - 1) * tile[0] + 28
    left = (grid[1] - 1) * tile[1]
    assert (shown[top : top + 40 * rows, left : left + 48 * columns] == last).all()


def test_a_small_tile_still_shows_the_lines():
    plan = make_overlay(2)
    sheet = overlay.draw_contact_sheet(plan, tile_px=160).astype(int)
    assert sheet.shape[1] == 2 * 165
    tiles = sheet[28:148]
    reddish = (tiles[..., 0] > tiles[..., 1] + 60) & (tiles[..., 0] > tiles[..., 2] + 60)
    assert reddish.sum() > 20


def test_a_film_refuses_a_frame_of_another_size(tmp_path):
    with (tmp_path / "film.gif").open("wb") as file:
        film = gif.FilmWriter(file, [RED], delay_ms=40)
        film.add(np.zeros((10, 12, 3), np.uint8))
        with pytest.raises(ValueError, match="12"):
            film.add(np.zeros((12, 10, 3), np.uint8))


@pytest.mark.parametrize("count", [0, 1, 3, 40, 255])
def test_the_palette_holds_black_white_and_the_colours_asked_for(count):
    colors = tuple((value, 255 - value, 77) for value in range(count))
    palette = gif.fixed_palette(colors)
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    entries = {tuple(entry) for entry in palette.tolist()}
    assert {(0, 0, 0), (255, 255, 255)} <= entries
    assert set(colors[:160]) <= entries


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    def fail(self, picture, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gif.FilmWriter, "add", fail)
    with pytest.raises(OutputError, match=r"overlay\.gif"):
        overlay.write_overlay(make_overlay(3), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_thirty_frames_become_a_film_in_half_a_second(tmp_path):
    pixels, labels = makers.make_fan(30, 240, 320), makers.make_labels(30, 240, 320)
    plan = overlay.plan_overlay(make_cine(pixels), LabelMap(labels), makers.LABELS)
    # Processor time of this thread, which other work on the machine hardly lengthens.
    begin = time.thread_time()
    overlay.write_overlay(plan, tmp_path)
    assert time.thread_time() - begin < 0.5
