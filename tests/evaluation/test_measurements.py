"""Circumferences beside those that experts measured: errors worked out by hand."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from bedside.datasets import Case, list_cases, read_truth
from bedside.datasets.hc18 import CIRCUMFERENCE
from bedside.evaluation.cases import score_case, summarise
from bedside.evaluation.report import to_json, to_markdown
from bedside.report.ellipse import Ellipse
from bedside.spec import Code, Label
from layout_makers import make_hc18

HEAD = (Label(1, "Fetal head", (1, 2, 3), Code("a", "b", "c"), Code("a", "b", "c")),)
SPACING_MM = (0.2, 0.2)


def disc(radius_px: float) -> np.ndarray:
    """A head as a disc; its circumference is taken half a pixel within."""
    rows, columns = np.mgrid[:200, :200]
    return (np.hypot(rows - 100, columns - 100) <= radius_px).astype(np.uint8)[None]


def length_mm(radius_px: float) -> float:
    radius_mm = 0.2 * (radius_px - 0.5)
    return Ellipse((0, 0), (radius_mm, radius_mm), 0).circumference_mm


def score(name: str, truth: float, prediction: float, reference: float, spacing_mm=SPACING_MM):
    case = Case(f"{name}_HC", name, images=("",), truth="", reference={CIRCUMFERENCE: reference})
    return score_case(case, disc(truth), disc(prediction), spacing_mm=spacing_mm, labels=HEAD)


def test_errors_are_those_of_prediction_and_truth_against_the_experts():
    reference = length_mm(60.5)
    found = summarise(
        [
            score("a", truth=60.5, prediction=62.5, reference=reference),
            score("b", truth=61.5, prediction=59.5, reference=reference),
        ]
    )
    (result,) = found.measurements
    pixel_mm = 2 * np.pi * 0.2
    # A rasterised disc of 60 pixels is within a tenth of a pixel of its radius.
    assert result.absolute_error.mean == pytest.approx(1.5 * pixel_mm, abs=0.1 * pixel_mm)
    assert result.bias.mean == pytest.approx(0.5 * pixel_mm, abs=0.1 * pixel_mm)
    assert result.floor.mean == pytest.approx(0.5 * pixel_mm, abs=0.1 * pixel_mm)
    assert (result.cases, result.missing) == (2, 0)


def test_a_prediction_without_a_head_is_counted_and_warned_of():
    empty = score_case(
        Case("c_HC", "c", images=("",), truth="", reference={CIRCUMFERENCE: 70.0}),
        disc(60),
        np.zeros_like(disc(60)),
        spacing_mm=SPACING_MM,
        labels=HEAD,
    )
    found = summarise([empty, score("b", 60, 60, 70.0)])
    assert found.measurements[0].missing == 1
    assert any("could not be measured on 1 of 2" in text for text in found.warnings)


def test_without_a_scale_or_a_reference_nothing_is_measured():
    assert summarise([score("a", 60, 60, 70.0, spacing_mm=None)]).measurements == ()
    bare = Case("a", "a", images=("",), truth="")
    result = score_case(bare, disc(60), disc(60), spacing_mm=SPACING_MM, labels=HEAD)
    assert summarise([result]).measurements == ()


def test_the_report_holds_the_error_and_its_floor():
    found = summarise([score("a", 60, 62, 75.0), score("b", 60, 61, 75.0)])
    content = json.loads(to_json(found, about={}))
    (result,) = content["measurements"]
    assert result["name"] == CIRCUMFERENCE
    assert result["absolute_error"]["mean"] == pytest.approx(
        found.measurements[0].absolute_error.mean
    )
    assert result["floor"].keys() == {"mean", "low", "high"}
    assert content["cases"][0]["measured"][CIRCUMFERENCE]["reference"] == 75.0
    page = to_markdown(found, title="heads", picture=None)
    assert "## Measurements" in page
    assert "Head circumference, mm" in page


def test_the_table_of_hc18_is_the_reference(tmp_path):
    cases = list_cases(make_hc18(tmp_path))
    assert [case.reference for case in cases] == [
        {CIRCUMFERENCE: 62.0},
        {CIRCUMFERENCE: 61.0},
        {CIRCUMFERENCE: 60.0},
    ]


def test_on_the_experts_own_masks_little_is_lost():
    default = Path(__file__).parents[3] / "shared" / "data"
    data = Path(os.environ.get("BEDSIDE_DATA", default)) / "hc18"
    if not data.is_dir():
        pytest.skip(f"no {data}; set BEDSIDE_DATA to the folder that holds hc18")
    results = []
    for case in list_cases(data)[::20]:
        truth = read_truth(case, (1,))
        results.append(score_case(case, truth, truth, spacing_mm=case.spacing_mm, labels=HEAD))
    (found,) = summarise(results).measurements
    # A tenth of a pixel in radius, 0.28 mm in the mean: labels were averaged from a finer grid.
    assert found.floor.mean < 0.2
    assert found.floor == found.absolute_error
