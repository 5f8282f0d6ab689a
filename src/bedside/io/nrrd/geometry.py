"""Place of the axes of a NRRD scan in the patient, and the spacing of voxels."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bedside.errors import FormatError, GeometryError
from bedside.volume import Geometry

# Signs that turn the axes of a space into LPS.
_SPACES: Mapping[str, tuple[int, int, int]] = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1, -1, 1)),
}
_UNPLACED_SPACES = ("scanner-xyz", "3d-right-handed", "3d-left-handed")
# The same spaces, with time as a fourth axis.
_WITH_TIME: Mapping[str, str] = {
    **{f"{name}-time": name for name in (*_SPACES, *_UNPLACED_SPACES) if len(name) > 3},
    **{f"{name}t": name for name in _SPACES if len(name) == 3},
}
MM_PER_UNIT = {
    "": 1.0, "mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "microns": 0.001, "micrometer": 0.001,
    "millimeter": 1.0, "millimeters": 1.0, "\u00b5m": 0.001, "\u03bcm": 0.001,
}  # fmt: skip
"""How many mm a unit of length is; without one, it is mm."""


def read_directions(fields: Mapping[str, str], path: Path, axes: int) -> list[np.ndarray | None]:
    """Return the direction in space of each axis, slowest first; None for an axis without one.

    Args:
        fields: The header's fields.
        path: Its file, for errors.
        axes: How many axes the array has.

    Returns:
        Vectors of three numbers; empty if the header has no directions.

    Raises:
        FormatError: If the space has other than 2 to 4 axes.
        GeometryError: If the number of vectors is not that of axes, or one does not have a
            finite number for each axis of the space.
    """
    if "space directions" not in fields:
        return []
    size = _read_space(fields, path)[1]
    text = fields["space directions"]
    parts = re.findall(r"none|\([^()]*\)", text.lower())
    vectors = [None if part == "none" else _vector(part, size) for part in parts]
    rest = re.sub(r"none|\([^()]*\)", "", text.lower()).strip()
    bad = any(vector is not None and not vector.size for vector in vectors)
    if rest or bad or len(vectors) != axes:
        raise GeometryError(
            f"{path}: space directions is {text[:120]!r}; expected {axes} vectors of {size} finite "
            "numbers, such as (1,0,0), or none. Set them to the directions of the axes."
        )
    return [None if vector is None else _in_space(vector, path) for vector in reversed(vectors)]


def _read_space(fields: Mapping[str, str], path: Path) -> tuple[str, int]:
    """Return the name of a space without a time axis, and its number of axes."""
    space = fields.get("space", "").lower()
    name = _WITH_TIME.get(space, space)
    if name and name not in _SPACES and name not in _UNPLACED_SPACES:
        raise FormatError(
            f"{path}: space is {space}; expected left-posterior-superior, "
            "right-anterior-superior or left-anterior-superior. Convert it."
        )
    size = 4 if space in _WITH_TIME else 3
    text = fields.get("space dimension", str(size))
    if text not in ("2", "3", "4"):
        raise FormatError(f"{path}: space dimension is {text[:20]}; expected 2, 3 or 4.")
    return name, int(text)


def _vector(text: str, size: int) -> np.ndarray | None:
    """Return "(1,2,3)" as numbers; empty if malformed, None if all are NaN."""
    numbers = np.array([read_number(word) for word in text.strip("() ").split(",")])
    if len(numbers) == size and np.isnan(numbers).all() and "nan" in text:
        return None
    return numbers if len(numbers) == size and np.isfinite(numbers).all() else np.zeros(0)


def _in_space(vector: np.ndarray, path: Path) -> np.ndarray | None:
    """Return the spatial part of a vector; None if it is along time."""
    if len(vector) < 4:
        return np.pad(vector, (0, 3 - len(vector)))
    if vector[3] and vector[:3].any():
        raise GeometryError(
            f"{path}: space directions has {vector.tolist()}, along space and time at once; "
            "expected an axis of either."
        )
    return None if vector[3] else vector[:3]


def read_number(text: str) -> float:
    """Return a number; NaN if malformed."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def read_place(
    fields: Mapping[str, str], grid: tuple[int, ...], directions: list[np.ndarray], *,
    kept: Sequence[int], axes: int, path: Path, warnings: list[str],
) -> tuple[Geometry | None, tuple[float, float, float] | None]:  # fmt: skip
    """Return the place of the axes in space, and their spacing.

    Args:
        fields: The header's fields.
        grid: (D, H, W), or (H, W).
        directions: Of these axes, by `read_directions`; empty if there are none.
        kept: Indices of these axes, slowest first.
        axes: How many axes there are.
        path: Its file, for errors.
        warnings: Collects warnings.

    Returns:
        The place of a scan of three axes in the patient, if there is one, and the distance
        between voxels along (D, H, W) in mm, 0 along D for a plane, if it is known.

    Raises:
        FormatError: If space or its units are unknown.
        GeometryError: If the axes are not perpendicular, or a length is 0.
    """
    space, size = _read_space(fields, path)
    if not directions:
        warnings.append("the NRRD header does not say how the image lies in the patient")
        return None, _read_spacings(fields, kept, axes, path)
    columns = np.stack(directions, axis=1) * _unit_mm(fields, path)
    lengths = np.linalg.norm(columns, axis=0)
    if (lengths == 0).any() or not _perpendicular(columns, lengths):
        raise GeometryError(
            f"{path}: space directions is {fields['space directions'][:120]!r}; expected "
            "perpendicular axes of a length above 0. Resample it to a straight grid."
        )
    spacing = [float(length) for length in lengths]
    spacing_mm = (spacing[-3] if len(spacing) == 3 else 0.0, spacing[-2], spacing[-1])
    if space not in _SPACES:
        warnings.append("the NRRD header does not say how the image lies in the patient")
        return None, spacing_mm
    if len(directions) == 2:
        return None, spacing_mm
    signs = np.array(_SPACES[space], float)
    affine = np.eye(4)
    affine[:3, :3] = columns * signs[:, None]
    affine[:3, 3] = signs * _read_origin(fields, path, size, warnings)
    return Geometry(grid, affine, space="LPS"), spacing_mm


def _perpendicular(columns: np.ndarray, lengths: np.ndarray) -> bool:
    units = columns / lengths
    return bool(np.allclose(units.T @ units, np.eye(len(lengths)), atol=1e-3))


def _unit_mm(fields: Mapping[str, str], path: Path) -> float:
    """Return mm per unit of space; 1 without a unit."""
    given = re.findall(r'"([^"]*)"', fields.get("space units", ""))
    units = {unit.strip().lower() for unit in given[:3]}
    unit = units.pop() if len(units) == 1 else "mm" if not units else "several"
    if unit not in MM_PER_UNIT:
        raise FormatError(f"{path}: space units is {fields['space units'][:60]}; expected mm.")
    return MM_PER_UNIT[unit]


def _read_origin(
    fields: Mapping[str, str], path: Path, size: int, warnings: list[str]
) -> np.ndarray:
    """Return the position of the first voxel, in mm."""
    text = fields.get("space origin")
    if text is None:
        warnings.append("the NRRD header has no space origin; 0, 0, 0 is taken for it")
        return np.zeros(3)
    origin = _vector(text, size)
    if origin is None or len(origin) < 3:
        raise GeometryError(
            f"{path}: space origin is {text[:80]!r}; expected {size} finite numbers."
        )
    return origin[:3] * _unit_mm(fields, path)


def _read_spacings(
    fields: Mapping[str, str], kept: Sequence[int], axes: int, path: Path
) -> tuple[float, float, float] | None:
    """Return spacings without directions; NaN is unknown.

    Args:
        fields: The header's fields.
        kept: The axes in space, slowest first.
        axes: How many axes there are.
        path: The header's file, for errors.
    """
    if "spacings" not in fields:
        return None
    words = fields["spacings"].split()
    told = [word for word in words if word.lower() != "nan" and math.isnan(read_number(word))]
    if len(words) != axes or told:
        raise FormatError(
            f"{path}: spacings is {fields['spacings'][:80]!r}; expected one number per axis."
        )
    units = re.findall(r'"([^"]*)"', fields.get("units", ""))
    if len(units) != axes:
        units = [""] * axes
    # Units other than lengths, such as seconds, give no spacing.
    numbers = [
        abs(read_number(words[place])) * MM_PER_UNIT.get(units[place].strip().lower(), math.nan)
        for place in (axes - 1 - axis for axis in kept)
    ]
    plane = numbers[-2:]
    third = numbers[-3] if len(kept) == 3 else math.nan
    if any(number == 0 or math.isinf(number) for number in (*plane, third)):
        raise GeometryError(
            f"{path}: spacings is {fields['spacings'][:80]!r}; expected mm above 0, or nan."
        )
    if any(math.isnan(number) for number in plane):
        return None
    return 0.0 if math.isnan(third) else third, plane[0], plane[1]
