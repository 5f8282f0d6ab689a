"""The header of a MetaImage file, checked.

Source: the format as ITK reads and writes it, https://docs.itk.org, "MetaIO".
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bedside.errors import FormatError, GeometryError

_MAX_HEADER_BYTES = 2**20
_FIRST_LINE = re.compile(rb"[A-Za-z]+[ \t]*=")
_TELLING_LINE = re.compile(rb"^(ObjectType[ \t]*=[ \t]*Image|NDims[ \t]*=[ \t]*[0-9]+)\s*$", re.M)
_TYPES: Mapping[str, str] = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
# Synonymous keys, in ITK's order of precedence.
_PLACE = ("Offset", "Origin", "Position")
_AXES = ("TransformMatrix", "Rotation", "Orientation")
_SPACING = ("ElementSpacing", "ElementSize")
_BIG_ENDIAN = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_TRUTH = {"True": True, "true": True, "T": True, "1": True,
          "False": False, "false": False, "F": False, "0": False}  # fmt: skip
# Letters of the side that an axis comes from, by LPS axis, for a positive and a negative step.
_FROM_SIDES = (("R", "L"), ("A", "P"), ("I", "S"))


@dataclass(frozen=True)
class MetaHeader:
    """A checked header.

    Attributes:
        shape: Slowest axis first: (H, W), (D, H, W) or (T, D, H, W).
        channels: Values of a voxel, which are stored together.
        dtype: Of a value, byte order included.
        affine: (4, 4) from (d, h, w, 1) to mm in LPS; None for a plane, and without a spacing.
        spacing_mm: Along (D, H, W), 0 along D for a plane; None if unknown.
        data: ElementDataFile: a file, "LOCAL", "LIST" or a pattern.
        files: The lines after "LIST".
        skip: Bytes before the voxels; -1 if the voxels are the last bytes of the file.
        compressed: Whether the voxels are a zlib stream.
        text: Whether they are written as text.
        length: Bytes of the header.
        is_film: Whether each frame has a time stamp.
        warnings: Warnings.
    """

    shape: tuple[int, ...]
    channels: int
    dtype: np.dtype
    affine: np.ndarray | None
    spacing_mm: tuple[float, float, float] | None
    data: str
    files: tuple[str, ...]
    skip: int
    compressed: bool
    text: bool
    length: int
    is_film: bool
    warnings: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of the voxels, decompressed."""
        return math.prod(self.shape) * self.channels * self.dtype.itemsize


def is_metaimage(head: bytes) -> bool:
    """Whether a file begins with lines of a MetaImage header."""
    return _FIRST_LINE.match(head) is not None and _TELLING_LINE.search(head) is not None


def read_metaimage_header(path: Path) -> MetaHeader:
    """Return the checked header.

    Raises:
        FormatError: If it is not the header of a supported image.
        GeometryError: If its place is invalid.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_HEADER_BYTES)
    fields, length = _parse_lines(content, path)
    axes = int(_numbers(fields, path, keys=("NDims",), count=1)[0])
    if axes not in (2, 3, 4):
        raise FormatError(f"{path}: NDims is {axes}; images of 2 to 4 axes are read. Crop it.")
    sizes = [int(size) for size in _numbers(fields, path, keys=("DimSize",), count=axes)]
    if min(sizes) < 1:
        raise FormatError(f"{path}: DimSize is {fields['DimSize']}; expected sizes above 0.")
    warnings: list[str] = []
    spacing = _read_spacing(fields, path, axes, warnings)
    data = fields["ElementDataFile"]
    return MetaHeader(
        shape=tuple(reversed(sizes)),
        channels=_read_channels(fields, path),
        dtype=_read_type(fields, path),
        affine=_read_affine(fields, path, axes, spacing, warnings),
        spacing_mm=None if spacing is None else (*[0.0] * (3 - axes), *spacing[2::-1]),
        data=data,
        files=_list_files(content, length) if data.split()[:1] == ["LIST"] else (),
        skip=int(_numbers(fields, path, keys=("HeaderSize",), count=1, default="0")[0]),
        compressed=_flag(fields, path, "CompressedData"),
        text=not _flag(fields, path, "BinaryData", default="True"),
        length=length,
        is_film=any(key.startswith("Seq_Frame") for key in fields),
        warnings=tuple(warnings),
    )  # fmt: skip


def _parse_lines(content: bytes, path: Path) -> tuple[dict[str, str], int]:
    """Split `key = value` lines up to ElementDataFile, which is always the last.

    Returns:
        The fields, and their size in bytes.
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
    raise FormatError(f"{path} has no line ElementDataFile; it is not a complete MetaImage header.")


def _list_files(content: bytes, length: int) -> tuple[str, ...]:
    """Return the lines after the header, a file each."""
    lines = content[length:].decode("utf-8", "replace").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def _read_channels(fields: Mapping[str, str], path: Path) -> int:
    channels = _numbers(fields, path, keys=("ElementNumberOfChannels",), count=1, default="1")[0]
    if not 1 <= channels <= 2**16:
        raise FormatError(f"{path}: ElementNumberOfChannels is {channels:g}; expected 1 or more.")
    return int(channels)


def _read_type(fields: Mapping[str, str], path: Path) -> np.dtype:
    """Return the type of a value."""
    kind = fields.get("ElementType", "").removesuffix("_ARRAY")
    if kind not in _TYPES:
        raise FormatError(
            f"{path}: ElementType is {kind or 'missing'}; expected one of {', '.join(_TYPES)}."
        )
    order = ">" if any(_flag(fields, path, key) for key in _BIG_ENDIAN) else "<"
    return np.dtype(order + _TYPES[kind])


def _read_spacing(
    fields: Mapping[str, str], path: Path, axes: int, warnings: list[str]
) -> np.ndarray | None:
    """Return the spacing of voxels, fastest axis first; None if unknown."""
    unit = fields.get("DistanceUnits", "mm")
    if unit not in ("mm", "?"):
        raise FormatError(
            f"{path}: DistanceUnits is {unit}; distances in mm are read. Convert it, since other "
            "programs take them for mm."
        )
    if not any(key in fields for key in _SPACING):
        warnings.append("the MetaImage header does not say how far apart voxels are")
        return None
    key = next(key for key in _SPACING if key in fields)
    spacing = _numbers(fields, path, keys=(key,), count=axes)
    if (spacing <= 0).any():
        raise GeometryError(f"{path}: {key} is {spacing.tolist()}; expected mm above 0.")
    return spacing


def _read_affine(
    fields: Mapping[str, str], path: Path, axes: int, spacing: np.ndarray | None,
    warnings: list[str],
) -> np.ndarray | None:  # fmt: skip
    """Return the affine in array order; None for a plane.

    Each row of TransformMatrix is the direction of an axis of the image, x first.
    """
    _warn_of_several(fields, warnings)
    unit = " ".join(f"{value:g}" for value in np.eye(axes).ravel())
    place = _numbers(fields, path, keys=_PLACE, count=axes, default=" ".join(["0"] * axes))
    turned = _numbers(fields, path, keys=_AXES, count=axes * axes, default=unit)
    turned = turned.reshape(axes, axes)
    mixed = axes == 4 and bool(turned[3, :3].any() or turned[:3, 3].any())
    if mixed or not np.allclose(turned @ turned.T, np.eye(axes), atol=1e-3):
        raise GeometryError(
            f"{path}: TransformMatrix is {turned.tolist()}; expected perpendicular unit vectors."
        )
    if axes == 2 or spacing is None:
        return None
    affine = np.eye(4)
    affine[:3, :3] = (turned[:3, :3] * spacing[:3, None]).T[:, ::-1]
    affine[:3, 3] = place[:3]
    _check_letters(fields, affine, warnings)
    return affine


def _warn_of_several(fields: Mapping[str, str], warnings: list[str]) -> None:
    """Add a warning if a header has several values for one property."""
    for keys in (_PLACE, _AXES):
        given = [key for key in keys if key in fields]
        if len({tuple(fields[key].split()) for key in given}) > 1:
            warnings.append(
                f"the MetaImage header has {' and '.join(given)}, which differ; {given[0]} is used"
            )


def _check_letters(fields: Mapping[str, str], affine: np.ndarray, warnings: list[str]) -> None:
    """Add a warning if AnatomicalOrientation contradicts the matrix."""
    said = fields.get("AnatomicalOrientation", "").upper()
    if not re.fullmatch(r"(?=.*[RL])(?=.*[AP])(?=.*[IS])[RLAPIS]{3}", said):
        return
    meant = ""
    for axis in (2, 1, 0):
        row = int(np.argmax(np.abs(affine[:3, axis])))
        meant += _FROM_SIDES[row][int(affine[row, axis] < 0)]
    if said != meant:
        warnings.append(
            f"the MetaImage header's AnatomicalOrientation is {said}, and its axes run as {meant} "
            "does; the axes are used, as ITK does. Left and right may be exchanged"
        )


def _numbers(
    fields: Mapping[str, str], path: Path, *, keys: tuple[str, ...], count: int, default: str = ""
) -> np.ndarray:
    """Return a field of numbers, found under one of its names."""
    key = next((key for key in keys if key in fields), keys[0])
    text = fields.get(key, default)
    try:
        values = np.array([float(word) for word in text.split()])
    except ValueError:
        values = np.array([np.nan])
    if len(values) != count or not np.isfinite(values).all():
        raise FormatError(f"{path}: {key} is {text[:80] or 'missing'}; expected {count} numbers.")
    return values


def _flag(fields: Mapping[str, str], path: Path, key: str, default: str = "False") -> bool:
    """Return a truth value."""
    value = fields.get(key, default)
    if value not in _TRUTH:
        raise FormatError(f"{path}: {key} is {value!r}; expected True or False.")
    return _TRUTH[value]
