"""Reader of untrusted ONNX graphs: Protobuf's wire format into plain values.

Small enough to be read whole, and needs no `onnx` package.
"""

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bedside.errors import BundleError

# A shipped graph has 4,200 fields at most, and one of 5.7 million parameters 7,000.
_MOST_FIELDS = 300_000
_MOST_RANK = 12
# Numbers of a list that sizes are read from: networks of few bits split one tensor into hundreds.
_MOST_NUMBERS = 4096

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_VALUE = 1, 5, 11, 12, 13
_GRAPH_SPARSE = 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATION, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_TENSOR = 1, 5
_ATTRIBUTE_REFUSED = {
    6: "a subgraph",
    10: "a list of tensors",
    11: "subgraphs",
    22: "a sparse tensor",
    23: "sparse tensors",
}
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_TENSOR_FLOATS, _TENSOR_INT32, _TENSOR_INT64 = 4, 5, 7
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_TENSOR_DATA = (4, 5, 7, 9, 10, 11)
# Of TensorProto.DataType, those that sizes come in, and how they lie in raw data.
_RAW = {1: "f", 6: "i", 7: "q"}


@dataclass(frozen=True)
class Tensor:
    """A constant tensor.

    Attributes:
        name: Its name; empty in an attribute.
        dims: Its shape.
        data_type: As ONNX numbers them.
        held_bytes: Bytes that hold its elements.
        data: Fields that hold its elements, each with its number.
    """

    name: str
    dims: tuple[int, ...]
    data_type: int
    held_bytes: int
    data: tuple[tuple[int, "int | memoryview"], ...] = field(repr=False)

    def read_numbers(self) -> tuple[float, ...] | None:
        """The elements of a short list of int64, int32 or f32; None for any other tensor."""
        if self.data_type not in _RAW or len(self.dims) > 1 or math.prod(self.dims) > _MOST_NUMBERS:
            return None
        numbers: list[float] = []
        for number, content in self.data:
            if number == _TENSOR_RAW:
                numbers += _unpack(_RAW[self.data_type], _message(content))
            elif number == _TENSOR_FLOATS:
                numbers += _unpack("f", _message(content))
            elif number in (_TENSOR_INT32, _TENSOR_INT64):
                numbers += _integers(content)
        return tuple(numbers) if len(numbers) == math.prod(self.dims) else None


Attribute = int | float | bytes | tuple[int, ...] | tuple[float, ...] | Tensor


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        operation: Its name in ONNX.
        domain: Of the operation; empty for ONNX's own.
        inputs: Names of values; empty for one that is left out.
        outputs: Names of values.
        attributes: By name.
    """

    operation: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute]


Shapes = dict[str, tuple[int | None, ...]]


@dataclass(frozen=True)
class Graph:
    """A graph, as it is written; nothing in it has been checked.

    Attributes:
        nodes: In the order in which they are computed.
        tensors: Its constants.
        inputs: Shape of each input, by name; None for a dimension left open.
        outputs: Shape of each output.
        declared: Shape of values between, where it is declared.
    """

    nodes: list[Node] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    inputs: Shapes = field(default_factory=dict)
    outputs: Shapes = field(default_factory=dict)
    declared: Shapes = field(default_factory=dict)


def read_graph(content: bytes) -> Graph:
    """Read a serialized ONNX model.

    Raises:
        BundleError: If it is not one, or has functions, training steps, control flow, sparse
            tensors, or far more parts than a network has.
        UnicodeDecodeError: If a name in it is no text.
    """
    return _Reader().read_model(memoryview(content))


class _Reader:
    """Reads one model, and counts what it reads."""

    def __init__(self) -> None:
        self._left = _MOST_FIELDS

    def read_model(self, model: memoryview) -> Graph:
        bodies = []
        for number, value in self._fields(model):
            if number in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
                raise BundleError("it has functions or training steps")
            if number == _MODEL_GRAPH:
                bodies.append(_message(value))
        if len(bodies) != 1:
            raise BundleError("it is not an ONNX model")
        return self._read_graph(bodies[0])

    def _read_graph(self, body: memoryview) -> Graph:
        graph = Graph()
        shapes = {
            _GRAPH_INPUT: graph.inputs,
            _GRAPH_OUTPUT: graph.outputs,
            _GRAPH_VALUE: graph.declared,
        }
        for number, value in self._fields(body):
            if number == _GRAPH_NODE:
                graph.nodes.append(self._read_node(_message(value)))
            elif number == _GRAPH_INITIALIZER:
                graph.tensors.append(self._read_tensor(_message(value)))
            elif number == _GRAPH_SPARSE:
                raise BundleError("it has sparse tensors")
            elif number in shapes:
                name, shape = self._read_value(_message(value))
                if name in shapes[number]:
                    raise BundleError(f"it declares {name!r} twice")
                shapes[number][name] = shape
        return graph

    def _read_node(self, node: memoryview) -> Node:
        single: dict[int, str] = {}
        names: dict[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: []}
        attributes: dict[str, Attribute] = {}
        for number, value in self._fields(node):
            if number in names:
                names[number].append(_text(value))
            elif number in (_NODE_OPERATION, _NODE_DOMAIN):
                _once(single, number)
                single[number] = _text(value)
            elif number == _NODE_ATTRIBUTE:
                name, attribute = self._read_attribute(_message(value))
                _once(attributes, name)
                attributes[name] = attribute
        return Node(
            single.get(_NODE_OPERATION, ""), single.get(_NODE_DOMAIN, ""),
            tuple(names[_NODE_INPUT]), tuple(names[_NODE_OUTPUT]), attributes,
        )  # fmt: skip

    def _read_attribute(self, attribute: memoryview) -> tuple[str, Attribute]:
        name = ""
        found: list[Attribute] = []
        lists: dict[int, list[int] | list[float]] = {}
        for number, value in self._fields(attribute):
            if number in _ATTRIBUTE_REFUSED:
                raise BundleError(f"an operation carries {_ATTRIBUTE_REFUSED[number]}")
            if number == _ATTRIBUTE_NAME:
                name = _text(value)
            elif number == _ATTRIBUTE_TENSOR:
                found.append(self._read_tensor(_message(value)))
            elif number in _ATTRIBUTE_ONE:
                found.append(_ATTRIBUTE_ONE[number](value))
            elif number in _ATTRIBUTE_MANY:
                lists[number] = [*lists.get(number, ()), *_ATTRIBUTE_MANY[number](value)]
        found += [tuple(numbers) for numbers in lists.values()]
        if len(found) > 1:
            raise BundleError(f"its attribute {name!r} has several values")
        return name, found[0] if found else ()

    def _read_tensor(self, tensor: memoryview) -> Tensor:
        """Read a tensor; refuse one whose elements lie elsewhere, or are more than its bytes."""
        name, data_type, held = "", 0, 0
        dims: list[int] = []
        data: list[tuple[int, int | memoryview]] = []
        for number, value in self._fields(tensor):
            if number == _TENSOR_DIMS:
                dims += _integers(value)
            elif number == _TENSOR_TYPE:
                data_type = _integers(value)[0]
            elif number == _TENSOR_NAME:
                name = _text(value)
            elif number in _TENSOR_DATA:
                held += len(value) if isinstance(value, memoryview) else 8
                data.append((number, value))
            elif number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0):
                raise BundleError("its weights lie in another file (external data)")
        if len(dims) > _MOST_RANK or any(size < 0 for size in dims):
            raise BundleError(f"a tensor declares the shape {dims[: _MOST_RANK + 1]}")
        # The smallest elements of ONNX are half a byte.
        if math.prod(dims) > 2 * held:
            raise BundleError(
                f"a tensor declares {math.prod(dims)} elements and holds {held} bytes"
            )
        return Tensor(name, tuple(dims), data_type, held, tuple(data))

    def _read_value(self, value: memoryview) -> tuple[str, tuple[int | None, ...]]:
        """Read name and shape of a ValueInfoProto (name: 1; type: 2 > tensor: 1 > shape: 2)."""
        name = ""
        shape: tuple[int | None, ...] = ()
        for number, part in self._fields(value):
            if number == 1:
                name = _text(part)
            elif number == 2:
                shape = self._read_shape(_message(part))
        return name, shape

    def _read_shape(self, kind: memoryview) -> tuple[int | None, ...]:
        """Read the shape of a TypeProto; anything but a tensor is refused."""
        sizes: list[int | None] = []
        for number, tensor in self._fields(kind):
            if number not in (1, 6):
                raise BundleError("it takes or gives something other than a tensor")
            if number == 6:
                continue
            for part, shape in self._fields(_message(tensor)):
                if part != 2:
                    continue
                for _, dimension in self._fields(_message(shape)):
                    known = [
                        item for place, item in self._fields(_message(dimension)) if place == 1
                    ]
                    sizes.append(_integers(known[0])[0] if known else None)
        if len(sizes) > _MOST_RANK or any(size is not None and size < 0 for size in sizes):
            raise BundleError(f"a value declares the shape {sizes[: _MOST_RANK + 1]}")
        return tuple(sizes)

    def _fields(self, message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """The fields of one message: (number, integer or bytes)."""
        place = 0
        while place < len(message):
            self._left -= 1
            if self._left < 0:
                raise BundleError(f"it has more than {_MOST_FIELDS} parts; a network has far fewer")
            # Most numbers have one byte.
            tag = message[place]
            place += 1
            if tag >= 0x80:
                tag, place = _varint(message, place - 1)
            number, wire = tag >> 3, tag & 7
            if wire == 0:
                value, place = _varint(message, place)
                yield number, value
                continue
            if wire == 2 and place < len(message) and message[place] < 0x80:
                size = message[place]
                place += 1
            elif wire == 2:
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


def _once(seen: dict[int, str] | dict[str, Attribute], key: int | str) -> None:
    """Refuse what is written twice: of two readers each might take another."""
    if key in seen:
        raise BundleError("a part of an operation is written twice")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise BundleError("it is not an ONNX model")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode()


def _integers(value: int | memoryview) -> list[int]:
    """Read one integer, or several packed ones, with their signs."""
    if isinstance(value, int):
        return [_signed(value)]
    integers: list[int] = []
    place = 0
    while place < len(value):
        if len(integers) > _MOST_NUMBERS:
            raise BundleError("a list of numbers in it is longer than any network needs")
        integer, place = _varint(value, place)
        integers.append(_signed(integer))
    return integers


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _unpack(code: str, content: memoryview) -> list[float]:
    """Read little-endian numbers that lie one behind another."""
    if len(content) % struct.calcsize(code) or len(content) > 8 * _MOST_NUMBERS:
        raise BundleError("a list of numbers in it is cut short, or too long")
    return list(struct.unpack(f"<{len(content) // struct.calcsize(code)}{code}", content))


_ATTRIBUTE_ONE: dict[int, Callable[[int | memoryview], Attribute]] = {
    2: lambda value: _unpack("f", _message(value))[0],
    3: lambda value: _integers(value)[0],
    4: lambda value: bytes(_message(value)),
}
_ATTRIBUTE_MANY: dict[int, Callable[[int | memoryview], list[int] | list[float]]] = {
    7: lambda value: _unpack("f", _message(value)),
    8: _integers,
}
