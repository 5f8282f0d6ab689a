"""ONNX Runtime on the CPU: the second backend, for machines that OpenVINO is not made for."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bedside.runtime.checks import make_backend_error
from bedside.runtime.contract import GraphSession


class OnnxSession(GraphSession):
    """A graph in ONNX Runtime, which any number of threads may run at once."""

    backend = "onnxruntime"

    @property
    def providers(self) -> tuple[str, ...]:
        """Names of the providers that run it."""
        return tuple(self._network.get_providers())

    def _run(self, network: Any, image: np.ndarray, logits: np.ndarray) -> None:
        binding = network.io_binding()
        binding.bind_cpu_input(network.get_inputs()[0].name, image)
        binding.bind_output(
            network.get_outputs()[0].name, "cpu", 0, np.float32, logits.shape, logits.ctypes.data
        )
        network.run_with_iobinding(binding)


def open_graph(graph: bytes, *, precision: str, threads: int) -> OnnxSession:
    """Open a graph for lowest latency.

    Args:
        graph: Serialized ONNX with one input of batch 1 and one output.
        precision: "f32", or "int8" for a graph that is quantized.
        threads: Threads for one call.

    Raises:
        BackendError: If ONNX Runtime cannot run the graph.
    """
    try:
        return open_provider(graph, ["CPUExecutionProvider"], precision=precision, threads=threads)
    except Exception as error:  # its errors share no other base
        raise make_backend_error("onnxruntime", error) from error


def open_provider(
    graph: bytes, providers: Sequence[Any], *, precision: str, threads: int
) -> OnnxSession:
    """Open a graph in some of ONNX Runtime's providers, the first one preferred.

    Args:
        graph: Serialized ONNX with one input of batch 1 and one output.
        providers: Names, or names with options.
        precision: How it computes.
        threads: Threads of the host for one call.
    """
    # Here, so that asking what it could do does not load it.
    import onnxruntime as ort

    # Where somebody has loaded it before `bedside.system.telemetry` could set its switch.
    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    session = ort.InferenceSession(graph, options, providers=list(providers))
    return OnnxSession(
        session,
        takes=session.get_inputs()[0].shape[1:],
        gives=session.get_outputs()[0].shape[1:],
        precision=precision,
        threads=threads,
    )


def native_precisions() -> tuple[str, ...]:
    """Return the precisions that this processor computes natively."""
    return ("f32", "int8")
