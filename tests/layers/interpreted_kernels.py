"""Kernels of sparse attention in Triton's interpreter, which stands in for a GPU.

Run by `test_gpu_kernels.py` in a process of its own.
"""

import pytest
import torch

import gpu_kernel_checks as checks
from bedside.layers.attention import Heads
from bedside.layers.kernels.ops import sparse_attention

# As few programs as have two windows, one of them ragged.
SHAPES = {
    "overlap": checks.Shape("overlap", (3, 5), (3, 3), Heads(2, 16), torch.float32, halo=1),
    "routed": checks.Shape("routed", (2, 2, 3), (2, 2, 2), Heads(1, 16), torch.float32, top_k=2),
}


@pytest.fixture(autouse=True, scope="module")
def fast_interpreter():
    checks.speed_up_interpreter()


def test_errors_are_those_of_torchs_own_attention():
    errors = checks.check_random(12, (torch.float16, torch.float32), backward_every=1)
    for name, pair in errors.items():
        assert len(pair.kernel.rms) >= 6
        # So few shapes leave room for luck; benchmarks/gpu_kernels.py compares a thousand.
        assert pair.kernel.mean <= 1.25 * pair.sdpa.mean, name


@pytest.mark.parametrize("form", SHAPES)
def test_torch_accepts_the_operation(form):
    """Schema, autograd, and what `torch.compile` sees in place of the kernel."""
    shape = SHAPES[form]
    case = checks.fill(shape, seed=0)
    gate = None if case.gate is None else case.gate.requires_grad_()
    settings = (shape.numbers, list(shape.window), shape.halo)
    torch.library.opcheck(
        sparse_attention, (case.tokens.requires_grad_(), case.chosen, gate, *settings)
    )


@pytest.mark.parametrize("form", SHAPES)
def test_gradients_are_bit_equal_every_time(form):
    case = checks.fill(SHAPES[form], seed=1)
    runs = [
        [
            checks.run_kernel(case, case.tokens, case.gate),
            *checks.find_gradients(checks.run_kernel, case, torch.float32),
        ]
        for _ in range(3)
    ]
    assert all(torch.equal(*pair) for run in runs[1:] for pair in zip(runs[0], run, strict=True))
