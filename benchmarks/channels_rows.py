"""The networks of `channels.py`, and the order in which they are trained."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from torch import nn

from bedside.models import create
from bedside.spec import ModelSpec, Recipe, read_recipe
from cells import change_levels
from channel_attention import create_with_attention

RECIPE = "lgg"
FOLDS = 3
MARGIN = 0.002
"""Difference in mean Dice that counts; fixed before anything was trained, as is what is compared:
scans with all sequences, and the mean over all sets of missing ones."""
SIZE_PX = (128, 128)
"""Smaller than the recipe's, so that a short training takes more steps."""
EPOCHS = 8
PRECISIONS = ("f32",)
REFERENCE, OPPONENT = "concatenation", "attention"

Json = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One network of the study.

    Attributes:
        title: Its name in the tables.
        depths: Blocks of each level.
        attends: Whether channels are fused by attention; as input channels of one convolution
            otherwise.
    """

    title: str
    depths: tuple[int, ...]
    attends: bool

    def change(self, model: ModelSpec) -> ModelSpec:
        """From the recipe's network to one as deep as this row's."""
        return change_levels(model, self.depths)

    def create(self, model: ModelSpec) -> nn.Module:
        """Build the network of a spec that this row has changed, with fresh weights."""
        return create_with_attention(model) if self.attends else create(model)


ROWS = {
    REFERENCE: Row("concatenation", (2, 3, 3, 3), attends=False),
    OPPONENT: Row("attention over channels", (1, 1, 2, 2), attends=True),
}
"""Name of a row -> its network; with concatenation it is as deep as takes the same time."""


@dataclass(frozen=True)
class Cell:
    """One training: a row, and a fold that numbers its seed."""

    row: str
    fold: int

    @property
    def name(self) -> str:
        """Name of its run folder and its result."""
        return f"{self.row}.fold-{self.fold}"


def list_cells() -> list[Cell]:
    """All cells in the order of training, pair by pair."""
    return [Cell(row, fold) for fold in range(FOLDS) for row in ROWS]


def make_recipe(cell: Cell) -> Recipe:
    """The recipe of a cell: TCGA-LGG over folds, the row's depths, small and short."""
    base = read_recipe(RECIPE)
    model = ROWS[cell.row].change(base.deployment.model)
    given = dataclasses.replace(base.deployment.input, size_px=SIZE_PX)
    return dataclasses.replace(
        base,
        deployment=dataclasses.replace(base.deployment, input=given, model=model),
        # No part for tests: each patient is held out by one fold.
        data=dataclasses.replace(base.data, split=(0.7, 0.3, 0.0), folds=FOLDS, fold=cell.fold),
        training=dataclasses.replace(
            base.training, seed=cell.fold, epochs=EPOCHS, validate_every=EPOCHS
        ),
    )
