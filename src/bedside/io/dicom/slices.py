"""Placed slices of one or many files as a scan."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bedside.errors import GeometryError
from bedside.io.dicom.options import DicomOptions
from bedside.io.dicom.stack import Plane, Stack, stack_planes
from bedside.io.dicom.values import ValueRule, describe_rule, with_one_dtype
from bedside.volume import ImageSequence
from bedside.volume.geometry import find_tilt

Decode = Callable[[int], np.ndarray]


def make_scan(
    planes: Sequence[Plane], rules: Sequence[ValueRule], decode: Decode, *, dataset: Any,
    options: DicomOptions, path: Path,
) -> tuple[ImageSequence, tuple[int, ...]]:  # fmt: skip
    """Return slices in order, each decoded on request by its own rescale.

    Args:
        planes: The place of each slice; two at one place only where blocks meet.
        rules: The value rule of each.
        decode: Returns slice `index` as stored, (1, H, W).
        dataset: Header of one, for what all share.
        options: Options for gaps.
        path: For errors.

    Returns:
        The frames with their geometry, and for each frame its slice, -1 if it is interpolated.

    Raises:
        GeometryError: If slices are or may be missing.
        FormatError: If the first slice cannot be decoded.
    """
    if len(planes) < 2:
        raise GeometryError(f"{path} has a single slice, which is no scan. Name its file alone.")
    shape = int(dataset.Rows), int(dataset.Columns)
    stack = stack_planes(planes, shape, fill_gaps=options.gaps == "interpolate")
    one_kind = with_one_dtype(rules)
    modality = str(dataset.get("Modality") or "") or None
    first = stack.picks[0][0]
    notes = describe_rule(
        rules[first],
        decode(first),
        modality=modality,
        photometric=str(dataset.PhotometricInterpretation),
    )
    sequence = ImageSequence(
        shape=(len(stack.picks), 1, *shape),
        decode=lambda index: _decode_frame(stack, one_kind, decode, index),
        modality=modality,
        spacing_mm=planes[0].spacing_mm,
        warnings=(*stack.warnings, *notes, *_describe_tilt(stack)),
        geometry=stack.geometry,
        slice_spacing_mm=stack.slice_spacing_mm,
        unknown=stack.unknown,
        uneven=stack.uneven,
    )
    return sequence, tuple(low if low == high else -1 for low, high, _ in stack.picks)


def _decode_frame(
    stack: Stack, rules: Sequence[ValueRule], decode: Decode, index: int
) -> np.ndarray:
    """Decode a slice, or interpolate between two."""
    lower, upper, share = stack.picks[index]
    below = rules[lower].apply(decode(lower))
    if lower == upper:
        return below
    above = rules[upper].apply(decode(upper))
    between: np.ndarray = below + (above.astype(np.float32) - below) * np.float32(share)
    whole: np.ndarray = between if below.dtype.kind == "f" else np.rint(between)
    return whole.astype(below.dtype)


def _describe_tilt(stack: Stack) -> list[str]:
    """Return a warning about a tilted gantry."""
    lean = find_tilt(stack.geometry)
    if not lean.any():
        return []
    angle = np.degrees(np.arctan(np.linalg.norm(lean)))
    return [
        f"the slices are tilted by {angle:.1f} degrees (gantry tilt); a 3D network "
        "sees them corrected"
    ]
