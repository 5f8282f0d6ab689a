"""Gradients of gates at 1: sensitivity of the loss to each unit."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from bedside.models.structure import Group

Sum = Callable[[torch.Tensor], torch.Tensor]


class GateGradients:
    """Collects, for each example, the gradient of a gate for each unit of each group.

    No gate is inserted: the gradient of a factor of 1 on x is the sum of x times the gradient
    of x. A unit's gate lies before every layer that reads it, a block's behind its whole output.

    Args:
        model: Hooks are put on it while this is open as a context.
        groups: The groups whose units are gated.
    """

    def __init__(self, model: nn.Module, groups: Iterable[Group]) -> None:
        self._model = model
        self._groups = list(groups)
        self._sums: dict[str, Any] = defaultdict(float)
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        """Register the hooks."""
        for group in self._groups:
            for path in group.ins:
                self._watch_input(path, group)
            for index, paths in enumerate(group.updates):
                for path in paths:
                    self._watch_output(path, group, index)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def take(self) -> dict[str, torch.Tensor]:
        """Return the sums since the last call: by group, (B, units)."""
        taken, self._sums = dict(self._sums), defaultdict(float)
        return taken

    def _watch_input(self, path: str, group: Group) -> None:
        def watch(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            # A view of its own: others read the same tensor, and are summed up apart.
            x = args[0].view_as(args[0])

            def add(gradient: torch.Tensor) -> None:
                product = (x.detach() * gradient).float().flatten(2).sum(dim=2)
                by_unit = product.reshape(len(product), group.units, group.width).sum(dim=2)
                self._sums[group.name] = self._sums[group.name] + by_unit

            x.register_hook(add)  # type: ignore[no-untyped-call]
            return (x, *args[1:])

        module = self._model.get_submodule(path)
        self._handles.append(module.register_forward_pre_hook(watch))

    def _watch_output(self, path: str, group: Group, index: int) -> None:
        def watch(module: nn.Module, args: Any, result: torch.Tensor) -> None:
            def add(gradient: torch.Tensor) -> None:
                total = (result.detach() * gradient).float().flatten(1).sum(dim=1)
                by_unit = nn.functional.one_hot(torch.tensor(index), group.units) * total[:, None]
                self._sums[group.name] = self._sums[group.name] + by_unit

            result.register_hook(add)  # type: ignore[no-untyped-call]

        self._handles.append(self._model.get_submodule(path).register_forward_hook(watch))
