"""The array job of docs/scale.md under a real SLURM, where Debian's slurm-wlm and munge are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]


@pytest.mark.skipif(
    os.environ.get("BEDSIDE_SLURM") != "1" or bool(MISSING),
    reason="SLURM IS NOT TRIED: apt-get install slurm-wlm munge, and set BEDSIDE_SLURM=1 (minutes)",
)
def test_an_array_with_a_task_cancelled_and_submitted_again_does_each_case_once(tmp_path):
    page = tmp_path / "page.md"
    command = [sys.executable, "benchmarks/slurm_array.py", "--cases", "64", "--output", str(page)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "each case once" in page.read_text(encoding="utf-8")
