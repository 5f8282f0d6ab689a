"""Data-parallel training: processes with a share of every batch each.

Started by `torchrun`; without it there is one process, and all of this does nothing.
Gradients are averaged, sums that a loss needs of the whole batch are summed, and batch
norms use the statistics of their own process's share in training, while the running
statistics, which inference uses, are averaged. So the result is that of one process in
expectation, not bit by bit.
"""

import contextlib
import datetime
import os
from collections.abc import Iterable, Iterator

import torch
from torch import distributed, nn

_PATIENCE = datetime.timedelta(hours=12)
"""How long the others wait while the first process evaluates."""


def is_started_together() -> bool:
    """Whether `torchrun` started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Whether this process writes output, known before the processes have joined."""
    return int(os.environ.get("RANK", "0")) == 0


@contextlib.contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Join the other processes, if there are any, until the outermost such block ends."""
    if not is_started_together() or _is_joined():
        yield
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Number of this process among those that train together; 0 writes."""
    return distributed.get_rank() if _is_joined() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if _is_joined() else 1


def wait_for_all() -> None:
    """Barrier: wait for all processes."""
    if _is_joined():
        distributed.barrier()


def sum_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over the processes, in place and without a gradient."""
    if _is_joined():
        distributed.all_reduce(tensor)
    return tensor


def average_over_ranks(tensors: Iterable[torch.Tensor]) -> None:
    """Replace, in place, tensors by their mean over the processes."""
    if not _is_joined():
        return
    parts = list(tensors)
    flat = torch.cat([part.flatten() for part in parts])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    means = torch.split(flat, [part.numel() for part in parts])
    for part, mean in zip(parts, means, strict=True):
        part.copy_(mean.reshape(part.shape))


def average_training(model: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients and running statistics after a backward pass."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    average_over_ranks([*gradients, *buffers])


def _is_joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()
