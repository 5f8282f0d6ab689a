"""LUNA16: scans in subsets, and truth drawn from places and diameters in mm."""

import numpy as np
import pytest

from bedside.datasets import detect_layout, list_cases, read_truth
from bedside.datasets.case import read_case
from bedside.datasets.spheres import Sphere, draw_spheres
from bedside.errors import DataError
from bedside.volume import Geometry
from layout_makers import LUNA_OFFSET, LUNA_SHAPE, LUNA_SPACING, make_luna16, write_metaimage

SERIES = "1.3.6.1.2"


def test_scans_of_all_subsets_are_listed_and_lungs_are_not(tmp_path):
    make_luna16(tmp_path)
    assert detect_layout(tmp_path) == "luna16"
    cases = list_cases(tmp_path)
    assert [case.case_id for case in cases] == [SERIES, "1.3.6.1.9"]
    assert cases[0].images == (tmp_path / "subset1" / f"{SERIES}.mhd",)


def test_a_nodule_is_a_sphere_in_millimetres_about_its_place(tmp_path):
    source, truth = read_case(list_cases(make_luna16(tmp_path))[0], (1,))
    assert source.sequence.spacing_mm == LUNA_SPACING[:2]
    assert source.sequence.slice_spacing_mm == LUNA_SPACING[2]
    assert truth.shape == LUNA_SHAPE
    # 7.2 mm across: 5 pixels of 0.7 mm either side, one slice of 2.5 mm either side.
    assert truth[4, 12, 11:22].tolist() == [1] * 11
    assert truth[4, 12].sum() == 11
    assert truth[4, :, 16].sum() == 11
    assert np.flatnonzero(truth.any(axis=(1, 2))).tolist() == [3, 4, 5]
    # Three slices are few for a sphere.
    volume_mm3 = truth.sum() * np.prod(LUNA_SPACING)
    assert volume_mm3 == pytest.approx(np.pi / 6 * 7.2**3, rel=0.15)


def test_a_scan_that_the_table_does_not_name_has_no_nodule(tmp_path):
    assert not read_truth(list_cases(make_luna16(tmp_path))[1], (1,)).any()


def test_contours_take_the_place_of_spheres(tmp_path):
    make_luna16(tmp_path)
    mask = np.zeros(LUNA_SHAPE, np.uint8)
    mask[2, 3, 4] = 1
    file = tmp_path / "masks" / f"{SERIES}.mhd"
    write_metaimage(file, mask, spacing=LUNA_SPACING, offset=LUNA_OFFSET)
    assert (read_truth(list_cases(tmp_path)[0], (1,)) == mask).all()
    write_metaimage(file, mask, spacing=LUNA_SPACING)
    with pytest.raises(DataError, match=f"case {SERIES}: .*lies elsewhere"):
        read_truth(list_cases(tmp_path)[0], (1,))
    write_metaimage(file, mask[1:], spacing=LUNA_SPACING, offset=LUNA_OFFSET)
    with pytest.raises(DataError, match=f"case {SERIES}: .*Resample the labels"):
        read_truth(list_cases(tmp_path)[0], (1,))
    write_metaimage(file, mask * 5, spacing=LUNA_SPACING, offset=LUNA_OFFSET)
    with pytest.raises(DataError, match=f"case {SERIES}: .*the label 5"):
        read_truth(list_cases(tmp_path)[0], (1,))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("1,2,x,4", f"case {SERIES}: line 2 .*expected a place"),
        ("1,2,3,0", f"case {SERIES}: line 2"),
        ("1,2,3", f"case {SERIES}: line 2"),
        ("1000,2,3,4", f"case {SERIES}: a finding at .*outside the scan"),
    ],
)
def test_a_nodule_that_cannot_be_drawn_is_refused_and_the_case_named(tmp_path, row, says):
    make_luna16(tmp_path)
    header = "seriesuid,coordX,coordY,coordZ,diameter_mm"
    (tmp_path / "annotations.csv").write_text(f"{header}\n{SERIES},{row}\n")
    with pytest.raises(DataError, match=says):
        read_truth(list_cases(tmp_path)[0], (1,))


def test_a_table_without_its_columns_is_refused(tmp_path):
    make_luna16(tmp_path)
    (tmp_path / "annotations.csv").write_text("seriesuid,x,y,z,d\n")
    with pytest.raises(DataError, match="expected seriesuid, coordX"):
        list_cases(tmp_path)


def test_a_scan_in_two_subsets_is_refused(tmp_path):
    make_luna16(tmp_path)
    write_metaimage(tmp_path / "subset0" / f"{SERIES}.mhd", np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(DataError, match=f"case {SERIES} is there twice"):
        list_cases(tmp_path)


def test_a_sphere_lies_where_it_should_under_any_axes():
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * (2.5, 0.7, 0.8)
    affine[:3, 3] = (-100.0, 50.0, 20.0)
    geometry = Geometry((20, 50, 45), affine, space="LPS")
    place = (9.3, 21.6, 22.2)
    centre = (affine @ (*place, 1.0))[:3]
    mask = draw_spheres([Sphere(tuple(centre), 20.0)], geometry)
    # Every voxel of the grid, measured one by one in the patient.
    indices = np.stack(np.mgrid[:20, :50, :45], axis=-1)
    apart_mm = np.linalg.norm(indices @ affine[:3, :3].T + affine[:3, 3] - centre, axis=-1)
    assert (mask == (apart_mm <= 10.0)).all()
    assert mask.any()


def test_a_nodule_smaller_than_a_voxel_is_one_voxel_and_two_add_up():
    geometry = Geometry((5, 5, 5), np.diag([1.0, 1.0, 1.0, 1.0])[:, [2, 1, 0, 3]], space="LPS")
    mask = draw_spheres([Sphere((1.4, 2.4, 3.4), 0.1), Sphere((0.0, 0.0, 0.0), 0.1)], geometry)
    assert np.argwhere(mask).tolist() == [[0, 0, 0], [3, 2, 1]]
