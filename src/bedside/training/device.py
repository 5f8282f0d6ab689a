"""Device and threads of a training."""

import ctypes
import os

import cv2
import torch

from bedside.runtime.machine import describe_processor

# glibc's numbers for mallopt, and what they are set to: blocks as large as an activation are
# kept and used again, instead of being fetched from the kernel, and zeroed, in every step.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER, _LARGEST = 2**31 - 1, 32 * 2**20
_MOST_WORKERS = 8


def choose_device() -> torch.device:
    """The GPU of this process if there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def describe_device() -> str:
    """Name of the GPU, or of the processor."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return describe_processor()


def choose_workers(threads: int | None, device: torch.device) -> int:
    """Number of threads that augment images ahead of the network.

    Args:
        threads: As many as torch was asked to use. Who asks for one gets one: none is added.
        device: A GPU waits for images unless several threads prepare them.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    spare = (cores or 1) - 1
    if device.type == "cuda":
        return min(_MOST_WORKERS, spare)
    return 0 if threads == 1 else min(1, spare)


def configure_threads(threads: int | None, device: torch.device) -> None:
    """Set the threads of torch and OpenCV, and keep freed memory for the next step.

    Args:
        threads: As many as asked for; None leaves the libraries' choice.
        device: Beside a GPU one thread a worker is best, since several workers augment images.
    """
    count = threads or (1 if device.type == "cuda" else None)
    if count:
        torch.set_num_threads(count)
        cv2.setNumThreads(count)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let glibc keep freed memory, which makes steps 8 % faster."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _NEVER)
