"""Where a NRRD header says that its axes lie in the patient, and how far apart voxels are."""

import math
import re
from collections.abc import Mapping
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
_MM_PER_UNIT = {"": 1.0, "mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "microns": 0.001}


def read_vectors(fields: Mapping[str, str], path: Path, axes: int) -> list[np.ndarray | None]:
    """Read the direction of each axis as stored, fastest first; None for "none".

    Args:
        fields: The header's fields; "space directions" is one of them.
        path: Its file, for errors.
        axes: How many axes the array has.

    Raises:
        GeometryError: If there are not as many, or one is not of three finite numbers.
    """
    text = fields["space directions"]
    parts = re.findall(r"none|\([^()]*\)", text.lower())
    vectors = [None if part == "none" else _vector(part) for part in parts]
    rest = re.sub(r"none|\([^()]*\)", "", text.lower()).strip()
    bad = any(vector is not None and vector.shape != (3,) for vector in vectors)
    if rest or bad or len(vectors) != axes:
        raise GeometryError(
            f"{path}: space directions is {text[:120]!r}; expected {axes} times (x,y,z) of finite "
            "numbers, or none. Repair the header."
        )
    return vectors


def _vector(text: str) -> np.ndarray:
    """Read "(1,2,3)"; what is not finite numbers becomes an empty vector."""
    try:
        numbers = np.array([float(word) for word in text.strip("() ").split(",")])
    except ValueError:
        return np.zeros(0)
    return numbers if np.isfinite(numbers).all() else np.zeros(0)


def read_place(
    fields: Mapping[str, str], grid: tuple[int, ...], directions: list[np.ndarray], *,
    path: Path, warnings: list[str],
) -> tuple[Geometry | None, tuple[float, float, float] | None]:  # fmt: skip
    """Read where the axes in space lie, and their spacing.

    Args:
        fields: The header's fields.
        grid: (D, H, W), or (H, W).
        directions: Of these axes, as `read_vectors` gives them; empty if there are none.
        path: Its file, for errors.
        warnings: Takes what there is to tell.

    Returns:
        The place of a scan of three axes in the patient, if there is one, and the distance
        between voxels along (D, H, W) in mm, 0 along D for a plane, if it is known.

    Raises:
        FormatError: If space or its units are unknown.
        GeometryError: If the axes are not perpendicular, or a length is 0.
    """
    space = fields.get("space", "").lower()
    if space and space not in _SPACES and space not in _UNPLACED_SPACES:
        raise FormatError(
            f"{path}: space is {space}; expected left-posterior-superior, "
            "right-anterior-superior or left-anterior-superior. Convert it."
        )
    if not directions:
        warnings.append("the NRRD header does not say how the image lies in the patient")
        return None, _read_spacings(fields, grid, path)
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
    affine[:3, 3] = signs * _read_origin(fields, path, warnings)
    return Geometry(grid, affine), spacing_mm


def _perpendicular(columns: np.ndarray, lengths: np.ndarray) -> bool:
    units = columns / lengths
    return bool(np.allclose(units.T @ units, np.eye(len(lengths)), atol=1e-3))


def _unit_mm(fields: Mapping[str, str], path: Path) -> float:
    """Read how many mm a unit of space is; without one, 1.

    Raises:
        FormatError: If it is no length, or differs from axis to axis.
    """
    units = {unit.strip() for unit in re.findall(r'"([^"]*)"', fields.get("space units", ""))}
    unit = units.pop() if len(units) == 1 else "mm" if not units else "several"
    if unit not in _MM_PER_UNIT:
        raise FormatError(f"{path}: space units is {fields['space units'][:60]}; expected mm.")
    return _MM_PER_UNIT[unit]


def _read_origin(fields: Mapping[str, str], path: Path, warnings: list[str]) -> np.ndarray:
    """Read where the first voxel lies, in mm.

    Raises:
        GeometryError: If it is not three finite numbers.
    """
    text = fields.get("space origin")
    if text is None:
        warnings.append("the NRRD header has no space origin; 0, 0, 0 is taken for it")
        return np.zeros(3)
    origin = _vector(text)
    if origin.shape != (3,):
        raise GeometryError(
            f"{path}: space origin is {text[:80]!r}; expected (x,y,z) of finite numbers."
        )
    return origin * _unit_mm(fields, path)


def _read_spacings(
    fields: Mapping[str, str], grid: tuple[int, ...], path: Path
) -> tuple[float, float, float] | None:
    """Read spacings without directions; NaN is the format's word for unknown.

    Raises:
        FormatError: If there are not as many numbers as axes.
        GeometryError: If one is 0 or infinite.
    """
    if "spacings" not in fields:
        return None
    words = fields["spacings"].split()
    try:
        numbers = [abs(float(word)) for word in reversed(words)]
    except ValueError:
        numbers = []
    if len(numbers) < len(grid):
        raise FormatError(
            f"{path}: spacings is {fields['spacings'][:80]!r}; expected a number an axis."
        )
    plane = numbers[-2:]
    third = numbers[-3] if len(grid) == 3 else math.nan
    if any(number == 0 or math.isinf(number) for number in (*plane, third)):
        raise GeometryError(
            f"{path}: spacings is {fields['spacings'][:80]!r}; expected mm above 0, or nan."
        )
    if any(math.isnan(number) for number in plane):
        return None
    return 0.0 if math.isnan(third) else third, plane[0], plane[1]
