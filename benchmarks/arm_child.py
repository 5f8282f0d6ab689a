"""Run a model on tensors, on an ARM processor or in its emulator, without this package.

    python arm_child.py MODEL TENSORS.npy LOGITS.npy

prints machine, package and version as JSON. One thread.
"""

import json
import os
import platform
import sys
from importlib.metadata import version

import numpy as np


def run_onnx(path, tensors):
    """ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return "onnxruntime", [session.run(None, {name: tensor[None]})[0] for tensor in tensors]


def run_litert(path, tensors):
    """LiteRT with its default kernels (XNNPACK)."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    results = []
    for tensor in tensors:
        image = tensor[None]
        if taken["dtype"] is np.int8:
            scale, zero = taken["quantization"]
            image = (image / scale + zero).round().clip(-128, 127).astype(np.int8)
        interpreter.set_tensor(taken["index"], image)
        interpreter.invoke()
        logits = interpreter.get_tensor(given["index"]).astype(np.float32)
        if given["dtype"] is np.int8:
            scale, zero = given["quantization"]
            logits = ((logits - zero) * scale).astype(np.float32)
        results.append(logits)
    return "ai-edge-litert", results


def run_executorch(path, tensors):
    """ExecuTorch with XNNPACK.

    By the module that its Python runtime wraps: the wrapper imports its compiler.
    """
    import torch
    from executorch.extension.pybindings import _C

    torch.set_num_threads(1)
    network = _C._load_for_executorch(path)
    return "executorch", [
        network.forward([torch.from_numpy(tensor[None])])[0].numpy().copy() for tensor in tensors
    ]


RUNNERS = {".onnx": run_onnx, ".tflite": run_litert, ".pte": run_executorch}

if __name__ == "__main__":
    model, source, target = sys.argv[1:]
    package, logits = RUNNERS[os.path.splitext(model)[1]](model, np.load(source))
    np.save(target, np.concatenate(logits))
    found = {"machine": platform.machine(), "package": package, "version": version(package)}
    sys.stdout.write(json.dumps(found) + "\n")
