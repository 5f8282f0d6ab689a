"""The layer that does not bear 8 bits is found, and no other stays in f32."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bedside.bundle import check_graph
from bedside.compression.accuracy_aware import MixedGraph, quantize_int8_accuracy_aware
from bedside.compression.quantize import prepare, quantize_int8
from bedside.errors import ExportError
from bedside.export.parity import make_inputs
from bedside.runtime import open_graph
from models_for_tests import INPUT_SHAPE, make_graph, make_noise, run_torch
from processors_for_tests import NEEDS_INT8

CALIBRATION = make_inputs(INPUT_SHAPE, count=4)
FAULTY = "levels.0.0.project.0"
MAX_DROP = 0.1


def plant_fault() -> bytes:
    """The same function with one channel 3000 times as large as its neighbours.

    Eight bits for all of what the next convolution reads leave the neighbours none, and its
    weights for that channel round to 0.
    """
    model, _ = prepare(make_graph())
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def scale(name: str, place: tuple[slice | int, ...], factor: float) -> None:
        value = numpy_helper.to_array(tensors[name]).copy()
        value[place] *= factor
        tensors[name].CopyFrom(numpy_helper.from_array(value, name))

    before = "levels.0.0.spatial.0.weight"
    scale(before, (slice(0, 8),), 3000.0)
    scale(f"{before}_bias", (slice(0, 8),), 3000.0)
    scale(f"{FAULTY}.weight", (slice(None), slice(0, 8)), 1 / 3000.0)
    content: bytes = model.SerializeToString()
    return content


IMAGES = [make_noise(seed=seed) for seed in range(2)]
WANTED = [run_torch(image) for image in IMAGES]


def score(graph: bytes) -> list[float]:
    """How near each class's logits are to torch's: 1 for the same."""
    session = open_graph(graph, precision="int8" if b"QuantizeLinear" in graph else "f32")
    errors = [np.abs(session.predict(i) - w) for i, w in zip(IMAGES, WANTED, strict=True)]
    size = np.mean([np.abs(w - w.mean()) for w in WANTED])
    return [1 - float(each) for each in np.mean(errors, axis=(0, 1, 3, 4)) / size]


@pytest.fixture(scope="module")
def mixed() -> MixedGraph:
    return quantize_int8_accuracy_aware(plant_fault(), CALIBRATION, score, MAX_DROP)


@NEEDS_INT8
def test_the_faulty_layer_alone_stays_in_f32(mixed: MixedGraph) -> None:
    assert [layer.name for layer in mixed.kept] == [FAULTY]
    assert min(mixed.kept[0].gain) > 0
    assert mixed.layers > 15


@NEEDS_INT8
def test_every_structure_is_within_its_bound_only_with_it(mixed: MixedGraph) -> None:
    drops = [a - b for a, b in zip(mixed.reference, mixed.plain, strict=True)]
    assert max(drops) > MAX_DROP
    drops = [a - b for a, b in zip(mixed.reference, mixed.reached, strict=True)]
    assert max(drops) <= MAX_DROP
    assert tuple(score(mixed.graph)) == mixed.reached


@NEEDS_INT8
def test_the_graph_holds_its_weights_in_f32_and_all_others_in_bytes(mixed: MixedGraph) -> None:
    check_graph(mixed.graph, where="the graph")
    model = onnx.load_from_string(mixed.graph)
    onnx.checker.check_model(model, full_check=True)
    large = {t.name: t.data_type for t in model.graph.initializer if len(t.dims) == 4}
    plain = [name for name, kind in large.items() if kind == onnx.TensorProto.FLOAT]
    assert plain == [f"{FAULTY}.weight.f32"]
    assert len(large) > 10


@NEEDS_INT8
def test_a_network_that_bears_8_bits_gets_them_everywhere() -> None:
    calls = []

    def count(graph: bytes) -> list[float]:
        calls.append(graph)
        return score(graph)

    mixed = quantize_int8_accuracy_aware(make_graph(), CALIBRATION, count, MAX_DROP)
    assert mixed.kept == ()
    assert mixed.graph == quantize_int8(make_graph(), CALIBRATION)
    assert len(calls) == 2


def test_a_bound_that_nothing_reaches_is_an_error() -> None:
    scores = iter(range(10, -1000, -1))
    with pytest.raises(ExportError, match="with every layer back in f32"):
        quantize_int8_accuracy_aware(
            make_graph(), CALIBRATION, lambda graph: [float(next(scores))], 0.5
        )
