"""`bedside calibrate` on made-up fans: the bundle that it writes, and what it refuses."""

import dataclasses
import shutil

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
    """A bundle with fresh weights, whose first patients are the validation part."""
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
    assert "images of 9 patients, features weighed with 1 training patients; written" in out
    assert after.confidence.training_units == 1
    for model in after.confidence.frames:
        assert f"{model.structure}, by frame: not trusted below" in out
        assert "area" in model.measurement_tails


def test_validation_images_alone_are_enough(tmp_path, data, capsys):
    path, output = make_uncalibrated(tmp_path, data, val=9), tmp_path / "sure.bedside"
    told = ["calibrate", str(path), "--data", str(data), "-o", str(output), "--validation-only"]
    assert main(told) == 0
    assert read_bundle(output).confidence.training_units == 0
    assert f"images of 9 patients; written to {output}" in capsys.readouterr().out


def test_a_folder_without_training_patients_calibrates_by_the_others(tmp_path, data):
    path = make_uncalibrated(tmp_path, data, val=9)
    people = sorted({case.patient_id for case in list_cases(data)})
    part = shutil.copytree(
        data, tmp_path / "part", ignore=lambda folder, names: set(names) & set(people[9:])
    )
    outputs = [tmp_path / f"{name}.bedside" for name in ("part", "whole")]
    for folder, output in zip((part, data), outputs, strict=True):
        alone = () if folder == part else ("--validation-only",)
        told = ["calibrate", str(path), "--data", str(folder), "-o", str(output), *alone]
        assert main(told) == 0
    first, second = (read_bundle(output).confidence for output in outputs)
    assert first == second


def test_too_few_patients_leave_no_bundle(tmp_path, data, capsys):
    path, output = make_uncalibrated(tmp_path, data, val=3), tmp_path / "sure.bedside"
    assert main(["calibrate", str(path), "--data", str(data), "-o", str(output)]) != 0
    assert "6 cases of 3 patients; a calibration needs at least 8" in capsys.readouterr().err
    assert not output.exists()
