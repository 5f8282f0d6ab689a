"""ONNX Runtime on the CPU: the second backend, for machines that OpenVINO is not made for."""

from typing import Any

import numpy as np

from bedside.runtime.checks import check_logits, check_tensor, make_backend_error

PRECISIONS = ("f32", "int8")


class OnnxSession:
    """A graph in ONNX Runtime, which any number of threads may run at once.

    Args:
        session: The runtime's session, with one input and one output.
        precision: How it computes.
        threads: Threads for one call.
    """

    backend = "onnxruntime"

    def __init__(self, session: Any, *, precision: str, threads: int) -> None:
        """Take the runtime's object over."""
        self.precision = precision
        self.threads = threads
        self._session = session
        self._input = session.get_inputs()[0].name
        self._shape = tuple(session.get_inputs()[0].shape)

    def predict(self, tensor: np.ndarray) -> np.ndarray:
        """Turn (B, C, *S) float32 into (B, K, *s) float32 logits that the caller owns.

        Raises:
            InputError: If the shape is not the graph's, or a value is not finite.
        """
        tensor = check_tensor(tensor, self._shape[1:])
        logits = [self._run(tensor[index : index + 1]) for index in range(len(tensor))]
        return check_logits(logits[0] if len(logits) == 1 else np.concatenate(logits))

    def _run(self, image: np.ndarray) -> np.ndarray:
        try:
            logits: np.ndarray = self._session.run(None, {self._input: image})[0]
        except Exception as error:  # its errors share no other base
            raise make_backend_error(self.backend, error) from error
        return logits


def open_graph(graph: bytes, *, precision: str, threads: int) -> OnnxSession:
    """Open a graph, with as many threads as are asked for and not as the host has.

    Args:
        graph: Serialized ONNX with one input of batch 1 and one output.
        precision: "f32", or "int8" for a graph that is quantized.
        threads: Threads for one call.

    Raises:
        BackendError: If ONNX Runtime cannot run the graph.
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
    try:
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no other base
        raise make_backend_error("onnxruntime", error) from error
    return OnnxSession(session, precision=precision, threads=threads)


def native_precisions() -> tuple[str, ...]:
    """Name the precisions that this processor computes itself."""
    return PRECISIONS
