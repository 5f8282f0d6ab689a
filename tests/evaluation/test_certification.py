"""Certificates are measured in every backend, on the validation patients and on nobody else."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from bedside.bundle import Bundle, read_bundle, write_bundle
from bedside.cli.main import main
from bedside.errors import DataError
from bedside.evaluation.certification import certify
from bedside.evaluation.parts import list_part, list_validation
from bedside.runtime import BACKENDS
from bedside.runtime import onnx as onnx_backend
from bedside.runtime import openvino as openvino_backend
from bedside.runtime.execution_modes import certified_modes
from bedside.spec import CropFan, Fit, Grey, ScalePercentile
from models_for_tests import make_card, make_graph, make_spec, make_verdict
from processors_for_tests import COMPUTES_BF16, NEEDS_BF16
from runs_for_tests import make_camus

SPLIT = {"train": ("patient0001",), "val": ("patient0002", "patient0003"), "test": ("patient0004",)}

MODES = [
    (backend.name, precision)
    for backend in BACKENDS
    for precision in backend.precisions
    if COMPUTES_BF16 or precision != "bf16"
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patients of which only those for validation can be read."""
    folder = make_camus(tmp_path_factory.mktemp("data"), patients=4)
    for patient in SPLIT["train"] + SPLIT["test"]:
        for image in (folder / patient).iterdir():
            image.write_bytes(b"not to be looked at")
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """As bundles were made before certificates named a backend: measured in OpenVINO."""
    card = make_card(make_verdict("f32"), make_verdict("bf16"), untrained=False)
    spec = dataclasses.replace(
        make_spec(), preprocess=(Grey(), CropFan(), Fit(), ScalePercentile())
    )
    path = tmp_path / "old.bedside"
    graphs = {"f32": make_graph(), "int8": make_graph()}
    write_bundle(path, spec=spec, card=card, graphs=graphs, split=SPLIT)
    return read_bundle(path)


def certify_command(bundle: Bundle, data: Path, output: Path, *words: str) -> int:
    return main(["certify", str(bundle.path), "--data", str(data), "-o", str(output), *words])


@NEEDS_BF16
def test_every_backend_has_its_own_certificate_beside_one_reference(bundle, data) -> None:
    results = certify(bundle, list_validation(bundle, data), threads=1)
    assert [(result.backend, result.precision) for result in results] == MODES
    assert MODES[:5] == [
        ("openvino", "f32"), ("openvino", "bf16"), ("openvino", "int8"),
        ("onnxruntime", "f32"), ("onnxruntime", "int8"),
    ]  # fmt: skip
    for result in results:
        assert result.reference == "openvino f32"
        assert result.ran_in.startswith(f"{result.backend} ")
        assert result.ran_in[-1].isdigit()
        assert result.cases == 4
        assert len(result.dice) == len(result.agreement) == 2
    assert results[0].max_drop == 0
    assert results[0].worst_logit_part == 0
    assert results[1].worst_logit_part > 1e-4
    assert results[3].worst_logit_part < 1e-5
    assert results[3].passed


def test_bf16_that_a_runtime_computes_in_f32_gets_no_certificate(bundle, data, monkeypatch) -> None:
    settings = openvino_backend.compile_settings
    monkeypatch.setattr(
        openvino_backend,
        "compile_settings",
        lambda *, precision, threads: settings(precision="f32", threads=threads),
    )
    results = certify(bundle, list_validation(bundle, data), threads=1)
    assert "bf16" not in {result.precision for result in results}
    assert len(results) == len([mode for mode in MODES if mode[1] != "bf16"])


def test_a_runtime_that_computes_otherwise_fails_alone(bundle, data, monkeypatch) -> None:
    opened = onnx_backend.open_graph

    class Wrong:
        backend, threads, is_shared = "onnxruntime", 1, False

        def __init__(self, session):
            self._session, self.precision = session, session.precision

        def predict(self, tensor, out=None):
            return np.roll(self._session.predict(tensor), 8, axis=-1)

    monkeypatch.setattr(
        onnx_backend, "open_graph", lambda graph, **options: Wrong(opened(graph, **options))
    )
    results = certify(bundle, list_validation(bundle, data), max_drop=-1.0, threads=1)
    assert not any(result.passed for result in results)
    found = {(r.backend, r.precision): r for r in results}
    assert found["openvino", "int8"].agreement == (1.0, 1.0)
    assert min(found["onnxruntime", "f32"].agreement) < 0.99
    assert found["onnxruntime", "f32"].worst_logit_part > 0.1


def test_the_command_writes_the_same_graphs_with_the_new_card(bundle, data, tmp_path, capsys):
    output = tmp_path / "new.bedside"
    assert certify_command(bundle, data, output) == 0
    told = capsys.readouterr()
    assert "onnxruntime int8" in told.out
    assert "on 4 validation cases" in told.err
    new = read_bundle(output)
    assert (new.spec, new.split, new.precisions) == (bundle.spec, bundle.split, bundle.precisions)
    for name in bundle.precisions:
        assert new.read_graph(name) == bundle.read_graph(name)
    results = new.card.precisions
    assert dataclasses.replace(new.card, precisions=bundle.card.precisions) == bundle.card
    assert len(results) == len(MODES)
    assert ("onnxruntime", "f32") not in certified_modes(bundle)
    assert ("onnxruntime", "f32") in certified_modes(new)
    again = tmp_path / "again.bedside"
    assert certify_command(bundle, data, again, "--json") == 0
    assert again.read_bytes() == output.read_bytes()
    certificates = json.loads(capsys.readouterr().out)["certificates"]
    assert certificates[3]["backend"] == "onnxruntime"


def test_certificates_of_what_is_not_installed_here_are_kept(
    bundle, data, tmp_path, monkeypatch
) -> None:
    from bedside.runtime import table

    found = table.find_spec
    monkeypatch.setattr(
        table, "find_spec", lambda name: None if name == "openvino" else found(name)
    )
    assert certify_command(bundle, data, tmp_path / "new.bedside") == 0
    card = read_bundle(tmp_path / "new.bedside").card
    assert card.find_certificate("openvino", "bf16") == bundle.card.find_certificate(
        "openvino", "bf16"
    )
    assert card.find_certificate("onnxruntime", "int8").reference == "onnxruntime f32"


def test_all_validation_patients_must_be_there(bundle, data, tmp_path, capsys) -> None:
    part = make_camus(tmp_path, patients=2)
    with pytest.raises(DataError, match=r"lacks 1 of the 2 validation .* patient0003 among them"):
        list_validation(bundle, part)
    assert certify_command(bundle, part, tmp_path / "new.bedside") == 3
    assert not (tmp_path / "new.bedside").exists()
    with pytest.raises(DataError, match='none of the 1 patients in the part "test"'):
        list_part(bundle, part, "test")


def test_an_untrained_bundle_has_nothing_to_certify(bundle, data, tmp_path, capsys) -> None:
    path = tmp_path / "untrained.bedside"
    graphs = {"f32": bundle.read_graph("f32")}
    nobody = {"train": (), "val": (), "test": ()}
    write_bundle(path, spec=bundle.spec, card=make_card(), graphs=graphs, split=nobody)
    assert certify_command(read_bundle(path), data, tmp_path / "new.bedside") == 3
    assert "names no validation patients" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "new.zip"], "must end in .bedside"),
        (["-o", "new.bedside", "--max-drop", "1"], "--max-drop is 1"),
        (["-o", "new.bedside", "--threads", "0"], "--threads is 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(bundle, data, capsys, words, said) -> None:
    assert main(["certify", str(bundle.path), "--data", str(data), *words]) == 2
    assert said in capsys.readouterr().err
