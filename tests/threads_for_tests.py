"""One thing called by many threads at once, and networks to call so."""

import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from bedside.spec import DeploymentSpec, InputSpec, LevelSpec, ModelSpec
from makers import LABELS

THREADS = 8
SIZES = {2: (64, 96), 3: (8, 24, 24)}


def call_together(call, items, *, rounds=2, threads=THREADS):
    """Call with every item several times by threads that begin at once, each at another item.

    Returns:
        Pairs of an item's index and a result, all results held until the last call is done.
    """
    gate = threading.Barrier(threads)

    def work(number):
        order = np.roll(np.arange(len(items)), number * len(items) // threads)
        gate.wait()
        return [(int(index), call(items[index])) for _ in range(rounds) for index in order]

    with ThreadPoolExecutor(threads) as pool:
        return [pair for pairs in pool.map(work, range(threads)) for pair in pairs]


def count_foreign(call, items, **options):
    """Count results that are not what the same item gives when nobody else calls."""
    alone = [np.array(call(item)) for item in items]
    assert len({each.tobytes() for each in alone}) == len(items)
    kept = [call(item) for item in items]
    found = call_together(call, items, **options)
    # What was returned before must not have changed by now, either.
    found += list(enumerate(kept))
    return sum(not np.array_equal(result, alone[index]) for index, result in found)


def make_network(spatial_dims):
    """Three convolutions with random weights: every image has logits of its own."""
    rng = np.random.default_rng(spatial_dims)
    channels, nodes, tensors = (1, 16, 16, 4), [], []
    for index in range(3):
        weight = rng.normal(
            0, (channels[index] * 3**spatial_dims) ** -0.5,
            (channels[index + 1], channels[index], *[3] * spatial_dims),
        )  # fmt: skip
        if not index:
            # Edges count and not brightness, so that labels have shapes.
            weight -= weight.mean(axis=tuple(range(1, 2 + spatial_dims)), keepdims=True)
        tensors.append(numpy_helper.from_array(weight.astype(np.float32), f"weight{index}"))
        names = [f"input{index}" if index else "image", f"weight{index}"]
        made = f"sum{index}" if index < 2 else "logits"
        nodes.append(helper.make_node("Conv", names, [made], pads=[1] * 2 * spatial_dims))
        if index < 2:
            nodes.append(helper.make_node("Relu", [made], [f"input{index + 1}"]))
    image, logits = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, count, *SIZES[spatial_dims]])
        for name, count in (("image", 1), ("logits", 4))
    )
    graph = helper.make_graph(nodes, "random", [image], [logits], tensors)
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)])
    return model.SerializeToString()


def make_deployment(spatial_dims, preprocess, **steps_after):
    """The deployment of `make_network`, with these steps around it."""
    return DeploymentSpec(
        name="random",
        version="1",
        task="whatever the network draws",
        input=InputSpec("US", 1, SIZES[spatial_dims]),
        labels=LABELS,
        preprocess=preprocess,
        model=ModelSpec(
            "random",
            1,
            4,
            levels=(LevelSpec("conv", 1, 1),),
            logit_stride=1,
            spatial_dims=spatial_dims,
        ),
        **steps_after,
    )


def make_tensors(spatial_dims, *, count=16):
    """Images of noise for `make_network`, (1, 1, *S) float32 each."""
    return list(
        np.random.default_rng(0)
        .normal(0, 1, (count, 1, 1, *SIZES[spatial_dims]))
        .astype(np.float32)
    )


def make_clouds(count, *shape, seed=0):
    """Images of soft blobs, (count, *shape) uint8: their labels have islands and holes."""
    noise = np.random.default_rng(seed).normal(0, 1, (count, *shape)).astype(np.float32)
    soft = np.stack([cv2.GaussianBlur(each, (0, 0), 3) for each in noise.reshape(-1, *shape[-2:])])
    soft = (soft - soft.min()) * (255 / np.ptp(soft))
    return soft.astype(np.uint8).reshape(count, *shape)
