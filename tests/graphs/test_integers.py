"""Integers in bytes: every book comes back, in torch's convolution and in every runtime."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bedside.bundle import check_graph
from bedside.graphs.columns import join_columns
from bedside.graphs.constant_folding import widen
from bedside.graphs.edit import shorten_names
from bedside.graphs.grid import find_grid
from bedside.graphs.integers import choose_book, make_table, pack, store_integers
from bedside.runtime import BACKENDS, open_graph
from models_for_tests import INPUT_SHAPE, make_plain_graph
from tolerances import F32_LOGIT_ATOL

BOOKS = {
    "binary": (-1, 1),
    "ternary": (-1, 0, 1),
    "four levels": (-3, -1, 1, 3),
    "4 bits": tuple(range(-7, 8)),
    "8 bits": tuple(range(-127, 128)),
}


def draw(book, shape, seed=0) -> np.ndarray:
    """Integers of a book, all of them if there is room."""
    integers = np.random.default_rng(seed).choice(book, size=shape)
    integers[:, 0] = max(book)
    return integers.astype(np.int8)


@pytest.mark.parametrize("name", BOOKS)
def test_what_is_packed_is_looked_up_again(name):
    integers = draw(BOOKS[name], (12, 40))
    book, per_byte = choose_book(integers)
    assert book == BOOKS[name]
    assert len(book) ** per_byte <= 256
    if per_byte > 1:
        rows = make_table(book, per_byte)[pack(integers, book, per_byte)]
        assert np.array_equal(rows.reshape(12, 40), integers)


def test_an_odd_number_of_weights_is_packed_by_what_divides_it():
    assert choose_book(np.int8([[1, -1, 0]] * 7))[1] == 3
    assert choose_book(np.int8([[7, -7, 0]]))[1] == 1


@pytest.mark.parametrize("name", BOOKS)
def test_a_grid_is_found_whatever_factor_each_channel_has(name):
    integers = draw(BOOKS[name], (12, 5, 3, 3))
    factors = np.random.default_rng(1).uniform(-2, 2, (12, 1, 1, 1)).astype(np.float32)
    weights = integers.astype(np.float32) * np.float32(0.037) * factors
    grid = find_grid(weights)
    assert np.array_equal(grid.integers, integers * np.sign(factors).astype(np.int8))
    back = grid.integers * grid.scale.reshape(-1, 1, 1, 1)
    assert np.allclose(back, weights, rtol=1e-6, atol=0)


def test_weights_that_were_never_rounded_lie_on_no_grid():
    assert find_grid(np.random.default_rng(0).standard_normal((8, 9)).astype(np.float32)) is None


@pytest.mark.parametrize("name", BOOKS)
@pytest.mark.parametrize("backend", [backend.name for backend in BACKENDS])
def test_every_runtime_computes_with_the_weights_themselves(name, backend):
    shape = (3, 1, 2, 2) if name == "binary" else (3, 1, 6, 6)
    weight = draw(BOOKS[name], (3, 1, 36)).reshape(3, 1, 6, 6).astype(np.float32) * 0.11
    model = make_plain_graph(weight=weight)
    del model.graph.node[0].attribute[:]
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("strides", [2, 2]))
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("pads", [2, 2, 2, 2]))
    plain = model.SerializeToString()
    assert store_integers(model) == 1
    join_columns(model, dropped_bits=0)
    shorten_names(model)
    stored = model.SerializeToString()
    check_graph(stored, where="x")
    image = np.random.default_rng(0).random(INPUT_SHAPE, dtype=np.float32)
    wanted = open_graph(plain, backend=backend).predict(image)
    seen = open_graph(stored, backend=backend).predict(image)
    assert np.abs(seen - wanted).max() < 1e-3 * np.abs(wanted).max() + F32_LOGIT_ATOL
    assert shape[0] == seen.shape[1]


def test_widening_undoes_all_storing():
    weight = draw(BOOKS["4 bits"], (64, 1, 2, 2)).astype(np.float32) * 0.5
    model = make_plain_graph(weight=weight)
    store_integers(model)
    join_columns(model, dropped_bits=0)
    shorten_names(model)
    assert {node.op_type for node in model.graph.node} > {"Gather", "Mul", "Conv"}
    widen(model)
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    (tensor,) = model.graph.initializer
    assert tensor.name == "weight"
    assert np.array_equal(numpy_helper.to_array(tensor), weight)
