"""Kernels of sparse attention in Triton's interpreter, which stands in for a GPU.

Run by `test_gpu_kernels.py` in a process of its own.
"""

import pytest
import torch

import gpu_kernel_checks as checks
from bedside.layers.attention import Heads
from bedside.layers.attention.overlap import OverlapAttention
from bedside.layers.attention.routed import RoutedAttention
from bedside.layers.attention.window import WindowAttention
from bedside.layers.kernels import always_kernels
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


MECHANISMS = {
    "window": WindowAttention(Heads(2, 16), windows=(2, 3), exchange=True),
    "overlap": OverlapAttention(Heads(1, 16), windows=(3,), halo=1, exchange=True),
    "routed": RoutedAttention(Heads(1, 16), region=2, top_k=1, exchange=True),
}


@pytest.mark.parametrize("form", MECHANISMS)
def test_a_layer_reads_by_the_kernel_what_it_reads_plainly(form):
    """Exchange and gradient included, also as `torch.compile` sees it."""
    mechanism = MECHANISMS[form]
    width = sum(mechanism.heads.widths)
    tokens = torch.randn(1, 3, 5, width, generator=torch.Generator().manual_seed(0))

    def run(layer):
        given = tokens.clone().requires_grad_()
        read = layer(given)
        return read.detach(), torch.autograd.grad(read.square().sum(), given)[0]

    plain = run(mechanism)
    with always_kernels():
        compiled = torch.compile(lambda x: mechanism(x), backend="aot_eager", fullgraph=True)
        fused = run(compiled)
    for found, expected in zip(fused, plain, strict=True):
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
        assert not torch.equal(found, expected)  # it did run another way
    assert torch.equal(mechanism(tokens), plain[0])
