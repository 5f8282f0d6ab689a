"""Messages about missing and unevenly spaced slices."""

from collections.abc import Sequence

import numpy as np

from bedside.errors import GeometryError
from bedside.io.dicom.spacing import EVEN, Spacing, are_even, lower_median
from bedside.volume import UnevenSlices

# Most blocks in a warning.
_MOST_BLOCKS = 8


def check_complete(
    spacing: Spacing, names: Sequence[str], thickness: Sequence[float | None]
) -> None:
    """Refuse slices of which some are or may be missing.

    Args:
        spacing: Of the sorted slices.
        names: Of their files or frames.
        thickness: SliceThickness of each in mm; None if it is missing.

    Raises:
        GeometryError: If slices are missing; the first place is named.
    """
    gaps, doubts = np.flatnonzero(spacing.missing), np.flatnonzero(spacing.doubtful)
    if gaps.size:
        where = int(gaps[0])
        count = int(spacing.missing[where])
        what = (
            f"{count} slice{'s are' if count > 1 else ' is'} missing between them. Find the "
            "missing files, or pass --gaps interpolate to mark them as unknown."
        )
    elif doubts.size:
        others = np.abs(spacing.steps - lower_median(spacing.steps)) > EVEN * spacing.steps
        where = int(doubts[np.argmax(others[doubts])])
        what = (
            f"the spacing is uneven, and {_describe_thickness(thickness, where)}, so that it "
            "is not "
            "known whether the scan is complete. If it is, pass --gaps interpolate: each slice is "
            "then taken where it lies."
        )
    else:
        return
    raise GeometryError(
        f"slices {where + 1} and {where + 2} ({names[where]}, {names[where + 1]}) are "
        f"{spacing.steps[where]:.4g} mm apart, {_describe_others(spacing, thickness, where)}: "
        f"{what}"
    )


def _describe_others(spacing: Spacing, thickness: Sequence[float | None], where: int) -> str:
    """Return the steps that a step is compared with."""
    others = spacing.steps[spacing.missing == 0]
    if others.size and are_even(others):
        return f"the others {lower_median(others):.4g} mm"
    if spacing.thickness_mm is not None:
        return f"and {_list_thickness(thickness, where)} mm thick"
    return f"others {spacing.steps.min():.4g} to {spacing.steps.max():.4g} mm"


def _describe_thickness(thickness: Sequence[float | None], where: int) -> str:
    """Return why thickness does not show whether slices are missing."""
    if any(each is None for each in thickness):
        return "not every header has a SliceThickness"
    return f"a SliceThickness of {_list_thickness(thickness, where)} mm does not explain it"


def _list_thickness(thickness: Sequence[float | None], where: int) -> str:
    """Return the thickness of a slice and the next."""
    return " and ".join(
        dict.fromkeys(f"{each:.4g}" for each in thickness[where : where + 2] if each)
    )


def describe_copies(count: int, noun: str) -> str:
    """Return a warning about images that were given twice.

    Args:
        count: Number of copies, at least 1.
        noun: What one is called.

    Example:
        >>> describe_copies(1, "slice"), describe_copies(2, "image")
        ('1 slice is there twice, and was used once', '2 images are there twice, and were used once')
    """  # noqa: E501
    if count == 1:
        return f"1 {noun} is there twice, and was used once"
    return f"{count} {noun}s are there twice, and were used once"


def describe_unknown(unknown: Sequence[int]) -> list[str]:
    """Return a warning about missing slices."""
    if not unknown:
        return []
    if len(unknown) == 1:
        return [f"1 slice is missing (number {unknown[0] + 1}): it is unknown, and has no labels"]
    numbers = ", ".join(str(frame + 1) for frame in unknown[:8])
    more = f" and {len(unknown) - 8} more" if unknown[8:] else ""
    return [
        f"{len(unknown)} slices are missing (numbers {numbers}{more}): they are unknown, and "
        "hold no labels"
    ]


def describe_blocks(uneven: UnevenSlices, spacing: Spacing) -> list[str]:
    """Return a warning about blocks of different spacing."""
    blocks = uneven.list_blocks()
    words = [
        f"{each.first}{' and ' if each.last == each.first + 1 else '-'}{each.last} "
        f"{'are ' if not index else ''}{each.spacing_mm:.4g} mm{' apart' if not index else ''}"
        for index, each in enumerate(blocks)
    ]
    listed = f"slices {', '.join(words)}"
    if len(blocks) > _MOST_BLOCKS:
        lengths = [each.spacing_mm for each in blocks]
        listed = f"neighbours are {min(lengths):.4g} to {max(lengths):.4g} mm apart"
    said = f"the slices are not evenly spaced: {listed}. Each is labelled where it lies"
    if spacing.doubtful.any():
        said += "; whether any is missing is not known"
    return [said]
