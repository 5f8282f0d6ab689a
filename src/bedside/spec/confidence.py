"""How sure a bundle's masks are, structure by structure: a calibration as numbers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from bedside.errors import SpecError
from bedside.spec.reading import UNLESS_EMPTY

_FLOOR = 0.02
"""Expected error of a Dice of 1, to which intervals are relative."""


@dataclass(frozen=True)
class StructureConfidence:
    """How far the mask of one structure is to be trusted.

    Attributes:
        predicted_dice: Dice with what an expert would draw, as predicted.
        low: Lower end of the interval that holds the true one in most cases (90 %).
        high: Upper end.
        trusted: Whether the structure is to be trusted: False where the gate finds the image
            unlike those the network was made for, and for about the worst tenth of
            images.
    """

    predicted_dice: float
    low: float
    high: float
    trusted: bool


Confidences = Mapping[str, StructureConfidence]
"""By name of the structure; one that is not drawn, or was not calibrated, has none."""


@dataclass(frozen=True)
class Tails:
    """Ends of an interval around an estimate, as multiples of its expected error.

    Attributes:
        low: How far the truth may lie below.
        high: How far it may lie above.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse ends that are no numbers.

        Raises:
            SpecError: If so.
        """
        if not (math.isfinite(self.low) and math.isfinite(self.high)) or self.high < -self.low:
            raise SpecError("an interval needs two finite ends, the lower one first.")


@dataclass(frozen=True)
class StructureModel:
    """Predicts the Dice of one structure from what the network's output looks like.

    The features of `bedside.pipeline.confidence` are centred and scaled; a weighted sum of them
    and of their squares is looked up in a table that rises.

    Attributes:
        structure: The label's name.
        features: Names of the features, in the order of the numbers.
        centre: Mean of each over the calibration images.
        scale: Standard deviation of each.
        weights: Weight of each.
        squares: Weight of the square of each.
        scores: Weighted sums, rising.
        dice: Predicted Dice at each of them.
        dice_tails: Ends of the interval of the Dice; None of too few units, which leave 0 to 1.
        least_dice: Predicted Dice below which the structure is not to be trusted.
        measurement_tails: Ends of the interval of each measurement, by its name; of the
            truth's relative difference, or the difference itself for fractions.
        doubted_dice_tails: The same of structures that are not to be trusted; None for no others.
        doubted_measurement_tails: Likewise; of a measurement that is not there the same holds.
    """

    structure: str
    features: tuple[str, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    squares: tuple[float, ...]
    scores: tuple[float, ...]
    dice: tuple[float, ...]
    dice_tails: Tails | None
    least_dice: float
    measurement_tails: Mapping[str, Tails] = field(default_factory=dict)
    doubted_dice_tails: Tails | None = field(default=None, metadata=UNLESS_EMPTY)
    doubted_measurement_tails: Mapping[str, Tails] = field(
        default_factory=dict, metadata=UNLESS_EMPTY
    )

    def __post_init__(self) -> None:
        """Refuse numbers that do not fit each other.

        Raises:
            SpecError: If so.
        """
        size = len(self.features)
        columns = (self.centre, self.scale, self.weights, self.squares)
        if not size or any(len(column) != size for column in columns):
            raise SpecError(f'the confidence of "{self.structure}" has numbers of other lengths.')
        values = (*self.centre, *self.scale, *self.weights, *self.squares, *self.scores)
        rises = all(low < high for low, high in zip(self.scores, self.scores[1:], strict=False))
        sound = len(self.scores) == len(self.dice) >= 1 and min(self.scale) > 0 and rises
        if not sound or not all(map(math.isfinite, values)):
            raise SpecError(f'the confidence of "{self.structure}" has numbers that are unsound.')
        if not all(0 <= value <= 1 for value in (*self.dice, self.least_dice)):
            raise SpecError(f'the confidence of "{self.structure}" has a Dice outside of 0 to 1.')

    def bound_dice(self, dice: float) -> tuple[float, float]:
        """Return the interval of a predicted Dice, within 0 and 1."""
        error, tails = expect_error(dice), self.dice_tails
        if dice < self.least_dice and self.doubted_dice_tails is not None:
            tails = self.doubted_dice_tails
        if tails is None:
            return 0.0, 1.0
        low, high = dice - tails.low * error, dice + tails.high * error
        return min(max(low, 0.0), 1.0), max(min(high, 1.0), 0.0)

    def bound_measurement(
        self, name: str, value: float, *, predicted_dice: float
    ) -> tuple[float, float] | None:
        """Return the interval of a measurement, to 4 decimals; None if it was not calibrated.

        Args:
            name: The measurement, a key of `measurement_tails`.
            value: What was measured.
            predicted_dice: Of the mask that it was measured on.
        """
        tails = self.measurement_tails.get(name)
        if predicted_dice < self.least_dice:
            tails = self.doubted_measurement_tails.get(name, tails)
        if tails is None:
            return None
        error = expect_error(predicted_dice) * (1.0 if is_fraction(name) else value)
        low, high = value - tails.low * error, value + tails.high * error
        if is_fraction(name):  # nothing shrinks by more than all of it
            return round(min(low, 1.0), 4), round(min(high, 1.0), 4)
        return round(max(low, 0.0), 4), round(high, 4)


def expect_error(dice: float) -> float:
    """Error that grows with what is missing of a predicted Dice; intervals are multiples of it."""
    return _FLOOR + (1 - dice)


def is_fraction(name: str) -> bool:
    """Whether a measurement is a part of 1, whose interval is not relative to its value."""
    return name.rpartition("_")[2] in ("fraction", "change")


@dataclass(frozen=True)
class Confidence:
    """Calibration of a bundle's confidence, on its validation units.

    Attributes:
        frames: Of a single frame, one for each structure that could be calibrated.
        scans: Of all slices of a scan together; empty where the network takes frames over time.
        level: Part of cases that the intervals hold.
        unit: The independent unit, in the plural.
        units: How many of them.
        images: Images of these, planted artefacts among them.
        training_units: Training units that helped to weigh features, and did nothing else.
    """

    frames: tuple[StructureModel, ...]
    scans: tuple[StructureModel, ...]
    level: float
    unit: str
    units: int
    images: int
    training_units: int = field(default=0, metadata=UNLESS_EMPTY)

    def __post_init__(self) -> None:
        """Refuse a calibration of nothing.

        Raises:
            SpecError: If so.
        """
        if not (self.frames or self.scans) or not 0 < self.level < 1:
            raise SpecError("a confidence needs models, and a level between 0 and 1.")
