"""Script that converts to LiteRT and runs it; runs in LiteRT's environment without this package.

versions              print the versions of packages, as JSON
convert FROM TO       convert a program of torch.export
run MODEL THREADS     read tensors from stdin and write logits to stdout, until stdin ends
"""

import ctypes
import json
import os
import signal
import struct
import sys
from importlib.metadata import version
from typing import Any


def list_versions() -> None:
    """Print the versions of converter and runtime."""
    names = ("litert-torch", "ai-edge-litert", "torch")
    sys.stdout.write(json.dumps({name: version(name) for name in names}) + "\n")


def convert(source: str, target: str) -> None:
    """Convert a program of torch.export."""
    import litert_torch
    import torch

    program = torch.export.load(source)
    users = set(program.graph_signature.user_inputs)
    shape = next(tuple(n.meta["val"].shape) for n in program.graph.nodes if n.name in users)
    litert_torch.convert(program.module(), (torch.zeros(shape),)).export(target)


def serve(model: str, threads: str) -> None:
    """Run a model on tensors from stdin, one block of bytes each."""
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What libraries print goes to stderr, so that it does not end up among the numbers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=model, num_threads=int(threads))
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    shapes = {key: [int(n) for n in each["shape"]] for key, each in
              (("takes", taken), ("gives", given))}  # fmt: skip
    _write(pipe, json.dumps(shapes).encode())
    size = 4 * int(np.prod(shapes["takes"]))
    while len(content := sys.stdin.buffer.read(size)) == size:
        interpreter.set_tensor(
            taken["index"], np.frombuffer(content, np.float32).reshape(shapes["takes"])
        )
        interpreter.invoke()
        logits = np.ascontiguousarray(interpreter.get_tensor(given["index"]), np.float32)
        _write(pipe, logits.tobytes())


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
