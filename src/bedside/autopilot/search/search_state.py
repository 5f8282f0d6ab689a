"""State of a search on disk: candidates, measurements, and why candidates were dropped.

`search-state.json` holds the state of a search. It is written after every measurement and
every training, whole or not at all; trained networks lie beside it as safetensors.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bedside.autopilot.state import Folder, read_state
from bedside.autopilot.target import Target
from bedside.errors import OutputError, UsageError
from bedside.spec import ModelSpec, to_mapping
from bedside.system.atomic import write_text

STATE, RECIPE = "search-state.json", "search.toml"
_SCHEMA = 1


@dataclass(frozen=True)
class SearchSettings:
    """Settings of a search.

    Attributes:
        candidates: Networks that are trained in the first round, at most.
        rounds: Rounds, at most; each but the last lets the better half go on.
        epochs: Epochs of each training in the first round; twice as many in each further one,
            but never more than the recipe's own.
        timing_s: Seconds that a comparison of times goes on for.
        calibration_images: Training images that ranges of 8 bits are read from.
        seed: Of the draws, and of weights, order and variation in training.
        multiple: Widths are rounded up to multiples of so many channels, but for the recipe's.

    Raises:
        UsageError: If a number cannot mean anything.
    """

    candidates: int = 16
    rounds: int = 4
    epochs: int = 4
    timing_s: float = 3.0
    calibration_images: int = 64
    seed: int = 0
    multiple: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be spent."""
        for name in ("candidates", "rounds", "epochs", "calibration_images", "multiple"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected at least 1.")
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}; expected at least 0.")


@dataclass(frozen=True)
class Trial:
    """One network that fits the budget by prediction.

    Attributes:
        number: From 1.
        name: "recipe", a model's name, a corner of the space, or "drawn-N".
        spec: The network.
        predicted_ms: Its time by the table of blocks.
        parameters: Number of its weights.
        size_bytes: Size of its bundle; None where no size was asked for.
        ms: Its measured time; None before it was measured.
        dice: Of each round that it was trained in, validation Dice by structure.
        left: Why it is out; empty as long as it is in.
    """

    number: int
    name: str
    spec: ModelSpec
    predicted_ms: float
    parameters: int
    size_bytes: int | None = None
    ms: float | None = None
    dice: tuple[Mapping[str, float], ...] = ()
    left: str = ""

    @property
    def mean_dice(self) -> float | None:
        """Mean Dice over structures in its last round; None if it was never trained."""
        return average_dice(self.dice[-1]) if self.dice else None

    @property
    def time_ms(self) -> float:
        """Its time, measured if that was done."""
        return self.predicted_ms if self.ms is None else self.ms


def average_dice(dice: Mapping[str, float]) -> float:
    """Average over structures.

    Example:
        >>> average_dice({"cavity": 1.0, "wall": 0.5})
        0.75
    """
    return sum(dice.values()) / len(dice)


@dataclass(frozen=True)
class SearchState:
    """State of a search, besides its networks.

    Attributes:
        recipe: What is searched for, as a hash of the recipe's content.
        target: The budget.
        effort: What may be spent.
        empty_ms: Time of an empty graph in f32.
        recipe_ms: Time of the recipe's own network in f32.
        precision: How all candidates are computed.
        drawn: Networks that were drawn or named.
        predicted: Those of them whose time was predicted; the others are far off.
        trials: Those that fit, in the order of their numbers.
        measured: Whether their times were measured.
        rounds: Rounds that are done.
        epochs: Epochs of each training in each of them.
        winner: Number of the one that is left; 0 before there is one.
    """

    recipe: str
    target: Target
    effort: SearchSettings
    empty_ms: float
    recipe_ms: float
    precision: str
    drawn: int
    predicted: int
    trials: tuple[Trial, ...]
    measured: bool = False
    rounds: int = 0
    epochs: tuple[int, ...] = ()
    winner: int = 0
    schema: int = field(default=_SCHEMA)

    @property
    def remaining(self) -> tuple[Trial, ...]:
        """Candidates that were not dropped."""
        return tuple(each for each in self.trials if not each.left)

    @property
    def best(self) -> Trial:
        """The winner."""
        return self.trials[self.winner - 1]


class SearchFolder(Folder):
    """The folder of a search.

    Args:
        path: Where it is.
    """

    def load_search(
        self, recipe: str, target: Target, effort: SearchSettings
    ) -> SearchState | None:
        """Read the state, if a search was begun here.

        Args:
            recipe: Hash of the recipe.
            target: The budget.
            effort: What may be spent.

        Raises:
            UsageError: If the folder holds a search from another recipe, to another goal, or
                with another effort.
            OutputError: If it holds a recipe of that name without a search.
            FormatError: If the state is damaged.
        """
        path = self.path / STATE
        if not path.exists():
            if (self.path / RECIPE).exists():
                raise OutputError(
                    f"{self.path / RECIPE} is there already. Choose another folder with -o."
                )
            return None
        return read_state(path, SearchState, "search", recipe=recipe, target=target, effort=effort)

    def save_search(self, state: SearchState) -> None:
        """Write the state, whole or not at all."""
        write_text(self.path / STATE, json.dumps(to_mapping(state), indent=1))

    def checkpoint(self, name: str) -> Path:
        """Path of the checkpoint of a training in progress."""
        return self.path / "training" / f"{name}.safetensors"
