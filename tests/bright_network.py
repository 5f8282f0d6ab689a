"""A network of one convolution: whatever is brighter than black is label 1."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bedside.bundle import read_bundle, write_bundle
from bedside.spec import Fit, ScaleRange

SIZE = (64, 64)
SQUARE_MM = (0.6, 0.6, 1.0)
"""Spacing (x, y, z) of images that it is shown pixel by pixel."""


def bright_network(slopes: tuple[int, ...] = (1,)) -> bytes:
    """Make a graph with logits 0, x, -1, -1: label 1 wherever x is above 0.

    Args:
        slopes: Of each channel; x is the sum of the channels times these.
    """
    onnx = pytest.importorskip("onnx")
    image, logits = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, *SIZE])
        for name, channels in (("image", len(slopes)), ("logits", 4))
    )
    weights = {
        "slope": np.outer([0, 1, 0, 0], slopes).astype(np.float32)[..., None, None],
        "offset": np.array([0, 0, -1, -1], np.float32),
    }
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["image", *weights], ["logits"])],
        "bright",
        [image],
        [logits],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = onnx.helper.make_opsetid("", 18)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()


def write_two_channels(path: Path, *, like: Path) -> Path:
    """Write a bundle with label 1 wherever FLAIR is brighter than T1, which may be missing.

    Args:
        path: The bundle.
        like: A bundle with its labels, card and split.
    """
    read, names = read_bundle(like), ("t1", "flair")
    given = dataclasses.replace(
        read.spec.input, modality="MR", channels=2, size_px=SIZE, channel_names=names,
        optional_channels=names[:1],
    )  # fmt: skip
    spec = dataclasses.replace(
        read.spec,
        input=given,
        preprocess=(Fit(), ScaleRange(source="nominal")),
        model=dataclasses.replace(read.spec.model, in_channels=2),
    )
    graphs = {"f32": bright_network(slopes=(-1, 1))}
    write_bundle(path, spec=spec, card=read.card, graphs=graphs, split=read.split)
    return path
