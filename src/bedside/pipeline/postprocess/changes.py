"""Edits that repairs made, summed over frames and described in sentences."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from bedside.spec import Label
from bedside.volume import Change

Action = Literal["removed", "added", "exchanged", "reported", "skipped"]


class LabelEdit(NamedTuple):
    """Edit of one label by one step, in a frame or a scan.

    Attributes:
        step: The step's name in the spec.
        labels: Values: that of the structure, and of the other one if there is one.
        action: What was done.
        parts: Islands, holes or pieces; 0 where they are not counted.
        pixels: Pixels or voxels that changed their label.
        value: What was measured, of a report.
        expected: What was expected of it, in words; why, of a step that was skipped.
        amount: `pixels` weighed by what each slice of an uneven scan stands for, in voxels of
            a slice of mean length; None where all are alike.
    """

    step: str
    labels: tuple[int, ...]
    action: Action
    parts: int = 0
    pixels: int = 0
    value: float | None = None
    expected: str = ""
    amount: float | None = None


@dataclass
class _Sum:
    parts: int = 0
    pixels: int = 0
    amount: float = 0.0
    frames: int = 0
    values: list[float] = field(default_factory=list)


class EditLog:
    """Sums edits over the frames of a sequence.

    Args:
        labels: What the values mean.
        of_frames: Frames there are; 1 for a scan that is taken whole.
    """

    def __init__(self, labels: Sequence[Label], *, of_frames: int) -> None:
        self._names = {label.value: label.name for label in labels}
        self._of_frames = of_frames
        self._sums: dict[tuple[str, tuple[int, ...], Action, str], _Sum] = {}

    def add(self, edits: Iterable[LabelEdit], *, share: float = 1.0) -> None:
        """Add the edits of one frame.

        Args:
            edits: What was done.
            share: Thickness that an uneven slice covers, relative to the mean.
        """
        counted = set()
        for edit in edits:
            key = (edit.step, edit.labels, edit.action, edit.expected)
            total = self._sums.setdefault(key, _Sum())
            total.parts += edit.parts
            total.pixels += edit.pixels
            total.amount += share * (edit.pixels if edit.amount is None else edit.amount)
            total.frames += key not in counted
            counted.add(key)
            if edit.value is not None:
                total.values.append(edit.value)

    def changes(
        self, *, spacing_mm: tuple[float, ...] | None, slice_mm: float | None = None
    ) -> tuple[Change, ...]:
        """All edits, in the order in which they first occurred.

        Args:
            spacing_mm: Along the axes of the labels; None if unknown.
            slice_mm: Distance from frame to frame, if they are the slices of a scan.
        """
        return tuple(
            self._change(key, total, spacing_mm=spacing_mm, slice_mm=slice_mm)
            for key, total in self._sums.items()
        )

    def _change(
        self,
        key: tuple[str, tuple[int, ...], Action, str],
        total: _Sum,
        *,
        spacing_mm: tuple[float, ...] | None,
        slice_mm: float | None,
    ) -> Change:
        step, labels, action, expected = key
        mm2, ml = _measure(total.amount, spacing_mm, slice_mm)
        names = [self._names.get(value, str(value)) for value in labels]
        size = _show_size(total.pixels, mm2, ml)
        text = _words(step, names, action, total, size=size, expected=expected)
        if self._of_frames > 1 and action != "skipped":
            unit = "slices" if slice_mm else "frames"
            text += f", in {total.frames} of {self._of_frames} {unit}"
        return Change(
            step=step,
            label=names[0],
            action=action,
            parts=total.parts,
            size_px=total.pixels,
            size_mm2=mm2,
            size_ml=ml,
            frames=total.frames,
            of_frames=self._of_frames,
            text=text,
        )


def _measure(
    pixels: float, spacing_mm: tuple[float, ...] | None, slice_mm: float | None
) -> tuple[float | None, float | None]:
    """Area in mm2, or volume in ml where pixels have a depth."""
    if spacing_mm is None:
        return None, None
    size = float(pixels)
    for length in spacing_mm:
        size *= length
    if len(spacing_mm) == 3:
        return None, round(size / 1e3, 4)
    if slice_mm:
        return None, round(size * slice_mm / 1e3, 4)
    return round(size, 3), None


def _words(
    step: str, names: list[str], action: Action, total: _Sum, *, size: str, expected: str
) -> str:
    """Sentence about an edit; the structure comes first in `names`."""
    name = names[0]
    other = names[1] if len(names) > 1 else ""
    if action == "skipped":
        return f"{step} of {name} was left out: {expected}"
    if action == "exchanged":
        return f"{name} and {other} exchanged: they lay on the wrong sides"
    if action == "reported":
        return f"{name}: {expected.format(value=_range(total.values), other=other)}"
    if step == "fill_holes":
        return f"{_count(total.parts, 'hole')} of {name} filled, {size}"
    if step == "opening":
        return f"{name} opened, {size} removed"
    if step == "closing":
        return f"{name} closed, {size} added"
    if step == "fit_ellipse":
        return f"{name} made an ellipse, {size} {action}"
    if step == "not_touching":
        return f"{name} removed where it touched {other}, {size}"
    where = f" apart from {other}" if step == "surrounds" else ""
    return f"{_count(total.parts, 'component')} of {name}{where} {action}, {size}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _range(values: list[float]) -> str:
    if not values:
        return ""
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def _show_size(pixels: int, mm2: float | None, ml: float | None) -> str:
    if ml is not None:
        return f"{_amount(ml)} ml"
    if mm2 is not None:
        return f"{_amount(mm2)} mm2"
    return f"{pixels:,} px"


def _amount(value: float) -> str:
    """One decimal place, or two digits of what is smaller."""
    return f"{value:,.1f}" if value >= 0.1 or not value else f"{value:.2g}"
