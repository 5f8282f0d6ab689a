"""Weights of few levels, stored as bytes that hold several of them.

A table look-up, a reshape and a product with the scales decode them, which OpenVINO and ONNX
Runtime fold when they load: the graph runs in f32. ONNX's DequantizeLinear, or a plain cast of
int8, is not folded by one or the other of them, and computed for each image.
"""

import itertools
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bedside.graphs.edit import set_nodes, set_tensors
from bedside.graphs.grid import Grid, find_grid

# Levels that a byte holds several of, and of how many weights at most; from few to many.
_BOOKS = (((-1, 1), 8), ((-1, 0, 1), 5), ((-3, -1, 1, 3), 4), (tuple(range(-7, 8)), 2))
_SMALLEST = 64
"""Weights below which nodes and tables would take more than is saved."""


@dataclass
class _Parts:
    """Tensors and nodes to add to a graph.

    Attributes:
        tensors: Initializers by name.
        nodes: Nodes, to stand before all others.
    """

    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def share(self, name: str, value: np.ndarray) -> str:
        """Add a tensor that several nodes may read."""
        self.tensors.setdefault(name, value)
        return name


def store_integers(model: onnx.ModelProto) -> int:
    """Store the weights of convolutions as integers and scales where they lie on a grid, in place.

    Values keep their names.

    Args:
        model: A graph whose weights are f32.

    Returns:
        Number of tensors stored as integers.
    """
    weights = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    parts, kept, count = _Parts(), [], 0
    for tensor in model.graph.initializer:
        grid = None
        if tensor.name in weights and tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            grid = find_grid(values) if values.size >= _SMALLEST else None
        if grid is None:
            kept.append(tensor)
        else:
            _store(tensor.name, grid, parts)
            count += 1
    stored = [numpy_helper.from_array(value, name) for name, value in parts.tensors.items()]
    set_tensors(model, [*kept, *stored])
    set_nodes(model, [*parts.nodes, *model.graph.node])
    return count


def _store(name: str, grid: Grid, parts: _Parts) -> None:
    """Add bytes and scales, and the nodes that decode them."""
    shape = grid.integers.shape
    bytes_name, whole, scale = f"{name}.q", f"{name}.i", f"{name}.s"
    book, per_byte = choose_book(grid.integers)
    parts.tensors[scale] = grid.scale.reshape(-1, *[1] * (len(shape) - 1))
    if per_byte == 1:
        parts.tensors[bytes_name] = grid.integers
        parts.nodes += [
            helper.make_node("Cast", [bytes_name], [f"{name}.c"], to=TensorProto.INT32),
            helper.make_node("Cast", [f"{name}.c"], [whole], to=TensorProto.FLOAT),
        ]
    else:
        parts.tensors[bytes_name] = pack(grid.integers, book, per_byte)
        table = parts.share(f"book.{len(book)}.{per_byte}", make_table(book, per_byte))
        sizes = parts.share("shape." + "x".join(map(str, shape)), np.array(shape, np.int64))
        parts.nodes += [
            helper.make_node("Cast", [bytes_name], [f"{name}.c"], to=TensorProto.INT32),
            helper.make_node("Gather", [table, f"{name}.c"], [f"{name}.g"]),
            helper.make_node("Reshape", [f"{name}.g", sizes], [whole]),
        ]
    parts.nodes.append(helper.make_node("Mul", [whole, scale], [name]))


def choose_book(integers: np.ndarray) -> tuple[tuple[int, ...], int]:
    """The smallest set of levels that contains all integers, and how many fit into a byte.

    Example:
        >>> choose_book(np.int8([1, -1, 0, 1, 0]))
        ((-1, 0, 1), 5)
        >>> choose_book(np.int8([1, -1, -1, 1]))
        ((-1, 1), 4)
    """
    seen = set(np.unique(integers).tolist())
    for book, most in _BOOKS:
        if seen <= set(book):
            return book, next(k for k in range(most, 0, -1) if integers.size % k == 0)
    return tuple(range(-127, 128)), 1


def pack(integers: np.ndarray, book: tuple[int, ...], per_byte: int) -> np.ndarray:
    """Pack several integers into each byte, as digits of a number.

    Args:
        integers: Any shape; of `book` alone.
        book: The levels.
        per_byte: Digits of a byte; divides the number of integers.

    Returns:
        (integers.size / per_byte,) uint8, rows of `make_table`.

    Example:
        >>> pack(np.int8([[1, -1], [0, 1]]), (-1, 0, 1), 2).tolist()
        [6, 5]
    """
    digits = np.searchsorted(book, integers.reshape(-1, per_byte))
    weights = len(book) ** np.arange(per_byte)[::-1]
    packed: np.ndarray = (digits @ weights).astype(np.uint8)
    return packed


def make_table(book: tuple[int, ...], per_byte: int) -> np.ndarray:
    """The integers of each byte, (levels ** per_byte, per_byte) float32.

    Example:
        >>> make_table((-1, 1), 2).tolist()
        [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
    """
    return np.array(list(itertools.product(book, repeat=per_byte)), np.float32)
