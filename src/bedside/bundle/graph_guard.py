"""A look into an ONNX graph before any runtime sees it, with nothing but the bytes.

A file of 163 bytes can declare a tensor of 20 GB, or name a file on this machine as its
weights. Runtimes believe both, so graphs are walked here first: protobuf's wire format is
small, and this way needs no `onnx` package.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bedside.errors import BundleError

MAX_ELEMENTS = 64 * 2**20

# Operations that a network's inference is made of. Control flow, generators of tensors
# (ConstantOfShape, Expand, Pad, Range, Tile) and custom operators are left out on purpose.
_OPERATIONS = """
    Abs Add AveragePool BatchNormalization Cast Clip Concat Constant Conv ConvTranspose
    DepthToSpace DequantizeLinear Div Einsum Elu Erf Exp Flatten Gather Gelu Gemm
    GlobalAveragePool GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization
    LayerNormalization LeakyRelu MatMul Max MaxPool Min Mul Neg PRelu Pow QuantizeLinear
    Reciprocal ReduceMax ReduceMean ReduceSum Relu Reshape Resize Sigmoid Slice Softmax
    SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh TopK Transpose Unsqueeze
"""
ALLOWED_OPERATIONS = frozenset(_OPERATIONS.split())
_STANDARD_DOMAINS = (b"", b"ai.onnx")

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_VALUE = 1, 5, 11, 12, 13
_GRAPH_SPARSE = 15
_NODE_OPERATION, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS = 5, 10
_ATTRIBUTE_REFUSED = {6: "a subgraph", 11: "subgraphs", 22: "a sparse tensor", 23: "sparse tensors"}
_TENSOR_DIMS, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 13, 14
_TENSOR_DATA = (4, 5, 7, 9, 10, 11)


@dataclass(frozen=True)
class GraphSignature:
    """What a graph takes and gives.

    Attributes:
        inputs: Shape of each input, by name; None for a dimension left open.
        outputs: Shape of each output, by name.
    """

    inputs: dict[str, tuple[int | None, ...]]
    outputs: dict[str, tuple[int | None, ...]]


def check_graph(graph: bytes, *, where: str) -> GraphSignature:
    """Refuse a graph that reaches outside its bytes or declares more than it holds.

    Args:
        graph: A serialized ONNX model.
        where: File and member, for errors.

    Returns:
        Names and shapes of inputs and outputs.

    Raises:
        BundleError: If it is not ONNX, refers to external data, declares tensors larger
            than its own bytes, or has operations that a network's inference does not need.
    """
    try:
        bodies = []
        for number, value in _fields(memoryview(graph)):
            if number in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
                raise BundleError("it has functions or training steps")
            if number == _MODEL_GRAPH:
                bodies.append(_message(value))
        if len(bodies) != 1:
            raise BundleError("it is not an ONNX model")
        return _check_body(bodies[0])
    except (BundleError, UnicodeDecodeError) as error:
        raise BundleError(
            f"{where} is refused: {error}. Build the bundle again from its model."
        ) from error


def _check_body(body: memoryview) -> GraphSignature:
    """Check the graph proper: nodes, initializers, and declared values."""
    inputs: dict[str, tuple[int | None, ...]] = {}
    outputs: dict[str, tuple[int | None, ...]] = {}
    declared: dict[str, tuple[int | None, ...]] = {}
    shapes = {_GRAPH_INPUT: inputs, _GRAPH_OUTPUT: outputs, _GRAPH_VALUE: declared}
    for number, value in _fields(body):
        if number == _GRAPH_NODE:
            _check_node(_message(value))
        elif number == _GRAPH_INITIALIZER:
            _check_tensor(_message(value))
        elif number == _GRAPH_SPARSE:
            raise BundleError("it has sparse tensors")
        elif number in shapes:
            name, shape = _read_value(_message(value))
            shapes[number][name] = shape
    return GraphSignature(inputs, outputs)


def _check_node(node: memoryview) -> None:
    """Check one node: its operation, and the tensors in its attributes."""
    for number, value in _fields(node):
        if number == _NODE_OPERATION:
            operation = bytes(_message(value)).decode()
            if operation not in ALLOWED_OPERATIONS:
                raise BundleError(f"its operation {operation!r} is not one that a bundle may hold")
        elif number == _NODE_DOMAIN:
            domain = bytes(_message(value))
            if domain not in _STANDARD_DOMAINS:
                raise BundleError(f"it has a custom operation of {domain.decode()!r}")
        elif number == _NODE_ATTRIBUTE:
            _check_attribute(_message(value))


def _check_attribute(attribute: memoryview) -> None:
    for number, value in _fields(attribute):
        if number in _ATTRIBUTE_REFUSED:
            raise BundleError(f"an operation carries {_ATTRIBUTE_REFUSED[number]}")
        if number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            _check_tensor(_message(value))


def _check_tensor(tensor: memoryview) -> None:
    """Refuse a tensor that lies elsewhere, or has more elements than bytes to fill them.

    The smallest elements of ONNX are half a byte, so a tensor has at most twice as many
    elements as bytes, in whichever field they lie.
    """
    elements, held = 1, 0
    for number, value in _fields(tensor):
        if number == _TENSOR_DIMS:
            elements *= math.prod(_integers(value))
        elif number in _TENSOR_DATA:
            held += len(value) if isinstance(value, memoryview) else 8
        elif number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0):
            raise BundleError("its weights lie in another file (external data)")
    if elements > 2 * held:
        raise BundleError(f"a tensor declares {elements} elements and holds {held} bytes")


def _read_value(value: memoryview) -> tuple[str, tuple[int | None, ...]]:
    """Read name and shape of a ValueInfoProto (name: 1; type: 2 > tensor: 1 > shape: 2)."""
    name = ""
    shape: tuple[int | None, ...] = ()
    for number, part in _fields(value):
        if number == 1:
            name = bytes(_message(part)).decode()
        elif number == 2:
            shape = _read_shape(_message(part))
    elements = math.prod(size for size in shape if size is not None)
    if elements > MAX_ELEMENTS:
        raise BundleError(
            f"its value {name!r} declares {elements} elements; at most {MAX_ELEMENTS}"
        )
    return name, shape


def _read_shape(kind: memoryview) -> tuple[int | None, ...]:
    """Read the shape of a TypeProto; anything but a tensor is refused."""
    sizes: list[int | None] = []
    for number, tensor in _fields(kind):
        if number not in (1, 6):
            raise BundleError("it takes or gives something other than a tensor")
        if number == 6:
            continue
        for field, shape in _fields(_message(tensor)):
            if field != 2:
                continue
            for _, dimension in _fields(_message(shape)):
                known = [value for place, value in _fields(_message(dimension)) if place == 1]
                sizes.append(_integers(known[0])[0] if known else None)
    return tuple(sizes)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Walk the fields of one protobuf message: (number, integer or bytes)."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, place = _varint(message, place)
            yield number, value
            continue
        if wire == 2:
            size, place = _varint(message, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise BundleError("it is not an ONNX model")
        if place + size > len(message):
            raise BundleError("it is not an ONNX model, or is cut short")
        yield number, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Read a variable-length integer of at most ten bytes."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise BundleError("it is not an ONNX model, or is cut short")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise BundleError("it is not an ONNX model")
    return value


def _integers(value: int | memoryview) -> list[int]:
    """Read one integer, or several packed ones."""
    if isinstance(value, int):
        return [value]
    integers, place = [], 0
    while place < len(value):
        integer, place = _varint(value, place)
        integers.append(integer)
    return integers
