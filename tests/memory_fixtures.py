"""A test whose images, sound or bad, must be opened or refused in little memory."""

from pathlib import Path

import pytest

from bedside.system.process_memory import peak_bytes, resident_bytes
from tolerances import IMAGE_BYTES


@pytest.fixture
def in_little_memory():
    """Hold the memory that a test takes at its peak against what a bad image may take."""
    try:
        # Linux then begins anew to look for the peak of this process.
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        yield
        return
    before = resident_bytes()
    yield
    taken = peak_bytes() - before
    assert taken < IMAGE_BYTES, f"{taken / 1e6:.0f} MB were taken"
