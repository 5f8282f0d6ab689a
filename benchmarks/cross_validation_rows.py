"""The networks that are cross-validated on BTCV."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from bedside.models import create
from bedside.spec import DeploymentSpec, ModelSpec

SLICES, SCANS, FURTHER = "btcv-slices", "btcv-scans", "btcv-scans-2"
"""The recipes: slice by slice, in three axes, and the latter trained further."""


@dataclass(frozen=True)
class Row:
    """One network of the study.

    Attributes:
        title: Its name in the tables.
        depths: Blocks of each level; empty for those of the recipe.
        changes: Settings of the levels that have attention in the recipe's network.
        recipe: Whose network it is.
        start: The row whose networks are trained further; empty for fresh weights.
        peer: Key of a classic in `peers.networks`, in place of the recipe's network.
    """

    title: str
    depths: tuple[int, ...] = ()
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    recipe: str = SLICES
    start: str = ""
    peer: str = ""

    def change(self, model: ModelSpec) -> ModelSpec:
        """From the recipe's network to this row's; of a classic, to what the data way goes by."""
        if self.peer:
            from peers.networks import PEERS

            return dataclasses.replace(model, logit_stride=PEERS[self.peer].logit_stride)
        levels = []
        depths = self.depths or tuple(level.depth for level in model.levels)
        for level, depth in zip(model.levels, depths, strict=True):
            changes = self.changes if level.block == "window" else {}
            levels.append(dataclasses.replace(level, depth=depth, **changes))
        return dataclasses.replace(model, levels=tuple(levels))

    def create(self, deployment: DeploymentSpec) -> nn.Module:
        """Build the network with fresh weights.

        Args:
            deployment: A recipe's, with this row's network.
        """
        if self.peer:
            from peers.networks import find_network

            return find_network(self.peer, deployment.model, deployment.input.size_px).create()
        return create(deployment.model)


ROWS = {
    "window": Row("windows with exchange"),
    "conv": Row("convolutions", (1, 2, 3, 4), {"block": "conv"}),
    "conv-exchange": Row(
        "convolutions with exchange", (1, 2, 2, 3), {"block": "conv", "exchange_window": 8}
    ),
    "pooled": Row("pooled keys", changes={"block": "pooled"}),
    "linear": Row("linear attention", changes={"block": "linear"}),
    "dense": Row("dense", changes={"block": "dense"}),
    "routed": Row("2 of many small regions", changes={"block": "routed", "region": 4, "top_k": 2}),
    "unet": Row("U-Net, MONAI", peer="unet"),
    "unet-stride4": Row("U-Net behind our stem, MONAI", peer="unet-stride4"),
    "scans": Row("convolutions in three axes", recipe=SCANS),
    "scans-2": Row("the same, larger patches after", recipe=FURTHER, start="scans"),
}
"""Name of a row -> its network; those asked for first are trained first."""
