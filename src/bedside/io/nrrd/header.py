"""The header of a NRRD file, checked."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bedside.errors import FormatError
from bedside.io.nrrd.geometry import MM_PER_UNIT, read_directions, read_number, read_place
from bedside.io.select import choose_place
from bedside.volume import Geometry

_MAX_HEADER_BYTES = 2**20
_MAGIC = re.compile(rb"NRRD00(0[1-5]|\.01)\r?\n")
_SEGMENTS = re.compile(rb"\nSegment(?:\d+|ation)_")
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
Encoding = Literal["raw", "gzip", "bzip2", "hex", "ascii"]

_ENCODINGS: Mapping[str, Encoding] = {
    "raw": "raw",
    "gzip": "gzip",
    "gz": "gzip",
    "bzip2": "bzip2",
    "bz2": "bzip2",
    "hex": "hex",
    "ascii": "ascii",
    "text": "ascii",
    "txt": "ascii",
}
_ALIASES = {
    "datafile": "data file",
    "lineskip": "line skip",
    "byteskip": "byte skip",
    "axismins": "axis mins",
    "axismaxs": "axis maxs",
    "centers": "centerings",
}
# Kinds of axes that are directions in space; the others are of values at one place.
_IN_SPACE = ("domain", "space", "???", "none")
_COLOURS = {"rgb-color": 3, "rgba-color": 4, "3-color": 3, "4-color": 4}
_UNREAD_COLOURS = ("hsv-color", "xyz-color")
# Kinds and units of an axis along which frames follow each other.
_TIMES = ("time", "list")
_MS_PER_UNIT = {"s": 1000.0, "sec": 1000.0, "ms": 1.0, "msec": 1.0, "us": 0.001}


@dataclass(frozen=True)
class NrrdHeader:
    """A checked header.

    Attributes:
        shape: Shape of the array as stored, slowest axis first.
        dtype: Of a voxel, byte order included.
        extra: The axis that is not in space; None if there is none.
        colours: Colour values along that axis: 3, or 4 with transparency; 0 if they are no colours.
        is_film: Whether the frames, along `extra` or the third axis, follow each other in time.
        in_space: Whether the header says that the third axis is in space.
        frame_time_ms: Time from frame to frame; None if unknown.
        geometry: Of the axes in space; None if the header does not place them.
        spacing_mm: Along (D, H, W); 0 along D for a single slice; None if unknown.
        data: The file of the voxels, "LIST", or a pattern; None for the header's own.
        files: The lines after "LIST".
        line_skip: Lines before the voxels.
        byte_skip: Bytes before the voxels; -1 if the voxels are the last bytes of the file.
        encoding: Encoding of the voxels.
        length: Bytes of the header.
        warnings: Warnings.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    extra: int | None
    colours: int
    is_film: bool
    in_space: bool
    frame_time_ms: float | None
    geometry: Geometry | None
    spacing_mm: tuple[float, float, float] | None
    data: str | None
    files: tuple[str, ...]
    line_skip: int
    byte_skip: int
    encoding: Encoding
    length: int
    warnings: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of the voxels, decompressed."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def grid(self) -> tuple[int, ...]:
        """Shape of the axes in space, (D, H, W); of a plane (1, H, W)."""
        kept = [length for axis, length in enumerate(self.shape) if axis != self.extra]
        return (*[1] * (3 - len(kept)), *kept)

    @property
    def times(self) -> int:
        """Number of frames of a single slice over time; else 1."""
        one_slice = self.is_film and self.extra == 0 and self.grid[0] == 1
        return self.shape[0] if one_slice else 1

    def choose(self, select: Mapping[str, int] | None, path: Path) -> int:
        """Return the selected index on the further axis.

        Raises:
            FormatError: If there are several and none is selected, or the selection is not there.
        """
        if self.extra is None or self.colours or (self.times > 1 and not select):
            return choose_place(select, {}, path)
        length = self.shape[self.extra]
        return choose_place(select, {"time or channel": length}, path)


def is_nrrd(head: bytes) -> bool:
    """Whether a file begins with NRRD's first line."""
    return _MAGIC.match(head) is not None


def why_segmentation(head: bytes) -> str | None:
    """Return that a NRRD file is a segmentation, by the keys of its segments; else None."""
    return "is a segmentation (.seg.nrrd)" if _SEGMENTS.search(head) else None


def read_nrrd_header(path: Path) -> NrrdHeader:
    """Return the checked header.

    Raises:
        FormatError: If it is not the header of a scan.
        GeometryError: If its place is invalid.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_HEADER_BYTES)
    fields, length = _parse_lines(content, path)
    shape = _read_shape(fields, path)
    dtype, encoding = _read_encoding(fields, path)
    kinds = _read_kinds(fields, path, len(shape))
    directions = read_directions(fields, path, len(shape))
    extra = _find_extra(kinds, directions, shape, path)
    kept = [axis for axis in range(len(shape)) if axis != extra]
    warnings: list[str] = []
    geometry, spacing_mm = read_place(
        fields, tuple(shape[axis] for axis in kept),
        [each for axis in kept if directions and (each := directions[axis]) is not None],
        kept=kept, axes=len(shape), path=path, warnings=warnings,
    )  # fmt: skip
    byte_skip = _integer(fields, path, "byte skip", default="0", smallest=-1)
    if encoding != "raw" and byte_skip == -1:
        raise FormatError(f"{path}: byte skip is -1, which has no meaning in {encoding} encoding.")
    # A single slice with a further axis that holds no channels is a slice over time.
    one_slice = len(kept) == 2 or shape[kept[0]] == 1
    is_behind = extra == 0 and one_slice and kinds[0] in (*_IN_SPACE, *_TIMES)
    is_film, in_space, frame_time_ms = _read_frames(
        fields, path, kinds, 0 if is_behind else kept[0]
    )
    data = fields.get("data file")
    return NrrdHeader(
        shape=shape,
        dtype=dtype,
        extra=extra,
        colours=0 if extra is None else _COLOURS.get(kinds[extra], 0),
        is_film=is_film or is_behind,
        in_space=in_space and len(kept) == 3,
        frame_time_ms=frame_time_ms,
        geometry=geometry,
        spacing_mm=spacing_mm,
        data=data,
        files=_list_files(content, length) if data and data.split()[0] == "LIST" else (),
        line_skip=_integer(fields, path, "line skip", default="0", smallest=0),
        byte_skip=byte_skip,
        encoding=encoding,
        length=length,
        warnings=tuple(warnings),
    )


def _parse_lines(content: bytes, path: Path) -> tuple[dict[str, str], int]:
    """Split `field: value` lines, up to an empty line or the end of a detached header.

    Other keys (`key:=value`) are ignored.
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
        if name == "data file" and fields[name].split()[:1] == ["LIST"]:
            # File names follow, one per line.
            return fields, position
    if len(content) == _MAX_HEADER_BYTES or "data file" not in fields:
        raise FormatError(f"{path} has no empty line after its header. It is truncated.")
    return fields, position


def _read_shape(fields: Mapping[str, str], path: Path) -> tuple[int, ...]:
    """Return the sizes, slowest axis first."""
    dimension = _integer(fields, path, "dimension", smallest=1)
    if not 2 <= dimension <= 4:
        raise FormatError(f"{path}: dimension is {dimension}; 2 to 4 are read. Convert it.")
    words = _words(fields, path, "sizes", dimension)
    if not all(re.fullmatch(r"[0-9]{1,10}", word) and int(word) > 0 for word in words):
        raise FormatError(f"{path}: sizes is {fields['sizes']!r}; expected sizes above 0.")
    return tuple(int(word) for word in reversed(words))


def _read_encoding(fields: Mapping[str, str], path: Path) -> tuple[np.dtype, Encoding]:
    """Return the type of a value, and the encoding of voxels."""
    kind = fields.get("type", "").lower()
    if kind not in _TYPES:
        raise FormatError(
            f"{path}: type is {kind or 'missing'}; expected whole or real numbers, such as "
            "short or float. Convert it."
        )
    encoding = _ENCODINGS.get(fields.get("encoding", "").lower())
    if encoding is None:
        raise FormatError(
            f"{path}: encoding is {fields.get('encoding', 'missing')}; raw, gzip, bzip2, hex and "
            "ascii are read. Convert it."
        )
    dtype = np.dtype(_TYPES[kind])
    endian = fields.get("endian", "").lower()
    if dtype.itemsize > 1 and encoding != "ascii" and endian not in ("little", "big"):
        raise FormatError(
            f"{path}: endian is {endian or 'missing'}; expected little or big for {kind}."
        )
    return dtype.newbyteorder(">" if endian == "big" else "<"), encoding


def _read_kinds(fields: Mapping[str, str], path: Path, axes: int) -> list[str]:
    """Return the kind of each axis, slowest first."""
    if "kinds" not in fields:
        return ["domain"] * axes
    return [kind.lower() for kind in reversed(_words(fields, path, "kinds", axes))]


def _find_extra(
    kinds: Sequence[str], directions: Sequence[np.ndarray | None], shape: tuple[int, ...],
    path: Path,
) -> int | None:  # fmt: skip
    """Return the axis that is not in space, by direction or kind, counted from the slowest."""
    axes = len(shape)
    extras = [axis for axis, direction in enumerate(directions) if direction is None]
    if not directions:
        extras = [axis for axis, kind in enumerate(kinds) if kind not in _IN_SPACE]
        if not extras and axes == 4:
            extras = [0]
    for axis in extras:
        if kinds[axis] in _UNREAD_COLOURS or shape[axis] != _COLOURS.get(kinds[axis], shape[axis]):
            raise FormatError(
                f"{path} holds {shape[axis]} values of {kinds[axis]} a voxel; expected one grey "
                "value or RGB. Convert it."
            )
    if len(extras) > 1 or axes - len(extras) not in (2, 3):
        raise FormatError(
            f"{path} has {axes - len(extras)} axes in space and {len(extras)} others; expected "
            "2 or 3 in space, and at most one of times or channels."
        )
    return extras[0] if extras else None


def _read_frames(
    fields: Mapping[str, str], path: Path, kinds: Sequence[str], axis: int
) -> tuple[bool, bool, float | None]:
    """Return what the header says about the axis of the frames.

    Args:
        fields: The header's fields.
        path: Its file, for errors.
        kinds: Of all axes, slowest first.
        axis: The axis, counted from the slowest.

    Returns:
        Whether it is time, whether it is stated to be space, and the time from frame to frame.
    """
    axes = len(kinds)
    units = re.findall(r'"([^"]*)"', fields.get("units", ""))
    unit = units[axes - 1 - axis].strip().lower() if len(units) == axes else ""
    thick = fields.get("thicknesses", "").split()
    is_slice = len(thick) == axes and thick[axes - 1 - axis].lower() != "nan"
    in_space = is_slice or kinds[axis] == "space" or unit in MM_PER_UNIT.keys() - {""}
    is_film = kinds[axis] in _TIMES or unit in _MS_PER_UNIT
    steps = fields.get("spacings", "").split()
    if not is_film or unit not in _MS_PER_UNIT or len(steps) != axes:
        return is_film, in_space and not is_film, None
    step = read_number(steps[axes - 1 - axis]) * _MS_PER_UNIT[unit]
    return True, False, step if 0 < step < np.inf else None


def _list_files(content: bytes, length: int) -> tuple[str, ...]:
    """Return the lines after the header, a file each."""
    lines = content[length:].decode("utf-8", "replace").splitlines()
    return tuple(line for line in lines if line.strip() and not line.startswith("#"))


def _words(fields: Mapping[str, str], path: Path, name: str, count: int) -> list[str]:
    """Split a field with a word for each axis."""
    words = fields.get(name, "").split()
    if len(words) != count:
        raise FormatError(
            f"{path}: {name} is {fields.get(name, 'missing')[:80]!r}; expected {count} words."
        )
    return words


def _integer(
    fields: Mapping[str, str], path: Path, name: str, *, smallest: int, default: str = ""
) -> int:
    """Return a whole number."""
    text = fields.get(name, default)
    if not re.fullmatch(r"-?[0-9]{1,9}", text) or int(text) < smallest:
        raise FormatError(f"{path}: {name} is {text[:40] or 'missing'}; expected a whole number.")
    return int(text)
