"""pydicom's warnings, collected for the calling thread without changing settings of the process.

Python's warning filters and pydicom's settings are process-wide: changing them for a moment would
take warnings from other threads.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from contextvars import ContextVar

import pydicom.misc

_texts: ContextVar[list[str] | None] = ContextVar("texts", default=None)


@contextlib.contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect pydicom's warnings in this thread within the block; they are not shown or logged.

    They may quote patient data.

    Yields:
        The texts so far, without those of an inner block.
    """
    texts: list[str] = []
    token = _texts.set(texts)
    try:
        yield texts
    finally:
        _texts.reset(token)


class _Warnings:
    """A replacement for the module `warnings` in pydicom's only function that warns."""

    @staticmethod
    def warn(message: str, category: type[Warning] | None = None, stacklevel: int = 1) -> None:
        """Collect a warning, or pass it to Python's if nothing collects."""
        texts = _texts.get()
        if texts is None:
            warnings.warn(message, category, stacklevel + 1)
        else:
            texts.append(str(message))


# Permanent, and without effect where warnings are not collected.
vars(pydicom.misc)["warnings"] = _Warnings
logging.getLogger("pydicom").addFilter(lambda record: _texts.get() is None)
