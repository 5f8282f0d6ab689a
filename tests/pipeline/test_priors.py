"""Each prior on labels that it likes, and on labels that it does not."""

import numpy as np
import pytest
import scipy.ndimage  # noqa: F401 - loaded before anything is timed

from bedside.errors import SpecError
from bedside.pipeline.postprocess import LabelGrid, Tally, apply_postprocess, grid_of
from bedside.pipeline.postprocess.priors import measure_eccentricity
from bedside.spec import Apart, Components, Eccentricity, Encloses, LeftRight, Size
from makers import LABELS
from volume_makers import make_geometry, make_scan


def check(labels, prior, **grid):
    return apply_postprocess(
        labels, (), label_values=(1, 2, 3), priors=[prior], grid=LabelGrid(**grid)
    )


def texts(repairs):
    tally = Tally(LABELS, of_frames=1)
    tally.add(repairs)
    return [change.text for change in tally.changes(spacing_mm=None)]


def ring(axes=2):
    """Label 1 within a ring of label 2."""
    labels = np.zeros((20,) * axes, np.uint8)
    labels[(slice(4, 15),) * axes] = 2
    labels[(slice(7, 12),) * axes] = 1
    return labels


GOOD = {
    "components": Components(label=1, action="repair"),
    "encloses": Encloses(outer=2, inner=1, action="repair"),
    "apart": Apart(first=1, second=3, action="repair"),
    "size": Size(label=1, unit="px", least=10, most=200),
    "eccentricity": Eccentricity(label=1, most=0.3),
    "left_right": LeftRight(left=1, right=3, of="picture", action="repair"),
}


@pytest.mark.parametrize("prior", GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("axes", [2, 3])
def test_labels_as_they_should_be_are_left_alone(prior, axes):
    labels = ring(axes)
    labels[..., 17:] = 3
    checked, repairs = check(labels, prior)
    assert (checked == labels).all()
    assert not repairs


@pytest.mark.parametrize("prior", GOOD.values(), ids=GOOD)
def test_a_structure_that_is_not_there_offends_no_prior(prior):
    labels = np.zeros((8, 8), np.uint8)
    checked, repairs = check(labels, prior)
    assert not checked.any()
    assert not repairs


@pytest.mark.parametrize("axes", [2, 3])
def test_more_components_than_expected_are_reported_or_the_smallest_go(axes):
    labels = ring(axes)
    labels[(0,) * axes] = 1
    labels[(slice(0, 2), *(slice(18, 20),) * (axes - 1))] = 1
    same, repairs = check(labels, Components(label=1, most=2))
    assert (same == labels).all()
    assert texts(repairs) == ["LV cavity: 3 components, at most 2 expected"]
    repaired, repairs = check(labels, Components(label=1, most=2, action="repair"))
    assert repaired[(0,) * axes] == 0
    assert np.count_nonzero(repaired != labels) == 1
    assert texts(repairs) == ["1 island of LV cavity removed, 1 px"]


@pytest.mark.parametrize("axes", [2, 3])
def test_what_lies_apart_from_its_wall_goes_and_an_open_wall_is_told_of(axes):
    labels = ring(axes)
    labels[(slice(17, 19),) * axes] = 1
    prior = Encloses(outer=2, inner=1, action="repair")
    repaired, repairs = check(labels, prior)
    np.testing.assert_array_equal(repaired, ring(axes))
    assert texts(repairs) == [
        f"1 island of LV cavity apart from LV myocardium removed, {2**axes} px"
    ]
    _, repairs = check(labels, Encloses(outer=2, inner=1, most_open=1.0))
    assert texts(repairs) == ["LV cavity: 1 islands apart from LV myocardium, none expected"]
    gap = ring(axes)
    gap[:7][gap[:7] == 2] = 0
    for action in ("repair", "report"):
        same, repairs = check(gap, Encloses(outer=2, inner=1, most_open=0.1, action=action))
        assert (same == gap).all()
        assert [repair.action for repair in repairs] == ["reported"]
        assert "not enclosed by LV myocardium, at most 10 % expected" in texts(repairs)[0]
    gap[:7][gap[:7] == 0] = 3
    assert not check(gap, Encloses(outer=2, inner=1, open_to=(3,)))[1]


@pytest.mark.parametrize("axes", [2, 3])
def test_what_must_not_touch_is_parted_by_the_one_that_gives_way(axes):
    labels = np.zeros((8,) * axes, np.uint8)
    labels[:, :3] = 1
    labels[:, 3:6] = 2
    same, repairs = check(labels, Apart(first=1, second=2))
    assert (same == labels).all()
    assert "LV myocardium" in texts(repairs)[0]
    repaired, repairs = check(labels, Apart(first=1, second=2, action="repair"))
    assert not repaired[:, 3].any()
    assert (repaired[:, 4:6] == 2).all()
    assert (repaired[:, :3] == 1).all()
    assert texts(repairs) == [
        f"LV myocardium removed where it touched LV cavity, {8 ** (axes - 1)} px"
    ]
    assert not check(repaired, Apart(first=1, second=2))[1]


def test_a_size_is_looked_at_in_its_unit():
    labels = ring()
    assert not check(labels, Size(label=1, unit="mm2", least=99, most=101), spacing_mm=(2, 2))[1]
    _, repairs = check(labels, Size(label=1, unit="mm2", least=101, most=900), spacing_mm=(2, 2))
    assert texts(repairs) == ["LV cavity: 100 mm2, at least 101 and at most 900 expected"]
    _, repairs = check(ring(3), Size(label=1, unit="ml", most=0.9), spacing_mm=(2, 2, 2))
    assert texts(repairs) == ["LV cavity: 1 ml, at most 0.9 expected"]
    _, repairs = check(labels, Size(label=1, unit="mm2", least=1))
    assert [repair.action for repair in repairs] == ["skipped"]


def test_eccentricity_is_that_of_an_ellipse_in_the_patient_not_in_pixels():
    rows, columns = np.mgrid[-40:41, -40:41]
    ellipse = (rows / 10) ** 2 + (columns / 30) ** 2 <= 1
    expected = np.sqrt(1 - (10 / 30) ** 2)
    assert measure_eccentricity(ellipse, None) == pytest.approx(expected, abs=2e-3)
    # Pixels of 3 x 1 mm make it a circle, but for its rim: axes that differ by 1 % give 0.15.
    assert measure_eccentricity(ellipse, (3.0, 1.0)) < 0.2
    assert measure_eccentricity(np.zeros((4, 4), bool), None) is None
    labels = ellipse.astype(np.uint8)
    _, repairs = check(labels, Eccentricity(label=1, most=0.9))
    assert texts(repairs) == ["LV cavity: eccentricity 0.944, 0 to 0.9 expected"]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("axes", [2, 3])
def test_left_is_the_patients_and_exchanged_labels_are_exchanged_back(sign, axes):
    # Columns run to the patient's left, or to the right.
    shape = (3, 10, 12)
    geometry = make_geometry(shape, (4, 2, 2), (2, 1, 0), (1, 1, sign))
    scan = make_scan(np.zeros(shape, np.uint8), geometry)
    grid = grid_of(scan, axes=axes, spacing_mm=geometry.spacing_mm[3 - axes :])
    labels = np.zeros(shape[3 - axes :], np.uint8)
    labels[..., 1:3], labels[..., 8:11] = 1, 2
    lies_left, lies_right = (2, 1) if sign > 0 else (1, 2)
    good = LeftRight(left=lies_left, right=lies_right, action="repair")
    options = {"spacing_mm": grid.spacing_mm, "left": grid.left}
    assert not check(labels, good, **options)[1]
    wrong = LeftRight(left=lies_right, right=lies_left, action="repair")
    repaired, repairs = check(labels, wrong, **options)
    assert (repaired == np.array([0, 2, 1], np.uint8)[labels]).all()
    assert "exchanged" in texts(repairs)[0]
    reported = LeftRight(left=lies_right, right=lies_left)
    same, repairs = check(labels, reported, **options)
    assert (same == labels).all()
    assert "left expected" in texts(repairs)[0]


def test_where_the_file_does_not_say_what_is_left_that_is_said():
    labels = np.zeros((6, 6), np.uint8)
    labels[:, :2], labels[:, 4:] = 1, 2
    same, repairs = check(labels, LeftRight(left=2, right=1, action="repair"))
    assert (same == labels).all()
    assert [repair.action for repair in repairs] == ["skipped"]
    # A sagittal slice shows no left.
    geometry = make_geometry((3, 6, 6), (1, 1, 1), (0, 1, 2), (1, 1, 1))
    scan = make_scan(np.zeros((3, 6, 6), np.uint8), geometry)
    assert grid_of(scan, axes=2, spacing_mm=(1, 1)).left is None
    assert grid_of(scan, axes=3, spacing_mm=(1, 1, 1)).left == (1, 0, 0)


@pytest.mark.parametrize(
    ("kind", "options"),
    [(Size, {"label": 1, "unit": "px"}), (Eccentricity, {"label": 1, "most": 0.5})],
)
def test_a_repair_that_nobody_knows_is_refused(kind, options):
    with pytest.raises(SpecError, match="there is no repair"):
        kind(**options, action="repair")
