"""Peak memory of a computation, counted from its tensors."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of live tensors while it is active."""

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live: int = 0
        self.peak: int = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if not size or place in self._known:
            return
        self._known.add(place)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, place, size)

    def _release(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.live -= size


def peak_memory_mb(call: Callable[[torch.Tensor], torch.Tensor], example: torch.Tensor) -> float:
    """Count the most bytes of tensors that live at once in a call, its input left out.

    The count is torch's, operation by operation, the same on every machine. A runtime may
    need less, where it computes in place, and some workspace more. On the device "meta",
    where tensors have no values, the count is the same and costs nothing.

    Args:
        call: What to run, without gradients.
        example: Its input.

    Returns:
        Megabytes, 2**20 bytes each.

    Example:
        >>> peak_memory_mb(lambda x: (x + 1).exp_(), torch.zeros(1024, 1024))
        4.0
    """
    with torch.no_grad(), _LiveBytes([example]) as counter:
        call(example)
    megabytes: float = counter.peak / 2**20
    return megabytes
