"""Each repair alone, and that nothing is changed without being counted."""

import numpy as np
import pytest
import scipy.ndimage  # noqa: F401 - loaded before anything is timed
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bedside.pipeline.postprocess import EditLog, LabelGrid, apply_postprocess
from bedside.spec import Closing, DropSmall, FillHoles, KeepLargest, Opening
from makers import LABELS

REPAIRS = [
    KeepLargest(),
    FillHoles(),
    DropSmall(min_px=4),
    Opening(radius_px=1),
    Opening(radius_px=1.5),
    Closing(radius_px=1),
    Closing(radius_px=2),
]
NAMES = [f"{step.step} {index}" for index, step in enumerate(REPAIRS)]
VALUES = (1, 2)
FRAMES = arrays(np.uint8, (12, 14), elements=st.integers(0, 2))
SCANS = arrays(np.uint8, (5, 6, 7), elements=st.integers(0, 2))


def run(labels, step, **options):
    return apply_postprocess(labels, [step], label_values=VALUES, **options)


@pytest.mark.parametrize("step", REPAIRS, ids=NAMES)
@given(labels=FRAMES | SCANS)
def test_a_repair_counts_all_that_it_changes_and_takes_no_pixel_of_another_label(step, labels):
    before = labels.copy()
    repaired, edits_made = run(labels, step)
    assert (labels == before).all()
    assert repaired.dtype == np.uint8
    changed = repaired != labels
    assert sum(edit.pixels for edit in edits_made) == np.count_nonzero(changed)
    assert ((repaired == 0) | (labels == 0))[changed].all()
    actions = {edit.action for edit in edits_made}
    assert actions <= ({"added"} if (repaired != 0)[changed].any() else {"removed"})


@pytest.mark.parametrize("step", REPAIRS, ids=NAMES)
@given(labels=arrays(np.uint8, (12, 14), elements=st.integers(0, 1)) | SCANS.map(lambda a: a % 2))
def test_a_repair_of_one_label_has_nothing_to_do_the_second_time(step, labels):
    once, _ = run(labels, step)
    twice, edits_made = run(once, step)
    assert (twice == once).all()
    assert not edits_made


@pytest.mark.parametrize("step", REPAIRS, ids=NAMES)
@given(labels=FRAMES, down=st.integers(0, 3), across=st.integers(0, 3))
def test_a_repair_does_not_know_where_in_the_image_it_is(step, labels, down, across):
    inside = np.pad(labels, 6)
    moved = np.pad(labels, ((6 + down, 6 - down), (6 + across, 6 - across)))
    one, two = run(inside, step)[0], run(moved, step)[0]
    assert (np.roll(one, (down, across), (0, 1)) == two).all()


def test_frames_and_scans_of_one_slice_are_repaired_alike():
    rng = np.random.default_rng(3)
    for step in (Opening(radius_px=2), Closing(radius_px=2), KeepLargest(), DropSmall(min_px=5)):
        labels = (rng.random((20, 24)) > 0.4).astype(np.uint8)
        flat, _ = run(labels, step)
        # Distances across the slice do not matter where there is only one.
        deep, _ = run(labels[None], step)
        np.testing.assert_array_equal(flat, deep[0])


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_an_opening_takes_a_bridge_and_a_closing_fills_a_cleft(spatial_dims):
    labels = np.zeros((20,) * spatial_dims, np.uint8)
    labels[(slice(2, 9),) * spatial_dims] = 1
    labels[(slice(11, 18),) * spatial_dims] = 1
    bridge = (slice(9, 11), *(slice(8, 9),) * (spatial_dims - 1))
    labels[bridge] = 1
    opened, (edit,) = run(labels, Opening(radius_px=1.5))
    assert not opened[bridge].any()
    assert (edit.step, edit.action) == ("opening", "removed")
    cleft = np.zeros((20,) * spatial_dims, np.uint8)
    cleft[(slice(4, 16),) * spatial_dims] = 1
    cleft[4:10, 9:11] = 0
    cleft[(4, 9, *(10,) * (spatial_dims - 2))] = 2
    closed, (edit,) = run(cleft, Closing(radius_px=2), grid=LabelGrid())
    assert closed[(7, 9, *(10,) * (spatial_dims - 2))] == 1
    assert closed[(4, 9, *(10,) * (spatial_dims - 2))] == 2
    assert edit.labels == (1,)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_radius_in_mm_reaches_over_as_many_pixels_as_the_spacing_says(spatial_dims):
    # A ball of 2 mm is 5 pixels of 1 mm high, and 3 of 2 mm wide.
    labels = np.zeros((30,) * spatial_dims, np.uint8)
    high = (*(slice(4, 9),) * (spatial_dims - 1), slice(5, 8))
    wide = (*(slice(20, 23),) * (spatial_dims - 1), slice(20, 25))
    labels[high] = labels[wide] = 1
    grid = LabelGrid((1.0,) * (spatial_dims - 1) + (2.0,))
    opened, _ = run(labels, Opening(radius_mm=2.0), grid=grid)
    assert opened[(6,) * spatial_dims] == 1
    assert opened[(4, *(6,) * (spatial_dims - 1))] == 1
    assert not opened[wide].any()


@pytest.mark.parametrize(
    ("step", "grid", "kept"),
    [
        (DropSmall(min_px=6), LabelGrid(), 1),
        (DropSmall(min_px=5), LabelGrid(), 2),
        (DropSmall(min_mm2=20.0), LabelGrid((2.0, 2.0)), 2),
        (DropSmall(min_mm2=20.1), LabelGrid((2.0, 2.0)), 1),
    ],
)
def test_components_below_a_size_go_and_what_has_just_the_size_stays(step, grid, kept):
    labels = np.zeros((12, 12), np.uint8)
    labels[1:7, 1:7] = 1
    labels[9, 2:7] = 1
    repaired, edits_made = run(labels, step, grid=grid)
    assert (repaired[9, 2] == 1) == (kept == 2)
    assert [(edit.parts, edit.pixels) for edit in edits_made] == ([] if kept == 2 else [(1, 5)])


def test_a_volume_is_measured_in_three_axes():
    labels = np.zeros((6, 12, 12), np.uint8)
    labels[1:5, 1:5, 1:5] = 1
    labels[1:3, 8:10, 8:10] = 1
    grid = LabelGrid((5.0, 5.0, 5.0))
    repaired, (edit,) = run(labels, DropSmall(min_ml=1.1), grid=grid)
    assert (repaired == 1).sum() == 64
    edits = EditLog(LABELS, of_frames=1)
    edits.add([edit])
    (change,) = edits.changes(spacing_mm=(5.0, 5.0, 5.0))
    assert change.text == "1 component of LV cavity removed, 1.0 ml"
    assert (change.size_ml, change.size_mm2, change.size_px) == (1.0, None, 8)


@pytest.mark.parametrize("step", [Opening(radius_mm=1), Closing(radius_mm=1), DropSmall(min_mm2=2)])
def test_without_a_scale_a_step_in_mm_is_left_out_and_says_so(step):
    labels = np.zeros((9, 9), np.uint8)
    labels[1, 1] = labels[4:8, 4:8] = 1
    repaired, edits_made = apply_postprocess(labels, [step], label_values=(1,))
    assert (repaired == labels).all()
    assert [edit.action for edit in edits_made] == ["skipped"]
    edits = EditLog(LABELS, of_frames=3)
    edits.add(edits_made)
    (change,) = edits.changes(spacing_mm=None)
    assert (
        change.text == f"{step.step} of LV cavity was left out: the scale of the image is not known"
    )


def test_repairs_of_a_film_are_summed_with_the_number_of_frames():
    labels = np.zeros((12, 12), np.uint8)
    labels[1:7, 1:7] = 1
    clean = labels.copy()
    labels[9, 2] = labels[9, 4] = 1
    labels[3, 3] = 0
    edits = EditLog(LABELS, of_frames=3)
    for frame in (labels, clean, labels):
        edits.add(apply_postprocess(frame, [KeepLargest(), FillHoles()], label_values=(1,))[1])
    texts = [change.text for change in edits.changes(spacing_mm=(2.0, 0.5))]
    assert texts == [
        "4 components of LV cavity removed, 4.0 mm2, in 2 of 3 frames",
        "2 holes of LV cavity filled, 2.0 mm2, in 2 of 3 frames",
    ]
    (islands, _) = edits.changes(spacing_mm=(2.0, 0.5), slice_mm=10.0)
    assert islands.text == "4 components of LV cavity removed, 0.04 ml, in 2 of 3 slices"
    (islands, _) = edits.changes(spacing_mm=None)
    assert islands.text.startswith("4 components of LV cavity removed, 4 px")
