"""Logs of a server: lines of this program, and of libraries only that there was something."""

import contextlib
import logging
import sys
import threading
from collections import deque
from typing import TextIO

_MOST_LINES = 10_000
_LOOK_S, _CLOSING_S = 0.1, 2.0


def configure_logs() -> "LogWriter":
    """Log to stderr, without anything that may be in an image.

    Messages of libraries quote values, names and paths; so do tracebacks and warnings. Of these
    only where they come from is logged.

    Returns:
        What writes the lines, to be closed at the end.
    """
    handler = LogWriter(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("bedside").setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    threading.excepthook = _note_thread
    return handler


class LogWriter(logging.Handler):
    """Writes lines in a thread of its own: who reads the log too slowly holds up no request.

    Lines for which there is no room are dropped, and their number is written in their place. The
    thread looks for lines now and then, as being woken for each would cost what a refusal does.

    Args:
        stream: Where they go.
        most: Lines that may wait.
    """

    def __init__(self, stream: TextIO, *, most: int = _MOST_LINES) -> None:
        super().__init__()
        self._stream, self._most, self._dropped = stream, most, 0
        self._lines: deque[str] = deque()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bedside log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Have the line of a record written."""
        if len(self._lines) < self._most:
            self._lines.append(self.format(record))
        else:
            self._dropped += 1  # under the lock of the handler

    def close(self) -> None:
        """Write what waits, unless nobody reads it."""
        self._closing.set()
        self._thread.join(_CLOSING_S)
        super().close()

    def _run(self) -> None:
        while not self._closing.wait(_LOOK_S):
            self._write()
        self._write()

    def _write(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if self._dropped:
            self.acquire()
            dropped, self._dropped = self._dropped, 0
            self.release()
            lines.append(f"{dropped} lines are missing: the log is read too slowly")
        if lines:
            with contextlib.suppress(OSError, ValueError):  # its reader is gone
                self._stream.write("\n".join((*lines, "")))
                self._stream.flush()


class _Formatter(logging.Formatter):
    """Writes messages of this program, without tracebacks; of others only their place."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        message, arguments = record.msg, record.args
        if record.name.partition(".")[0] != "bedside":
            message = f"a message of {record.module}, line {record.lineno}, which is not logged"
            arguments = ()
        told = logging.LogRecord(
            record.name, record.levelno, record.pathname, record.lineno,
            f"{message} ({kind})" if kind else message, arguments, None,
        )  # fmt: skip
        told.created = record.created
        return super().format(told)


def _note_thread(failed: threading.ExceptHookArgs) -> None:
    name = failed.thread.name if failed.thread is not None else "a thread"
    logging.getLogger("bedside.serve").error("%s ended: %s", name, failed.exc_type.__name__)
