"""ONNX Runtime's CUDA and TensorRT providers, named by the user: never chosen by themselves."""

from typing import Any

from bedside.errors import BackendError
from bedside.runtime.checks import make_backend_error
from bedside.runtime.engine_cache import engine_folder
from bedside.runtime.onnx import OnnxSession, open_provider


def open_on(
    graph: bytes, *, backend: str, device: str, precision: str, threads: int
) -> OnnxSession:
    """Open a graph on a GPU; what the provider cannot run, CUDA and then the CPU run.

    Args:
        graph: Serialized ONNX with one input of batch 1 and one output.
        backend: Its name in the table.
        device: ONNX Runtime's name of the provider.
        precision: "f32", or "f16" where the provider computes in it.
        threads: Threads of the host for one call.

    Raises:
        BackendError: If the provider or its device is not there, or cannot run the graph.
    """
    import onnxruntime as ort

    here = ort.get_available_providers()
    if device not in here:
        raise BackendError(
            f'backend "{backend}" needs {device} and the installed ONNX Runtime has '
            f"{', '.join(here)}. Install it with: pip install onnxruntime-gpu."
        )
    providers = [(device, provider_options(device, precision))]
    if device != "CUDAExecutionProvider" and "CUDAExecutionProvider" in here:
        providers.append(("CUDAExecutionProvider", provider_options("CUDAExecutionProvider", "")))
    try:
        session = open_provider(
            graph, [*providers, "CPUExecutionProvider"], precision=precision, threads=threads
        )
    except Exception as error:  # its errors share no other base
        raise make_backend_error(backend, error) from error
    # Without its device a provider is left out, with a line in a log.
    if device not in session.providers:
        raise BackendError(
            f'backend "{backend}" finds no device: ONNX Runtime ran {", ".join(session.providers)}'
            " instead. Install the card's driver and libraries, or choose another backend."
        )
    session.backend = backend
    return session


def provider_options(provider: str, precision: str) -> dict[str, Any]:
    """Return the options of a provider: CUDA without TF32, which TensorRT may use; engines kept.

    Args:
        provider: ONNX Runtime's name.
        precision: How to compute.
    """
    if provider == "CUDAExecutionProvider":
        return {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    options = {"trt_fp16_enable": "1" if precision == "f16" else "0"}
    if folder := engine_folder("tensorrt"):
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
        }
    return options
