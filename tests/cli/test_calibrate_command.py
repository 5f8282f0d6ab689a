"""`bedside calibrate` on made-up fans: the bundle that it writes, and what it refuses."""

import dataclasses

import pytest

from bedside.bundle import read_bundle, write_bundle
from bedside.cli.main import main
from bedside.datasets import list_cases
from bedside.spec import Fit, Grey, ScalePercentile
from models_for_tests import make_bundle
from runs_for_tests import make_camus


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """10 patients with a fan at each of two phases."""
    return make_camus(tmp_path_factory.mktemp("fans"), patients=10)


def make_uncalibrated(folder, data, *, val: int):
    """A bundle with fresh weights, of which so many patients are the validation part."""
    bundle = make_bundle(folder, untrained=False)
    people = sorted({case.patient_id for case in list_cases(data)})
    split = {"train": tuple(people[val:]), "val": tuple(people[:val]), "test": ()}
    spec = dataclasses.replace(bundle.spec, preprocess=(Grey(), Fit(), ScalePercentile()))
    graphs = {"f32": bundle.read_graph("f32")}
    write_bundle(bundle.path, spec=spec, card=bundle.card, graphs=graphs, split=split)
    return bundle.path


def test_a_calibrated_bundle_is_written_and_its_intervals_are_named(tmp_path, data, capsys):
    path, output = make_uncalibrated(tmp_path, data, val=9), tmp_path / "sure.bedside"
    assert main(["calibrate", str(path), "--data", str(data), "-o", str(output)]) == 0
    before, after = read_bundle(path), read_bundle(output)
    assert before.confidence is None
    assert (after.confidence.units, after.confidence.unit) == (9, "patients")
    assert (after.spec, after.card) == (before.spec, before.card)
    out = capsys.readouterr().out
    assert f"images of 9 patients; written to {output}" in out
    for model in after.confidence.frames:
        assert f"{model.structure}, by frame: not trusted below" in out
        assert "area" in model.measurement_tails


def test_too_few_patients_leave_no_bundle(tmp_path, data, capsys):
    path, output = make_uncalibrated(tmp_path, data, val=3), tmp_path / "sure.bedside"
    assert main(["calibrate", str(path), "--data", str(data), "-o", str(output)]) != 0
    assert "6 cases of 3 patients; a calibration needs at least 8" in capsys.readouterr().err
    assert not output.exists()
