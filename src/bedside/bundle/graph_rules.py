"""Shape inference and cost of each operation that a bundle may contain.

An operation in a form that no network of ours has is refused: what cannot be foreseen is not
run. No rule trusts a runtime to refuse what does not fit; some stretch it instead.
"""

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bedside.bundle.graph_step import Shape, Step, read_constant
from bedside.errors import BundleError

MAX_ELEMENTS = 64 * 2**20
"""Elements of the largest value in a graph."""

Result = tuple[list[Shape], int]


def _constant(step: Step) -> Result:
    return [read_constant(step.node).dims], 0


def _same(step: Step) -> Result:
    """One value in, one of the same shape out."""
    shape = step.shape()
    if len(step.node.inputs) != 1:
        raise step.strange("number of inputs")
    return [shape], math.prod(shape)


def _same_as_first(step: Step) -> Result:
    """The first input's shape; no runtime may stretch it to what the others are."""
    shape = step.shape()
    for place in range(1, len(step.node.inputs)):
        if step.has(place) and not _fits(step, shape, step.shape(place)):
            raise step.strange(f"input {place + 1}")
    return [shape], math.prod(shape)


def _fits(step: Step, shape: Shape, other: Shape) -> bool:
    """Whether a scale, an offset or a limit belongs to a value of this shape."""
    operation = step.node.operation
    if math.prod(other) <= 1:
        return True
    if operation == "LayerNormalization":
        return _broadcast_shapes(step, (shape, other)) == shape
    if operation in ("QuantizeLinear", "DequantizeLinear") and len(other) > 1:
        # In blocks, along one axis.
        return len(other) == len(shape) and all(
            size % part == 0 for size, part in zip(shape, other, strict=True)
        )
    if operation == "Clip" or len(other) != 1:
        return False
    along = shape[step.axis(default=1, rank=len(shape))]
    return other[0] == along or (operation == "GroupNormalization" and along % other[0] == 0)


def _broadcast(step: Step) -> Result:
    shapes = step.shapes()
    return [_broadcast_shapes(step, shapes)], 0


def _broadcast_shapes(step: Step, shapes: Sequence[Shape]) -> Shape:
    """The common shape of values that are stretched to each other."""
    rank = max(map(len, shapes))
    result = []
    for sizes in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        wide = {size for size in sizes if size != 1}
        if len(wide) > 1:
            raise step.strange("shape")
        result.append(wide.pop() if wide else 1)
    return tuple(result)


@dataclass(frozen=True)
class _Window:
    """What moves over the spatial axes of an image."""

    kernel: Shape
    strides: Shape
    dilations: Shape
    pads: Shape

    def spans(self) -> list[int]:
        """Pixels from the first to the last of a window, along each axis."""
        return [
            dilation * (kernel - 1) + 1
            for kernel, dilation in zip(self.kernel, self.dilations, strict=True)
        ]


def _window(step: Step, kernel: Shape) -> _Window:
    """Read how a window moves."""
    axes = len(kernel)
    strides = step.integers("strides") or (1,) * axes
    dilations = step.integers("dilations") or (1,) * axes
    pads = step.integers("pads") or (0,) * (2 * axes)
    if (len(strides), len(dilations), len(pads)) != (axes, axes, 2 * axes):
        raise step.strange("window")
    if min(*strides, *dilations, *kernel) < 1 or min(pads) < 0:
        raise step.strange("window")
    return _Window(kernel, strides, dilations, pads)


def _slide(step: Step, sizes: Shape, window: _Window) -> Shape:
    """How often a window fits along each axis."""
    padding = step.word("auto_pad", "NOTSET")
    count = len(sizes)
    if len(window.kernel) != count:
        raise step.strange("kernel")
    if padding in ("SAME_UPPER", "SAME_LOWER"):
        return tuple(-(-size // stride) for size, stride in zip(sizes, window.strides, strict=True))
    if padding not in ("NOTSET", "VALID"):
        raise step.strange("auto_pad")
    places = []
    for axis, (size, span) in enumerate(zip(sizes, window.spans(), strict=True)):
        pads = 0 if padding == "VALID" else window.pads[axis] + window.pads[axis + count]
        room, stride = size + pads - span, window.strides[axis]
        if room < 0:
            raise step.strange("kernel")
        places.append((-(-room // stride) if step.integer("ceil_mode", 0) else room // stride) + 1)
    return tuple(places)


def _conv(step: Step) -> Result:
    image, weight = step.shape(0), step.shape(1)
    if image[1] != weight[1] * step.integer("group", 1):
        raise step.strange("group")
    places = _slide(step, image[2:], _window(step, weight[2:]))
    result = (image[0], weight[0], *places)
    _check_bias(step, (weight[0],))
    return [result], math.prod(result) * math.prod(weight[1:])


def _check_bias(step: Step, *shapes: Shape) -> None:
    """Refuse an offset that would stretch the result."""
    if step.has(2) and step.shape(2) not in shapes:
        raise step.strange("bias")


def _conv_transpose(step: Step) -> Result:
    image, weight = step.shape(0), step.shape(1)
    group, axes = step.integer("group", 1), len(image) - 2
    if image[1] != weight[0] or step.word("auto_pad", "NOTSET") != "NOTSET":
        raise step.strange("shape")
    if "output_shape" in step.node.attributes:
        raise step.strange("output_shape")
    window = _window(step, weight[2:])
    more = step.integers("output_padding") or (0,) * axes
    sizes = tuple(
        stride * (size - 1) + span + extra - window.pads[axis] - window.pads[axis + axes]
        for axis, (size, stride, span, extra) in enumerate(
            zip(image[2:], window.strides, window.spans(), more, strict=True)
        )
    )
    _check_bias(step, (weight[1] * group,))
    return [(image[0], weight[1] * group, *sizes)], math.prod(image) * math.prod(weight[1:])


def _pool(step: Step) -> Result:
    image = step.shape()
    kernel = step.integers("kernel_shape") or ()
    result = (*image[:2], *_slide(step, image[2:], _window(step, kernel)))
    return [result], math.prod(result) * math.prod(kernel)


def _global_pool(step: Step) -> Result:
    image = step.shape()
    return [(*image[:2], *(1 for _ in image[2:]))], math.prod(image)


def _matmul(step: Step) -> Result:
    left, right = step.shape(0), step.shape(1)
    if min(len(left), len(right)) < 2 or left[-1] != right[-2]:
        raise step.strange("shape")
    result = (*_broadcast_shapes(step, (left[:-2], right[:-2])), left[-2], right[-1])
    return [result], math.prod(result) * left[-1]


def _gemm(step: Step) -> Result:
    rows, inner = step.shape(0)[:: -1 if step.integer("transA", 0) else 1]
    again, columns = step.shape(1)[:: -1 if step.integer("transB", 0) else 1]
    if inner != again:
        raise step.strange("shape")
    _check_bias(step, (columns,), (1, columns), (rows, columns), (), (1,))
    return [(rows, columns)], rows * columns * inner


def _einsum(step: Step) -> Result:
    """A sum over at most two values, whose letters do not repeat within one."""
    taken, arrow, given = step.word("equation", "").replace(" ", "").partition("->")
    terms, sizes = taken.split(","), dict[str, int]()
    if not arrow or len(terms) > 2 or len(terms) != len(step.node.inputs):
        raise step.strange("equation")
    for term, shape in zip(terms, step.shapes(), strict=True):
        for letter, size in zip(term, shape, strict=True):
            if not letter.isalpha() or term.count(letter) > 1 or sizes.get(letter, size) != size:
                raise step.strange("equation")
            sizes[letter] = size
    if len(set(given)) != len(given) or not set(given) <= set(sizes):
        raise step.strange("equation")
    return [tuple(sizes[letter] for letter in given)], math.prod(sizes.values())


def _reduce(step: Step) -> Result:
    shape, axes = step.shape(), step.integers("axes", 1)
    if not axes:
        axes = () if step.integer("noop_with_empty_axes", 0) else tuple(range(len(shape)))
    gone = {step.fit(axis, len(shape)) for axis in axes}
    kept = [1 if axis in gone else size for axis, size in enumerate(shape)]
    if not step.integer("keepdims", 1):
        kept = [size for axis, size in enumerate(shape) if axis not in gone]
    return [tuple(kept)], math.prod(shape)


def _top_k(step: Step) -> Result:
    shape, count = step.shape(), step.integers("k", 1)
    axis = step.axis(default=-1, rank=len(shape))
    if count is None or len(count) != 1 or not 0 < count[0] <= shape[axis]:
        raise step.strange("k")
    result = (*shape[:axis], count[0], *shape[axis + 1 :])
    return [result, result], math.prod(shape) * max(1, shape[axis].bit_length())


def _reshape(step: Step) -> Result:
    shape, wanted = step.shape(), list(step.integers("shape", 1) or ())
    if not step.integer("allowzero", 0):
        wanted = [shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    if wanted.count(-1) == 1:
        others = math.prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = math.prod(shape) // others
    if min(wanted, default=0) < 0 or math.prod(wanted) != math.prod(shape):
        raise step.strange("shape")
    return [tuple(wanted)], 0


def _flatten(step: Step) -> Result:
    shape, axis = step.shape(), step.integer("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise step.strange("axis")
    axis += len(shape) if axis < 0 else 0
    return [(math.prod(shape[:axis]), math.prod(shape[axis:]))], 0


def _transpose(step: Step) -> Result:
    shape = step.shape()
    order = step.integers("perm") or tuple(reversed(range(len(shape))))
    if sorted(order) != list(range(len(shape))):
        raise step.strange("perm")
    return [tuple(shape[axis] for axis in order)], 0


def _squeeze(step: Step) -> Result:
    shape, axes = step.shape(), step.integers("axes", 1)
    if axes is None:
        axes = tuple(axis for axis, size in enumerate(shape) if size == 1)
    gone = {step.fit(axis, len(shape)) for axis in axes}
    if any(shape[axis] != 1 for axis in gone):
        raise step.strange("axes")
    return [tuple(size for axis, size in enumerate(shape) if axis not in gone)], 0


def _unsqueeze(step: Step) -> Result:
    shape, axes = step.shape(), step.integers("axes", 1) or ()
    rank = len(shape) + len(axes)
    new = {step.fit(axis, rank) for axis in axes}
    if len(new) != len(axes):
        raise step.strange("axes")
    rest = iter(shape)
    return [tuple(1 if axis in new else next(rest) for axis in range(rank))], 0


def _concat(step: Step) -> Result:
    shapes = step.shapes()
    axis = step.axis(rank=len(shapes[0]))
    if len({(*shape[:axis], -1, *shape[axis + 1 :]) for shape in shapes}) != 1:
        raise step.strange("shape")
    joined = sum(shape[axis] for shape in shapes)
    return [(*shapes[0][:axis], joined, *shapes[0][axis + 1 :])], 0


def _split(step: Step) -> Result:
    shape, count = step.shape(), len(step.node.outputs)
    axis = step.axis(default=0, rank=len(shape))
    sizes = step.integers("split", 1)
    if sizes is None:
        piece = -(-shape[axis] // count)
        sizes = (*(piece for _ in range(count - 1)), shape[axis] - piece * (count - 1))
    if sum(sizes) != shape[axis] or min(sizes) < 0:
        raise step.strange("split")
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes], 0


def _slice(step: Step) -> Result:
    sizes = list(step.shape())
    starts, ends = step.integers("starts", 1) or (), step.integers("ends", 2) or ()
    axes = step.integers("axes", 3) or tuple(range(len(starts)))
    steps = step.integers("steps", 4) or (1,) * len(starts)
    for start, end, axis, stride in zip(starts, ends, axes, steps, strict=True):
        place = step.fit(axis, len(sizes))
        sizes[place] = len(range(*slice(start, end, stride).indices(sizes[place])))
    return [tuple(sizes)], 0


def _gather(step: Step) -> Result:
    shape, indices = step.shape(0), step.shape(1)
    axis = step.axis(default=0, rank=len(shape))
    return [(*shape[:axis], *indices, *shape[axis + 1 :])], 0


def _resize(step: Step) -> Result:
    shape = step.shape()
    if step.word("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise step.strange("keep_aspect_ratio_policy")
    axes = step.integers("axes") or tuple(range(len(shape)))
    result = list(shape)
    if step.has(3):
        wanted: Sequence[float] = step.integers("sizes", 3) or ()
    else:
        scales = step.values.read_numbers(step.node.inputs[2])
        wanted = [_round(scale * shape[axis]) for scale, axis in zip(scales, axes, strict=True)]
    for axis, size in zip(axes, wanted, strict=True):
        result[step.fit(axis, len(shape))] = math.floor(size)
    # Where axes are resized one after another, this is between.
    between = math.prod(max(pair) for pair in zip(shape, result, strict=True))
    if between > MAX_ELEMENTS:
        raise BundleError(f"its operation Resize needs {between:,} elements")
    resized = sum(size != new for size, new in zip(shape, result, strict=True))
    reach = 4 if step.word("mode", "nearest") == "cubic" else 2
    return [tuple(result)], between * reach**resized


def _round(number: float) -> float:
    """A number as f32, in which runtimes multiply sizes by scales."""
    return float(struct.unpack("f", struct.pack("f", number))[0])


def _depth_to_space(step: Step) -> Result:
    batch, channels, *sizes = step.shape()
    block = step.integer("blocksize")
    if block < 1 or channels % block ** len(sizes):
        raise step.strange("blocksize")
    return [(batch, channels // block ** len(sizes), *(size * block for size in sizes))], 0


def _space_to_depth(step: Step) -> Result:
    batch, channels, *sizes = step.shape()
    block = step.integer("blocksize")
    if block < 1 or any(size % block for size in sizes):
        raise step.strange("blocksize")
    return [(batch, channels * block ** len(sizes), *(size // block for size in sizes))], 0


_UNARY = """
    Abs Cast Elu Erf Exp Gelu HardSigmoid HardSwish Identity LeakyRelu Neg Reciprocal Relu
    Sigmoid Softmax Sqrt Tanh
"""
_WITH_PARAMETERS = """
    BatchNormalization Clip DequantizeLinear GroupNormalization InstanceNormalization
    LayerNormalization QuantizeLinear
"""
_BROADCAST = "Add Div Max Min Mul PRelu Pow Sub Sum"

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"})
"""Operations whose work is multiply-adds."""

# Operations that a network's inference is made of. Control flow, generators of tensors
# (ConstantOfShape, Expand, Pad, Range, Tile) and custom operators are left out on purpose.
RULES: dict[str, Callable[[Step], Result]] = {
    **dict.fromkeys(_UNARY.split(), _same),
    **dict.fromkeys(_WITH_PARAMETERS.split(), _same_as_first),
    **dict.fromkeys(_BROADCAST.split(), _broadcast),
    **dict.fromkeys(("AveragePool", "MaxPool"), _pool),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceSum"), _reduce),
    "Concat": _concat,
    "Constant": _constant,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Einsum": _einsum,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "MatMul": _matmul,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "TopK": _top_k,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""How each operation that a bundle may hold turns shapes into shapes."""
