"""Sides of the patient at the edges of pictures, and what dashed contours mean."""

import dataclasses
import itertools

import numpy as np
import pytest

import makers
from bedside.report import captions, overlay
from bedside.report.sides import has_sides, name_edges, write_sides
from bedside.spec.confidence import StructureConfidence
from bedside.volume import Geometry, ImageSequence, LabelMap

LETTERS = {(0, 1): "L", (0, -1): "R", (1, 1): "P", (1, -1): "A", (2, 1): "H", (2, -1): "F"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_edges_of_every_orientation(order, signs):
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = 2.0 * sign
    left, top = name_edges(Geometry((3, 4, 5), affine, space="LPS"))
    # Columns and rows run from the edge that is named to the other.
    assert left == LETTERS[order[2], -signs[2]]
    assert top == LETTERS[order[1], -signs[1]]


def test_an_oblique_edge_has_two_letters_the_larger_part_first():
    turn = np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = np.stack([[0, 0, 1], turn[1], turn[0]], axis=1)
    assert name_edges(Geometry((3, 4, 5), affine, space="LPS")) == ("RA", "AL")


def make_scan(**changes):
    array = np.full((3, 60, 80), 90, np.uint8)
    affine = np.eye(4)[:, [2, 1, 0, 3]]
    sequence = ImageSequence.from_array(array, affine=affine, space="LPS")
    return dataclasses.replace(sequence, **changes)


def test_films_photographs_and_unplaced_scans_have_no_sides():
    assert has_sides(make_scan(), "CT")
    assert not has_sides(make_scan(), "US")
    assert not has_sides(make_scan(modality="US"), "CT")
    assert not has_sides(make_scan(default_grid=True), "MR")
    assert not has_sides(make_scan(geometry=None), "MR")


def test_letters_lie_at_the_left_and_the_top_edge():
    picture = np.full((300, 400, 3), 50, np.uint8)
    write_sides(picture, ("R", "A"))
    bright = np.argwhere(picture[..., 0] > 200)
    left = bright[bright[:, 1] < 40]
    top = bright[bright[:, 0] < 40]
    assert len(left) + len(top) == len(bright)
    assert abs(left[:, 0].mean() - 150) < 8
    assert abs(top[:, 1].mean() - 200) < 8
    untouched = np.full((9, 9, 3), 50, np.uint8)
    write_sides(untouched, ("R", "A"))
    write_sides(untouched, ("", ""))
    assert (untouched == 50).all()


def test_dashes_are_explained_where_there_are_some():
    labels = np.zeros((3, 60, 80), np.uint8)
    labels[1, 20:40, 20:40] = makers.LABELS[0].value
    doubt = {makers.LABELS[0].name: StructureConfidence(0.4, 0.1, 0.7, False)}
    widths = []
    for sure in ({}, doubt):
        plan = overlay.plan_overlay(
            make_scan(), LabelMap(labels), makers.LABELS, confidence=(sure,), with_sides=True
        )
        assert plan.sides == ("R", "A")
        widths.append(overlay.draw_contact_sheet(plan)[-captions.BAR_PX :])
    assert not np.array_equal(*widths)
    plain = captions.draw_legend(makers.LABELS, 900)
    dashed = captions.draw_legend(makers.LABELS, 900, has_dashed=True)
    assert (dashed > 128).sum() > (plain > 128).sum()
