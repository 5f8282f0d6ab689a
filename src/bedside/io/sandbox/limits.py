"""Limits for decoding an untrusted file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits for decoding one file.

    Attributes:
        memory_mb: Memory in MiB beyond that of the libraries, and the largest size of the decoded
            frames.
        deadline_s: Seconds.
        ceiling_bytes: Resident memory of this process and the decoding one together; None for no
            ceiling.
    """

    memory_mb: int = 2048
    deadline_s: float = 60.0
    ceiling_bytes: int | None = None
