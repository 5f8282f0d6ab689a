"""Reads NIfTI slices and stacks as frames (H = y, W = x), and writes labels on the same grid."""

import gzip
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.volumeutils import apply_read_scaling

from bedside.atomic import written_atomically
from bedside.errors import FormatError, GeometryError, InputError, UsageError
from bedside.io.inflated import Inflated, read_beginning
from bedside.io.nifti_header import (
    check_place,
    check_raw_header,
    choose_volume,
    reconcile_spacing,
)
from bedside.volume import Cine, Geometry, LabelMap

MAX_BYTES = 2**31
"""Largest file, after decompression, that is read: 2 GiB."""

# Bytes of the longer header, and those that one may have with its extensions.
_LONGEST_HEADER = 544
_MAX_EXTENDED = 2**24
# Bytes that may lie behind the voxels of a compressed file.
_MAX_REST = 2**20
_NIFTI2_LENGTHS = (b"\x1c\x02\0\0", b"\0\0\x02\x1c")
_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}
_MAX_NAN_FRACTION = 0.001
# Labels are long runs of one value: higher levels take longer and save next to nothing.
_GZIP_LEVEL = 2


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
    header = _parse(path)
    shape = tuple(int(size) for size in header.get_data_shape())
    needed = _count_bytes(header, shape, path)
    if needed > max_bytes:
        raise FormatError(
            f"{path} declares {shape} voxels, {needed / 2**30:.1f} GiB; at most "
            f"{max_bytes / 2**30:g} GiB are read. Crop or split it."
        )
    # No more is inflated than the header needs.
    file = Inflated(path, max_bytes=max_bytes, expected=needed + _MAX_REST)
    if file.size < needed:
        raise FormatError(
            f"{path} has {file.size} bytes, its header needs {needed}. The file is truncated; "
            "copy it again."
        )
    volume = choose_volume(shape, select, path)
    affine = np.asarray(header.get_best_affine(), np.float64)
    _check_affine(affine, shape, path)
    warnings = check_place(header, shape, path)
    placed = int(header["qform_code"]) != 0 or int(header["sform_code"]) != 0
    spacing_mm = reconcile_spacing(
        _read_spacing_mm(header), affine * _mm_per_unit(header), placed=placed, warnings=warnings
    )
    slices = _Slices(file, header, shape, path, volume=volume)
    warnings += slices.mend()
    cine = Cine(
        shape=(slices.count, 1, shape[1], shape[0]),
        decode=slices.read,
        spacing_mm=spacing_mm[1:],
        warnings=tuple(warnings),
        geometry=_place_in_patient(affine, header, (*shape[:2], slices.count)) if placed else None,
        slice_spacing_mm=spacing_mm[0] or None,
    )
    if any(length != 1 for length in shape[3:]):
        shape, header = shape[:3], header.copy()
        header.set_data_shape(shape)
    return cine, NiftiGrid(shape, affine, header)


def write_nifti(
    labels: LabelMap, target: Path, *, grid: NiftiGrid | None, geometry: Geometry | None = None
) -> None:
    """Write labels as uint8 in the shape, axis order and affine of their source.

    Without a grid (a source of another format) the file is (x, y, frame). Where the source
    has a place in the patient, the sform says it, which bears a tilted scan as well; where it
    has none, both form codes are 0, and pixdim is the spacing in mm if it is known, else 1
    with unit "unknown".

    Args:
        labels: (frames, height, width).
        target: The file to write; compressed if its name ends in .gz.
        grid: The grid of the source, if it was NIfTI.
        geometry: Where the source lies, if it was not and is a scan.

    Raises:
        OutputError: If it cannot be written.
    """
    if grid is not None:
        header = _place_on(labels, grid)
    elif geometry is not None:
        header = _place_at(labels, geometry)
    else:
        header = _place_free(labels)
    with written_atomically(target) as temporary, temporary.open("wb") as file:
        if target.suffix != ".gz":
            _write(file, header, labels.array)
            return
        with gzip.GzipFile("", "wb", compresslevel=_GZIP_LEVEL, fileobj=file, mtime=0) as packed:
            _write(packed, header, labels.array)


def _write(file: Any, header: Any, array: np.ndarray) -> None:
    """Write header and voxels, slice by slice: x runs fastest in a file, as columns do here."""
    header.write_to(file)
    for frame in array:
        file.write(np.ascontiguousarray(frame, np.uint8))


def _place_free(labels: LabelMap) -> Any:
    """Make a header for labels that have a scale at best, and no place in the patient."""
    frames, height, width = labels.array.shape
    kind: Any = nibabel.Nifti1Header
    header = kind()
    header.set_data_shape((width, height, frames))
    row_mm, column_mm = labels.spacing_mm or (1.0, 1.0)
    header.set_zooms((column_mm, row_mm, 1.0))
    header.set_xyzt_units("mm" if labels.spacing_mm else "unknown")
    return _label_header(header)


def _place_on(labels: LabelMap, grid: NiftiGrid) -> Any:
    """Make a header for labels in the version, shape and place of their source.

    Raises:
        UsageError: If they are not on its grid.
    """
    if labels.array.size != np.prod(grid.shape, dtype=np.int64):
        raise UsageError(f"labels of shape {labels.array.shape} do not fit {grid.shape}.")
    header = grid.header.copy()
    if header.get_data_shape() != grid.shape:
        header.set_data_shape(grid.shape)
    return _label_header(header)


def _place_at(labels: LabelMap, geometry: Geometry) -> Any:
    """Make a header for labels that lie as our LPS affine for (z, y, x) says."""
    frames, height, width = labels.array.shape
    kind: Any = nibabel.Nifti1Image
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.affine[:, [2, 1, 0, 3]]
    # An image of this shape without its memory, for nibabel to write the affine's codes.
    image = kind(np.broadcast_to(np.uint8(0), (width, height, frames)), affine)
    image.header.set_xyzt_units("mm")
    return _label_header(image.header)


def _label_header(header: Any) -> Any:
    """Copy a header for labels: another dtype, no scaling, no display range."""
    copy = header.copy()
    copy.set_data_dtype(np.uint8)
    copy["cal_min"] = copy["cal_max"] = 0
    copy["descrip"] = b"labels"
    copy["scl_slope"], copy["scl_inter"] = 1, 0
    copy.extensions.clear()
    copy["vox_offset"] = 0  # to be set as the header is written
    copy["magic"] = copy.single_magic
    return copy


def _parse(path: Path) -> Any:
    """Parse a header, turning nibabel's errors into one.

    Raises:
        FormatError: If it is not a whole NIfTI-1 or NIfTI-2 file, or its scaling no number.
        GeometryError: If its spacing is zero or not a number.
    """
    content = read_beginning(path, _LONGEST_HEADER)
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
        if len(content) < raw["vox_offset"] <= _MAX_EXTENDED:
            content = read_beginning(path, int(raw["vox_offset"]))
        nibabel.imageglobals.logger.disabled = True
        return kind.header_class.from_fileobj(io.BytesIO(content))
    except InputError:
        raise
    except Exception as error:
        raise FormatError(f"{path} cannot be read as NIfTI: {error}.") from error
    finally:
        nibabel.imageglobals.logger.disabled = False


def _count_bytes(header: Any, shape: tuple[int, ...], path: Path) -> int:
    """Count the bytes of a file up to the end of its voxels.

    Raises:
        FormatError: If they are no stack of grey frames.
    """
    if len(shape) < 2 or min(shape) < 1:
        raise FormatError(f"{path} has shape {shape}; expected (x, y) or (x, y, z).")
    dtype = header.get_data_dtype()
    if dtype.kind not in "uif":
        raise FormatError(f"{path} holds {dtype} numbers; expected grey values. Convert it.")
    return int(header["vox_offset"]) + math.prod(shape) * int(dtype.itemsize)


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


class _Slices:
    """The slices of an open file, read when they are asked for.

    Args:
        file: The open file.
        header: Its header, checked.
        shape: (x, y), (x, y, z), or more.
        path: For errors.
        volume: Which of several volumes, one behind another, is read.
    """

    def __init__(
        self, file: Inflated, header: Any, shape: tuple[int, ...], path: Path, *, volume: int
    ) -> None:
        self.count = shape[2] if len(shape) > 2 else 1
        self._file, self._path = file, path
        self._shape = (1, shape[1], shape[0])
        self._dtype = header.get_data_dtype()
        size = self.count * shape[0] * shape[1] * self._dtype.itemsize
        self._offset = int(header["vox_offset"]) + volume * size
        self._slope, self._intercept = header.get_slope_inter()
        self._smallest: float | None = None

    def read(self, index: int) -> np.ndarray:
        """Read one slice, (1, y, x), scaled if the header says so, in the machine's byte order."""
        slice_ = self._read_stored(index)
        if self._smallest is not None:
            slice_ = np.where(np.isfinite(slice_), slice_, slice_.dtype.type(self._smallest))
        return slice_

    def mend(self) -> list[str]:
        """Find the few values that are no numbers, to read them as the smallest; refuse many.

        Raises:
            InputError: If more than one in a thousand is not a number.
        """
        if self._dtype.kind != "f":
            return []
        bad, smallest = 0, np.inf
        for index in range(self.count):
            slice_ = self._read_stored(index)
            finite = np.isfinite(slice_)
            bad += slice_.size - int(finite.sum())
            smallest = min(smallest, float(slice_.min(where=finite, initial=np.inf)))
        if not bad:
            return []
        size = self.count * int(np.prod(self._shape))
        if bad > _MAX_NAN_FRACTION * size:
            raise InputError(
                f"{self._path}: {bad} of {size} voxels are NaN or infinite. Repair it."
            )
        self._smallest = smallest
        return [f"{bad} voxels are NaN or infinite and were set to the smallest value"]

    def _read_stored(self, index: int) -> np.ndarray:
        size = int(np.prod(self._shape)) * self._dtype.itemsize
        content = self._file.read(self._offset + index * size, size)
        stored = np.frombuffer(content, self._dtype).reshape(self._shape)
        native = stored.astype(self._dtype.newbyteorder("="), copy=False)
        if self._slope is None:
            return native
        scaled: np.ndarray = apply_read_scaling(native, self._slope, self._intercept)
        return scaled
