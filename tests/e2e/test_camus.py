"""The shipped bundle on real patients that it was not trained on, where the data is at hand."""

import json
import os
from pathlib import Path

import pytest

import tolerances
from bedside.bundle import find_bundle, read_bundle
from bedside.cli.main import main

ROOT = Path(os.environ.get("BEDSIDE_DATA", Path(__file__).parents[3] / "shared" / "data"))
CAMUS = ROOT / "camus"

pytestmark = pytest.mark.skipif(
    not CAMUS.is_dir(), reason=f"SKIPPED: no CAMUS at {CAMUS}; set BEDSIDE_DATA to its parent"
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("camus") / "out"
    options = ["--split", "test", "--precision", "f32", "-o", str(folder), "--json"]
    assert main(["evaluate", "camus-4ch", str(CAMUS), *options]) == 0
    return json.loads((folder / "evaluation.json").read_text())


def test_structures_are_found_as_the_card_says(report):
    bundle = read_bundle(find_bundle("camus-4ch"))
    for found, stated in zip(report["structures"], bundle.card.structures, strict=True):
        assert found["name"] == stated.name
        assert found["dice"]["mean"] == pytest.approx(stated.dice.mean, abs=tolerances.CARD_DICE)
        assert found["hd95_mm"]["low"] <= found["hd95_mm"]["mean"] <= found["hd95_mm"]["high"]


def test_none_of_the_test_patients_was_trained_on(report):
    assert not [warning for warning in report["warnings"] if "trained on" in warning]
    bundle = read_bundle(find_bundle("camus-4ch"))
    # One who is in training under another id is left out.
    assert {case["patient"] for case in report["cases"]} <= set(bundle.split["test"])
