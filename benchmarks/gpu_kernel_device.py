"""Kernels of sparse attention on a GPU: every class of shapes checked, then timed."""

import contextlib
import functools
import itertools
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import torch

import gpu_kernel_checks as checks
import gpu_kernel_rivals as rivals
from bedside.layers.attention import Heads
from gpu_kernel_checks import Case, Pair, Shape

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
WINDOWS = {2: (8, 8), 3: (4, 4, 4)}
RUNS = 3
# Compared with plain attention in float64, whose scores of all pairs must fit.
CHECKED = {2: ((32, 32), (27, 45)), 3: ((8, 8, 8), (7, 9, 13))}
SIDES = (64, 128, 256)
_REPEATS, _WARM_UP = 15, 3


@dataclass(frozen=True)
class Checked:
    """A class of shapes on the device."""

    form: str
    axes: int
    precision: str
    head_dim: int
    forward: Pair
    backward: Pair
    bit_equal: bool
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether errors hold and three runs were equal, bit by bit."""
        return self.forward.holds and self.backward.holds and self.bit_equal


@dataclass(frozen=True)
class Timed:
    """Milliseconds of one shape: column -> median, or why there is none."""

    shape: Shape
    forward: dict[str, float | str]
    training: dict[str, float | str]
    floor_ms: float

    @property
    def best_other(self) -> float | None:
        """Time of the fastest rival."""
        others = [
            ms
            for name, ms in self.forward.items()
            if name in ("SDPA", "FlexAttention", "NATTEN") and isinstance(ms, float)
        ]
        return min(others, default=None)


@dataclass
class Found:
    """Everything that was found on one card."""

    card: str
    versions: str
    copy_gb_s: float = 0.0
    product_tflop_s: float = 0.0
    checked: list[Checked] = field(default_factory=list)
    timed: list[Timed] = field(default_factory=list)
    left_out: int = 0
    check_s: float = 0.0
    total_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every class passed."""
        return bool(self.checked) and all(each.passed for each in self.checked)


def run(*, seconds: float, workers: int) -> Found:
    """Check all classes, then time shapes until the time is over."""
    begun = time.perf_counter()
    found = Found(torch.cuda.get_device_name(), describe_versions())
    classes = list(itertools.product(checks.FORMS, (2, 3), DTYPES, checks.HEAD_DIMS))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        found.checked = list(pool.map(check_class, classes, chunksize=1))
        # Compilers leave what they made on disk: here it takes a turn of all cores.
        list(pool.map(warm_up, list_timed(), chunksize=1))
    found.check_s = time.perf_counter() - begun
    found.copy_gb_s, found.product_tflop_s = measure_ceilings()
    shapes = list_timed()
    for number, shape in enumerate(shapes):
        if time.perf_counter() - begun > seconds:
            found.left_out = len(shapes) - number
            break
        found.timed.append(time_shape(shape, found))
    found.total_s = time.perf_counter() - begun
    return found


def check_class(key: tuple[str, int, torch.dtype, int]) -> Checked:
    """Compare one class with float64; one that cannot run has not passed, and stops no other."""
    form, axes, dtype, head_dim = key
    forward, backward, equal, reason = Pair(), Pair(), False, ""
    try:
        equal = compare(key, forward, backward)
    except Exception as error:  # noqa: BLE001 - whatever compiler or driver raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:80]
    return Checked(form, axes, checks.name_of(dtype), head_dim, forward, backward, equal, reason)


def compare(key: tuple[str, int, torch.dtype, int], forward: Pair, backward: Pair) -> bool:
    """Add the errors of one class: maps of whole and of ragged windows, in both layouts.

    Returns:
        Whether three runs were equal, bit by bit.
    """
    form, axes, dtype, head_dim = key
    equal = True
    for number, (sizes, kv_heads) in enumerate(itertools.product(CHECKED[axes], (1, 2))):
        shape = Shape(
            form,
            sizes,
            WINDOWS[axes],
            Heads(4, head_dim, kv_heads),
            dtype,
            halo=WINDOWS[axes][0] // 2 if form == "overlap" else 0,
            top_k=4 if form == "routed" else 0,
            batch=2,
            channels_first=number % 2 == 1,
        )
        case = checks.fill(shape, seed=number, device="cuda")
        checks.check_forward(case, forward)
        checks.check_backward(case, backward)
        runs = [
            [
                checks.run_kernel(case, case.tokens, case.gate),
                *checks.find_gradients(checks.run_kernel, case, dtype),
            ]
            for _ in range(RUNS)
        ]
        equal = equal and all(
            torch.equal(*pair) for each in runs[1:] for pair in zip(runs[0], each, strict=True)
        )
    return equal


def warm_up(shape: Shape) -> None:
    """Compile what one shape is timed with."""
    case = checks.fill(shape, seed=0, device="cuda")
    for make in rivals.RIVALS.values():
        with contextlib.suppress(Exception), torch.no_grad():  # it is reported when it is timed
            make(case)(case.tokens)
    torch.compiler.reset()


def list_timed() -> list[Shape]:
    """Shapes to time, those first without which there is no result."""
    shapes = [
        make_timed(form, (side, side), head_dim, batch)
        for head_dim, side, batch, form in itertools.product((32, 16), SIDES, (1, 8), checks.FORMS)
    ]
    return shapes + [make_timed(form, (32, 32, 32), 32, 1) for form in checks.FORMS]


def make_timed(form: str, sizes: tuple[int, ...], head_dim: int, batch: int) -> Shape:
    """A shape as the layers have it: four heads of queries, one of keys, channels last."""
    window = WINDOWS[len(sizes)]
    return Shape(
        form,
        sizes,
        window,
        Heads(4, head_dim),
        torch.bfloat16,
        halo=window[0] // 2 if form == "overlap" else 0,
        top_k=4 if form == "routed" else 0,
        batch=batch,
    )


def time_shape(shape: Shape, found: Found) -> Timed:
    """Time the kernel and its rivals on one shape."""
    case = checks.fill(shape, seed=0, device="cuda")
    forward: dict[str, float | str] = {}
    training: dict[str, float | str] = {}
    for name, make in rivals.RIVALS.items():
        try:
            call = make(case)
            with torch.no_grad():
                forward[name] = time_graph(functools.partial(call, case.tokens))
        except Exception as error:  # noqa: BLE001 - rivals fail in their own ways
            forward[name] = training[name] = str(error).splitlines()[0][:80] or repr(error)
            continue
        if name in ("kernel", "plain", "SDPA"):
            training[name] = time_call(functools.partial(step, call, case))
    torch.compiler.reset()
    return Timed(shape, forward, training, floor_ms(shape, found))


def step(call: Callable[[torch.Tensor], torch.Tensor], case: Case) -> None:
    """One forward and backward pass."""
    tokens = case.tokens.detach().requires_grad_()
    torch.autograd.grad(call(tokens), tokens, case.grad)


def time_graph(call: Callable[[], object]) -> float:
    """Median milliseconds of the device, launches left out."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return time_call(graph.replay)


def time_call(call: Callable[[], object]) -> float:
    """Median milliseconds of the device."""
    for _ in range(_WARM_UP):
        call()
    spans = []
    for _ in range(_REPEATS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        spans.append(begin.elapsed_time(end))
    return statistics.median(spans)


def count_work(shape: Shape) -> tuple[int, int]:
    """Bytes that must be moved once, and operations of the two products."""
    heads, tokens = shape.heads, shape.batch
    for size in shape.sizes:
        tokens *= size
    seen = shape.top_k or 1
    for side in shape.window:
        seen *= side + 2 * shape.halo
    moved = tokens * (sum(heads.widths) + heads.widths[0]) * shape.dtype.itemsize
    return moved, 4 * tokens * heads.widths[0] * seen


def floor_ms(shape: Shape, found: Found) -> float:
    """Least time by what the card copies and multiplies in a second, the larger of both."""
    moved, operations = count_work(shape)
    return max(moved / found.copy_gb_s / 1e6, operations / found.product_tflop_s / 1e9)


def measure_ceilings() -> tuple[float, float]:
    """What this card copies, GB/s read and written, and multiplies in bf16, TFLOP/s."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copy_ms = time_call(lambda: target.copy_(source))
    side = 8192
    left, right = (torch.randn(side, side, device="cuda").bfloat16() for _ in range(2))
    product_ms = time_call(lambda: left @ right)
    return 2 * source.numel() / copy_ms / 1e6, 2 * side**3 / product_ms / 1e9


def describe_versions() -> str:
    """Versions that the times depend on."""
    import triton

    return f"torch {torch.__version__}, triton {triton.__version__}, CUDA {torch.version.cuda}"


def to_rows(found: Found) -> str:
    """The table of `bedside.layers.kernels`: classes that passed and were faster than plain.

    A precision that was not timed has the row of bf16 where it is of half precision, and none
    in f32.
    """
    lines = [
        "# Cards on which a kernel was held against float64 and was faster than the layer's plain",
        "# form. Layers use the kernel for these rows and no others. Written by",
        "# benchmarks/gpu_kernels.py.",
    ]
    count = 0
    for each in found.checked:
        times = [
            row
            for row in found.timed
            if row.shape.form == each.form
            and len(row.shape.sizes) == each.axes
            and row.shape.heads.head_dim == each.head_dim
        ]
        if each.passed and each.precision != "f32" and times and all(map(is_faster, times)):
            count += 1
            lines += [
                "", "[[row]]", f'card = "{found.card}"', f'form = "{each.form}"',
                f"axes = {each.axes}", f'precision = "{each.precision}"',
                f"head_dim = {each.head_dim}",
            ]  # fmt: skip
    return "\n".join([*lines, *([] if count else ["row = []"])]) + "\n"


def is_faster(row: Timed) -> bool:
    """Whether the kernel beats the plain form, forward and in training."""
    return all(is_less(times) for times in (row.forward, row.training))


def is_less(times: dict[str, float | str]) -> bool:
    """Whether the kernel's time is there, and less than the plain form's."""
    kernel, plain = times.get("kernel"), times.get("plain")
    if not isinstance(kernel, float):
        return False
    return not isinstance(plain, float) or kernel < plain
