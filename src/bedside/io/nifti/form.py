"""Variants of NIfTI: one file or two, NIfTI-1 or 2, and the type of voxels.

Unsupported variants are refused by name.
"""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from bedside.errors import FormatError, InputError
from bedside.io.gzip_stream import read_beginning
from bedside.io.nifti.header import check_raw_header
from bedside.io.nifti.pair import find_voxels

# Bytes of the longer header, and the most with extensions.
_LONGEST_HEADER = 544
_MAX_EXTENDED = 2**24
_NIFTI2_LENGTHS = (b"\x1c\x02\0\0", b"\0\0\x02\x1c")
_SINGLE, _PAIR = (b"n+1\0", b"n+2\0"), (b"ni1\0", b"ni2\0")
_CIFTI_INTENTS = range(3000, 3100)
# Numbers of NIfTI's types that are not read.
_UNREAD_TYPES = {
    0: "of no type",
    1: "of one bit",
    32: "complex64",
    1536: "float128",
    1792: "complex128",
    2048: "complex256",
}
_COLOURS = {128: 3, 2304: 4}


@dataclass(frozen=True)
class NiftiForm:
    """A header, and its voxels.

    Attributes:
        header: The nibabel header of a single file, checked; that of a pair is converted.
        shape: (x, y), (x, y, z), or more axes.
        declared: Number of voxels by all of `dim`, also beyond dim[0].
        voxels: The file that holds the voxels.
        offset: Offset of the voxels in bytes, after decompression.
        dtype: Of a value of a voxel, byte order included.
        channels: Values of a voxel in the file: 1; 3 or 4 for colours.
    """

    header: Any
    shape: tuple[int, ...]
    declared: int
    voxels: Path
    offset: int
    dtype: np.dtype
    channels: int

    @property
    def needed(self) -> int:
        """Bytes of the file up to the end of the voxels."""
        return self.count_bytes(math.prod(self.shape))

    def count_bytes(self, voxels: int) -> int:
        """Return the bytes of the file up to the end of a number of voxels."""
        return self.offset + voxels * self.dtype.itemsize * self.channels


def read_form(path: Path) -> NiftiForm:
    """Return the checked header.

    Args:
        path: The file with the header.

    Raises:
        FormatError: If it is not a NIfTI-1 or NIfTI-2 header, of an unsupported variant, its
            voxels are missing, or its scaling is not a number.
        GeometryError: If its spacing is zero or not a number.
    """
    content = read_beginning(path, _LONGEST_HEADER)
    second = content[:4] in _NIFTI2_LENGTHS
    magic = content[4:8] if second else content[344:348]
    _check_magic(magic, path)
    kind: Any = nibabel.Nifti2Image if second else nibabel.Nifti1Image
    if magic in _PAIR:
        kind = nibabel.Nifti2Pair if second else nibabel.Nifti1Pair
    try:
        # nibabel repairs a zero spacing and logs it to stderr.
        raw = kind.header_class(content[: kind.header_class.sizeof_hdr], check=False)
        channels, dtype = _read_type(raw, path)
        declared = _check_axes(raw, path)
        check_raw_header(raw, path)
        if magic in _SINGLE:
            _check_offset(raw, path)
        if magic in _SINGLE and len(content) < raw["vox_offset"] <= _MAX_EXTENDED:
            content = read_beginning(path, int(raw["vox_offset"]))
        nibabel.imageglobals.logger.disabled = True
        header = kind.header_class.from_fileobj(io.BytesIO(content))
    except InputError:
        raise
    except Exception as error:
        raise FormatError(f"{path} cannot be read as NIfTI: {error}.") from error
    finally:
        nibabel.imageglobals.logger.disabled = False
    return NiftiForm(
        header=header if magic in _SINGLE else _to_single(header),
        # An axis of length 0 counts as 1, as in the reference library.
        shape=tuple(max(int(size), 1) for size in header.get_data_shape()),
        declared=declared,
        voxels=path if magic in _SINGLE else find_voxels(path),
        offset=int(header["vox_offset"]),
        dtype=dtype,
        channels=channels,
    )


def _check_magic(magic: bytes, path: Path) -> None:
    """Refuse a header without NIfTI's magic bytes."""
    if magic in (*_SINGLE, *_PAIR):
        return
    if not magic.strip(b"\0"):
        raise FormatError(
            f"{path} is ANALYZE 7.5, which does not say left from right, and is not supported. "
            "Convert it to NIfTI with a program that knows how it was written."
        )
    raise FormatError(
        f"{path} is not a NIfTI file: its magic is {magic!r}, expected b'n+1', b'n+2', b'ni1' "
        "or b'ni2'. Convert it with a NIfTI tool."
    )


def _check_offset(raw: Any, path: Path) -> None:
    """Refuse voxels that begin within the header."""
    offset, least = float(raw["vox_offset"]), int(raw.sizeof_hdr) + 4
    if not offset >= least:
        raise FormatError(
            f"{path}: vox_offset is {offset:g}; the voxels of a single file begin at byte "
            f"{least} or later. Correct it."
        )


def _read_type(raw: Any, path: Path) -> tuple[int, np.dtype]:
    """Return the number of values of a voxel, and their type."""
    code, intent = int(raw["datatype"]), int(raw["intent_code"])
    if intent in _CIFTI_INTENTS:
        raise FormatError(
            f"{path} is CIFTI (intent code {intent}), which lies on a surface and is no image. "
            "Name a volume."
        )
    if code in _UNREAD_TYPES:
        raise FormatError(
            f"{path} holds numbers that are {_UNREAD_TYPES[code]} (datatype {code}); expected grey "
            "values or RGB. Convert it to float."
        )
    if code in _COLOURS:
        return _COLOURS[code], np.dtype("u1")
    dtype = np.dtype(raw.get_data_dtype())
    if dtype.kind not in "uif":
        raise FormatError(f"{path} holds {dtype} numbers; expected grey values. Convert it.")
    return 1, dtype


def _check_axes(raw: Any, path: Path) -> int:
    """Check the number of axes; return the number of voxels by all of `dim`."""
    count, *sizes = (int(size) for size in raw["dim"])
    if not 2 <= count <= 7:
        raise FormatError(f"{path}: dim[0] is {count}; expected 2 to 7 axes.")
    # FreeSurfer stores a first length elsewhere if it is too long for this field.
    if (min(sizes[:2]) < 1 and sizes[0] != -1) or min(sizes[2:count], default=0) < 0:
        raise FormatError(f"{path} has shape {tuple(sizes[:count])}; expected (x, y) or (x, y, z).")
    return math.prod(max(size, 1) for size in sizes)


def _to_single(header: Any) -> Any:
    """Return the header of a pair as that of a single file."""
    second = isinstance(header, nibabel.Nifti2Pair.header_class)
    made: Any = nibabel.Nifti2Header if second else nibabel.Nifti1Header
    single = made(header.binaryblock, endianness=header.endianness, check=False)
    single["magic"] = single.single_magic
    return single
