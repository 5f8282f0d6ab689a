"""Runtimes on accelerators, as far as a machine without one can tell."""

import numpy as np
import pytest

from bedside.cli.main import main
from bedside.errors import BackendError, UsageError
from bedside.evaluation.certification import certify
from bedside.runtime import find_backend, open_graph, open_session, openvino
from bedside.runtime.execution_modes import (
    certificate_warnings,
    certified_modes,
    default_mode,
    list_runnable,
)
from bedside.runtime.onnx_gpu import open_on as open_onnx
from bedside.runtime.onnx_gpu import provider_options
from bedside.runtime.openvino_device import device_settings
from bedside.runtime.openvino_device import open_on as open_openvino
from bedside.runtime.table import ACCELERATORS, BACKENDS
from models_for_tests import make_bundle, make_graph, make_noise, make_verdict

NAMES = [row.name for row in ACCELERATORS]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def _none_here(monkeypatch):
    """A machine without accelerators, as most that run these tests are anyway."""
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    if len(openvino.the_core().available_devices) > 1:
        pytest.skip("OpenVINO finds an accelerator")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("_none_here")
def test_a_device_that_is_not_there_is_an_error_of_one_line(name, tmp_path, capsys):
    precision = find_backend(name).precisions[0]
    with pytest.raises(BackendError, match=f'^backend "{name}" needs .*CPU') as caught:
        open_graph(make_graph(), backend=name, precision=precision)
    assert caught.value.exit_code == 4
    with pytest.raises(BackendError, match=f'^backend "{name}" needs'):
        open_session(make_bundle(tmp_path), backend=name, precision="default")
    with pytest.raises(BackendError, match=f'^backend "{name}" needs'):
        certify(make_bundle(tmp_path), [], accelerator=name)
    capsys.readouterr()
    assert main(["models", str(make_bundle(tmp_path).path), "--retune", "--backend", name]) == 4
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f'bedside: error: backend "{name}" needs')


@pytest.mark.parametrize("name", NAMES)
def test_an_accelerator_runs_only_where_it_is_named(name, tmp_path):
    precision = find_backend(name).precisions[0]
    bundle = make_bundle(tmp_path, make_verdict(precision, backend=name), int8=True)
    assert find_backend("auto").name == BACKENDS[0].name
    assert certified_modes(bundle) == ()
    assert certified_modes(bundle, backend=name) == ((name, precision),)
    assert default_mode(bundle) == (BACKENDS[0].name, "f32")
    assert default_mode(bundle, backend=name) == (name, precision)
    assert name not in {backend for backend, _ in list_runnable(bundle)}
    assert (name, precision) in list_runnable(bundle, accelerator=name)
    with pytest.raises(UsageError, match='no backend "tpu"'):
        list_runnable(bundle, accelerator="tpu")


def test_a_certificate_holds_for_one_backend_and_device(tmp_path):
    bundle = make_bundle(tmp_path, make_verdict("f16", backend="openvino-gpu"), untrained=False)
    assert certificate_warnings(bundle, "openvino-gpu", "f16") == ()
    for other in ("openvino", "openvino-npu", "onnxruntime-tensorrt"):
        (warning,) = certificate_warnings(bundle, other, "f16")
        assert f"not certified for {other} in f16" in warning
        assert "Certified: openvino-gpu f16" in warning


def test_a_device_is_opened_by_its_name_and_keeps_its_engines(tmp_path):
    """OpenVINO's CPU stands in: the same calls with another name of the device."""
    session = open_openvino(
        make_graph(), backend="openvino-gpu", device="CPU", precision="f32", threads=1
    )
    assert (session.backend, session.precision) == ("openvino-gpu", "f32")
    plain = open_graph(make_graph(), backend="openvino").predict(make_noise())
    assert np.allclose(session.predict(make_noise()), plain, atol=1e-4)
    assert list((tmp_path / "cache" / "bedside" / "engines" / "openvino").iterdir())


def test_settings_and_options_follow_the_precision(tmp_path, monkeypatch):
    engines = tmp_path / "cache" / "bedside" / "engines"
    assert device_settings("GPU", "f16")["INFERENCE_PRECISION_HINT"] == "f16"
    assert device_settings("GPU", "int8")["INFERENCE_PRECISION_HINT"] == "f32"
    assert device_settings("NPU", "int8")["INFERENCE_PRECISION_HINT"] == "f16"
    assert provider_options("CUDAExecutionProvider", "f32")["use_tf32"] == "0"
    options = provider_options("TensorrtExecutionProvider", "f16")
    assert options["trt_fp16_enable"] == "1"
    assert options["trt_engine_cache_path"] == str(engines / "tensorrt")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "nowhere")
    assert "CACHE_DIR" not in device_settings("GPU", "f16")
    assert "trt_engine_cache_enable" not in provider_options("TensorrtExecutionProvider", "f16")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_is_left_out_is_an_error(monkeypatch):
    """A card's provider without the card: ONNX Runtime would go on without a word."""
    import onnxruntime

    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    with pytest.raises(BackendError, match=r'"onnxruntime-cuda" finds no device: .* CPUExec'):
        open_onnx(
            make_graph(),
            backend="onnxruntime-cuda",
            device="CUDAExecutionProvider",
            precision="f32",
            threads=1,
        )
