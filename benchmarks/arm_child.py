"""Run a model on tensors, on an ARM processor or in its emulator, without this package.

    python arm_child.py MODEL TENSORS.npy LOGITS.npy

prints machine, package and version as JSON. One thread.
"""

import json
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
        interpreter.set_tensor(taken["index"], tensor[None])
        interpreter.invoke()
        results.append(interpreter.get_tensor(given["index"]).copy())
    return "ai-edge-litert", results


if __name__ == "__main__":
    model, source, target = sys.argv[1:]
    package, logits = (run_litert if model.endswith(".tflite") else run_onnx)(
        model, np.load(source)
    )
    np.save(target, np.concatenate(logits))
    found = {"machine": platform.machine(), "package": package, "version": version(package)}
    sys.stdout.write(json.dumps(found) + "\n")
