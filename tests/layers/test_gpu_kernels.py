"""The kernels' tests, in a process that imports Triton as an interpreter."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from bedside.layers.attention import Heads
from bedside.layers.kernels import always_kernels, choice, has_kernel
from bedside.layers.tracing import exporting

TESTS = Path(__file__).with_name("interpreted_kernels.py")


@pytest.mark.skipif(
    find_spec("triton") is None,
    reason='GPU kernels are NOT tested here: triton is missing. pip install "bedside[gpu]"',
)
def test_kernels_pass_their_tests_in_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS)]
    ran = subprocess.run(
        command,
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=TESTS.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]


def test_no_layer_runs_as_a_kernel_on_a_cpu_or_in_an_export():
    tokens, heads = torch.zeros(1, 4, 4, 96), Heads(4, 16)
    assert not has_kernel(tokens, heads, "window")
    with always_kernels():
        assert has_kernel(tokens, heads, "window")
        assert not has_kernel(tokens.double(), heads, "window")
        assert not has_kernel(tokens, Heads(4, 24), "window")
        with exporting():
            assert not has_kernel(tokens, heads, "window")


def test_a_card_runs_as_kernels_what_the_table_has_of_it(monkeypatch):
    rows = frozenset([("Card", "routed", 3, "bf16", 32)])
    monkeypatch.setattr(choice, "read_rows", lambda: rows)
    monkeypatch.setattr(choice, "find_spec", lambda name: name == "triton")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Card" if index else "Other")
    assert choice._has_row("routed", 3, torch.bfloat16, 32, "cuda", 1)
    assert not choice._has_row("routed", 3, torch.bfloat16, 32, "cuda", 0)
    assert not choice._has_row("routed", 3, torch.float16, 32, "cuda", 1)
    assert not choice._has_row("window", 3, torch.bfloat16, 32, "cuda", 1)


def test_the_table_of_cards_can_be_read():
    assert all(len(row) == 5 for row in choice.read_rows())
