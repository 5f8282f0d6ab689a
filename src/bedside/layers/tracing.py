"""Whether a network runs, or is traced into a graph."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_EXPORTING = ContextVar("exporting", default=False)


def is_exporting() -> bool:
    """Whether a network is being traced, by torch's exporter or inside `exporting`.

    What only makes torch itself faster, such as a layout of memory, stays out of a graph.
    """
    return torch.compiler.is_exporting() or _EXPORTING.get()


@contextmanager
def exporting() -> Iterator[None]:
    """Let networks run as they are exported, for tracers that torch does not know."""
    token = _EXPORTING.set(True)
    try:
        yield
    finally:
        _EXPORTING.reset(token)
