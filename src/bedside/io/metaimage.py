"""Reads MetaImage scans (.mhd with .raw or .zraw, and .mha) with their place in the patient.

Source: the format as ITK writes it, https://docs.itk.org, "MetaIO"; its world is LPS in mm.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bedside.errors import FormatError, GeometryError
from bedside.io.voxel_file import VoxelFile, check_declared, find_beside, open_voxels
from bedside.io.voxels import find_gaps
from bedside.volume import Cine, Geometry

if TYPE_CHECKING:
    from bedside.io.nifti import NiftiGrid

MAX_BYTES = 2**31
"""Largest array that is read: 2 GiB."""

_MAX_HEADER_BYTES = 2**16
_LOCAL = "LOCAL"
_TYPES: Mapping[str, str] = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
# Keys that mean one thing, the usual one first.
_PLACE = ("Offset", "Position", "Origin")
_AXES = ("TransformMatrix", "Rotation", "Orientation")
_BIG_ENDIAN = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")


@dataclass(frozen=True)
class _Header:
    """What a header says, checked.

    Attributes:
        shape: (D, H, W).
        dtype: Of a voxel, byte order included.
        affine: (4, 4) from (d, h, w, 1) to mm in LPS.
        data: File that holds the voxels, "LOCAL" for the header's own.
        skip: Bytes in front of the voxels; -1 to take the last ones of the file.
        compressed: Whether the voxels are a zlib stream.
        length: Bytes of the header.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    affine: np.ndarray
    data: str
    skip: int
    compressed: bool
    length: int


def is_metaimage(head: bytes) -> bool:
    """Tell a header by its first line, which the format fixes."""
    first = head.split(b"\n", 1)[0]
    key, _, value = first.partition(b"=")
    return (key.strip(), value.strip()) in ((b"ObjectType", b"Image"), (b"NDims", b"3"))


def open_metaimage(path: Path, *, max_bytes: int = MAX_BYTES) -> tuple[Cine, "NiftiGrid"]:
    """Open a scan of three axes and one channel as a cine whose frames are its slices.

    Slices are read when they are asked for. Sizes are held against `max_bytes` before anything
    is read and against the file's length after, and voxels are only looked for beside the
    header.

    Args:
        path: The .mhd or .mha file.
        max_bytes: A scan whose voxels take more is refused.

    Returns:
        The cine, and the grid for labels.

    Raises:
        FormatError: If the header lacks a key or has one that cannot be meant, or the voxels
            are missing, too few, too many, too large, or not compressed as said.
        GeometryError: If the axes are not perpendicular unit vectors, or spacings not above 0.
        InputError: If too many voxels are not numbers.
    """
    path = Path(path)
    header = _read_header(path)
    voxels = _open_voxels(path, header, max_bytes=max_bytes)
    depth, *plane = header.shape
    gaps = find_gaps((voxels.read(index, plane) for index in range(depth)), header.dtype, path)
    geometry = Geometry(header.shape, header.affine)
    slice_mm, row_mm, column_mm = geometry.spacing_mm
    cine = Cine(
        shape=(depth, 1, plane[0], plane[1]),
        decode=lambda index: gaps.fill(voxels.read(index, plane))[None],
        spacing_mm=(row_mm, column_mm),
        warnings=gaps.warnings,
        geometry=geometry,
        slice_spacing_mm=slice_mm,
    )
    return cine, to_nifti_grid(geometry)


def to_nifti_grid(geometry: Geometry) -> "NiftiGrid":
    """Say in NIfTI's terms, (x, y, z) and RAS, where a scan lies.

    Args:
        geometry: Of an array (D, H, W).
    """
    import nibabel

    from bedside.io.nifti import NiftiGrid

    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.affine[:, [2, 1, 0, 3]]
    kind: Any = nibabel.Nifti1Header
    header = kind()
    header.set_data_shape(geometry.shape[::-1])
    header.set_qform(affine, code="scanner")
    header.set_sform(affine, code="scanner")
    header.set_xyzt_units("mm")
    return NiftiGrid(geometry.shape[::-1], affine, header)


def _read_header(path: Path) -> _Header:
    """Read and check the lines in front of the voxels.

    Raises:
        FormatError: If they are not a header of a scan.
        GeometryError: If they do not place it.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_HEADER_BYTES)
    fields, length = _parse_lines(content, path)
    _expect(fields, path, key="NDims", expected="3")
    _expect(fields, path, key="ElementNumberOfChannels", expected="1", default="1")
    _expect(fields, path, key="BinaryData", expected="True", default="True")
    width, height, depth = (
        int(size) for size in _numbers(fields, path, keys=("DimSize",), count=3)
    )
    if min(width, height, depth) < 1:
        raise FormatError(f"{path}: DimSize is {fields['DimSize']}; expected sizes above 0.")
    kind = fields.get("ElementType", "")
    if kind not in _TYPES:
        raise FormatError(
            f"{path}: ElementType is {kind or 'missing'}; expected one of {', '.join(_TYPES)}."
        )
    order = ">" if any(_flag(fields, path, key) for key in _BIG_ENDIAN) else "<"
    return _Header(
        shape=(depth, height, width),
        dtype=np.dtype(order + _TYPES[kind]),
        affine=_read_affine(fields, path),
        data=fields["ElementDataFile"],
        skip=int(_numbers(fields, path, keys=("HeaderSize",), count=1, default="0")[0]),
        compressed=_flag(fields, path, "CompressedData"),
        length=length,
    )


def _parse_lines(content: bytes, path: Path) -> tuple[dict[str, str], int]:
    """Part `key = value` lines up to ElementDataFile, which is always the last.

    Returns:
        The fields, and the bytes that they take.

    Raises:
        FormatError: If a line is of another form, repeats a key, or there is no last one.
    """
    fields: dict[str, str] = {}
    position = 0
    while position < len(content):
        end = content.find(b"\n", position)
        line, position = content[position : end if end >= 0 else None], end + 1
        key, equals, value = line.decode("latin-1").partition("=")
        key = key.strip()
        if not equals and not key and end >= 0:
            continue
        if not equals or key in fields:
            raise FormatError(f"{path} is not a MetaImage header: it has the line {line[:60]!r}.")
        fields[key] = value.strip()
        if key == "ElementDataFile":
            return fields, position if end >= 0 else len(content)
        if end < 0:
            break
    raise FormatError(f"{path} has no line ElementDataFile; it is no whole MetaImage header.")


def _read_affine(fields: Mapping[str, str], path: Path) -> np.ndarray:
    """Put spacing, axes and place together, in array order.

    Each row of TransformMatrix is the direction of an axis of the image, x first.

    Raises:
        GeometryError: If the axes are not perpendicular unit vectors, or a spacing is not
            above 0.
    """
    spacing = _numbers(fields, path, keys=("ElementSpacing",), count=3)
    place = _numbers(fields, path, keys=_PLACE, count=3, default="0 0 0")
    axes = _numbers(fields, path, keys=_AXES, count=9, default="1 0 0 0 1 0 0 0 1").reshape(3, 3)
    if (spacing <= 0).any():
        raise GeometryError(f"{path}: ElementSpacing is {spacing.tolist()}; expected mm above 0.")
    if not np.allclose(axes @ axes.T, np.eye(3), atol=1e-3):
        raise GeometryError(
            f"{path}: TransformMatrix is {axes.tolist()}; expected perpendicular unit vectors."
        )
    affine = np.eye(4)
    affine[:3, :3] = (axes * spacing[:, None]).T[:, ::-1]
    affine[:3, 3] = place
    return affine


def _open_voxels(path: Path, header: _Header, *, max_bytes: int) -> VoxelFile:
    """Open the voxels in the file that the header names.

    Raises:
        FormatError: If they are missing, lie elsewhere, or are not as many as declared.
    """
    size = check_declared(path, header.shape, header.dtype, max_bytes=max_bytes)
    local = header.data == _LOCAL
    source = path if local else find_beside(path, header.data)
    start, skip = header.length if local else 0, header.skip
    if header.compressed:
        # What is skipped lies in front of the stream, and not in it.
        start, skip = start + max(skip, 0), 0
    return open_voxels(
        source, header.dtype, size, start=start, skip=skip, compressed=header.compressed
    )


def _numbers(
    fields: Mapping[str, str], path: Path, *, keys: tuple[str, ...], count: int, default: str = ""
) -> np.ndarray:
    """Read a field of numbers under one of its names.

    Raises:
        FormatError: If it is missing, or is not as many finite numbers.
    """
    text = next((fields[key] for key in keys if key in fields), default)
    try:
        values = np.array([float(word) for word in text.split()])
    except ValueError:
        values = np.array([np.nan])
    if len(values) != count or not np.isfinite(values).all():
        raise FormatError(
            f"{path}: {keys[0]} is {text[:80] or 'missing'}; expected {count} numbers."
        )
    return values


def _flag(fields: Mapping[str, str], path: Path, key: str) -> bool:
    """Read a truth value; a missing one is False.

    Raises:
        FormatError: If it is neither True nor False.
    """
    value = fields.get(key, "False")
    if value not in ("True", "False"):
        raise FormatError(f"{path}: {key} is {value!r}; expected True or False.")
    return value == "True"


def _expect(
    fields: Mapping[str, str], path: Path, *, key: str, expected: str, default: str = ""
) -> None:
    """Refuse a field that has another value than the only one that is read.

    Raises:
        FormatError: If it has.
    """
    value = fields.get(key, default)
    if value != expected:
        raise FormatError(
            f"{path}: {key} is {value or 'missing'}; only {expected} is read. Convert it."
        )
