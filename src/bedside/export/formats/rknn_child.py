"""Script that converts to RKNN and simulates it; runs in the toolkit's environment without us.

versions                     print the versions of packages, as JSON
convert FROM TO CHIP LAYERS  build a graph for a chip; LAYERS is where each layer runs, as JSON
run FROM CHIP                build a graph, read tensors from stdin and write logits to stdout
"""

import ctypes
import json
import os
import re
import signal
import struct
import sys
import tempfile
from importlib.metadata import version
from typing import Any

_LAYER = re.compile(
    r"RKNN: \[[\d:.]+\] \d+ +(\S+) +(\S+) +(CPU|NPU|GPU) .* (\d+)/(\d+)/(\d+) +\S+ +(\S+)\s*$"
)


def list_versions() -> None:
    """Print the versions of the toolkit."""
    sys.stdout.write(json.dumps({"rknn-toolkit2": version("rknn-toolkit2")}) + "\n")


def convert(source: str, target: str, chip: str, layers: str) -> None:
    """Build a graph, and note where its layers run."""
    with tempfile.NamedTemporaryFile("r", errors="replace") as log:
        kept = [os.dup(1), os.dup(2)]
        for stream in (1, 2):
            os.dup2(os.open(log.name, os.O_WRONLY | os.O_APPEND), stream)
        try:
            network = _build(source, chip, verbose=True)
            _check(network.export_rknn(target), "export_rknn")
        finally:
            for stream, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, stream)
        found = [match.groups() for line in log if (match := _LAYER.search(line))]
    rows = [
        {
            "layer": name,
            "operation": operation,
            "type": kind.lower(),
            "runs_on": place,
            "cycles_ddr": int(ddr),
            "cycles_npu": int(npu),
        }
        for operation, kind, place, ddr, npu, _, name in found
    ]
    with open(layers, "w", encoding="utf-8") as file:
        json.dump(rows, file, indent=1)


def serve(source: str, chip: str) -> None:
    """Simulate a graph on tensors from stdin, one block of bytes each."""
    pipe = os.fdopen(os.dup(1), "wb")
    # What the toolkit prints goes to stderr, so that it does not end up among the numbers.
    os.dup2(2, 1)
    import numpy as np
    import onnx

    graph = onnx.load(source).graph
    shapes = {
        key: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for key, value in (("takes", graph.input[0]), ("gives", graph.output[0]))
    }
    network = _build(source, chip, verbose=False)
    _check(network.init_runtime(), "init_runtime")
    _write(pipe, json.dumps(shapes).encode())
    size = 4 * int(np.prod(shapes["takes"]))
    while len(content := sys.stdin.buffer.read(size)) == size:
        image = np.frombuffer(content, np.float32).reshape(shapes["takes"])
        logits = network.inference(inputs=[image], data_format=["nchw"])[0]
        _write(pipe, np.ascontiguousarray(logits, np.float32).tobytes())


def _build(source: str, chip: str, *, verbose: bool) -> Any:
    from rknn.api import RKNN

    network = RKNN(verbose=verbose)
    _check(network.config(target_platform=chip) or 0, "config")
    _check(network.load_onnx(model=source), "load_onnx")
    _check(network.build(do_quantization=False), "build")
    return network


def _check(code: int, step: str) -> None:
    if code:
        raise SystemExit(f"{step} of rknn-toolkit2 failed with {code}")


def _write(pipe: Any, block: bytes) -> None:
    pipe.write(struct.pack("<q", len(block)) + block)
    pipe.flush()


def _end_with_parent() -> None:
    """End this process with the one that started it; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    _end_with_parent()
    doers: dict[str, Any] = {"versions": list_versions, "convert": convert, "run": serve}
    doers[sys.argv[1]](*sys.argv[2:])
