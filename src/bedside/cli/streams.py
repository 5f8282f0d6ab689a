"""Stdout and stderr whose errors do not fail a finished run, and a folder for temporary files."""

import contextlib
import io
import os
import select
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedside.errors import OutputError


class _Quiet(io.FileIO):
    """A stream that never raises, so that a reader that is gone changes no result.

    Attributes:
        failure: Why not all was written; None if it was, or if the reader has gone.
    """

    failure: OSError | None = None

    def write(self, content: Any, /) -> int:
        """Write; what cannot be written counts as written."""
        try:
            # Of a stream that does not block nothing may be written yet.
            while (written := super().write(content)) is None:
                select.select([], [self], [])
            return written
        except BrokenPipeError:
            pass
        except OSError as error:
            self.failure = self.failure or error
        return len(memoryview(content).cast("B"))


@dataclass(frozen=True)
class Streams:
    """The replacements of stdout and stderr.

    Attributes:
        out: What is under `sys.stdout`.
    """

    out: _Quiet

    def finish(self, code: int) -> int:
        """Flush, and return the exit code: an error code if stdout could not be written."""
        sys.stdout.flush()
        if self.out.failure is not None:
            reason = self.out.failure.strerror
            sys.stderr.write(f"bedside: error: cannot write to stdout: {reason}.\n")
            code = code or OutputError.exit_code
        sys.stderr.flush()
        return code


def take_over_streams() -> Streams:
    """Replace `sys.stdout` and `sys.stderr`, which may have been closed.

    Characters that their encoding does not have are written as escapes.
    """
    _replace("stderr", 2)
    return Streams(_replace("stdout", 1))


def _replace(name: str, number: int) -> _Quiet:
    raw = _Quiet(number, "w", closefd=False)
    stream = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(getattr(sys, name), "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=name == "stderr" or raw.isatty(),
    )
    setattr(sys, name, stream)
    return raw


@contextlib.contextmanager
def temporary_files() -> Iterator[None]:
    """Keep temporary files of all libraries and children in one folder, removed at the end."""
    import tempfile

    from bedside.system.unfinished import scratch_folder

    with contextlib.ExitStack() as stack:
        # Most commands need none, and may run where none can be made.
        with contextlib.suppress(OSError):
            folder = stack.enter_context(scratch_folder(Path(tempfile.gettempdir())))
            tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
        yield
