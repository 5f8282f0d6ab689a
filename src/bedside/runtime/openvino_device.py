"""OpenVINO on a GPU or an NPU, named by the user: never chosen by itself."""

from typing import Any

from bedside.errors import BackendError
from bedside.runtime.checks import make_backend_error
from bedside.runtime.engine_cache import engine_folder
from bedside.runtime.openvino import OpenvinoSession, read_graph, the_core

# What a device computes in at most, where that is not f32.
_WIDEST = {"NPU": "f16"}


def open_on(
    graph: bytes, *, backend: str, device: str, precision: str, threads: int
) -> OpenvinoSession:
    """Compile a graph for a device, or take what was compiled before.

    Args:
        graph: Serialized ONNX with one input of batch 1 and one output.
        backend: Its name in the table.
        device: OpenVINO's name of the device.
        precision: "f32", "f16", or "int8" for a graph that is quantized.
        threads: Threads of the host for one call; the device has its own.

    Raises:
        BackendError: If the device is not there, or cannot run the graph.
    """
    here = the_core().available_devices
    # Of several, OpenVINO numbers them: GPU.0, GPU.1.
    if not any(name.partition(".")[0] == device for name in here):
        raise BackendError(
            f'backend "{backend}" needs a device {device} and OpenVINO finds '
            f"{', '.join(here) or 'none'}. Install the device's driver, or choose another backend."
        )
    try:
        model = read_graph(graph)
        compiled = the_core().compile_model(model, device, device_settings(device, precision))
    except BackendError:
        raise
    except RuntimeError as error:
        raise make_backend_error(backend, error) from error
    session = OpenvinoSession(compiled, precision=precision, threads=threads)
    session.backend = backend
    return session


def device_settings(device: str, precision: str) -> dict[str, Any]:
    """Return the settings of OpenVINO for a device: one call at a time, engines kept.

    Args:
        device: OpenVINO's name of it; an NPU computes no f32, beside int8 neither.
        precision: How to compute.
    """
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f16" if "f16" in (precision, _WIDEST.get(device)) else "f32",
    }
    if folder := engine_folder("openvino"):
        settings["CACHE_DIR"] = str(folder)
    return settings
