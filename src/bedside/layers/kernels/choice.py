"""Whether a layer runs as a kernel: by a table of measurements, else in its plain form.

Never on a CPU and never in a graph that is exported.
"""

import math
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

from bedside.layers.attention.heads import Heads
from bedside.layers.kernels.tiles import TILES
from bedside.layers.tracing import is_exporting

# What indices of 32 bits, and the axes of a grid of programs, can reach.
_MOST_ELEMENTS, _MOST_IMAGES = 2**31, 2**16
_NAMES = {torch.float16: "f16", torch.bfloat16: "bf16", torch.float32: "f32"}
_ALWAYS = ContextVar("kernels_always", default=False)

Row = tuple[str, str, int, str, int]
"""Card, form, spatial axes, precision, head dimension."""


def has_kernel(tokens: torch.Tensor, heads: Heads, form: str) -> bool:
    """Whether a layer should read these tokens by `read_windows` or `read_regions`.

    Args:
        tokens: (B, *S, C).
        heads: How C divides.
        form: "window", "overlap" or "routed".
    """
    device = tokens.device
    if not _has_row(form, tokens.ndim - 2, tokens.dtype, heads.head_dim, device.type, device.index):
        return False
    return math.prod(tokens.shape[1:]) < _MOST_ELEMENTS and tokens.shape[0] < _MOST_IMAGES


@contextmanager
def always_kernels() -> Iterator[None]:
    """Let layers run as kernels on any device that Triton knows, measured or not.

    For measurements and tests. A precision or head dimension without a kernel stays plain.
    """
    token = _ALWAYS.set(True)
    try:
        yield
    finally:
        _ALWAYS.reset(token)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _has_row(
    form: str, axes: int, dtype: torch.dtype, head_dim: int, device: str, index: int | None
) -> bool:
    if is_exporting() or head_dim not in TILES.get(dtype, {}):
        return False
    if _ALWAYS.get():
        return True
    if device != "cuda" or find_spec("triton") is None:
        return False
    row = (torch.cuda.get_device_name(index), form, axes, _NAMES[dtype], head_dim)
    return row in read_rows()


@cache
def read_rows() -> frozenset[Row]:
    """Rows of the table of measurements, `devices.toml`."""
    table = Path(__file__).with_name("devices.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(table)["row"]
    return frozenset(
        (row["card"], row["form"], row["axes"], row["precision"], row["head_dim"]) for row in rows
    )
