"""Two Ray nodes of which one is killed, where Ray is installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HAS_RAY = importlib.util.find_spec("ray") is not None


@pytest.mark.skipif(
    os.environ.get("BEDSIDE_RAY_NODES") != "1" or not HAS_RAY,
    reason='RAY NODES ARE NOT TRIED: pip install "ray>=2.60", BEDSIDE_RAY_NODES=1 (minutes)',
)
def test_with_a_node_killed_each_case_is_done_once(tmp_path):
    page = tmp_path / "page.md"
    command = [sys.executable, "benchmarks/ray_nodes.py", "--cases", "24", "--undisturbed", "12"]
    command += ["--output", str(page), "--data", str(tmp_path / "data.json")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "each case once" in page.read_text(encoding="utf-8")
