"""The header of a NRRD file: what it declares, every field checked."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bedside.errors import FormatError
from bedside.io.nrrd_place import read_place, read_vectors
from bedside.io.select import choose_place
from bedside.volume import Geometry

_MAX_HEADER_BYTES = 2**20
_MAGIC = re.compile(rb"NRRD000[1-5]\r?\n")
_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16",
                     "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
                    "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long",
                     "signed long long int", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64",
                     "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}  # fmt: skip
_GZIP = ("gzip", "gz")
_ALIASES = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip"}
# Kinds of axes that are directions in space; the others are of values at one place.
_IN_SPACE = ("domain", "space", "???", "none")
_COLOURS = ("rgb-color", "rgba-color", "hsv-color", "xyz-color", "3-color", "4-color")


@dataclass(frozen=True)
class NrrdHeader:
    """What a header says, checked.

    Attributes:
        shape: Of the array as stored, slowest axis first.
        dtype: Of a voxel, byte order included.
        extra: The axis of the array that is none in space; None if there is none.
        geometry: Of the axes in space; None where the header does not place them.
        spacing_mm: Along (D, H, W); 0 along D for a single slice; None if unknown.
        data: File that holds the voxels; None for the header's own.
        line_skip: Lines in front of the voxels.
        byte_skip: Bytes in front of the voxels; -1 to take the last ones of the file.
        compressed: Whether the voxels are a gzip stream.
        length: Bytes of the header.
        warnings: What was doubted.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    extra: int | None
    geometry: Geometry | None
    spacing_mm: tuple[float, float, float] | None
    data: str | None
    line_skip: int
    byte_skip: int
    compressed: bool
    length: int
    warnings: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes that the voxels take, decompressed."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def grid(self) -> tuple[int, ...]:
        """Shape of the axes in space, (D, H, W); of a plane (1, H, W)."""
        kept = [length for axis, length in enumerate(self.shape) if axis != self.extra]
        return (*[1] * (3 - len(kept)), *kept)

    def choose(self, select: Mapping[str, int] | None, path: Path) -> int:
        """Find the place along the further axis that is to be read.

        Raises:
            FormatError: If there is a choice and none is made, or none and one is made.
        """
        if self.extra is None:
            return choose_place(select, {}, path)
        length = self.shape[self.extra]
        return choose_place(select, {"time or channel": length}, path)


def is_nrrd(head: bytes) -> bool:
    """Tell a NRRD file by its first line, which the format fixes."""
    return _MAGIC.match(head) is not None


def read_nrrd_header(path: Path) -> NrrdHeader:
    """Read and check the lines in front of the voxels.

    Raises:
        FormatError: If they are not a header of a scan.
        GeometryError: If they place it where it cannot be.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_HEADER_BYTES)
    fields, length = _parse_lines(content, path)
    shape = _read_shape(fields, path)
    dtype, compressed = _read_encoding(fields, path)
    extra, spatial = _find_extra(fields, shape, path)
    grid = tuple(size for axis, size in enumerate(shape) if axis != extra)
    warnings: list[str] = []
    geometry, spacing_mm = read_place(fields, grid, spatial, path=path, warnings=warnings)
    byte_skip = _integer(fields, path, "byte skip", default="0", smallest=-1)
    if compressed and byte_skip == -1:
        raise FormatError(f"{path}: byte skip is -1, which has no meaning in a gzip stream.")
    return NrrdHeader(
        shape=shape,
        dtype=dtype,
        extra=extra,
        geometry=geometry,
        spacing_mm=spacing_mm,
        data=fields.get("data file"),
        line_skip=_integer(fields, path, "line skip", default="0", smallest=0),
        byte_skip=byte_skip,
        compressed=compressed,
        length=length,
        warnings=tuple(warnings),
    )


def _parse_lines(content: bytes, path: Path) -> tuple[dict[str, str], int]:
    """Part `field: value` lines, up to an empty line or the end of a header of its own.

    Keys with values of free meaning (`key:=value`) are passed over.

    Raises:
        FormatError: If a line is of another form, or repeats a field.
    """
    magic = _MAGIC.match(content)
    if magic is None:
        raise FormatError(f"{path} is no NRRD file: it begins with {content[:12]!r}.")
    fields: dict[str, str] = {}
    position = magic.end()
    while position < len(content):
        end = content.find(b"\n", position)
        line = content[position : end if end >= 0 else None].rstrip(b"\r")
        position = end + 1 if end >= 0 else len(content)
        if not line:
            return fields, position
        text = line.decode("utf-8", "replace")
        if text.startswith("#") or re.match(r"[^:]*:=", text):
            continue
        name, colon, value = text.partition(": ")
        name = _ALIASES.get(name.strip().lower(), name.strip().lower())
        if not colon or name in fields:
            raise FormatError(f"{path} is not a NRRD header: it has the line {line[:60]!r}.")
        fields[name] = value.strip()
    if len(content) == _MAX_HEADER_BYTES or "data file" not in fields:
        raise FormatError(f"{path} has no empty line after its header. It is truncated.")
    return fields, position


def _read_shape(fields: Mapping[str, str], path: Path) -> tuple[int, ...]:
    """Read the sizes, slowest axis first.

    Raises:
        FormatError: If they are missing, or are not two to four sizes above 0.
    """
    dimension = _integer(fields, path, "dimension", smallest=1)
    if not 2 <= dimension <= 4:
        raise FormatError(f"{path}: dimension is {dimension}; 2 to 4 are read. Convert it.")
    words = _words(fields, path, "sizes", dimension)
    if not all(re.fullmatch(r"[0-9]{1,10}", word) and int(word) > 0 for word in words):
        raise FormatError(f"{path}: sizes is {fields['sizes']!r}; expected sizes above 0.")
    return tuple(int(word) for word in reversed(words))


def _read_encoding(fields: Mapping[str, str], path: Path) -> tuple[np.dtype, bool]:
    """Read the type of a voxel, and whether voxels are compressed.

    Raises:
        FormatError: If the type, the encoding or the byte order is missing or not read.
    """
    kind = fields.get("type", "").lower()
    if kind not in _TYPES:
        raise FormatError(
            f"{path}: type is {kind or 'missing'}; expected whole or real numbers, such as "
            "short or float. Convert it."
        )
    encoding = fields.get("encoding", "").lower()
    if encoding != "raw" and encoding not in _GZIP:
        raise FormatError(
            f"{path}: encoding is {encoding or 'missing'}; raw and gzip are read. Convert it."
        )
    dtype = np.dtype(_TYPES[kind])
    endian = fields.get("endian", "").lower()
    if dtype.itemsize > 1 and endian not in ("little", "big"):
        raise FormatError(
            f"{path}: endian is {endian or 'missing'}; expected little or big for {kind}."
        )
    return dtype.newbyteorder(">" if endian == "big" else "<"), encoding in _GZIP


def _find_extra(
    fields: Mapping[str, str], shape: tuple[int, ...], path: Path
) -> tuple[int | None, list[np.ndarray]]:
    """Find the axis that is none in space, by its direction or its kind.

    Returns:
        The axis of the array, and the directions of the others, slowest first; none where
        the header does not give them.

    Raises:
        FormatError: If there are more, if it holds colours, or more than three axes are left.
    """
    axes = len(shape)
    kinds = ["domain"] * axes
    if "kinds" in fields:
        kinds = [kind.lower() for kind in reversed(_words(fields, path, "kinds", axes))]
    directions: list[np.ndarray | None] = []
    if "space directions" in fields:
        directions = list(reversed(read_vectors(fields, path, axes)))
        extras = [axis for axis, direction in enumerate(directions) if direction is None]
    else:
        extras = [axis for axis, kind in enumerate(kinds) if kind not in _IN_SPACE]
        if not extras and axes == 4:
            extras = [0]
    colour = next((kinds[axis] for axis in extras if kinds[axis] in _COLOURS), None)
    if colour:
        raise FormatError(f"{path} holds {colour}; expected one grey value a voxel. Convert it.")
    if len(extras) > 1 or axes - len(extras) not in (2, 3):
        raise FormatError(
            f"{path} has {axes - len(extras)} axes in space and {len(extras)} others; expected "
            "2 or 3 in space, and at most one of times or channels."
        )
    return extras[0] if extras else None, [each for each in directions if each is not None]


def _words(fields: Mapping[str, str], path: Path, name: str, count: int) -> list[str]:
    """Part a field that has a word for each axis.

    Raises:
        FormatError: If it is missing or has another number of words.
    """
    words = fields.get(name, "").split()
    if len(words) != count:
        raise FormatError(
            f"{path}: {name} is {fields.get(name, 'missing')[:80]!r}; expected {count} words."
        )
    return words


def _integer(
    fields: Mapping[str, str], path: Path, name: str, *, smallest: int, default: str = ""
) -> int:
    """Read a whole number.

    Raises:
        FormatError: If it is missing, no number, or below `smallest`.
    """
    text = fields.get(name, default)
    if not re.fullmatch(r"-?[0-9]{1,9}", text) or int(text) < smallest:
        raise FormatError(f"{path}: {name} is {text[:40] or 'missing'}; expected a whole number.")
    return int(text)
