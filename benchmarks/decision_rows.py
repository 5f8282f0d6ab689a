"""The networks of `decision.py`, and the order in which they are trained."""

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bedside.spec import ModelSpec, Recipe, read_recipe
from cells import change_levels

RECIPE, AUGMENTED_AS = "camus", "camus-robust"
FOLDS = 3
MARGIN = 0.002
"""Difference in mean Dice that counts; fixed before anything was trained, as is what is compared:
images as they are and the mean over planted artefacts, with all labels and with few."""
PRECISIONS = ("f32", "bf16")
REFERENCE, OPPONENT = "conv", "window"
CLEAN = "clean"
PLANTED = (
    "shadow of 15 deg",
    "two shadows of 25 deg",
    "outer quarter lost",
    "speckle 0.5",
    "gain 0.5",
    "blur",
)
"""Artefacts of `bedside evaluate --robustness` that held-out images are scored with."""
STEPS = {1.0: 900, 0.1: 400, 0.05: 400}
"""Steps of a training by the share of the training patients, fixed before the first."""
PRETRAIN_EPOCHS = 12
"""How often a pretraining goes through all training images of its fold: about 900 steps."""
LONGER = 2
"""Times the steps that one fold of both opponents is trained for too; added when two folds were
scored, because a short schedule may favour one of them."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One network of the study.

    Attributes:
        title: Its name in the tables.
        depths: Blocks of each level.
        changes: Settings of a level that differ from the recipe's, by its number.
    """

    title: str
    depths: tuple[int, ...]
    changes: Mapping[int, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def change(self, model: ModelSpec) -> ModelSpec:
        """From the recipe's network to this row's."""
        return change_levels(model, self.depths, self.changes)


def _below(**settings: Any) -> dict[int, dict[str, Any]]:
    """The same settings at strides 16 and 32, where the recipe has attention."""
    return {2: settings, 3: settings}


ROWS = {
    "conv": Row("convolutions", (1, 2, 3, 4), _below(block="conv")),
    "window": Row("windows with exchange", (1, 1, 2, 2)),
    "linear": Row("linear attention", (1, 1, 2, 2), _below(block="linear")),
    "conv-exchange": Row(
        "convolutions with exchange", (1, 1, 3, 3), _below(block="conv", exchange_window=4)
    ),
    "routed": Row(
        "2 of 64 regions at stride 8, convolutions below",
        (1, 1, 1, 1),
        {1: {"block": "routed", "region": 4, "top_k": 2}, **_below(block="conv")},
    ),
    "pooled": Row("pooled keys", (1, 1, 2, 2), _below(block="pooled")),
    "dense": Row("dense at strides 16 and 32", (1, 1, 1, 3), _below(block="dense")),
}
"""Name of a row -> its network, as deep as takes the time of the recipe's."""


@dataclass(frozen=True)
class Cell:
    """One training: a row, a share of the training patients, and a fold that numbers its seed."""

    row: str
    share: float
    fold: int
    times: int = 1
    """How many times the steps that others take."""
    pretrained: bool = False
    """Whether it starts from what blanked images taught, labelled or not."""

    @property
    def name(self) -> str:
        """Name of its run folder and its result."""
        longer = f".times-{self.times}" if self.times > 1 else ""
        begun = ".pretrained" if self.pretrained else ""
        return f"{self.row}.share-{self.share:g}.fold-{self.fold}{longer}{begun}"


def list_cells() -> list[Cell]:
    """All cells in the order of training.

    Both opponents with all labels come first, then with a tenth of them, then one fold of them for
    longer, then with fewer labels, then convolutions that blanked images taught before, then the
    other rows fold by fold.
    """
    folds, pair = range(FOLDS), (REFERENCE, OPPONENT)
    most, *fewer = [[Cell(row, share, fold) for fold in folds for row in pair] for share in STEPS]
    tenth, *fewest = fewer
    return [
        *(*most, *tenth),
        *(Cell(row, 1.0, 0, times=LONGER) for row in pair),
        *itertools.chain(*fewest),
        *(
            Cell(REFERENCE, share, fold, pretrained=True)
            for share in STEPS
            if share < 1
            for fold in folds
        ),
        *(Cell(row, 1.0, fold) for fold in folds for row in ROWS if row not in pair),
    ]


def make_recipe(cell: Cell) -> Recipe:
    """The recipe of a cell: CAMUS over folds, the row's network, more artefacts, no teacher."""
    base, augmented = read_recipe(RECIPE), read_recipe(AUGMENTED_AS)
    model = ROWS[cell.row].change(base.deployment.model)
    return dataclasses.replace(
        base,
        # No marker: each image is labelled by one run of the network, as it lies.
        deployment=dataclasses.replace(base.deployment, model=model, marker=None),
        # No part for tests: each patient is held out by one fold.
        data=dataclasses.replace(
            base.data, split=(0.7, 0.3, 0.0), folds=FOLDS, fold=cell.fold, train_fraction=cell.share
        ),
        augment=augmented.augment,
        training=dataclasses.replace(base.training, seed=cell.fold),
        distill=None,
    )
