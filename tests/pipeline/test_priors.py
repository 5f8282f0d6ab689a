"""Each prior on labels that it likes, and on labels that it does not."""

import numpy as np
import pytest
import scipy.ndimage  # noqa: F401 - loaded before anything is timed

from bedside.errors import SpecError
from bedside.pipeline.postprocess import EditLog, LabelGrid, apply_postprocess, grid_of
from bedside.pipeline.postprocess.priors import measure_eccentricity
from bedside.spec import ComponentCount, Eccentricity, LeftRight, NotTouching, Size, Surrounds
from makers import LABELS
from volume_makers import make_geometry, make_scan


def check(labels, prior, **grid):
    return apply_postprocess(
        labels, (), label_values=(1, 2, 3), priors=[prior], grid=LabelGrid(**grid)
    )


def texts(edits_made):
    edits = EditLog(LABELS, of_frames=1)
    edits.add(edits_made)
    return [change.text for change in edits.changes(spacing_mm=None)]


def ring(spatial_dims=2):
    """Label 1 within a ring of label 2."""
    labels = np.zeros((20,) * spatial_dims, np.uint8)
    labels[(slice(4, 15),) * spatial_dims] = 2
    labels[(slice(7, 12),) * spatial_dims] = 1
    return labels


GOOD = {
    "components": ComponentCount(label=1, action="repair"),
    "encloses": Surrounds(outer=2, inner=1, action="repair"),
    "apart": NotTouching(first=1, second=3, action="repair"),
    "size": Size(label=1, unit="px", least=10, most=200),
    "eccentricity": Eccentricity(label=1, most=0.3),
    "left_right": LeftRight(left=1, right=3, of="picture", action="repair"),
}


@pytest.mark.parametrize("prior", GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_labels_as_they_should_be_are_left_alone(prior, spatial_dims):
    labels = ring(spatial_dims)
    labels[..., 17:] = 3
    checked, edits_made = check(labels, prior)
    assert (checked == labels).all()
    assert not edits_made


@pytest.mark.parametrize("prior", GOOD.values(), ids=GOOD)
def test_a_structure_that_is_not_there_offends_no_prior(prior):
    labels = np.zeros((8, 8), np.uint8)
    checked, edits_made = check(labels, prior)
    assert not checked.any()
    assert not edits_made


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_more_components_than_expected_are_reported_or_the_smallest_go(spatial_dims):
    labels = ring(spatial_dims)
    labels[(0,) * spatial_dims] = 1
    labels[(slice(0, 2), *(slice(18, 20),) * (spatial_dims - 1))] = 1
    same, edits_made = check(labels, ComponentCount(label=1, most=2))
    assert (same == labels).all()
    assert texts(edits_made) == ["LV cavity: 3 components, at most 2 expected"]
    repaired, edits_made = check(labels, ComponentCount(label=1, most=2, action="repair"))
    assert repaired[(0,) * spatial_dims] == 0
    assert np.count_nonzero(repaired != labels) == 1
    assert texts(edits_made) == ["1 component of LV cavity removed, 1 px"]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_what_lies_apart_from_its_wall_goes_and_an_open_wall_is_told_of(spatial_dims):
    labels = ring(spatial_dims)
    labels[(slice(17, 19),) * spatial_dims] = 1
    prior = Surrounds(outer=2, inner=1, action="repair")
    repaired, edits_made = check(labels, prior)
    np.testing.assert_array_equal(repaired, ring(spatial_dims))
    assert texts(edits_made) == [
        f"1 component of LV cavity apart from LV myocardium removed, {2**spatial_dims} px"
    ]
    _, edits_made = check(labels, Surrounds(outer=2, inner=1, most_open=1.0))
    assert texts(edits_made) == ["LV cavity: 1 components apart from LV myocardium, none expected"]
    gap = ring(spatial_dims)
    gap[:7][gap[:7] == 2] = 0
    for action in ("repair", "report"):
        same, edits_made = check(gap, Surrounds(outer=2, inner=1, most_open=0.1, action=action))
        assert (same == gap).all()
        assert [edit.action for edit in edits_made] == ["reported"]
        assert "not enclosed by LV myocardium, at most 10 % expected" in texts(edits_made)[0]
    gap[:7][gap[:7] == 0] = 3
    assert not check(gap, Surrounds(outer=2, inner=1, open_to=(3,)))[1]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_what_must_not_touch_is_parted_by_the_one_that_gives_way(spatial_dims):
    labels = np.zeros((8,) * spatial_dims, np.uint8)
    labels[:, :3] = 1
    labels[:, 3:6] = 2
    same, edits_made = check(labels, NotTouching(first=1, second=2))
    assert (same == labels).all()
    assert "LV myocardium" in texts(edits_made)[0]
    repaired, edits_made = check(labels, NotTouching(first=1, second=2, action="repair"))
    assert not repaired[:, 3].any()
    assert (repaired[:, 4:6] == 2).all()
    assert (repaired[:, :3] == 1).all()
    assert texts(edits_made) == [
        f"LV myocardium removed where it touched LV cavity, {8 ** (spatial_dims - 1)} px"
    ]
    assert not check(repaired, NotTouching(first=1, second=2))[1]


def test_a_size_is_looked_at_in_its_unit():
    labels = ring()
    assert not check(labels, Size(label=1, unit="mm2", least=99, most=101), spacing_mm=(2, 2))[1]
    _, edits_made = check(labels, Size(label=1, unit="mm2", least=101, most=900), spacing_mm=(2, 2))
    assert texts(edits_made) == ["LV cavity: 100 mm2, at least 101 and at most 900 expected"]
    _, edits_made = check(ring(3), Size(label=1, unit="ml", most=0.9), spacing_mm=(2, 2, 2))
    assert texts(edits_made) == ["LV cavity: 1 ml, at most 0.9 expected"]
    _, edits_made = check(labels, Size(label=1, unit="mm2", least=1))
    assert [edit.action for edit in edits_made] == ["skipped"]


def test_eccentricity_is_that_of_an_ellipse_in_the_patient_not_in_pixels():
    rows, columns = np.mgrid[-40:41, -40:41]
    ellipse = (rows / 10) ** 2 + (columns / 30) ** 2 <= 1
    expected = np.sqrt(1 - (10 / 30) ** 2)
    assert measure_eccentricity(ellipse, None) == pytest.approx(expected, abs=2e-3)
    # Pixels of 3 x 1 mm make it a circle, but for its rim: axes that differ by 1 % give 0.15.
    assert measure_eccentricity(ellipse, (3.0, 1.0)) < 0.2
    assert measure_eccentricity(np.zeros((4, 4), bool), None) is None
    labels = ellipse.astype(np.uint8)
    _, edits_made = check(labels, Eccentricity(label=1, most=0.9))
    assert texts(edits_made) == ["LV cavity: eccentricity 0.944, 0 to 0.9 expected"]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_left_is_the_patients_and_exchanged_labels_are_exchanged_back(sign, spatial_dims):
    # Columns run to the patient's left, or to the right.
    shape = (3, 10, 12)
    geometry = make_geometry(shape, (4, 2, 2), (2, 1, 0), (1, 1, sign))
    scan = make_scan(np.zeros(shape, np.uint8), geometry)
    grid = grid_of(
        scan, spatial_dims=spatial_dims, spacing_mm=geometry.spacing_mm[3 - spatial_dims :]
    )
    labels = np.zeros(shape[3 - spatial_dims :], np.uint8)
    labels[..., 1:3], labels[..., 8:11] = 1, 2
    lies_left, lies_right = (2, 1) if sign > 0 else (1, 2)
    good = LeftRight(left=lies_left, right=lies_right, action="repair")
    options = {"spacing_mm": grid.spacing_mm, "left": grid.left}
    assert not check(labels, good, **options)[1]
    wrong = LeftRight(left=lies_right, right=lies_left, action="repair")
    repaired, edits_made = check(labels, wrong, **options)
    assert (repaired == np.array([0, 2, 1], np.uint8)[labels]).all()
    assert "exchanged" in texts(edits_made)[0]
    reported = LeftRight(left=lies_right, right=lies_left)
    same, edits_made = check(labels, reported, **options)
    assert (same == labels).all()
    assert "left expected" in texts(edits_made)[0]


def test_where_the_file_does_not_say_what_is_left_that_is_said():
    labels = np.zeros((6, 6), np.uint8)
    labels[:, :2], labels[:, 4:] = 1, 2
    same, edits_made = check(labels, LeftRight(left=2, right=1, action="repair"))
    assert (same == labels).all()
    assert [edit.action for edit in edits_made] == ["skipped"]
    # A sagittal slice shows no left.
    geometry = make_geometry((3, 6, 6), (1, 1, 1), (0, 1, 2), (1, 1, 1))
    scan = make_scan(np.zeros((3, 6, 6), np.uint8), geometry)
    assert grid_of(scan, spatial_dims=2, spacing_mm=(1, 1)).left is None
    assert grid_of(scan, spatial_dims=3, spacing_mm=(1, 1, 1)).left == (1, 0, 0)


@pytest.mark.parametrize(
    ("kind", "options"),
    [(Size, {"label": 1, "unit": "px"}), (Eccentricity, {"label": 1, "most": 0.5})],
)
def test_a_repair_that_nobody_knows_is_refused(kind, options):
    with pytest.raises(SpecError, match="there is no repair"):
        kind(**options, action="repair")
