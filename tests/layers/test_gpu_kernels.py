"""Kernels of sparse attention in Triton's interpreter, which stands in for a GPU."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_kernels.py"

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None,
    reason='GPU kernels are not tested: triton is missing. pip install "bedside[gpu]"',
)


@needs_triton
def test_kernels_are_as_near_to_float64_as_torchs_own_attention():
    """In a process of its own: the interpreter is chosen when triton is imported."""
    ran = subprocess.run(
        [sys.executable, SCRIPT, "--shapes", "36"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr[-2000:]
    assert "float16: 18 shapes" in ran.stdout
    assert "float32: 18 shapes" in ran.stdout
