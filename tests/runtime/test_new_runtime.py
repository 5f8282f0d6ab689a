"""A new runtime is one module and one row of the table: nothing else has to know its name."""

import json
from pathlib import Path

import numpy as np
import pytest

import tolerances
from bedside.cli.main import main
from bedside.errors import BackendError, UsageError
from bedside.runtime import execution_modes, open_graph, open_session, table
from bedside.runtime.execution_modes import certificate_warnings, certified_modes, list_modes
from bedside.runtime.machine import fingerprint
from models_for_tests import make_bundle, make_graph, make_noise, make_verdict, run_torch

MODULE = """
import cv2
import numpy as np
from bedside.runtime.contract import GraphSession

class OpencvSession(GraphSession):
    backend = "opencv"

    def _run(self, network, image, logits):
        network.setInput(image)
        found = network.forward()
        logits[...] = found.astype("f2") if self.precision == "f16" else found

def open_graph(graph, *, precision, threads):
    network = cv2.dnn.readNetFromONNX(np.frombuffer(graph, np.uint8))
    return OpencvSession(
        network, takes=(1, 64, 64), gives=(3, 32, 32), precision=precision, threads=threads
    )

def native_precisions():
    return ("f32", "f16", "int8")
"""
VERDICTS = (
    make_verdict("f32"),
    make_verdict("f16", backend="opencv"),
    make_verdict("int8", backend="opencv"),
)


@pytest.fixture(autouse=True)
def _added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "opencv_for_tests.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    row = table.Backend(
        name="opencv",
        package="cv2",
        opener="opencv_for_tests",
        precisions=("f32", "f16", "int8"),
        faster_than_f32=("f16",),
        int8_saturates=False,
    )
    monkeypatch.setattr(table, "BACKENDS", (*table.BACKENDS, row))


def test_it_runs_by_its_name_in_precisions_of_its_own(tmp_path: Path) -> None:
    wanted = run_torch(make_noise())
    allowed = tolerances.STORED_WEIGHTS_RTOL * max(1, np.abs(wanted).max())
    bundle = make_bundle(tmp_path)
    f32 = open_session(bundle, backend="opencv", precision="f32").predict(make_noise())
    np.testing.assert_allclose(f32, wanted, rtol=0, atol=allowed)
    f16 = open_session(bundle, backend="opencv", precision="f16").predict(make_noise())
    assert np.array_equal(f16, f32.astype(np.float16))
    with pytest.raises(BackendError, match='opencv cannot compute in "bf16"; choose one of f32, f'):
        open_graph(make_graph(), backend="opencv", precision="bf16")
    with pytest.raises(UsageError, match="one of auto, default, f32, bf16, int8, f16"):
        open_session(bundle, precision="f64")


def test_it_is_chosen_by_its_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(tmp_path, *VERDICTS, int8=True, untrained=False)
    # Its int8 does not depend on what the processor has.
    monkeypatch.setattr(execution_modes, "has_int8_products", lambda: False)
    assert {("opencv", "f32"), ("opencv", "f16")} <= set(list_modes(bundle))
    assert certified_modes(bundle, backend="opencv") == (("opencv", "f16"), ("opencv", "int8"))
    opened = open_session(bundle, backend="opencv", precision="default")
    assert (opened.backend, opened.precision) == ("opencv", "f16")
    assert certificate_warnings(bundle, "opencv", "int8") == ()
    (said,) = certificate_warnings(bundle, "opencv", "f32")
    assert "tiny is not certified for opencv in f32" in said


def test_times_are_remembered_for_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = fingerprint()
    monkeypatch.setattr(table, "BACKENDS", table.BACKENDS[:-1])
    assert fingerprint() != with_it


def test_every_command_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(tmp_path, *VERDICTS)
    words = ["models", str(bundle.path), "--retune", "--backend", "opencv", "--json"]
    assert main(words) == 0
    (found,) = json.loads(capsys.readouterr().out)["models"]
    assert found["backend"] == "opencv"
    for command in (["compress", str(bundle.path)], ["search", "some.toml"]):
        words = ["-o", str(tmp_path / "out"), "--target-ms", "5", "--backend", "tpu"]
        assert main([*command, *words]) == 2
        assert 'no backend "tpu"; choose one of auto, openvino, onnxruntime, opencv' in (
            capsys.readouterr().err
        )
    find = table.find_spec
    monkeypatch.setattr(table, "find_spec", lambda name: None if name == "cv2" else find(name))
    assert main(["models", str(bundle.path), "--retune", "--backend", "opencv"]) == 4
    assert 'backend "opencv" is not installed. Install it with: pip install "cv2"' in (
        capsys.readouterr().err
    )
