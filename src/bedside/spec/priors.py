"""Anatomical priors, as data: checked, and repaired on request."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from bedside.errors import SpecError

Action = Literal["repair", "report"]


@dataclass(frozen=True, kw_only=True)
class ComponentCount:
    """Largest number of connected components of a structure; corners connect.

    To repair is to keep the largest ones.

    Attributes:
        label: The structure.
        most: How many it has at most, at least 1.
        action: What is done about more.
    """

    AXES: ClassVar[tuple[int, ...]] = (2, 3)
    step: Literal["component_count"] = "component_count"
    label: int
    most: int = 1
    action: Action = "report"

    def __post_init__(self) -> None:
        """Refuse to keep nothing."""
        if self.most < 1:
            raise SpecError(f"component_count: most is {self.most}; expected at least 1.")

    @property
    def named(self) -> tuple[int, ...]:
        """The labels that are spoken of."""
        return (self.label,)


@dataclass(frozen=True, kw_only=True)
class Surrounds:
    """One structure surrounds another, as the myocardium surrounds the cavity.

    To repair is to drop components of the inner one that do not touch the outer one at
    all. That the outline is open elsewhere is reported in any case: nobody knows how to
    close it.

    Attributes:
        outer: The structure around.
        inner: The structure within.
        open_to: Labels that the inner one may touch too, such as the atrium behind a valve.
        most_open: Part of the inner one's outline that may touch something else, in [0, 1].
        action: What is done about components apart.
    """

    AXES: ClassVar[tuple[int, ...]] = (2, 3)
    step: Literal["surrounds"] = "surrounds"
    outer: int
    inner: int
    open_to: tuple[int, ...] = ()
    most_open: float = 0.0
    action: Action = "report"

    def __post_init__(self) -> None:
        """Refuse a part that is none."""
        if not 0 <= self.most_open <= 1:
            raise SpecError(f"surrounds: most_open is {self.most_open}; expected 0 to 1.")

    @property
    def named(self) -> tuple[int, ...]:
        """The labels that are spoken of."""
        return (self.inner, self.outer, *self.open_to)


@dataclass(frozen=True, kw_only=True)
class NotTouching:
    """Two structures never touch, not even at a corner.

    To repair is to take from `second` what touches `first`.

    Attributes:
        first: The structure that stays.
        second: The structure that is cut back.
        action: What is done about touching.
    """

    AXES: ClassVar[tuple[int, ...]] = (2, 3)
    step: Literal["not_touching"] = "not_touching"
    first: int
    second: int
    action: Action = "report"

    @property
    def named(self) -> tuple[int, ...]:
        """The labels that are spoken of."""
        return (self.second, self.first)


@dataclass(frozen=True, kw_only=True)
class Size:
    """Plausible size of a structure that is present; reported, never repaired.

    Attributes:
        label: The structure.
        unit: "px" for pixels or voxels, "mm2" for 2D networks, "ml" for 3D networks.
        least: Smallest plausible size.
        most: Largest plausible size; None for any.
        action: "report".
    """

    AXES: ClassVar[tuple[int, ...]] = (2, 3)
    step: Literal["size"] = "size"
    label: int
    unit: Literal["px", "mm2", "ml"]
    least: float = 0.0
    most: float | None = None
    action: Action = "report"

    def __post_init__(self) -> None:
        """Refuse an empty range, and a repair."""
        _refuse_repair(self.step, self.action)
        if self.most is not None and self.most < self.least:
            raise SpecError(f"size: most is {self.most}, below least, {self.least}.")

    @property
    def named(self) -> tuple[int, ...]:
        """The labels that are spoken of."""
        return (self.label,)


@dataclass(frozen=True, kw_only=True)
class Eccentricity:
    """Largest elongation of a structure; reported, never repaired.

    Of the ellipse or ellipsoid with the structure's second moments, a and c being its
    longest and shortest half axis, it is sqrt(1 - (c / a)^2): 0 for a circle.

    Attributes:
        label: The structure.
        most: Largest plausible value, in [0, 1).
        least: Smallest plausible value, in [0, most].
        action: "report".
    """

    AXES: ClassVar[tuple[int, ...]] = (2, 3)
    step: Literal["eccentricity"] = "eccentricity"
    label: int
    most: float
    least: float = 0.0
    action: Action = "report"

    def __post_init__(self) -> None:
        """Refuse an empty range, and a repair."""
        _refuse_repair(self.step, self.action)
        if not 0 <= self.least <= self.most < 1:
            raise SpecError(
                f"eccentricity: least is {self.least} and most {self.most}; expected "
                "0 <= least <= most < 1."
            )

    @property
    def named(self) -> tuple[int, ...]:
        """The labels that are spoken of."""
        return (self.label,)


@dataclass(frozen=True, kw_only=True)
class LeftRight:
    """One structure lies to the left of another, by their centres.

    To repair is to exchange the two labels.

    Attributes:
        left: The structure on the left.
        right: The structure on the right.
        of: Whose left: "patient" by the geometry of the file, which must say it; "picture"
            for smaller columns.
        action: What is done where they lie the other way.
    """

    AXES: ClassVar[tuple[int, ...]] = (2, 3)
    step: Literal["left_right"] = "left_right"
    left: int
    right: int
    of: Literal["patient", "picture"] = "patient"
    action: Action = "report"

    @property
    def named(self) -> tuple[int, ...]:
        """The labels that are spoken of."""
        return (self.left, self.right)


Prior = ComponentCount | Surrounds | NotTouching | Size | Eccentricity | LeftRight


def check_prior(prior: Prior, *, spatial_dims: int, values: list[int]) -> None:
    """Refuse a prior that names a missing label, or one label twice.

    Args:
        prior: What is checked.
        spatial_dims: Of the network.
        values: Label values of the deployment.

    Raises:
        SpecError: If a label is unknown or named twice, or a size is in a unit without
            meaning for the axes.
    """
    named = prior.named
    if set(named) - set(values) or len(set(named)) != len(named):
        raise SpecError(
            f'prior "{prior.step}" is of labels {list(named)}; expected different ones of {values}.'
        )
    wrong = {2: "ml", 3: "mm2"}[spatial_dims]
    if isinstance(prior, Size) and prior.unit == wrong:
        right = {2: "mm2", 3: "ml"}[spatial_dims]
        raise SpecError(f"size: {wrong} has no meaning in {spatial_dims} axes; use {right}.")


def _refuse_repair(step: str, action: str) -> None:
    if action == "repair":
        raise SpecError(f'{step}: there is no repair for it; use action = "report".')
