"""What pydicom warns of, collected for the thread that asked; nothing is switched for the others.

Python's filters of warnings and pydicom's settings are one for the whole process: a thread that
changes them for a moment takes warnings from others, and can leave its own behind.
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
    """Collect what pydicom warns of within the block, in this thread; it goes nowhere else.

    It may quote values of the patient's, so it is not logged either.

    Yields:
        The texts so far; of an inner block of the same kind none.
    """
    texts: list[str] = []
    token = _texts.set(texts)
    try:
        yield texts
    finally:
        _texts.reset(token)


class _Warnings:
    """What pydicom's one function that warns has for the module `warnings`."""

    @staticmethod
    def warn(message: str, category: type[Warning] | None = None, stacklevel: int = 1) -> None:
        """Collect a warning, or give it to Python's where nobody collects."""
        texts = _texts.get()
        if texts is None:
            warnings.warn(message, category, stacklevel + 1)
        else:
            texts.append(str(message))


# Once, for good, and without effect on anybody who does not collect.
vars(pydicom.misc)["warnings"] = _Warnings
logging.getLogger("pydicom").addFilter(lambda record: _texts.get() is None)
