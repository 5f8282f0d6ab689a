"""Script that converts to LiteRT and runs it; runs in LiteRT's environment without this package.

versions                print the versions of packages, as JSON
convert FROM TO         convert a program of torch.export
quantize FROM TO IMAGES round a model to 8 bits, by the ranges that images have in it
vela MODEL FOLDER CHIP  compile a model of 8 bits for an Ethos-U
run MODEL THREADS       read tensors from stdin and write logits to stdout, until stdin ends
"""

import contextlib
import ctypes
import json
import os
import signal
import struct
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def list_versions() -> None:
    """Print the versions of converter and runtime."""
    found = {name: version(name) for name in ("litert-torch", "ai-edge-litert", "torch")}
    for name in ("ai-edge-quantizer", "ethos-u-vela"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    sys.stdout.write(json.dumps(found) + "\n")


def convert(source: str, target: str) -> None:
    """Convert a program of torch.export."""
    import litert_torch
    import torch

    program = torch.export.load(source)
    users = set(program.graph_signature.user_inputs)
    shape = next(tuple(n.meta["val"].shape) for n in program.graph.nodes if n.name in users)
    litert_torch.convert(program.module(), (torch.zeros(shape),)).export(target)


def quantize(source: str, target: str, images: str) -> None:
    """Round weights and activations to 8 bits."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    ((name, ends),) = Interpreter(model_path=source).get_signature_list().items()
    work = quantizer.Quantizer(source, recipe.static_wi8_ai8())
    inputs = [{ends["inputs"][0]: image[None]} for image in np.load(images)]
    work.quantize(work.calibrate({name: inputs})).export_model(target, overwrite=True)


def compile_vela(model: str, folder: str, chip: str) -> None:
    """Compile for an Ethos-U, and keep what the compiler says beside the result."""
    command = [sys.executable, "-m", "ethosu.vela", "--accelerator-config", chip]
    command += ["--show-cpu-operations", "--output-dir", folder, model]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit((done.stderr or done.stdout).strip() or "vela failed")
    with open(os.path.join(folder, "vela.txt"), "w", encoding="utf-8") as file:
        file.write(done.stdout.replace(folder, "."))


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
        image = np.frombuffer(content, np.float32).reshape(shapes["takes"])
        if taken["dtype"] is np.int8:
            scale, zero = taken["quantization"]
            image = (image / scale + zero).round().clip(-128, 127).astype(np.int8)
        interpreter.set_tensor(taken["index"], image)
        interpreter.invoke()
        logits = interpreter.get_tensor(given["index"]).astype(np.float32)
        if given["dtype"] is np.int8:
            scale, zero = given["quantization"]
            logits = ((logits - zero) * scale).astype(np.float32)
        _write(pipe, np.ascontiguousarray(logits).tobytes())


def _write(pipe: Any, block: bytes) -> None:
    pipe.write(struct.pack("<q", len(block)) + block)
    pipe.flush()


def _end_with_parent() -> None:
    """End this process with the one that started it; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    _end_with_parent()
    doers: dict[str, Any] = {
        "versions": list_versions,
        "convert": convert,
        "quantize": quantize,
        "vela": compile_vela,
        "run": serve,
    }
    doers[sys.argv[1]](*sys.argv[2:])
