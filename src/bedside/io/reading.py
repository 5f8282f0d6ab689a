"""How files are opened: which of several images in one, and whether they are trusted.

Light on purpose: the command line imports it, and reads no image to answer `--help`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bedside.io.source import Source


@dataclass(frozen=True)
class Limits:
    """What decoding one file may take.

    Attributes:
        memory_mb: Memory in MiB, beside that of the libraries, and the most that the decoded
            frames may be.
        deadline_s: Seconds.
    """

    memory_mb: int = 2048
    deadline_s: float = 60.0


@dataclass(frozen=True)
class Reading:
    """How every file of a run is opened.

    Attributes:
        select: Which time or channel of a file that has several, counted from 1, such as
            (("time", 3),).
        untrusted: What a file from outside the machine may take to decode, in a process of
            its own; None to decode in this one.
    """

    select: tuple[tuple[str, int], ...] = ()
    untrusted: Limits | None = None

    def open(self, path: Path) -> "Source":
        """Open one file.

        Raises:
            FormatError: If it is not a file that can be read, or is damaged.
            LimitError: If it is not trusted and takes more than it may.
            BackendError: If it is not trusted and this system cannot limit a process.
        """
        if self.untrusted is None:
            from bedside.io.source import open_source

            return open_source(path, select=dict(self.select))
        from bedside.io.untrusted import open_untrusted

        return open_untrusted(path, select=dict(self.select), limits=self.untrusted)
