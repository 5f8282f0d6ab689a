"""How well a network's products fill a matrix unit of 128 x 128, such as a TPU's.

The unit holds one factor in tiles of 128 x 128 and pads what is smaller with zeros, which take the
time of numbers. Channels that fit the tiles are what a network can do about it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxprs_in_params

TILE = 128


@dataclass(frozen=True)
class Product:
    """One matrix product, or one group of a convolution as the product that it is.

    Attributes:
        operation: "conv", "depthwise conv" or "matmul".
        count: Products of this shape that the operation consists of: groups, or the batch.
        rows: Rows of the streamed factor: pixels, or tokens.
        inner: Terms of each sum: input channels times taps of the kernel, or the head's width.
        columns: Columns of the held factor: output channels, or tokens.
    """

    operation: str
    count: int
    rows: int
    inner: int
    columns: int

    @property
    def mac(self) -> int:
        """Multiply-adds of all of its products."""
        return self.count * self.rows * self.inner * self.columns

    @property
    def fill(self) -> float:
        """Part of the held tiles that is no padding, of the factor that fills them better."""
        return max(_fill(self.inner, self.columns), _fill(self.inner, self.rows))


@dataclass(frozen=True)
class TileReport:
    """Products of a network, and how well they fill tiles.

    Attributes:
        products: In the order of the network.
    """

    products: tuple[Product, ...]

    @property
    def mac(self) -> int:
        """Multiply-adds of the network."""
        return sum(product.mac for product in self.products)

    @property
    def fill(self) -> float:
        """Multiply-adds over those that full tiles would do in the same time, in (0, 1]."""
        return self.mac / sum(product.mac / product.fill for product in self.products)

    def to_mapping(self) -> dict[str, Any]:
        """The report for JSON."""
        rows = [
            asdict(product) | {"mac": product.mac, "fill": round(product.fill, 4)}
            for product in self.products
        ]
        return {"tile": TILE, "mac": self.mac, "fill": round(self.fill, 4), "products": rows}


def report_tiles(function: Callable[[Any], Any], shape: tuple[int, ...]) -> TileReport:
    """Every product of a function of JAX, with the part of 128 x 128 tiles that it fills.

    Args:
        function: From one float32 array to one.
        shape: Shape of its input.

    Returns:
        The products. A depthwise 3x3 convolution has sums of 9 terms in each of its groups, so
        it fills 9/128 of a tile at most; compilers may run it on the vector unit instead.

    Source:
        Ours. The size of the unit: Jouppi et al. 2017, doi:10.1145/3079856.3080246; 128 x 128
        since the second generation.
    """
    jaxpr = jax.make_jaxpr(function)(np.zeros(shape, np.float32))
    return TileReport(tuple(_find_products(jaxpr.jaxpr)))


def _find_products(jaxpr: Any) -> Iterator[Product]:
    for equation in jaxpr.eqns:
        for inner in jaxprs_in_params(equation.params):
            yield from _find_products(inner)
        shapes = [value.aval.shape for value in equation.invars]
        if equation.primitive.name == "dot_general":
            yield _of_matmul(shapes, equation.params["dimension_numbers"])
        elif equation.primitive.name == "conv_general_dilated":
            groups = equation.params["feature_group_count"]
            yield _of_conv(shapes[1], equation.outvars[0].aval.shape, groups)


def _of_matmul(shapes: list[tuple[int, ...]], numbers: Any) -> Product:
    (left_inner, _), (left_batch, right_batch) = numbers
    left, right = shapes
    inner = math.prod(left[axis] for axis in left_inner)
    batch = math.prod(left[axis] for axis in left_batch)
    columns = math.prod(right) // inner // math.prod(right[axis] for axis in right_batch)
    return Product("matmul", batch, math.prod(left) // inner // batch, inner, columns)


def _of_conv(weight: tuple[int, ...], result: tuple[int, ...], groups: int) -> Product:
    name = "depthwise conv" if weight[1] == 1 and groups > 1 else "conv"
    pixels = result[0] * math.prod(result[2:])
    return Product(name, groups, pixels, math.prod(weight[1:]), weight[0] // groups)


def _fill(rows: int, columns: int) -> float:
    return (rows * columns) / (-(-rows // TILE) * -(-columns // TILE) * TILE**2)
