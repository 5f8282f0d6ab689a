"""The page of the GPU kernels."""

from collections.abc import Mapping

from gpu_kernel_checks import Pair, Shape
from gpu_kernel_device import Found, Timed, list_timed

HEAD = """# GPU kernels of sparse attention

`python benchmarks/gpu_kernels.py`. Window, overlap (halo of half a window) and routed attention (4
regions) in one Triton kernel each way, against plain masked attention in float64 of the same
inputs. Errors are root mean squares of the difference, over the root mean square of the
reference, of all results together; SDPA computes the same on folded windows, in the same precision.
"""

SHORTFALL = """\
Where the last column says NO, the error is larger than SDPA's. `--exact-products` sums f32 products
in float64 and rounds once, and shows what of it is due to the order of sums, which is another on a
device."""

COLUMNS = ("kernel", "plain", "SDPA", "FlexAttention", "NATTEN")


def write_interpreted(
    errors: Mapping[str, Pair],
    *,
    machine: str,
    shapes: int,
    core_s: float,
    clock_s: float,
    load: float,
) -> str:
    """Page of a machine without a GPU.

    Args:
        errors: By direction and precision.
        machine: Processor and versions.
        shapes: Shapes that were checked.
        core_s: Time of a core that all of it took.
        clock_s: Time on the clock.
        load: Load of the machine at the beginning.
    """
    rows = [
        f"| {name} | {len(pair.kernel.rms)} | {pair.kernel.mean:.2e} | {pair.sdpa.mean:.2e} | "
        f"{pair.kernel.worst:.1e} | {pair.sdpa.worst:.1e} | {'yes' if pair.holds else 'NO'} |"
        for name, pair in errors.items()
    ]
    kernels_s = sum(pair.kernel.core_s for pair in errors.values())
    sdpa_s = sum(pair.sdpa.core_s for pair in errors.values())
    empty = [f"| {name_of(shape)} | {' | '.join(['not measured'] * 7)} |" for shape in list_timed()]
    return "\n".join(
        [
            HEAD,
            "## Times on a GPU: not measured",
            "",
            "No GPU was at hand: nothing of this page was run on a device, no card is in the table",
            "of `src/bedside/layers/kernels/devices.toml`, and the layers run in their plain form.",
            "bf16, 4 query heads, 1 head of keys.",
            "",
            _heading(),
            *empty,
            "",
            "## In Triton's interpreter",
            "",
            f"{shapes:,} random shapes, every sixth dozen differentiated too, in {core_s:.0f} s "
            f"of a core ({clock_s:.0f} s on the clock; load {load:.0f} at the beginning, on "
            "2 cores).",
            f"The kernels take {kernels_s:.0f} s of it, as the interpreter works on each operation",
            f"of each program, whatever a tile holds; SDPA takes {sdpa_s:.1f} s, the rest is the",
            "reference in float64, drawing and comparing.",
            "Two and three axes, ragged borders, 1 to 8 query heads, 1 or 2 heads of keys of 16,",
            "32 or 64 channels, both layouts of memory, tiles of 16 to 512. A kernel that passes",
            "here has yet to pass on a device.",
            "",
            machine + ".",
            "",
            "| | results | error | error of SDPA | largest | largest of SDPA | at most SDPA's |",
            "|---|--:|--:|--:|--:|--:|---|",
            *rows,
            "",
            *([] if all(pair.holds for pair in errors.values()) else [SHORTFALL]),
            "",
        ]
    )


def write_measured(found: Found) -> str:
    """Page of a card."""
    checked = [
        f"| {c.form} {c.axes}D {c.precision} {c.head_dim} | {c.forward.kernel.mean:.2e} | "
        f"{c.forward.sdpa.mean:.2e} | {c.backward.kernel.mean:.2e} | {c.backward.sdpa.mean:.2e} | "
        f"{'yes' if c.bit_equal else 'NO'} | {'yes' if c.passed else f'NO {c.reason}'} |"
        for c in found.checked
    ]
    return "\n".join(
        [
            HEAD,
            f"## Times on {found.card}",
            "",
            f"{found.versions}. bf16, 4 query heads, 1 head of keys, channels last; milliseconds,",
            "median of 15. Forward passes are replayed as CUDA graphs, so that none waits for its",
            "launches; training is not. Folding of windows, compiled with SDPA and FlexAttention,",
            "is in the time, masks are not. The floor is the",
            f"larger of the bytes read and written once at {found.copy_gb_s:,.0f} GB/s and the two",
            f"products at {found.product_tflop_s:,.0f} TFLOP/s, both as measured on this card.",
            f"All of it took {found.total_s:.0f} s, of which {found.check_s:.0f} s to compile and",
            f"check. Shapes left out as the time was over: {found.left_out}.",
            "",
            _heading(),
            *(_row(row) for row in found.timed),
            "",
            "Forward and backward:",
            "",
            "| | kernel | plain | SDPA |",
            "|---|--:|--:|--:|",
            *(
                f"| {name_of(row.shape)} | "
                + " | ".join(_show(row.training.get(name, "-")) for name in COLUMNS[:3])
                + " |"
                for row in found.timed
            ),
            "",
            "## Errors on the device",
            "",
            "| class | forward | SDPA | backward | SDPA | three runs bit-equal | passed |",
            "|---|--:|--:|--:|--:|---|---|",
            *checked,
            "",
        ]
    )


def name_of(shape: Shape) -> str:
    """A timed shape in a few words."""
    size = " x ".join(map(str, shape.sizes))
    return f"{shape.form} {size}, batch {shape.batch}, d {shape.heads.head_dim}"


def _heading() -> str:
    names = ["kernel", "part of its floor", "times the best of the last three", *COLUMNS[1:]]
    return f"| | {' | '.join(names)} |\n|---|{'--:|' * len(names)}"


def _row(row: Timed) -> str:
    kernel, best = row.forward["kernel"], row.best_other
    gain = f"{best / kernel:.2f}" if best and isinstance(kernel, float) else "-"
    rest = " | ".join(_show(row.forward.get(name, "-")) for name in COLUMNS[1:])
    share = f"{row.floor_ms / kernel:.0%}" if isinstance(kernel, float) else "-"
    return f"| {name_of(row.shape)} | {_show(kernel)} | {share} | {gain} | {rest} |"


def _show(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3f}"
