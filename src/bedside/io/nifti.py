"""Reads NIfTI slices and stacks as frames (H = y, W = x), and writes labels on the same grid."""

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from bedside.atomic import written_atomically
from bedside.errors import FormatError, GeometryError, InputError
from bedside.io.nifti_header import (
    check_place,
    check_raw_header,
    choose_volume,
    reconcile_spacing,
)
from bedside.volume import Cine, Geometry, LabelMap

MAX_BYTES = 2**31
"""Largest file, after decompression, that is read: 2 GiB."""

_CHUNK = 2**20
_GZIP = b"\x1f\x8b"
_NIFTI2_LENGTHS = (b"\x1c\x02\0\0", b"\0\0\x02\x1c")
_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}
_MAX_NAN_FRACTION = 0.001


@dataclass(frozen=True)
class NiftiGrid:
    """The grid of a NIfTI image, to write labels back on.

    Attributes:
        shape: The array's shape in the file, (x, y), (x, y, z), or with trailing ones.
        affine: (4, 4). Maps (x, y, z, 1) to mm in RAS, NIfTI's own convention, untouched.
        header: The nibabel header, with its qform, sform and codes.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    header: Any


def open_nifti(
    path: Path, *, select: Mapping[str, int] | None = None, max_bytes: int = MAX_BYTES
) -> tuple[Cine, NiftiGrid]:
    """Open a NIfTI image; its third axis becomes frames.

    Args:
        path: A .nii or .nii.gz file.
        select: Which time or channel of a file that has several, counted from 1.
        max_bytes: A file that is larger, or inflates to more, is refused.

    Returns:
        The cine, whose frames are (1, y, x), and the grid for labels.

    Raises:
        FormatError: If it is not NIfTI, truncated, too large, has several times or channels
            of which none is selected, holds complex or compound numbers, or scales its voxels
            by what is no number.
        GeometryError: If its affine or its spacing is not finite or is degenerate, or its
            qform and sform are mirror images of each other.
        InputError: If too many voxels are not numbers.
    """
    content = _read_capped(path, max_bytes)
    image = _parse(content, path)
    header = image.header
    shape = tuple(int(size) for size in header.get_data_shape())
    _check_array(header, shape, path=path, size=len(content))
    volume = choose_volume(shape, select, path)
    affine = np.asarray(header.get_best_affine(), np.float64)
    _check_affine(affine, shape, path)
    warnings = check_place(header, shape, path)
    placed = int(header["qform_code"]) != 0 or int(header["sform_code"]) != 0
    spacing_mm = reconcile_spacing(
        _read_spacing_mm(header), affine * _mm_per_unit(header), placed=placed, warnings=warnings
    )
    array = _read_array(image, volume, path).reshape(*shape[:2], -1)
    if array.dtype.kind == "f":
        array = _fill_nans(array, path, warnings)
    cine = Cine(
        shape=(array.shape[2], 1, shape[1], shape[0]),
        decode=lambda index: np.ascontiguousarray(array[:, :, index].T)[None],
        spacing_mm=spacing_mm[1:],
        warnings=tuple(warnings),
        geometry=_place_in_patient(affine, header, array.shape) if placed else None,
        slice_spacing_mm=spacing_mm[0] or None,
    )
    if any(length != 1 for length in shape[3:]):
        shape, header = shape[:3], header.copy()
        header.set_data_shape(shape)
    return cine, NiftiGrid(shape, affine, header)


def write_nifti(labels: LabelMap, target: Path, *, grid: NiftiGrid | None) -> None:
    """Write labels as uint8 in the shape, axis order and affine of their source.

    Without a grid (a source of another format, which has no place in the patient) the file
    is (x, y, frame), both form codes are 0, and pixdim is the spacing in mm if it is known,
    else 1 with unit "unknown".

    Args:
        labels: (frames, height, width).
        target: The file to write; compressed if its name ends in .gz.
        grid: The grid of the source.

    Raises:
        OutputError: If it cannot be written.
    """
    array = np.ascontiguousarray(labels.array.transpose(2, 1, 0), dtype=np.uint8)
    image = _place_free(array, labels.spacing_mm) if grid is None else _place_on(array, grid)
    content = image.to_bytes()
    if target.suffix == ".gz":
        content = gzip.compress(content, compresslevel=6, mtime=0)
    with written_atomically(target) as temporary:
        temporary.write_bytes(content)


def _place_free(array: np.ndarray, spacing_mm: tuple[float, float] | None) -> Any:
    """Wrap labels that have a scale at best, and no place in the patient."""
    kind: Any = nibabel.Nifti1Image
    header = kind.header_class()
    header.set_data_shape(array.shape)
    row_mm, column_mm = spacing_mm or (1.0, 1.0)
    header.set_zooms((column_mm, row_mm, 1.0))
    header.set_xyzt_units("mm" if spacing_mm else "unknown")
    # Given an affine instead of None, nibabel would set the form codes.
    return kind(array, None, header=_label_header(header))


def _place_on(array: np.ndarray, grid: NiftiGrid) -> Any:
    """Wrap labels in the version, shape and place of their source."""
    second = int(grid.header["sizeof_hdr"]) == 540
    kind: Any = nibabel.Nifti2Image if second else nibabel.Nifti1Image
    return kind(array.reshape(grid.shape), None, header=_label_header(grid.header))


def _label_header(header: Any) -> Any:
    """Copy a header for labels: another dtype, no scaling, no display range."""
    copy = header.copy()
    copy.set_data_dtype(np.uint8)
    copy["cal_min"] = copy["cal_max"] = 0
    copy["descrip"] = b"labels"
    copy["scl_slope"], copy["scl_inter"] = 1, 0
    copy.extensions.clear()
    return copy


def _read_capped(path: Path, max_bytes: int) -> bytes:
    """Read a file, inflating it in a stream that stops at `max_bytes`.

    Raises:
        FormatError: If it is larger, truncated, or not gzip after all.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(2) != _GZIP:
            if size > max_bytes:
                raise _too_large(path, max_bytes)
            file.seek(0)
            return file.read()
        file.seek(0)
        pieces, total = [], 0
        inflater = zlib.decompressobj(31)
        try:
            while chunk := inflater.unconsumed_tail or file.read(_CHUNK):
                pieces.append(inflater.decompress(chunk, _CHUNK))
                total += len(pieces[-1])
                if total > max_bytes:
                    raise _too_large(path, max_bytes)
        except zlib.error as error:
            raise FormatError(f"{path}: the gzip stream is damaged ({error}).") from error
    if not inflater.eof:
        raise FormatError(f"{path}: the gzip stream has no end. The file is truncated; copy again.")
    return b"".join(pieces)


def _too_large(path: Path, max_bytes: int) -> FormatError:
    return FormatError(
        f"{path} holds more than {max_bytes / 2**30:g} GiB and is refused. Crop or split it."
    )


def _parse(content: bytes, path: Path) -> Any:
    """Parse a header with its image, turning nibabel's errors into one.

    Raises:
        FormatError: If it is not a whole NIfTI-1 or NIfTI-2 file.
        GeometryError: If its spacing is zero or not a number.
    """
    second = content[:4] in _NIFTI2_LENGTHS
    magic = content[4:8] if second else content[344:348]
    if magic not in (b"n+1\0", b"n+2\0"):
        raise FormatError(
            f"{path} is not a NIfTI file: its magic is {magic!r}, expected b'n+1' or b'n+2' "
            "in one file. Convert it with a NIfTI tool."
        )
    kind: Any = nibabel.Nifti2Image if second else nibabel.Nifti1Image
    try:
        # nibabel repairs a zero spacing, and would say so on stderr.
        raw = kind.header_class(content[: kind.header_class.sizeof_hdr], check=False)
        check_raw_header(raw, path)
        nibabel.imageglobals.logger.disabled = True
        return kind.from_bytes(content)
    except InputError:
        raise
    except Exception as error:
        raise FormatError(f"{path} cannot be read as NIfTI: {error}.") from error
    finally:
        nibabel.imageglobals.logger.disabled = False


def _check_array(header: Any, shape: tuple[int, ...], *, path: Path, size: int) -> None:
    """Refuse an array that is not a stack of grey frames, or is not all there."""
    if len(shape) < 2 or min(shape) < 1:
        raise FormatError(f"{path} has shape {shape}; expected (x, y) or (x, y, z).")
    dtype = header.get_data_dtype()
    if dtype.kind not in "uif":
        raise FormatError(f"{path} holds {dtype} numbers; expected grey values. Convert it.")
    needed = int(header["vox_offset"]) + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size < needed:
        raise FormatError(
            f"{path} has {size} bytes, its header needs {needed}. The file is truncated; "
            "copy it again."
        )


def _read_spacing_mm(header: Any) -> tuple[float, float, float]:
    """Read the (slice, row, column) = (z, y, x) spacing; z is 0 if there is no such axis."""
    x, y, z = (abs(float(zoom)) * _mm_per_unit(header) for zoom in (*header.get_zooms(), 0.0)[:3])
    return z, y, x


def _mm_per_unit(header: Any) -> float:
    """A missing unit is mm."""
    return _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)


def _place_in_patient(affine: np.ndarray, header: Any, shape: tuple[int, ...]) -> Geometry | None:
    """Turn NIfTI's affine, (x, y, z) to RAS, into ours, (D, H, W) = (z, y, x) to LPS in mm.

    A single slice without a third axis has no place as a volume.
    """
    placed = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    placed[:3] *= _mm_per_unit(header)
    if np.linalg.matrix_rank(placed[:3, :3]) < 3:
        return None
    return Geometry((shape[2], shape[1], shape[0]), placed[:, [2, 1, 0, 3]])


def _check_affine(affine: np.ndarray, shape: tuple[int, ...], path: Path) -> None:
    """Refuse an affine that is not finite, or under which two axes coincide."""
    axes = affine[:3, : 3 if len(shape) > 2 and shape[2] > 1 else 2]
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(axes) < axes.shape[1]:
        raise GeometryError(
            f"{path}: its affine is {affine.round(3).tolist()}; expected finite numbers and "
            "axes that differ. Repair the header."
        )


def _read_array(image: Any, volume: tuple[int, ...], path: Path) -> np.ndarray:
    """Read the voxels of one volume, scaled if the header says so, in the machine's byte order."""
    try:
        array: np.ndarray = np.asanyarray(image.dataobj[(..., *volume)])
    except Exception as error:
        raise FormatError(f"{path}: its voxels cannot be read: {error}.") from error
    native: np.ndarray = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native


def _fill_nans(array: np.ndarray, path: Path, warnings: list[str]) -> np.ndarray:
    """Replace a few NaN or infinite voxels by the smallest value; refuse many.

    Raises:
        InputError: If more than one in a thousand is not a number.
    """
    finite = np.isfinite(array)
    bad = array.size - int(finite.sum())
    if bad == 0:
        return array
    if bad > _MAX_NAN_FRACTION * array.size:
        raise InputError(f"{path}: {bad} of {array.size} voxels are NaN or infinite. Repair it.")
    warnings.append(f"{bad} voxels are NaN or infinite and were set to the smallest value")
    return np.where(finite, array, array[finite].min())
