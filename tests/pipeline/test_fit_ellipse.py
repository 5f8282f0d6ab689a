"""A label becomes the ellipse along its outline, whatever dents and bulges that outline has."""

import numpy as np
import pytest

from bedside.errors import SpecError
from bedside.pipeline.postprocess import EditLog, apply_postprocess
from bedside.spec import FitEllipse
from makers import LABELS
from volume_makers import make_spec

SHAPE = (120, 160)


def draw_ellipse(centre, semi_axes, angle_deg, shape=SHAPE):
    """Pixels whose centre lies in an ellipse; `semi_axes` along columns and rows, then turned."""
    rows, columns = np.indices(shape)
    y, x = rows - centre[0], columns - centre[1]
    turn = np.deg2rad(angle_deg)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return (along / semi_axes[0]) ** 2 + (across / semi_axes[1]) ** 2 <= 1


def run(image, **options):
    return apply_postprocess(image, [FitEllipse(**options)], label_values=(1, 2))


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


@pytest.mark.parametrize("angle", [0, 25, 90, 140])
def test_an_ellipse_stays_what_it_is_but_for_pixels_of_its_edge(angle):
    drawn = draw_ellipse((57.3, 81.6), (48.2, 35.4), angle)
    found, _ = run(drawn.astype(np.uint8))
    assert dice(found == 1, drawn) > 0.998


def test_a_bulge_and_a_dent_do_not_move_the_ellipse():
    head = draw_ellipse((60, 80), (50, 36), 20)
    spoilt = head | draw_ellipse((25, 110), (18, 9), 30)
    spoilt &= ~draw_ellipse((80, 40), (14, 8), 70)
    found, edits = run(spoilt.astype(np.uint8))
    assert dice(spoilt, head) < 0.96
    assert dice(found == 1, head) > 0.99
    changed = {edit.action: edit.pixels for edit in edits}
    assert changed["added"] == np.count_nonzero((found == 1) & ~spoilt)
    assert changed["removed"] == np.count_nonzero((found == 0) & spoilt)


def test_what_the_border_of_the_image_cuts_goes_on_beyond_it():
    head = draw_ellipse((60, 130), (50, 36), 0)
    cut = head.copy()
    cut[:, 150:] = False
    inside = cut[:, :150]
    found, _ = run(inside.astype(np.uint8))
    whole = draw_ellipse((60, 130), (50, 36), 0, (120, 150))
    assert dice(found == 1, whole) > 0.995


def test_no_pixel_of_another_label_is_taken():
    labels = draw_ellipse((60, 80), (50, 36), 0).astype(np.uint8)
    labels[50:54, 100:104] = 2
    found, _ = run(labels, labels=(1,))
    assert (found[50:54, 100:104] == 2).all()
    assert np.count_nonzero(found == 2) == 16


@pytest.mark.parametrize(
    "mask",
    [
        np.pad(np.ones((1, 60), np.uint8), ((40, 79), (20, 80))),
        np.pad(np.ones((2, 2), np.uint8), 40),
        (draw_ellipse((60, 80), (50, 50), 0) & ~draw_ellipse((60, 95), (50, 50), 0)).astype("u1"),
    ],
    ids=["a line", "four pixels", "a crescent"],
)
def test_what_is_no_ellipse_stays_and_the_log_says_so(mask):
    found, edits = run(mask)
    assert (found == mask).all()
    log = EditLog(LABELS, of_frames=1)
    log.add(edits)
    (change,) = log.changes(spacing_mm=None)
    assert change.text == (
        f"fit_ellipse of {LABELS[0].name} was left out: its outline is far from an ellipse"
    )


def test_labels_that_are_not_there_are_no_edit():
    assert run(np.zeros(SHAPE, np.uint8))[1] == []


def test_scans_are_refused():
    with pytest.raises(SpecError, match='step "fit_ellipse" is not for a network of 3 axes'):
        make_spec(postprocess=(FitEllipse(),))
