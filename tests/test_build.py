"""A bundle whose 8 bits lose too much gets them back layer by layer, if that is asked for."""

import dataclasses
import json
import shutil

import pytest

from bedside import build
from bedside.bundle import read_bundle
from bedside.errors import DataError, FormatError
from bedside.evaluation.looks import LEDGER, read_looks
from bedside.spec import Recipe, from_mapping, to_mapping
from processors_for_tests import NEEDS_INT8

pytest_plugins = ["autopilot_fixtures"]


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A run whose ranges of 8 bits are far too narrow, so that plain int8 fails."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    record = json.loads((folder / "run.json").read_text())
    recipe = from_mapping(Recipe, record["recipe"])
    settings = dataclasses.replace(recipe.build, calibration_images=4, max_dice_drop=0.01)
    record["recipe"] = to_mapping(dataclasses.replace(recipe, build=settings))
    (folder / "run.json").write_text(json.dumps(record))
    read = build.read_calibration
    monkeypatch.setattr(build, "read_calibration", lambda run: [0.02 * each for each in read(run)])
    return folder


@NEEDS_INT8
def test_layers_stay_in_f32_where_8_bits_lose_too_much(run, tmp_path):
    plain = read_bundle(build.build_bundle(run, tmp_path / "plain.bedside", int8=True))
    assert "int8" not in plain.precisions
    stages = []
    path = build.build_bundle(
        run, tmp_path / "mixed.bedside", int8=True, accuracy_aware=True, on_stage=stages.append
    )
    assert any("fewest layers to keep in f32" in stage for stage in stages)
    mixed = read_bundle(path)
    results = [each for each in mixed.card.precisions if each.precision == "int8"]
    assert any(each.passed for each in results)
    (said,) = [line for line in mixed.card.compression if line.startswith("int8: ")]
    kept, layers = (int(word) for word in said.split() if word.isdigit())
    assert 0 < kept <= layers


def test_a_fold_without_test_patients_is_refused_before_anything_is_measured(run, tmp_path):
    record = json.loads((run / "run.json").read_text())
    record["split"]["test"] = []
    (run / "run.json").write_text(json.dumps(record))
    stages = []
    with pytest.raises(DataError, match=r'no "test" patients: data\.split'):
        build.build_bundle(run, tmp_path / "a.bedside", on_stage=stages.append)
    assert not stages
    assert not (tmp_path / "a.bedside").exists()


def test_no_bundle_is_built_whose_look_at_test_patients_is_not_recorded(trained, tmp_path):
    (tmp_path / LEDGER).write_text("not the record of a look\n")
    with pytest.raises(FormatError, match="is not the record of a look"):
        build.build_bundle(trained, tmp_path / "a.bedside", int8=False)
    assert [path.name for path in tmp_path.iterdir()] == [LEDGER]
    (tmp_path / LEDGER).unlink()
    path = build.build_bundle(trained, tmp_path / "a.bedside", int8=False)
    assert [look.sha256 for look in read_looks(tmp_path / LEDGER)] == [read_bundle(path).sha256]


def test_a_network_that_is_certified_nowhere_is_built_in_f32(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_certify", lambda *parts: ((), set()))
    path = build.build_bundle(trained, tmp_path / "a.bedside", int8=False)
    assert read_bundle(path).precisions == ("f32",)
