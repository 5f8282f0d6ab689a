"""A small bundle, and what it is exported as: shared by the tests of exports."""

import dataclasses
import functools
import tempfile
from pathlib import Path

import numpy as np

from bedside.bundle import Bundle, read_bundle, write_bundle
from bedside.compression.quantize import quantize_int8
from bedside.evaluation.generated import make_samples
from bedside.export.certificate import Bound
from bedside.export.certified import Material
from bedside.export.mixed import leave_in_f32
from bedside.export.parity import make_inputs
from bedside.export.programs import GraphProgram
from bedside.spec import CropCentre, Fit, Grey, ScalePercentile
from models_for_tests import INPUT_SHAPE, make_card, make_graph, make_spec, make_split

STEPS = (Grey(), CropCentre(size_px=(64, 64)), Fit(), ScalePercentile())


def make_deployment():
    return dataclasses.replace(make_spec(), preprocess=STEPS)


@functools.cache
def make_quantized() -> bytes:
    return quantize_int8(make_graph(), make_inputs(INPUT_SHAPE, count=8))


@functools.cache
def make_bundle(*, int8: bool = False) -> Bundle:
    graphs = {"f32": make_graph()} | ({"int8": make_quantized()} if int8 else {})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.bedside"
        write_bundle(
            path, spec=make_deployment(), card=make_card(), graphs=graphs, split=make_split()
        )
        return read_bundle(path)


def make_material(precision="f32", *, bound=None, quantized=None, repairable=None) -> Material:
    """What a graph format exports, judged on two generated images."""
    reference = GraphProgram(make_graph())

    def make(kept):
        if quantized is None:
            return reference
        content = leave_in_f32(quantized, reference, kept) if kept else quantized
        return GraphProgram(content, names=reference.names)

    return Material(
        bundle=make_bundle(),
        precision=precision,
        reference=reference,
        make=make,
        repairable=quantized is not None if repairable is None else repairable,
        bound=bound or Bound(0.002, 0.01),
        samples=functools.partial(make_samples, make_deployment(), count=2),
        data="generated images",
    )


def noise() -> np.ndarray:
    return make_inputs(INPUT_SHAPE)[-1]
