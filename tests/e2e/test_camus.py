"""The shipped bundle on real patients that it was not trained on, where the data is at hand."""

import json
import os
from pathlib import Path

import pytest

from bedside.bundle import find_bundle, read_bundle
from bedside.cli.main import main

ROOT = Path(os.environ.get("BEDSIDE_DATA", Path(__file__).parents[3] / "shared" / "data"))
CAMUS = ROOT / "camus"
PATIENTS = 12

pytestmark = pytest.mark.skipif(
    not CAMUS.is_dir(), reason=f"SKIPPED: no CAMUS at {CAMUS}; set BEDSIDE_DATA to its parent"
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    bundle = read_bundle(find_bundle("camus-4ch"))
    folder = tmp_path_factory.mktemp("camus")
    data = folder / "data"
    data.mkdir()
    for patient in bundle.split["test"][:PATIENTS]:
        (data / patient).symlink_to(CAMUS / patient)
    assert main(["evaluate", "camus-4ch", str(data), "-o", str(folder / "out"), "--json"]) == 0
    return json.loads((folder / "out" / "evaluation.json").read_text())


def test_structures_are_found_as_the_card_says(report):
    bundle = read_bundle(find_bundle("camus-4ch"))
    for found, stated in zip(report["structures"], bundle.card.structures, strict=True):
        assert found["name"] == stated.name
        # Twelve patients scatter around the card's mean, by about a fiftieth.
        assert found["dice"]["mean"] == pytest.approx(stated.dice.mean, abs=0.04)
        assert found["hd95_mm"]["low"] <= found["hd95_mm"]["mean"] <= found["hd95_mm"]["high"]


def test_none_of_the_test_patients_was_trained_on(report):
    assert not [warning for warning in report["warnings"] if "trained on" in warning]
    assert len(report["cases"]) == 2 * PATIENTS
