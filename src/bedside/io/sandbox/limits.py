"""Limits for decoding an untrusted file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Start = Callable[[Mapping[str, Any], Path, float], int]
"""Runs a child: `(request, folder, deadline_s)` to its exit code, negative for a signal.

It raises TimeoutError if the child has not ended by then; the child is killed.
"""


@dataclass(frozen=True)
class Limits:
    """Limits for decoding one file.

    Attributes:
        memory_mb: Memory in MiB beyond that of the libraries, and the largest size of the decoded
            frames.
        deadline_s: Seconds.
        ceiling_bytes: Resident memory of this process and the decoding one together; None for no
            ceiling.
        start: How the child is started; None for a new interpreter. A server keeps one that forks.
    """

    memory_mb: int = 2048
    deadline_s: float = 60.0
    ceiling_bytes: int | None = None
    start: Start | None = field(default=None, compare=False, repr=False)
