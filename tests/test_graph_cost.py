"""What a graph takes is worked out before it runs, as runtimes do it, and refused where it is much.

Every rule is compared with what ONNX Runtime gives; every way to explode is tried.
"""

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from bedside.bundle import check_graph, read_bundle, shipped_bundles
from bedside.bundle.graph_cost import measure_graph
from bedside.bundle.graph_rules import RULES
from bedside.bundle.wire import read_graph
from bedside.errors import BundleError

SHAPE = (1, 4, 6, 8)


def make(nodes, constants=(), *, shape=SHAPE, outputs=("y",), opset=20):
    """A model from "x" through nodes, with named constants."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [
            numpy_helper.from_array(np.asarray(array), name)
            for name, array in dict(constants).items()
        ],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, ir_version=10, opset_imports=opsets)


def node(operation, inputs="x", outputs="y", **attributes):
    return helper.make_node(operation, inputs.split(), outputs.split(), **attributes)


def floats(*shape):
    return np.ones(shape, np.float32)


def integers(*values):
    return np.array(values, np.int64)


# Operation, constants, attributes: the first input is x of SHAPE, the others are the constants.
FORMS = [
    *[(name, {}, {}) for name in ("Abs", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish",
      "Identity", "LeakyRelu", "Neg", "Reciprocal", "Relu", "Sigmoid", "Softmax", "Sqrt", "Tanh",
      "GlobalAveragePool", "Transpose", "Squeeze", "ReduceMean", "ReduceMax", "ReduceSum")],
    ("Cast", {}, {"to": TensorProto.FLOAT16}),
    ("Clip", {"low": np.float32(0), "high": np.float32(1)}, {}),
    *[(name, {"a": floats(3, 4, 1, 8)}, {})
      for name in ("Add", "Div", "Max", "Min", "Mul", "Sub", "Sum")],
    ("Add", {"a": floats(2, 1, 1, 1, 1)}, {}),
    ("Pow", {"a": np.float32(2)}, {}),
    ("PRelu", {"a": floats(4, 1, 1)}, {}),
    ("BatchNormalization", {name: floats(4) for name in "abcd"}, {}),
    ("InstanceNormalization", {name: floats(4) for name in "ab"}, {}),
    ("GroupNormalization", {name: floats(2) for name in "ab"}, {"num_groups": 2}),
    ("LayerNormalization", {"a": floats(6, 8)}, {"axis": 2}),
    ("LayerNormalization", {"a": floats(8), "b": floats(8)}, {}),
    ("QuantizeLinear", {"s": floats(4), "z": np.zeros(4, np.int8)}, {"axis": 1}),
    ("QuantizeLinear", {"s": np.float32(1)}, {}),
    ("Conv", {"w": floats(5, 4, 3, 3)}, {}),
    ("Conv", {"w": floats(8, 1, 3, 2), "b": floats(8)},
     {"group": 4, "strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]}),
    ("Conv", {"w": floats(5, 4, 3, 3)}, {"auto_pad": "SAME_UPPER", "strides": [4, 3]}),
    ("Conv", {"w": floats(5, 4, 3, 3)}, {"auto_pad": "VALID"}),
    ("ConvTranspose", {"w": floats(4, 5, 2, 2)}, {"strides": [2, 2]}),
    ("ConvTranspose", {"w": floats(4, 3, 3, 3), "b": floats(6)},
     {"group": 2, "strides": [2, 3], "pads": [1, 0, 1, 1], "output_padding": [1, 0]}),
    ("MaxPool", {},
     {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [0, 1, 0, 1]}),
    ("MaxPool", {}, {"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("AveragePool", {}, {"kernel_shape": [3, 2]}),
    ("Concat", {"a": floats(1, 2, 6, 8)}, {"axis": -3}),
    ("MatMul", {"a": floats(3, 1, 8, 5)}, {}),
    ("Einsum", {"a": floats(8, 5)}, {"equation": "bchw, wk -> bkch"}),
    ("Flatten", {}, {"axis": 2}),
    ("Flatten", {}, {"axis": -1}),
    ("Gather", {"i": np.zeros((2, 3), np.int64)}, {"axis": 1}),
    ("ReduceMean", {"axes": integers(-1, 1)}, {"keepdims": 0}),
    ("ReduceSum", {}, {"noop_with_empty_axes": 1}),
    ("Reshape", {"s": integers(0, -1, 3)}, {}),
    ("Reshape", {"s": integers(2, 96)}, {}),
    ("Resize", {"r": floats(0), "s": np.array([1, 1, 1.4, 0.3], np.float32)}, {"mode": "linear"}),
    ("Resize", {"r": floats(0), "s": np.array([], np.float32), "z": integers(1, 4, 9, 2)}, {}),
    ("Resize", {"r": floats(0), "s": np.array([2.5, 3], np.float32)}, {"axes": [2, 3]}),
    ("Slice", {"b": integers(1, -2), "e": integers(2**62, -100), "a": integers(1, -1),
               "s": integers(2, -3)}, {}),
    ("Slice", {"b": integers(1), "e": integers(1)}, {}),
    ("DepthToSpace", {}, {"blocksize": 2}),
    ("SpaceToDepth", {}, {"blocksize": 2}),
    ("Transpose", {}, {"perm": [3, 0, 2, 1]}),
    ("Squeeze", {"a": integers(-4)}, {}),
    ("Unsqueeze", {"a": integers(0, -1)}, {}),
]  # fmt: skip


def run(model):
    ort = pytest.importorskip("onnxruntime")
    ort.set_default_logger_severity(4)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    shape = [each.dim_value for each in model.graph.input[0].type.tensor_type.shape.dim]
    return session.run(None, {"x": np.ones(shape, np.float32)})


def shapes_of(model):
    graph = read_graph(model.SerializeToString())
    return measure_graph(graph, graph.inputs)[1]


@pytest.mark.parametrize(("operation", "constants", "attributes"), FORMS)
def test_shapes_are_those_of_onnx_runtime(operation, constants, attributes):
    model = make([node(operation, " ".join(["x", *constants]), **attributes)], constants)
    # The runtime wants to know what kind of numbers come out.
    inferred = shape_inference.infer_shapes(model).graph
    kinds = [value.type.tensor_type.elem_type for value in (*inferred.output, *inferred.value_info)]
    model.graph.output[0].type.tensor_type.elem_type = kinds[0]
    kind = {"Cast": TensorProto.FLOAT16, "QuantizeLinear": TensorProto.INT8 if "z" in constants
            else TensorProto.UINT8}.get(operation, TensorProto.FLOAT)  # fmt: skip
    model.graph.output[0].type.tensor_type.elem_type = kind
    assert shapes_of(model)["y"] == run(model)[0].shape


def test_one_tensor_may_be_split_into_the_columns_of_a_network_of_few_bits():
    sizes = [1 + number % 3 for number in range(400)]
    names = " ".join(f"column{number}" for number in range(400))
    model = make(
        [node("Split", "joined sizes", names, axis=0), node("Add", "x column0")],
        {"joined": np.ones(sum(sizes), np.float32), "sizes": integers(*sizes)},
    )
    found = shapes_of(model)
    assert [found[f"column{number}"] for number in range(400)] == [(size,) for size in sizes]
    assert found["y"] == run(model)[0].shape


@pytest.mark.parametrize(
    ("nodes", "constants", "outputs"),
    [
        ([node("Split", outputs="y z", axis=1, num_outputs=2)], {}, "yz"),
        ([node("Split", "x s", "y z", axis=3)], {"s": integers(3, 5)}, "yz"),
        ([node("Split", outputs="y z w", axis=3, num_outputs=3)], {}, "yzw"),
        ([node("TopK", "x k", "y z", axis=2)], {"k": integers(3)}, "y"),
        (
            [node("QuantizeLinear", "x s", "q"), node("DequantizeLinear", "q s")],
            {"s": np.float32(1)}, "y",
        ),
        (
            [node("Flatten"), node("Gemm", "y w b", "g", transB=1)],
            {"w": floats(7, 192), "b": floats(7)}, "g",
        ),
        (
            [node("Constant", "", "s", value=numpy_helper.from_array(integers(-1))),
             node("Identity", "s", "t"), node("Reshape", "x t")],
            {}, "y",
        ),
    ],
)  # fmt: skip
def test_operations_with_several_values_too(nodes, constants, outputs):
    model = make(nodes, constants, outputs=outputs)
    assert [shapes_of(model)[name] for name in outputs] == [each.shape for each in run(model)]


def test_every_rule_has_been_compared():
    others = {"Split", "TopK", "DequantizeLinear", "Gemm", "Constant"}
    assert {operation for operation, _, _ in FORMS} | others == set(RULES)


@pytest.mark.parametrize("path", shipped_bundles(), ids=lambda path: path.stem)
def test_shipped_bundles_take_far_less_than_is_allowed_and_have_the_shapes_of_onnx(path):
    bundle = read_bundle(path)
    for precision in bundle.precisions:
        content = bundle.read_graph(precision)
        cost = check_graph(content, where="x").cost
        assert cost.largest < 2**22
        assert cost.live < 2**23
        assert cost.touched < 10**9
        assert cost.macs < 10**10
        graph = read_graph(content)
        found = measure_graph(graph, graph.inputs)[1]
        inferred = shape_inference.infer_shapes(onnx.load_from_string(content), data_prop=True)
        compared = 0
        for value in inferred.graph.value_info:
            dims = value.type.tensor_type.shape.dim
            if all(dim.HasField("dim_value") for dim in dims):
                assert found[value.name] == tuple(dim.dim_value for dim in dims)
                compared += 1
        assert compared > 100


def resize(factor, inputs="x", outputs="y"):
    name = f"s{outputs}"
    scales = np.array([1, 1, factor, factor], np.float32)
    constant = node("Constant", "", name, value=numpy_helper.from_array(scales))
    return [constant, node("Resize", f"{inputs}  {name}".replace("  ", " r "), outputs)]


def chain(count, make_one):
    """Operations one behind another, from x to y."""
    names = ["x", *(f"v{number}" for number in range(count - 1)), "y"]
    return [each for pair in itertools.pairwise(names) for each in make_one(*pair)]


BIG = (1, 1, 512, 512)
KEEP = [
    *(node("Relu", "big", f"v{number}") for number in range(40)),
    node("Concat", " ".join(f"v{number}" for number in range(40)), "all", axis=1),
    node("ReduceMax", "all", "y"),
]
MANY = np.zeros(100_000, np.int64)
WIDE = floats(100_000)

# Each a small file that would take gigabytes or minutes.
BOMBS = {
    "resize there and back": ([*resize(256, "x", "big"), *resize(1 / 256, "big", "y")], {}, BIG),
    "sizes": ([node("Resize", "x r r z")], {"z": integers(1, 1, 2**20, 2**20)}, BIG),
    "resize of one axis at a time": (
        [node("Reshape", "x s", "t"), node("Resize", "t r r z")],
        {"s": integers(1, 1, 2**18, 1), "z": integers(1, 1, 1, 2**18)}, BIG),
    "broadcast": (
        [node("Transpose", "x", "t", perm=[0, 1, 3, 2]), node("Reshape", "x a", "u"),
         node("Reshape", "t b", "v"), node("Add", "u v")],
        {"a": integers(1, -1), "b": integers(-1, 1)}, BIG),
    "outer product": (
        [node("Reshape", "x a", "u"), node("Reshape", "x b", "v"), node("MatMul", "v u")],
        {"a": integers(1, -1), "b": integers(-1, 1)}, BIG),
    "einsum": ([node("Reshape", "x a", "u"), node("Einsum", "u u", equation="i,j->ij")],
               {"a": integers(-1)}, BIG),
    "einsum of three": ([node("Reshape", "x a", "u"), node("Einsum", "u u u", equation="i,j,k->k")],
                        {"a": integers(-1)}, BIG),
    "gather": ([node("Gather", "x i", axis=1)], {"i": MANY}, BIG),
    "doubling": (chain(40, lambda a, b: [node("Concat", f"{a} {a}", b, axis=1)]), {}, BIG),
    "padded pool": ([node("AveragePool", kernel_shape=[2, 2], pads=[60_000] * 4)], {}, BIG),
    "padded convolution": (
        [node("Conv", "x w", pads=[60_000] * 4)], {"w": floats(1, 1, 2, 2)}, BIG),
    "stride of a transposed one": (
        [node("ConvTranspose", "x w", strides=[500, 500])], {"w": floats(1, 1, 1, 1)}, BIG),
    "output padding": (
        [node("ConvTranspose", "x w", strides=[99, 99], output_padding=[98, 98], pads=[0, 0, 0, 0],
              dilations=[90_000, 90_000])], {"w": floats(1, 1, 2, 2)}, BIG),
    "large window": ([node("MaxPool", kernel_shape=[255, 255], pads=[127] * 4)], {}, BIG),
    "large kernel": (chain(8, lambda a, b: [node("Conv", f"{a} w", b, pads=[127, 127, 127, 127])]),
                     {"w": floats(2, 2, 255, 255)}, (1, 2, 512, 512)),
    "long chain": (chain(15_000, lambda a, b: [node("Tanh", a, b)]), {}, (1, 1, 1024, 1024)),
    "kept to the end": ([*resize(16, "x", "big"), *KEEP[:6],
                         node("Max", " ".join(f"v{number}" for number in range(6)), "y")], {}, BIG),
    "scale of an axis": ([node("QuantizeLinear", "x s", axis=1)], {"s": WIDE}, BIG),
    "zero point of an axis": ([node("DequantizeLinear", "q s", axis=1)],
                              {"s": WIDE, "q": np.zeros((1, 1, 512, 512), np.int8)}, BIG),
    "norm": ([node("InstanceNormalization", "x s s")], {"s": WIDE}, BIG),
    "batch norm": ([node("BatchNormalization", "x s s s s")], {"s": WIDE}, BIG),
    "layer norm": ([node("LayerNormalization", "x s")], {"s": floats(1000, 1, 1, 512)}, BIG),
    "limits": ([node("Clip", "x s")], {"s": floats(1000, 1, 1)}, BIG),
    "bias": ([node("Conv", "x w b")], {"w": floats(1, 1, 1, 1), "b": WIDE}, BIG),
    "sum of a product": ([node("Flatten", "x", "f"), node("Gemm", "f w b")],
                         {"w": floats(2**18, 1), "b": floats(9999, 1)}, BIG),
    "slope": ([node("PRelu", "x s")], {"s": floats(1000, 1, 1)}, BIG),
    "size that is computed": (
        [node("ReduceMax", "x", "m", keepdims=0), node("Cast", "m", "k", to=TensorProto.INT64),
         node("Reshape", "k one", "s"), node("Resize", "x r r s", axes=[3])],
        {"one": integers(1)}, BIG),
    "shape that is computed": (
        [node("Cast", "x", "s", to=TensorProto.INT64), node("Reshape", "x s")], {}, (4,)),
    "constant in disguise": (
        [node("Mul", "s s", "t"), node("Resize", "x r r t")], {"s": integers(1, 1, 999, 999)}, BIG),
    "too many dimensions": (chain(9, lambda a, b: [node("Unsqueeze", f"{a} n", b)]),
                            {"n": integers(0, 1)}, BIG),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_graph_that_would_explode_is_refused(name):
    nodes, constants, shape = BOMBS[name]
    model = make(nodes, {**constants, "r": floats(0)}, shape=shape)
    reasons = "needs|at most|odd (input|bias|equation)|depends on|has the shape"
    with pytest.raises(BundleError, match=reasons):
        check_graph(model.SerializeToString(), where="x")


def test_what_makes_no_graph_is_refused():
    for nodes, words in (
        ([node("Relu", "nothing")], "which nothing gives"),
        ([node("Relu", "y", "z"), node("Relu", "x", "y")], "which nothing gives"),
        ([node("Relu"), node("Tanh")], "two values"),
        ([node("Relu", outputs="x")], "two values"),
        ([helper.make_node("Relu", ["x"], [])], "gives nothing"),
        ([node("MaxPool", outputs="y i", kernel_shape=[2, 2])], "gives 2 values"),
        ([node("Relu", outputs="z")], "given by nothing"),
    ):
        with pytest.raises(BundleError, match=words):
            check_graph(make(nodes).SerializeToString(), where="x")


def test_an_open_size_is_closed_by_what_the_graph_is_run_on():
    model = make([node("Relu")], shape=("batch", 4, "rows", 8))
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", 4, "rows", 8))
    )
    content = model.SerializeToString()
    signature = check_graph(content, where="x", input_shape=(1, 4, 6, 8))
    assert signature.inputs == {"x": (None, 4, None, 8)}
    assert signature.cost.largest == 4 * 6 * 8
    with pytest.raises(BundleError, match="at most"):
        check_graph(content, where="x", input_shape=(1, 4, 10**8, 8))
    with pytest.raises(BundleError, match="leaves its size open"):
        check_graph(content, where="x")


def test_a_million_parts_are_refused_without_reading_them_all():
    """A file of nothing but tiny operations deflates to nothing."""
    model = make([node("Relu")])
    content = model.SerializeToString()
    graph = model.graph.SerializeToString() + b"\x0a\x00" * 4_000_000
    size, length = len(graph), b""
    while size:
        length += bytes([size & 0x7F | (0x80 if size > 0x7F else 0)])
        size >>= 7
    bomb = content[: content.index(b"\x3a")] + b"\x3a" + length + graph
    with pytest.raises(BundleError, match="far fewer"):
        check_graph(bomb, where="x")
