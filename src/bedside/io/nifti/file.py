"""NIfTI slices and stacks as frames (H = y, W = x)."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from nibabel.volumeutils import apply_read_scaling

from bedside.errors import FormatError, GeometryError
from bedside.io.gzip_stream import Inflated
from bedside.io.nifti.form import NiftiForm, read_form
from bedside.io.nifti.grid import NiftiGrid
from bedside.io.nifti.header import (
    check_place,
    choose_volume,
    is_default_grid,
    reconcile_spacing,
)
from bedside.io.nonfinite import find_nonfinite
from bedside.volume import Geometry, ImageSequence, check_right_angles

MAX_BYTES = 2**31
"""Largest file, after decompression, that is read: 2 GiB."""

# Most bytes after the voxels of a compressed file.
_MAX_REST = 2**20
_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}
# Bits of xyzt_units that hold the unit of time, or of frequency.
_TIME_UNITS = 0x38
_MS_PER_UNIT = {8: 1000.0, 16: 1.0, 24: 0.001}
_INTENT_TIME_SERIES = 2001


def open_nifti(
    path: Path, *, select: Mapping[str, int] | None = None, max_bytes: int = MAX_BYTES
) -> tuple[ImageSequence, NiftiGrid]:
    """Open a NIfTI image; its frames are the third axis, or times if there is one slice.

    Args:
        path: A .nii or .nii.gz file, or the .hdr of a pair.
        select: Which time or channel of a file that has several, counted from 1.
        max_bytes: A file that is larger, or inflates to more, is refused.

    Returns:
        The frames, (1, y, x), or (3, y, x) in colour, and the grid for labels.

    Raises:
        FormatError: If it is not NIfTI, truncated, too large, of an unsupported variant, has
            several times or channels of which none is selected, or an invalid scaling.
        GeometryError: If its affine or spacing is not finite or is degenerate, or its qform and
            sform are mirror images of each other.
        InputError: If too many voxels are not finite.
    """
    form = read_form(path)
    header, shape, needed = form.header, form.shape, form.needed
    if needed > max_bytes:
        raise FormatError(
            f"{path} declares {shape} voxels, {needed / 2**30:.1f} GiB; at most "
            f"{max_bytes / 2**30:g} GiB are read. Crop or split it."
        )
    file = _open_voxels(path, form, max_bytes=max_bytes)
    film = _is_film(form) and not select
    volume = 0 if film else choose_volume(shape, select, path)
    depth = shape[3] if film else (*shape, 1)[2]
    affine = np.asarray(header.get_best_affine(), np.float64)
    _check_affine(affine, shape, path)
    warnings = check_place(header, shape, path)
    placed = int(header["qform_code"]) != 0 or int(header["sform_code"]) != 0
    spacing_mm = reconcile_spacing(
        _read_spacing_mm(header), affine * _mm_per_unit(header), placed=placed, warnings=warnings
    )
    slices = _Slices(file, form, first=volume * depth)
    nonfinite = find_nonfinite((slices.read(index) for index in range(depth)), form.dtype, path)
    warnings += nonfinite.warnings
    warnings += ["the image's transparency is dropped"] if form.channels == 4 else []
    in_space = placed and not film
    place = _place_in_patient(affine, header, (*shape[:2], depth), path) if in_space else None
    slice_mm = None if film else spacing_mm[0] * (1.0 if place is None else place.slant) or None
    sequence = ImageSequence(
        shape=(depth, min(form.channels, 3), shape[1], shape[0]),
        decode=lambda index: nonfinite.fill(slices.read(index)),
        spacing_mm=spacing_mm[1:],
        frame_time_ms=_read_frame_time_ms(header) if film else None,
        warnings=tuple(warnings),
        geometry=place,
        slice_spacing_mm=slice_mm,
        third_axis=_find_third_axis(form, film=film),
        default_grid=is_default_grid(header, affine, spacing_mm, placed=placed),
    )
    if not film and any(length != 1 for length in shape[3:]):
        shape, header = shape[:3], header.copy()
        header.set_data_shape(shape)
    return sequence, NiftiGrid(shape, affine, header)


def _open_voxels(path: Path, form: NiftiForm, *, max_bytes: int) -> Inflated:
    """Open the file of the voxels, decompressed no further than its header needs."""
    needed, declared = form.needed, form.count_bytes(form.declared)
    expected = max(needed, min(declared, max_bytes)) + _MAX_REST
    file = Inflated(form.voxels, max_bytes=max_bytes, expected=expected)
    if file.size < needed:
        raise FormatError(
            f"{form.voxels} has {file.size} bytes, its header needs {needed}. The file is "
            "truncated; copy it again."
        )
    if file.size == declared > needed:
        sizes = [int(size) for size in form.header["dim"][1:]]
        raise FormatError(
            f"{path}: dim[0] says {len(form.shape)} axes, and the file holds the voxels of all "
            f"of {sizes}. Correct dim[0]."
        )
    return file


def _is_film(form: NiftiForm) -> bool:
    """Whether an image is one slice at several times, (x, y, 1, t)."""
    _, _, depth, times, *rest = (*form.shape, 1, 1, 1)
    seconds = int(form.header["xyzt_units"]) & _TIME_UNITS
    return depth == 1 < times and max(rest) == 1 and seconds in (0, *_MS_PER_UNIT)


def _find_third_axis(form: NiftiForm, *, film: bool) -> Literal["time", "space"] | None:
    """Return whether frames are times or slices, if the header says so."""
    header = form.header
    if form.shape[3:4] and form.shape[3] > 1 and not film:
        # Time has an axis of its own.
        return "space"
    if film or int(header["intent_code"]) == _INTENT_TIME_SERIES:
        return "time"
    # Slice axis and timing of the acquisition.
    slice_axis = int(header["dim_info"]) >> 4 & 3
    taken = int(header["slice_code"]) or float(header["slice_duration"]) > 0
    return "space" if slice_axis == 3 or taken else None


def _read_frame_time_ms(header: Any) -> float | None:
    """Return the time from frame to frame; None without a unit."""
    step = abs(float(header["pixdim"][4]))
    unit = _MS_PER_UNIT.get(int(header["xyzt_units"]) & _TIME_UNITS)
    return step * unit if unit and 0 < step < np.inf else None


def _read_spacing_mm(header: Any) -> tuple[float, float, float]:
    """Return the (z, y, x) spacing; z is 0 if there is no such axis."""
    x, y, z = (abs(float(zoom)) * _mm_per_unit(header) for zoom in (*header.get_zooms(), 0.0)[:3])
    return z, y, x


def _mm_per_unit(header: Any) -> float:
    """Return mm per unit of length; a missing unit is mm."""
    return _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)


def _place_in_patient(
    affine: np.ndarray, header: Any, shape: tuple[int, ...], path: Path
) -> Geometry | None:
    """Return NIfTI's affine, (x, y, z) to RAS, as ours, (D, H, W) = (z, y, x) to LPS in mm.

    A single slice without a third axis has no place as a volume.

    Raises:
        GeometryError: If its pixels are no rectangles.
    """
    placed = affine.copy()
    placed[:3] *= _mm_per_unit(header)
    if np.linalg.matrix_rank(placed[:3, :3]) < 3:
        return None
    place = Geometry((shape[2], shape[1], shape[0]), placed[:, [2, 1, 0, 3]], space="RAS")
    try:
        check_right_angles(place)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error
    return place


def _check_affine(affine: np.ndarray, shape: tuple[int, ...], path: Path) -> None:
    """Refuse an affine that is not finite, or in which two axes coincide."""
    axes = affine[:3, : 3 if len(shape) > 2 and shape[2] > 1 else 2]
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(axes) < axes.shape[1]:
        raise GeometryError(
            f"{path}: its affine is {affine.round(3).tolist()}; expected finite numbers and "
            "axes that differ. Repair the header."
        )


class _Slices:
    """The slices of an open file, read on request.

    Args:
        file: The open file.
        form: Its header.
        first: Index of the first slice in the file.
    """

    def __init__(self, file: Inflated, form: NiftiForm, *, first: int) -> None:
        self._file, self._form, self._first = file, form, first
        self._shape = (form.shape[1], form.shape[0], form.channels)
        self._slope, self._intercept = form.header.get_slope_inter()

    def read(self, index: int) -> np.ndarray:
        """Return one slice, (C, y, x), scaled if the header says so, in native byte order."""
        dtype = self._form.dtype
        size = math.prod(self._shape) * dtype.itemsize
        content = self._file.read(self._form.offset + (self._first + index) * size, size)
        stored = np.frombuffer(content, dtype).reshape(self._shape)
        native = stored.astype(dtype.newbyteorder("="), copy=False)
        if self._form.channels > 1:
            # Colours are interleaved; a fourth channel is transparency.
            return np.ascontiguousarray(native[..., :3]).transpose(2, 0, 1)
        grey = native[None, ..., 0]
        if self._slope is None:
            return grey
        scaled: np.ndarray = apply_read_scaling(grey, self._slope, self._intercept)
        return scaled
