"""OpenVINO on the CPU: the default backend."""

import math
import sys
from collections import deque
from functools import cache
from importlib import import_module
from typing import Any, cast

import numpy as np

from bedside.errors import BackendError
from bedside.runtime.checks import make_backend_error
from bedside.runtime.contract import GraphSession

# Largest value inside a network, in elements. It is far beyond any network of ours, and
# stops a graph that enlarges its input without end before memory is asked for.
_MAX_ELEMENTS = 256 * 2**20
# Requests that are kept while nobody calls; more threads than that make new ones.
_MOST_IDLE = 16

_CONVERTER = "openvino.tools.ovc"


def _import_openvino() -> Any:
    """Import OpenVINO without its model converter, which is loaded once it is used.

    The converter and what it imports take as long as half of the rest. OpenVINO does without it.
    """
    if "openvino" in sys.modules or _CONVERTER in sys.modules:
        return import_module("openvino")
    cast(Any, sys.modules)[_CONVERTER] = None
    try:
        module = import_module("openvino")
    finally:
        del sys.modules[_CONVERTER]
    vars(module).setdefault("__getattr__", _load_converter)
    return module


def _load_converter(name: str) -> Any:
    """Attribute of the module `openvino` that its import has left out."""
    if name != "convert_model":
        raise AttributeError(f"module 'openvino' has no attribute {name!r}")
    return import_module(_CONVERTER).convert_model


ov = _import_openvino()


class OpenvinoSession(GraphSession):
    """A graph compiled for this processor, for any number of threads.

    An infer request holds the memory of one call, so each call has one to itself. Requests that
    are done are kept for the next calls.

    Args:
        compiled: The compiled model, with one input and one output.
        precision: How it computes.
        threads: Threads for one call.
    """

    backend = "openvino"

    def __init__(self, compiled: Any, *, precision: str, threads: int) -> None:
        """Create the first infer request."""
        # A deque's append and pop are atomic; beyond its length the oldest request is let go.
        idle = deque([compiled.create_infer_request()], _MOST_IDLE)
        super().__init__(
            (compiled, idle),
            takes=tuple(compiled.input(0).shape)[1:],
            gives=tuple(compiled.output(0).shape)[1:],
            precision=precision,
            threads=threads,
        )

    def _run(self, network: Any, image: np.ndarray, logits: np.ndarray) -> None:
        compiled, idle = network
        try:
            request = idle.pop()
        except IndexError:
            request = compiled.create_infer_request()
        request.set_input_tensor(0, ov.Tensor(image, shared_memory=True))
        request.set_output_tensor(0, ov.Tensor(logits, shared_memory=True))
        request.infer()
        idle.append(request)


def open_graph(graph: bytes, *, precision: str, threads: int) -> OpenvinoSession:
    """Compile a graph for lowest latency.

    Args:
        graph: Serialized ONNX with one input of batch 1 and one output.
        precision: "f32", "bf16", or "int8" for a graph that is quantized.
        threads: Threads for one call.

    Raises:
        BackendError: If OpenVINO cannot run the graph.
    """
    try:
        return open_model(read_graph(graph), precision=precision, threads=threads)
    except BackendError:
        raise
    except RuntimeError as error:
        raise make_backend_error("openvino", error) from error


def read_graph(graph: bytes) -> Any:
    """Read a graph whose values have sizes that can be meant.

    Args:
        graph: Serialized ONNX with one input of batch 1 and one output.

    Returns:
        An `openvino.Model`.

    Raises:
        BackendError: If it has other inputs or outputs, or a value of open or absurd size.
    """
    model = the_core().read_model(graph)
    _check_sizes(model)
    return model


def open_model(model: Any, *, precision: str, threads: int) -> OpenvinoSession:
    """Compile a model of OpenVINO's own for lowest latency.

    Args:
        model: An `openvino.Model` with one input of batch 1 and one output.
        precision: As in `open_graph`. A processor that can do nothing with bf16 gets f32, and the
            session says so.
        threads: Threads for one call.
    """
    settings = compile_settings(precision=precision, threads=threads)
    compiled = the_core().compile_model(model, "CPU", settings)
    if precision == "bf16" and compiled.get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32:
        precision = "f32"
    return OpenvinoSession(compiled, precision=precision, threads=threads)


def compile_settings(*, precision: str, threads: int) -> dict[str, Any]:
    """Return the settings of OpenVINO for lowest latency, one call at a time."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }


def native_precisions() -> tuple[str, ...]:
    """Return the precisions that this processor computes natively; bf16 is emulated elsewhere."""
    capabilities = the_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("f32", "bf16", "int8") if "BF16" in capabilities else ("f32", "int8")


@cache
def the_core() -> Any:
    """Return the one `openvino.Core` of this process."""
    return ov.Core()


def _check_sizes(model: Any) -> None:
    """Refuse a graph with a value of open or absurd size, before it is compiled.

    Raises:
        BackendError: If there is one.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise BackendError(
            f"the graph has {len(model.inputs)} inputs and {len(model.outputs)} outputs; "
            "expected one of each."
        )
    for operation in model.get_ordered_ops():
        for value in operation.outputs():
            shape = value.partial_shape
            if shape.is_dynamic or math.prod(shape.to_shape()) > _MAX_ELEMENTS:
                raise BackendError(
                    f"the graph's value {value.any_name!r} has shape {shape}; expected a "
                    f"fixed one of at most {_MAX_ELEMENTS} elements."
                )
