"""GPU kernels of sparse attention compiled for a card that is not here: what they take of it.

The operation is called as a layer calls it, and Triton compiles it to machine code by ptxas; only
the launch is left out. So this shows that the code compiles, and what would keep programs from
running side by side: registers, memory they spill to, shared memory. It shows nothing of results
or times.

    python benchmarks/gpu_kernel_compile.py
"""

import argparse
import re
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

import gpu_kernel_checks as checks
from bedside.layers.attention import Heads
from bedside.layers.kernels import device, device_backward
from bedside.system.atomic import write_text
from gpu_kernel_checks import Shape

KERNELS = (
    (device, "attend_forward"),
    (device_backward, "attend_backward_rows"),
    (device_backward, "attend_backward_keys"),
)
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
# Of a multiprocessor of the H100 and H200.
REGISTERS, SHARED_BYTES, THREADS = 65_536, 233_472, 2048
SHAPES = [
    Shape(
        form,
        (29, 32),
        (8, 8),
        Heads(4, head_dim),
        torch.bfloat16,
        halo=4 if form == "overlap" else 0,
        top_k=4 if form == "routed" else 0,
    )
    for form in checks.FORMS
    for head_dim in checks.HEAD_DIMS
]


class Card:
    """What Triton asks of a card before it compiles."""

    launcher_cls = None

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_device(self) -> int:
        """Number of the card."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """No stream."""
        return 0

    def get_current_target(self) -> GPUTarget:
        """What to compile for."""
        return GPUTarget("cuda", self.capability, 32)


@dataclass(frozen=True)
class Compiled:
    """What one kernel of one shape takes of a card."""

    kernel: str
    shape: Shape
    registers: int
    spilled: int
    shared: int
    warps: int

    @property
    def programs(self) -> int:
        """Programs that fit on a multiprocessor."""
        threads = 32 * self.warps
        by_memory = SHARED_BYTES // (self.shared + 1024)
        return min(REGISTERS // (self.registers * threads), by_memory, THREADS // threads)


@contextmanager
def compile_only(keep: Callable[[str, Any], None]) -> Iterator[None]:
    """Let calls of kernels compile them and launch nothing."""

    class Stand:
        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
            def call(*values: Any, **named: Any) -> None:
                keep(self.kernel.__name__, self.kernel.warmup(*values, grid=grid, **named))

            return call

    kept = [getattr(module, name) for module, name in KERNELS]
    for (module, name), kernel in zip(KERNELS, kept, strict=True):
        setattr(module, name, Stand(kernel))
    try:
        yield
    finally:
        for (module, name), kernel in zip(KERNELS, kept, strict=True):
            setattr(module, name, kernel)


def compile_shape(shape: Shape) -> list[Compiled]:
    """Compile the three kernels of one shape."""
    found: list[Compiled] = []

    def keep(name: str, compiled: Any) -> None:
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(compiled.asm["cubin"])
            file.flush()
            said = subprocess.run(
                [TOOLS / "cuobjdump", "-res-usage", file.name],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        usage = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", said)}
        spilled = usage["STACK"] + usage["LOCAL"]
        shared, warps = compiled.metadata.shared, compiled.metadata.num_warps
        found.append(Compiled(name, shape, usage["REG"], spilled, shared, warps))

    with compile_only(keep):
        checks.find_gradients(checks.run_kernel, checks.fill(shape, seed=0), shape.dtype)
    return found


def main() -> None:
    """Compile every form and head dimension, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capability", type=int, default=90)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="TRITON_DEFAULT_FP_FUSION")
    driver.set_active(Card(options.capability))
    rows = [row for shape in SHAPES for row in compile_shape(shape)]
    lines = [
        f"| {row.shape.form} | {row.shape.heads.head_dim} | {row.kernel} | {row.registers} | "
        f"{row.spilled} | {row.shared:,} | {row.programs} |"
        for row in rows
    ]
    text = "\n".join([
        "# GPU kernels of sparse attention, compiled without a GPU",
        "",
        f"`python benchmarks/gpu_kernel_compile.py`, for compute capability {options.capability}, "
        f"triton {triton.__version__}.",
        "Windows of 8 x 8 tokens, bf16, 4 query heads, 1 head of keys, halo 4, 4 regions. The code",
        "is made by ptxas as on a machine with a card; nothing was launched. Programs are those",
        "that registers, shared memory and threads of one multiprocessor of an H100 have room for.",
        "",
        "| form | head dimension | kernel | registers | bytes spilled | bytes shared | programs |",
        "|---|--:|---|--:|--:|--:|--:|",
        *lines,
        "",
    ])  # fmt: skip
    write_text(options.output, text)
    print(text)


if __name__ == "__main__":
    main()
