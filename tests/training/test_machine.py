import os

import pytest
import torch

from bedside.training import device as machine

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("cores", "threads", "device", "workers"),
    [
        (2, 1, CPU, 0),
        (2, None, CPU, 1),
        (16, 8, CPU, 1),
        (1, None, CPU, 0),
        (16, None, GPU, 8),
        (4, 1, GPU, 3),
    ],
)
def test_images_are_varied_ahead_where_a_core_is_free(monkeypatch, cores, threads, device, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    assert machine.choose_workers(threads, device) == workers
