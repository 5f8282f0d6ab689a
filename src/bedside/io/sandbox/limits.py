"""What decoding a file that is not trusted may take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What decoding one file may take.

    Attributes:
        memory_mb: Memory in MiB, beside that of the libraries, and the most that the decoded
            frames may be.
        deadline_s: Seconds.
        ceiling_bytes: Resident memory that this process and the one that decodes must not
            exceed together; None for no ceiling.
    """

    memory_mb: int = 2048
    deadline_s: float = 60.0
    ceiling_bytes: int | None = None
