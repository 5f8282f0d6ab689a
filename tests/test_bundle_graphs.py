import struct
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bedside.bundle import check_graph
from bedside.errors import BundleError
from models_for_tests import INPUT_SHAPE, LOGIT_SHAPE, make_graph, make_plain_graph


def refusal(model: onnx.ModelProto | bytes) -> str:
    graph = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(BundleError) as caught:
        check_graph(graph, where="x.bedside: graphs/f32.onnx")
    message = str(caught.value)
    assert message.startswith("x.bedside: graphs/f32.onnx is refused: ")
    assert "\n" not in message
    return message


def test_an_exported_graph_passes_with_its_shapes() -> None:
    signature = check_graph(make_graph(), where="x")
    assert signature.inputs == {"image": INPUT_SHAPE}
    assert signature.outputs == {"logits": LOGIT_SHAPE}


def test_an_open_dimension_is_none() -> None:
    model = make_plain_graph()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    signature = check_graph(model.SerializeToString(), where="x")
    assert signature.inputs == {"image": (None, *INPUT_SHAPE[1:])}


def declare(*dims: int) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    return edit


@pytest.mark.parametrize(
    "dims", [(5_000_000_000,), (100_000, 100_000), (-1,), (2**40, 2**40), (3, 1, 2, 20)]
)
def test_a_tensor_that_declares_more_than_it_holds_is_refused(dims: tuple[int, ...]) -> None:
    model = make_plain_graph()
    declare(*dims)(model)
    assert "declares" in refusal(model)


def test_twenty_gigabytes_in_a_few_bytes_are_refused() -> None:
    bomb = TensorProto(dims=[5_000_000_000], data_type=TensorProto.FLOAT, name="w")
    model = helper.make_model(helper.make_graph([], "g", [], [], [bomb]))
    assert len(model.SerializeToString()) < 163
    assert "declares 5000000000 elements and holds 0 bytes" in refusal(model)


def test_packed_dimensions_count_as_well() -> None:
    tensor = b"\x0a\x05" + b"\xff\xff\xff\xff\x0f"  # dims: [2**32 - 1], packed
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    assert onnx.load_from_string(b"\x3a" + bytes([len(graph)]) + graph).graph.initializer[
        0
    ].dims == [2**32 - 1]
    assert "declares 4294967295" in refusal(b"\x3a" + bytes([len(graph)]) + graph)


def test_a_tensor_inside_a_node_is_looked_at_too() -> None:
    model = make_plain_graph()
    bomb = TensorProto(dims=[10**10], data_type=TensorProto.FLOAT)
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=bomb))
    assert "declares" in refusal(model)


@pytest.mark.parametrize(
    "array",
    [np.float32(1), np.zeros((0, 3), np.float32), np.ones(5, bool), np.ones((7, 9), np.int64)],
)
def test_honest_tensors_pass_in_either_storage(array: np.ndarray) -> None:
    array = np.asarray(array)
    listed = helper.make_tensor(
        "c", helper.np_dtype_to_tensor_dtype(array.dtype), array.shape, array.ravel().tolist()
    )
    for tensor in (numpy_helper.from_array(array, "c"), listed):
        model = make_plain_graph()
        model.graph.initializer.append(tensor)
        check_graph(model.SerializeToString(), where="x")


def use_external_data(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../secret"


def use_external_location(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def add(node: onnx.NodeProto) -> Callable[[onnx.ModelProto], None]:
    return lambda model: model.graph.node.append(node)


def add_function(model: onnx.ModelProto) -> None:
    model.functions.add().name = "f"


def add_sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().dims.append(10**10)


def declare_value(model: onnx.ModelProto) -> None:
    value = helper.make_tensor_value_info("huge", TensorProto.FLOAT, (10**5, 10**5))
    model.graph.value_info.append(value)


def take_a_sequence(model: onnx.ModelProto) -> None:
    value = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, (1,))
    model.graph.input.append(value)


SUBGRAPH = helper.make_graph([], "g", [], [])


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (use_external_data, "another file"),
        (use_external_location, "another file"),
        (add(helper.make_node("ConstantOfShape", ["s"], ["c"])), "'ConstantOfShape'"),
        (add(helper.make_node("Loop", [], [], body=SUBGRAPH)), "'Loop'|subgraph"),
        (add(helper.make_node("Identity", [], [], body=SUBGRAPH)), "subgraph"),
        (
            add(helper.make_node("Conv", [], [], domain="com.evil")),
            "custom operation of 'com.evil'",
        ),
        (add_function, "functions"),
        (add_sparse, "sparse"),
        (declare_value, "'huge' declares 10000000000 elements"),
        (take_a_sequence, "something other than a tensor"),
    ],
)
def test_what_reaches_out_or_generates_is_refused(
    edit: Callable[[onnx.ModelProto], None], expected: str
) -> None:
    model = make_plain_graph()
    edit(model)
    with pytest.raises(BundleError, match=expected):
        check_graph(model.SerializeToString(), where="x")


@pytest.mark.parametrize("graph", [b"", b"\x00", b"hello", b"\x80\x04pickle", b"\x3a\xff" * 9])
def test_what_is_not_onnx_is_refused(graph: bytes) -> None:
    refusal(graph)


def test_damage_is_refused_or_passes_but_never_crashes() -> None:
    content = make_plain_graph().SerializeToString()
    generator = np.random.default_rng(0)
    outcomes = {True: 0, False: 0}
    for _ in range(3000):
        damaged = bytearray(content)
        for place in generator.integers(0, len(damaged), 3):
            damaged[place] = generator.integers(0, 256)
        if generator.integers(2):
            damaged = damaged[: int(generator.integers(1, len(damaged) + 1))]
        try:
            check_graph(bytes(damaged), where="x")
            outcomes[True] += 1
        except BundleError:
            outcomes[False] += 1
    assert outcomes[False] > 2000
    assert outcomes[True] > 0


def test_fixed_width_fields_are_stepped_over() -> None:
    model = make_plain_graph()
    unknown = struct.pack("<BBd", 0xA1, 0x06, 1.0) + struct.pack("<BBf", 0xA5, 0x06, 1.0)
    check_graph(model.SerializeToString() + unknown, where="x")
