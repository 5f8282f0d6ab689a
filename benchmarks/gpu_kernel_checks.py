"""Kernels of sparse attention against plain attention in float64, and SDPA beside them.

The reference knows no windows: each token attends to all, and what it may not see has weight 0.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from bedside.layers.attention import Heads
from bedside.layers.attention.heads import fold, unfold
from bedside.layers.kernels.ops import sparse_attention
from bedside.layers.kernels.tiles import BACKWARD, TILES, Tiles
from bedside.layers.windows import cut_windows, join_windows, pad_tokens

FORMS = ("window", "overlap", "routed")
HEAD_DIMS = (16, 32, 64)


@dataclass(frozen=True)
class Shape:
    """One map, and how it is read.

    Attributes:
        form: "window", "overlap" or "routed".
        sizes: Tokens along each axis.
        window: Side of a window or region along each axis.
        heads: How channels divide.
        dtype: Precision.
        halo: Tokens seen beyond a window.
        top_k: Regions seen.
        batch: Images.
        channels_first: Whether the memory is that of a convolution, channels first.
        tiles: Tiles other than those of the table, or None.
    """

    form: str
    sizes: tuple[int, ...]
    window: tuple[int, ...]
    heads: Heads
    dtype: torch.dtype
    halo: int = 0
    top_k: int = 0
    batch: int = 1
    channels_first: bool = False
    tiles: Tiles | None = None

    @property
    def counts(self) -> tuple[int, ...]:
        """Windows along each axis."""
        return tuple(-(-size // side) for size, side in zip(self.sizes, self.window, strict=True))

    @property
    def numbers(self) -> list[int]:
        """Heads as the operation takes them."""
        return [self.heads.num_heads, self.heads.head_dim, self.heads.kv_heads]

    def __str__(self) -> str:
        """Name of the shape, for reports."""
        sizes, window = ("x".join(map(str, part)) for part in (self.sizes, self.window))
        heads = self.heads
        return (
            f"{self.form} {self.batch} x {sizes}, window {window}, halo {self.halo}, top "
            f"{self.top_k}, heads {heads.num_heads}/{heads.kv_heads} of {heads.head_dim}, "
            f"{name_of(self.dtype)}"
        )


@dataclass(frozen=True)
class Case:
    """A shape with numbers in it.

    Attributes:
        shape: The shape.
        tokens: (B, *S, C).
        chosen: (B, regions, k), or None.
        gate: The same shape f32, or None.
        grad: What the loss gives of the result, (B, *S, heads * d).
    """

    shape: Shape
    tokens: torch.Tensor
    chosen: torch.Tensor | None
    gate: torch.Tensor | None
    grad: torch.Tensor


@dataclass
class Errors:
    """Errors against float64, of many cases together: root mean square and largest.

    Each is divided by the root mean square of the reference.

    Attributes:
        rms: Root mean square of each case.
        largest: Largest of each case.
        core_s: Time of a core that the computation took.
    """

    rms: list[float] = field(default_factory=list)
    largest: list[float] = field(default_factory=list)
    core_s: float = 0.0

    def add(self, found: torch.Tensor, reference: torch.Tensor) -> None:
        """Add one case."""
        scale = reference.square().mean().sqrt()
        error = (found.detach().double() - reference) / scale
        self.rms.append(float(error.square().mean().sqrt()))
        self.largest.append(float(error.abs().max()))

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the time of a core that a block takes."""
        begun = time.process_time()
        yield
        self.core_s += time.process_time() - begun

    @property
    def mean(self) -> float:
        """Root mean square over all cases."""
        return math.sqrt(sum(each * each for each in self.rms) / max(1, len(self.rms)))

    @property
    def worst(self) -> float:
        """Largest error of any case."""
        return max(self.largest, default=0.0)


@dataclass
class Pair:
    """Errors of the kernels, and of SDPA on the same inputs."""

    kernel: Errors = field(default_factory=Errors)
    sdpa: Errors = field(default_factory=Errors)

    @property
    def holds(self) -> bool:
        """Whether the kernels' error is at most SDPA's.

        The largest of all is one number's luck, and may be half as large again.
        """
        return self.kernel.mean <= self.sdpa.mean and self.kernel.worst <= 1.5 * self.sdpa.worst


def check_random(
    count: int, dtypes: Sequence[torch.dtype], *, seed: int = 0, backward_every: int = 6
) -> dict[str, Pair]:
    """Check random shapes: errors by direction and precision.

    Args:
        count: Number of shapes.
        dtypes: Precisions.
        seed: Of the shapes.
        backward_every: Shapes from one that is differentiated to the next one; forms, axes and
            precisions have turns of 12.
    """
    errors = {
        f"{direction} {name_of(dtype)}": Pair()
        for direction in ("forward", "backward")
        for dtype in dtypes
    }
    for number, shape in enumerate(draw_shapes(count, dtypes, seed=seed)):
        case = fill(shape, seed=number)
        check_forward(case, errors[f"forward {name_of(shape.dtype)}"])
        if number // 12 % backward_every == 0:
            check_backward(case, errors[f"backward {name_of(shape.dtype)}"])
    return errors


def name_of(dtype: torch.dtype) -> str:
    """Short name of a precision."""
    return {torch.float16: "f16", torch.bfloat16: "bf16", torch.float32: "f32"}[dtype]


def draw_shapes(
    count: int, dtypes: Sequence[torch.dtype], *, seed: int = 0, most_windows: int = 3
) -> Iterator[Shape]:
    """Random shapes: small maps with ragged borders, every form, axes, heads, layout and tiles."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        dims = 2 + number // 3 % 2
        form = FORMS[number % 3]
        window = tuple(int(side) for side in rng.integers(2, 8 if dims == 2 else 5, dims))
        counts = [1] * dims
        while math.prod(counts) < most_windows and rng.random() < 0.7:
            counts[int(rng.integers(dims))] += 1
            if math.prod(counts) > most_windows:
                counts = [1] * dims
        sizes = tuple(
            int(side * n - (rng.integers(0, side) if rng.random() < 0.7 else 0))
            for side, n in zip(window, counts, strict=True)
        )
        kv_heads, group = int(rng.choice((1, 1, 1, 1, 2))), int(rng.choice((1, 2, 4)))
        small = math.prod(window) * group <= 32 and rng.random() < 0.5
        yield Shape(
            form,
            sizes,
            window,
            Heads(kv_heads * group, int(rng.choice(HEAD_DIMS)), kv_heads),
            dtypes[number // 6 % len(dtypes)],
            halo=int(rng.integers(1, min(window) + 1)) if form == "overlap" else 0,
            top_k=int(rng.integers(1, math.prod(counts) + 1)) if form == "routed" else 0,
            batch=int(rng.choice((1, 1, 1, 1, 2))),
            channels_first=bool(rng.random() < 0.5),
            # Small tiles exercise the loops, large ones leave time for more shapes.
            tiles=Tiles(16, 16) if small else Tiles(256, int(rng.choice((128, 512)))),
        )


def fill(shape: Shape, *, seed: int, device: str = "cpu") -> Case:
    """Random numbers for a shape; queries carry their scale."""
    heads = shape.heads
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, device=device)

    tokens = normal(shape.batch, *shape.sizes, sum(heads.widths))
    tokens[..., : heads.widths[0]] *= 2 * heads.head_dim**-0.5
    tokens = tokens.to(shape.dtype)
    if shape.channels_first:
        tokens = tokens.movedim(-1, 1).contiguous().movedim(1, -1)
    chosen = gate = None
    if shape.form == "routed":
        regions = math.prod(shape.counts)
        order = torch.rand(
            shape.batch, regions, regions, generator=generator, device=device
        ).argsort(-1)
        chosen = order[..., : shape.top_k].contiguous()
        gate = torch.rand(chosen.shape, generator=generator, device=device).clamp_min(1e-4)
    grad = normal(shape.batch, *shape.sizes, heads.widths[0]).to(shape.dtype)
    return Case(shape, tokens, chosen, gate, grad)


def run_kernel(case: Case, tokens: torch.Tensor, gate: torch.Tensor | None = None) -> torch.Tensor:
    """What the kernel reads, (B, *S, heads * d)."""
    shape = case.shape
    with use_tiles(shape):
        out: torch.Tensor = sparse_attention(
            tokens, case.chosen, gate, shape.numbers, list(shape.window), shape.halo
        )[0]
    return out


@contextmanager
def use_tiles(shape: Shape) -> Iterator[None]:
    """Let the kernels have the tiles of a shape."""
    tables = TILES[shape.dtype], BACKWARD[shape.dtype]
    before = [table[shape.heads.head_dim] for table in tables]
    for table, own in zip(tables, before, strict=True):
        table[shape.heads.head_dim] = shape.tiles or own
    try:
        yield
    finally:
        for table, own in zip(tables, before, strict=True):
            table[shape.heads.head_dim] = own


def run_reference(
    case: Case, tokens: torch.Tensor, gate: torch.Tensor | None = None
) -> torch.Tensor:
    """The same by dense masked attention, in the precision of `tokens`."""
    shape, heads = case.shape, case.shape.heads
    axes = [torch.arange(size, device=tokens.device) for size in shape.sizes]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
    window = torch.tensor(shape.window, device=tokens.device)
    home = place // window
    if case.chosen is None:
        low, high = home * window - shape.halo, (home + 1) * window + shape.halo
        seen = (place[None] >= low[:, None]) & (place[None] < high[:, None])
        bias = torch.zeros(1, 1, 1, 1, dtype=tokens.dtype, device=tokens.device)
        visible = seen.all(-1)[None, None]
    else:
        number = home[:, 0]
        for axis in range(1, len(shape.sizes)):
            number = number * shape.counts[axis] + home[:, axis]
        assert gate is not None
        regions = math.prod(shape.counts)
        full = tokens.new_zeros(shape.batch, regions, regions).scatter(2, case.chosen, gate)
        weight = full[:, number][:, :, number].unsqueeze(1)
        visible = weight > 0
        bias = torch.where(visible, weight, 1.0).log()
    flat = tokens.flatten(1, -2)
    queries, keys, values = (
        part.unflatten(-1, (-1, heads.head_dim)).transpose(1, 2)
        for part in flat.split(heads.widths, dim=-1)
    )
    group = heads.num_heads // heads.kv_heads
    keys, values = (part.repeat_interleave(group, 1) for part in (keys, values))
    scores = queries @ keys.transpose(-1, -2) + bias
    read = scores.masked_fill(~visible, -torch.inf).softmax(-1) @ values
    return read.transpose(1, 2).reshape(shape.batch, *shape.sizes, -1)


def run_sdpa(case: Case, tokens: torch.Tensor, gate: torch.Tensor | None = None) -> torch.Tensor:
    """The same by torch's scaled_dot_product_attention on folded windows, padded where ragged."""
    shape, heads = case.shape, case.shape.heads
    padded = pad_tokens(tokens, shape.window)
    queries, keys, values = heads.split(padded)
    queries = cut_windows(queries, shape.window)
    keys, values = (cut_windows(part, shape.window, halo=shape.halo) for part in (keys, values))
    mask = make_mask(case, gate, tokens.dtype)
    batch, regions, area, _ = queries.shape
    if case.chosen is not None:
        rows = torch.arange(batch, device=tokens.device)[:, None, None]
        keys, values = (part[rows, case.chosen].flatten(2, 3) for part in (keys, values))

    # Heads are rows, as in the layers: none of the keys is repeated.
    rows, keys, values = (
        fold(part.flatten(0, 1), heads.kv_heads, heads.head_dim) for part in (queries, keys, values)
    )
    if heads.kv_heads == 1:
        rows, keys, values = (part.unsqueeze(1) for part in (rows, keys, values))
    if mask is not None:
        mask = mask.flatten(0, 1)[:, None, None].expand(-1, rows.shape[1], rows.shape[2], -1)
    read = functional.scaled_dot_product_attention(rows, keys, values, mask, scale=1.0)
    read = unfold(read.squeeze(1) if heads.kv_heads == 1 else read, area)
    local = read.reshape(batch, regions, area, -1)
    joined = join_windows(local, padded.shape[1:-1], shape.window)
    return joined[(slice(None), *(slice(size) for size in shape.sizes))]


def make_mask(case: Case, gate: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """Added to the scores: (B, regions, keys), or None where all keys are seen alike."""
    shape = case.shape
    ones = torch.ones(1, *shape.sizes, 1, device=case.tokens.device)
    inside = pad_tokens(ones, shape.window)
    if case.chosen is None:
        # What wraps around the border is found by a border of zeros.
        if shape.halo:
            pads = [side for size in reversed(shape.window) for side in (size, size)]
            inside = functional.pad(inside, (0, 0, *pads))
            cut = cut_windows(inside, shape.window, halo=shape.halo)[0, ..., 0]
            inner = cut.reshape(*(n + 2 for n in shape.counts), -1)
            cut = inner[tuple(slice(1, -1) for _ in shape.counts)].flatten(0, -2)
        else:
            cut = cut_windows(inside, shape.window)[0, ..., 0]
        seen = cut.expand(shape.batch, -1, -1) > 0
        if bool(seen.all()):
            return None
        return torch.where(seen, 0.0, -torch.inf).to(dtype)
    cut = cut_windows(inside, shape.window)[0, ..., 0]
    assert gate is not None
    weight = (cut[case.chosen] * gate.unsqueeze(-1)).flatten(2)
    seen = weight > 0
    return torch.where(seen, torch.where(seen, weight, 1.0).log(), -torch.inf).to(dtype)


def find_gradients(
    run: Callable[..., torch.Tensor], case: Case, dtype: torch.dtype
) -> list[torch.Tensor]:
    """Gradients of tokens and gates, in the precision that they are computed in."""
    tokens = case.tokens.to(dtype).requires_grad_()
    # Gates are f32 in every precision but the reference's.
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    gate = None if case.gate is None else case.gate.to(kind).requires_grad_()
    # A gate of the only region that is seen cancels out: its gradient is 0, and errors of it
    # have no scale.
    wanted = [tokens] if gate is None or case.shape.top_k == 1 else [tokens, gate]
    return list(torch.autograd.grad(run(case, tokens, gate), wanted, case.grad.to(dtype)))


def check_backward(case: Case, pair: Pair) -> None:
    """Add the errors of one case's gradients."""
    dtype = case.tokens.dtype
    reference = find_gradients(run_reference, case, torch.float64)
    with use_tiles(case.shape), pair.kernel.timed():
        found = find_gradients(run_kernel, case, dtype)
    with pair.sdpa.timed():
        torchs = find_gradients(run_sdpa, case, dtype)
    for kernel, sdpa, expected in zip(found, torchs, reference, strict=True):
        pair.kernel.add(kernel, expected)
        pair.sdpa.add(sdpa, expected)


def check_forward(case: Case, pair: Pair) -> None:
    """Add the errors of one case."""
    gate = None if case.gate is None else case.gate.double()
    reference = run_reference(case, case.tokens.double(), gate)
    with pair.kernel.timed():
        found = run_kernel(case, case.tokens, case.gate)
    with pair.sdpa.timed():
        torchs = run_sdpa(case, case.tokens, case.gate)
    pair.kernel.add(found, reference)
    pair.sdpa.add(torchs, reference)


def speed_up_interpreter(*, exact_products: bool = False) -> None:
    """Let Triton's interpreter replace what kernels call once, and not in each call.

    It also stops asserting that no sum of integers overflows, which doubles its work. Nothing that
    a kernel computes changes.

    Args:
        exact_products: Sum matrix products in float64 and round them once, to find out what of
            an error is due to the order of sums in f32.
    """
    import triton.language as tl
    from triton.runtime import interpreter

    builder: Any = interpreter.interpreter_builder
    builder.options = replace(builder.options, sanitize_overflow=False)
    patch, patched = interpreter._patch_lang, set()

    def patch_once(function: Any) -> SimpleNamespace:
        known = function.__globals__.values()
        languages = (any(v is tl for v in known), any(v is tl.core for v in known))
        if languages not in patched:
            patched.add(languages)
            patch(function)
        return SimpleNamespace(restore=lambda: None)

    interpreter._patch_lang = patch_once
    if exact_products:
        interpreter.InterpreterBuilder.create_dot = _multiply_exactly


def _multiply_exactly(_: Any, left: Any, right: Any, total: Any, *__: Any) -> Any:
    """Stand in for the interpreter's product."""
    from triton.runtime.interpreter import TensorHandle

    product = left.data.astype(np.float64) @ right.data.astype(np.float64) + total.data
    return TensorHandle(product.astype(total.data.dtype), total.dtype.scalar)
