"""Checks of a NIfTI header: consistent places and valid scaling."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bedside.errors import FormatError, GeometryError
from bedside.io.select import choose_place
from bedside.volume import corners_apart

# qform is rounded to three float32 numbers; real shifts are larger.
_PLACE_TOLERANCE_VOX = 0.1
_SPACING_TOLERANCE = 1e-3
_MAX_AXES = 5


def check_raw_header(raw: Any, path: Path) -> None:
    """Refuse numbers that nibabel would silently ignore or repair.

    Args:
        raw: The nibabel header as stored, unchecked.
        path: Its file, for errors.

    Raises:
        FormatError: If the scaling of voxels is not a number.
        GeometryError: If a spacing is zero or not a number; signs are ignored.
    """
    slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
    # A slope of 0 or NaN means no scaling; the intercept is then ignored.
    scaled = slope != 0 and not np.isnan(slope)
    if np.isinf([slope, intercept]).any() or (scaled and np.isnan(intercept)):
        raise FormatError(
            f"{path}: scl_slope and scl_inter are [{slope:g}, {intercept:g}]; expected numbers to "
            "scale the voxels by, or a slope of 0 or NaN for none. Correct them."
        )
    dim, pixdim = raw["dim"], np.asarray(raw["pixdim"][1:4], float)
    axes = 3 if int(dim[0]) > 2 and int(dim[3]) > 1 else 2
    if not np.isfinite(pixdim[:axes]).all() or (pixdim[:axes] == 0).any():
        raise GeometryError(
            f"{path}: the spacing in its header is {pixdim[:axes].tolist()}; expected mm above 0. "
            "Repair the header."
        )


def check_place(header: Any, shape: tuple[int, ...], path: Path) -> list[str]:
    """Compare qform and sform.

    Args:
        header: The nibabel header.
        shape: (x, y), (x, y, z) or more.
        path: Its file, for errors.

    Returns:
        Warnings.

    Raises:
        GeometryError: If one mirrors the other, or qform is not a rotation.
    """
    codes = int(header["qform_code"]), int(header["sform_code"])
    if not any(codes):
        return ["the NIfTI header does not say how the image lies in the patient"]
    if not all(codes):
        return []
    sform = np.asarray(header.get_sform(), np.float64)
    try:
        qform = np.asarray(header.get_qform(), np.float64)
    except Exception as error:
        raise GeometryError(
            f"{path}: its qform is no rotation ({error}). Repair the header."
        ) from error
    if np.linalg.det(qform[:3, :3]) * np.linalg.det(sform[:3, :3]) < 0:
        raise GeometryError(
            f"{path}: its qform and sform disagree on left and right: one is the mirror image of "
            "the other. Find out which is true, and set the code of the other to 0."
        )
    apart_mm = corners_apart(qform, sform, np.array([*shape[:3], 1, 1][:3])).max()
    apart_vox = apart_mm / np.abs(header.get_zooms()[:2]).min()
    if apart_vox <= _PLACE_TOLERANCE_VOX:
        return []
    return [
        "the NIfTI header's qform and sform place the image differently, up to "
        f"{apart_vox:.1f} pixels apart; sform is used"
    ]


def reconcile_spacing(
    spacing: tuple[float, float, float], affine: np.ndarray, *, placed: bool, warnings: list[str]
) -> tuple[float, float, float]:
    """Return the spacing, from the affine if that differs from pixdim.

    Args:
        spacing: (z, y, x) of pixdim, z 0 if there is no such axis.
        affine: (4, 4), (x, y, z, 1) to the same unit.
        placed: Whether the affine is the file's own.
        warnings: Collects warnings.
    """
    z, y, x = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0)[::-1])
    # A single slice may have an affine without a third axis.
    own = ((z or spacing[0]) if spacing[0] else 0.0, y, x)
    if not placed or np.allclose(own, spacing, rtol=_SPACING_TOLERANCE):
        return spacing
    said, meant = (
        " x ".join(f"{value:.4g}" for value in values if value) for values in (spacing, own)
    )
    warnings.append(
        f"the NIfTI header gives a spacing of {said} and an affine of {meant}; the affine is used"
    )
    return own


def choose_volume(shape: tuple[int, ...], select: Mapping[str, int] | None, path: Path) -> int:
    """Return the index of the selected volume in a file with several times or channels.

    Args:
        shape: (x, y, z, time, channel), or less, or with trailing ones.
        select: The selection.
        path: The file, for errors.

    Returns:
        The number of volumes before it in the file.

    Raises:
        FormatError: If there are several and none is selected, or the selection does not exist.
    """
    if any(length != 1 for length in shape[_MAX_AXES:]):
        raise FormatError(f"{path} has shape {shape}; expected at most (x, y, z, time, channel).")
    times, channels = (*shape[3:_MAX_AXES], 1, 1)[:2]
    names = {"time": times, "channel": channels}
    if min(times, channels) == 1:
        names = {"time or channel": times * channels}
    return choose_place(select, names, path)


def is_default_grid(
    header: Any, affine: np.ndarray, spacing_mm: tuple[float, float, float], *, placed: bool
) -> bool:
    """Whether spacing and origin are the defaults that programs write when none is known.

    That is 1 mm along every axis and the first voxel at the origin, without a qform (nibabel, for
    an array and the unit matrix) or with LPS axes (ITK). A qform with RAS axes is deliberate.

    Args:
        header: The nibabel header.
        affine: Its affine, (x, y, z, 1) to RAS.
        spacing_mm: (z, y, x), z 0 if there is no such axis.
        placed: Whether the header places the image.
    """
    if any(spacing != 1 for spacing in spacing_mm if spacing):
        return False
    if not placed:
        return True
    untold = int(header["qform_code"]) == 0 and bool((np.abs(affine) == np.eye(4)).all())
    return untold or bool((affine == np.diag([-1.0, -1.0, 1.0, 1.0])).all())
