"""One operation during shape inference, with the shapes of its inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bedside.bundle.wire import Node, Tensor
from bedside.errors import BundleError

Shape = tuple[int, ...]
_MOST_DIMENSIONS = 12


class Values:
    """Shapes of the values that are known so far, and the numbers of the short constants.

    Args:
        inputs: Shapes of the inputs.
        tensors: The constants.
    """

    def __init__(self, inputs: Mapping[str, Shape], tensors: Sequence[Tensor]) -> None:
        self.shapes: dict[str, Shape] = {}
        self.computed: set[str] = set()
        self._constants: dict[str, Tensor] = {}
        for tensor in tensors:
            self._name(tensor.name, tensor.dims)
            self._constants[tensor.name] = tensor
        for name, shape in inputs.items():
            # An input of this name would take the place of the constant.
            self._name(name, shape)

    def add(self, node: Node, shapes: Sequence[Shape]) -> None:
        """Add the outputs of a node."""
        for name, shape in zip(node.outputs, shapes, strict=True):
            self._name(name, shape)
            self.computed.add(name)
        if node.operation == "Constant":
            self._constants[node.outputs[0]] = read_constant(node)
        elif node.operation == "Identity" and node.inputs[0] in self._constants:
            self._constants[node.outputs[0]] = self._constants[node.inputs[0]]

    def read_numbers(self, name: str) -> tuple[float, ...]:
        """The numbers of a short constant."""
        tensor = self._constants.get(name)
        numbers = None if tensor is None else tensor.read_numbers()
        if numbers is None:
            raise BundleError("a size in it depends on what is computed, or is no short list")
        return numbers

    def _name(self, name: str, shape: Shape) -> None:
        if name in self.shapes:
            raise BundleError(f"two values in it have the name {name!r}")
        if len(shape) > _MOST_DIMENSIONS or any(not 0 <= size < 2**31 for size in shape):
            raise BundleError(f"its value {name!r} has the shape {shape}")
        self.shapes[name] = shape


@dataclass(frozen=True)
class Step:
    """One node with the shapes of its inputs."""

    node: Node
    values: Values

    def shape(self, place: int = 0) -> Shape:
        """Shape of an input."""
        if not self.has(place):
            raise BundleError(f"its operation {self.node.operation} lacks input {place + 1}")
        return self.values.shapes[self.node.inputs[place]]

    def has(self, place: int) -> bool:
        """Whether an input is given."""
        return place < len(self.node.inputs) and bool(self.node.inputs[place])

    def shapes(self) -> list[Shape]:
        """Shapes of all inputs."""
        return [self.shape(place) for place in range(len(self.node.inputs))]

    def integer(self, name: str, default: int | None = None) -> int:
        """An attribute that is an integer."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, int):
            raise self.strange(name)
        return value

    def word(self, name: str, default: str) -> str:
        """An attribute that is a word."""
        value = self.node.attributes.get(name, default.encode())
        if not isinstance(value, bytes):
            raise self.strange(name)
        return value.decode()

    def integers(self, name: str, place: int | None = None) -> tuple[int, ...] | None:
        """A list of integers: the attribute, or the constant input; None if neither is given."""
        value = self.node.attributes.get(name)
        if value is None and place is not None and self.has(place):
            value = self.values.read_numbers(self.node.inputs[place])
        if value is None:
            return None
        if not isinstance(value, tuple) or not all(isinstance(each, int) for each in value):
            raise self.strange(name)
        return tuple(int(each) for each in value)

    def axis(self, name: str = "axis", default: int | None = None, *, rank: int) -> int:
        """An axis, counted from the front."""
        return self.fit(self.integer(name, default), rank)

    def fit(self, axis: int, rank: int) -> int:
        """An axis, counted from the front."""
        if not -rank <= axis < rank:
            raise self.strange("axis")
        return axis % rank

    def strange(self, what: str) -> BundleError:
        """The error about a part that does not fit."""
        return BundleError(f"its operation {self.node.operation} has an odd {what}")


def read_constant(node: Node) -> Tensor:
    """The tensor of a Constant node."""
    value = node.attributes.get("value")
    if not isinstance(value, Tensor) or len(node.attributes) != 1:
        raise BundleError("its operation Constant has no tensor")
    return value
