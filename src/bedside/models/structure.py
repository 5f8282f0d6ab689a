"""An architecture as compression, search and latency tables see it.

They know no paths of modules: what can be pruned, merged or timed apart is listed by the
architecture's `Structure`. Ranks, bits, sparsity and training for 8 bits need none of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import torch
from torch import nn

from bedside.errors import UsageError
from bedside.spec import LevelSpec, ModelSpec

Weights = Mapping[str, torch.Tensor]
"""State of a network, by name."""


@dataclass(frozen=True)
class Group:
    """Units that may be removed one by one, each of them everywhere.

    Convolutions are named by the path of the convolution with its norm.

    Attributes:
        name: Its kind, a dot, and where it is, such as "hidden.levels.1.0" or "decoder".
        units: How many there are.
        width: Channels of a unit.
        divisor: Runs of units of which equally many must stay: heads that share a window or a
            head of keys.
        outs: Convolutions with norm that make the channels; what they make beyond
            `units * width` channels is not of the group.
        norms: Norms of these channels that have no convolution before them.
        ins: Convolutions that read the channels.
        blocks: If units are whole blocks, the prefix of each one's weights.
        updates: For each block, the convolutions whose results are added to its input.
    """

    name: str
    units: int
    width: int = 1
    divisor: int = 1
    outs: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()
    ins: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    updates: tuple[tuple[str, ...], ...] = ()

    def channels(self, units: torch.Tensor) -> torch.Tensor:
        """Number the channels of some units.

        Example:
            >>> Group("heads", units=4, width=2).channels(torch.tensor([0, 3])).tolist()
            [0, 1, 6, 7]
        """
        return (units[:, None] * self.width + torch.arange(self.width)).flatten()


@dataclass(frozen=True)
class AttentionSite:
    """One attention whose heads of keys and values can be merged.

    Attributes:
        path: Prefix of its 1x1 convolutions, `project_in` and `project_out`.
        level: Number of its level, whose spec has `kv_heads`.
        heads: Query heads.
    """

    path: str
    level: int
    heads: int


class TimedModule(NamedTuple):
    """A module whose latency adds to that of the network.

    Attributes:
        name: Its path.
        module: The module, or what stands for it, from one tensor to one.
        level: The level that it is a block of, if any: part of what its latency depends on.
        channels: Channels of its input.
        size: Size of its input.
    """

    name: str
    module: nn.Module
    level: LevelSpec | None
    channels: int
    size: tuple[int, ...]


class Structure:
    """An architecture that offers nothing beyond being trained and exported.

    Subclasses override what they offer; the rest refuses with the architecture's name.

    Args:
        spec: The network.

    Attributes:
        searchable: Whether any levels, widths and depths of a spec make a network of it.
    """

    searchable = False

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def groups(self, weights: Weights) -> dict[str, Group]:
        """Units that can be pruned, by name of their group."""
        return {}

    def narrow(self, group: Group, units: int) -> ModelSpec:
        """Spec of the network with so many units in a group; all other widths stay."""
        self.refuse("pruning")

    def drop_block(
        self, weights: Weights, level: int, index: int
    ) -> tuple[ModelSpec, dict[str, torch.Tensor]]:
        """Spec and weights without one block; those behind it are renumbered.

        Raises:
            UsageError: If there is no such block.
        """
        self.refuse("removal of blocks")

    def attentions(self) -> list[AttentionSite]:
        """Attentions whose heads of keys and values can be merged."""
        return []

    def shared_by(self, path: str) -> tuple[str, ...]:
        """Other paths whose norms stand behind the convolution of `path` too."""
        return ()

    def roles(self, path: str) -> set[str]:
        """Parts of the network that a convolution belongs to, as in `compression.lowbit`.

        "training" is what inference leaves out.
        """
        return set()

    def list_timed(self, model: nn.Module, size_px: tuple[int, ...]) -> Iterator[TimedModule]:
        """Modules whose latencies add up to the network's: here the network as a whole."""
        yield TimedModule("network", model, None, self.spec.in_channels, size_px)

    def refuse(self, what: str) -> NoReturn:
        """Raise the error of what this architecture does not offer."""
        raise UsageError(f'architecture "{self.spec.architecture}" offers no {what}.')
