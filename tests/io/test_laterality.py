"""Left and right are drawn only on images that say where they lie."""

from dataclasses import replace

import numpy as np
import pytest

from bedside.errors import GeometryError
from bedside.io.laterality import check_sides, find_sides
from bedside.io.source import open_source
from makers import LABELS, make_fan, write_nifti, write_picture


def _labels(*names):
    return [replace(LABELS[0], value=i, name=name) for i, name in enumerate(names, 1)]


@pytest.mark.parametrize(
    ("names", "pair"),
    [
        (("Left kidney", "Right kidney"), ("Left kidney", "Right kidney")),
        (("spleen", "kidney_right", "kidney_left"), ("kidney_right", "kidney_left")),
        (("Kidney L", "kidney r"), ("Kidney L", "kidney r")),
        (("Left kidney", "Right lung"), None),
        # Chambers of a heart are told by their shape, not by the side they lie on.
        (("LV cavity", "LV myocardium", "Left atrium"), None),
        (("Leftover", "Rightover"), None),
    ],
)
def test_a_pair_is_one_structure_on_two_sides(names, pair):
    assert find_sides(_labels(*names)) == pair


def test_a_scan_without_a_place_is_refused_for_sides_only(tmp_path):
    array = np.zeros((4, 5, 6), np.uint8)
    kidneys = _labels("Left kidney", "Right kidney")
    lost = open_source(write_nifti(array, tmp_path / "lost.nii", codes=(0, 0)))
    placed = open_source(write_nifti(array, tmp_path / "placed.nii"))
    with pytest.raises(GeometryError, match=r'lost\.nii.*"Left kidney".*--force'):
        check_sides(lost, kidneys)
    check_sides(lost, kidneys, force=True)
    check_sides(lost, LABELS)
    check_sides(placed, kidneys)
    check_sides(open_source(write_picture(make_fan(1)[0], tmp_path / "a.png")), kidneys)
