"""Keeps converters of the model way from printing, logging and warning.

Only the threads that ask are kept quiet; the output of other threads is not affected.
"""

import contextlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)
_lock = threading.Lock()
_blocks = 0


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress prints, log records below errors, and warnings within the block; not errors."""
    token = _quiet.set(True)
    _count(1)
    try:
        yield
    finally:
        _count(-1)
        _quiet.reset(token)


class _Sieve:
    """A stream that drops what quiet threads write.

    Args:
        stream: Where it goes.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write, unless the thread is quiet."""
        return len(text) if _quiet.get() else int(self.stream.write(text))

    def isatty(self) -> bool:
        """Whether it is a terminal; never while a thread is quiet: bars have own threads."""
        return False

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the stream."""
        return getattr(self.stream, name)


class _QuietHere:
    """A pattern for a filter of `warnings` that matches in quiet threads only."""

    def match(self, _text: str) -> bool:
        """Whether a warning is ignored."""
        return _quiet.get()


_FILTER: Any = ("ignore", _QuietHere(), Warning, None, 0)


def _count(step: int) -> None:
    """Count the open blocks, and replace the streams while there are any."""
    global _blocks
    with _lock:
        _blocks += step
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if _blocks and stream is not None and not isinstance(stream, _Sieve):
                setattr(sys, name, _Sieve(stream))
            elif not _blocks and isinstance(stream, _Sieve):
                setattr(sys, name, stream.stream)
        with contextlib.suppress(ValueError):
            warnings.filters.remove(_FILTER)  # type: ignore[attr-defined]
        if _blocks:
            # In front again, as the block may have come to other filters meanwhile.
            warnings.filters.insert(0, _FILTER)  # type: ignore[attr-defined]
            _sift_logs()


def _sift_logs() -> None:
    """Add a filter to every log handler that drops records of quiet threads."""
    known = [logging.getLogger(name).handlers for name in (None, *logging.root.manager.loggerDict)]
    for handler in (*(each for handlers in known for each in handlers), logging.lastResort):
        if handler is not None:
            handler.addFilter(_is_said)


def _is_said(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING or not _quiet.get()
