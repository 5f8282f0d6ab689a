"""Reads NRRD scans (.nrrd, and .nhdr with its voxels beside it) with their place in the patient.

Source: the format's definition, https://teem.sourceforge.net/nrrd/format.html.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bedside.errors import FormatError
from bedside.io.metaimage import to_nifti_grid
from bedside.io.nrrd_header import NrrdHeader, read_nrrd_header
from bedside.io.voxels import find_gaps
from bedside.volume import Cine, Geometry

if TYPE_CHECKING:
    from bedside.io.nifti import NiftiGrid

MAX_BYTES = 2**31
"""Largest array that is read: 2 GiB."""

_CHUNK = 2**20


@dataclass(frozen=True)
class Nrrd:
    """A scan.

    Attributes:
        array: (D, H, W), numbers as stored, in the file's byte order; raw voxels stay on disk.
        geometry: Where its voxels lie in the patient; None where the header does not say.
        spacing_mm: Distance between neighbours along (D, H, W); None where the header does
            not say, of a single slice 0 along D.
        warnings: What was doubted, in sentences for a person.
    """

    array: np.ndarray
    geometry: Geometry | None
    spacing_mm: tuple[float, float, float] | None
    warnings: tuple[str, ...]


def open_nrrd(
    path: Path, *, select: Mapping[str, int] | None = None
) -> tuple[Cine, "NiftiGrid | None"]:
    """Open a scan as a cine whose frames are its slices.

    Args:
        path: The .nrrd or .nhdr file.
        select: As `read_nrrd`.

    Returns:
        The cine, and the grid for labels in NIfTI; None where the scan has no place.

    Raises:
        FormatError: As `read_nrrd`.
        GeometryError: As `read_nrrd`.
        InputError: If too many voxels are not numbers.
    """
    scan = read_nrrd(path, select=select)
    depth, height, width = scan.array.shape
    gaps = find_gaps(scan.array, path)
    native = scan.array.dtype.newbyteorder("=")
    cine = Cine(
        shape=(depth, 1, height, width),
        decode=lambda index: gaps.fill(np.array(scan.array[index], native))[None],
        spacing_mm=scan.spacing_mm[1:] if scan.spacing_mm else None,
        warnings=(*scan.warnings, *gaps.warnings),
        geometry=scan.geometry,
        slice_spacing_mm=(scan.spacing_mm[0] or None) if scan.spacing_mm else None,
    )
    return cine, None if scan.geometry is None else to_nifti_grid(scan.geometry)


def read_nrrd(
    path: Path, *, select: Mapping[str, int] | None = None, max_bytes: int = MAX_BYTES
) -> Nrrd:
    """Read a scan of two or three axes in space, and one value a voxel.

    The header decides nothing unchecked: sizes are held against `max_bytes` before anything
    is allocated and against the file's length after, and voxels are only looked for beside
    the header.

    Args:
        path: The .nrrd or .nhdr file.
        select: Which one of a further axis, counted from 1: {"time": 3} or {"channel": 1}.
        max_bytes: A file whose voxels take more is refused.

    Raises:
        FormatError: If the header lacks a field or has one that cannot be meant, or the
            voxels are missing, too few, too many, too large, not compressed as said, or not
            one value a voxel.
        GeometryError: If the axes are not finite and perpendicular.
    """
    path = Path(path)
    header = read_nrrd_header(path)
    if header.size > max_bytes:
        raise FormatError(
            f"{path} declares {header.shape} voxels, {header.size / 2**30:.1f} GiB; at most "
            f"{max_bytes / 2**30:g} GiB are read. Crop it."
        )
    place = header.choose(select, path)
    array = _read_voxels(path, header).reshape(header.shape)
    if header.extra is not None:
        array = array[(slice(None),) * header.extra + (place,)]
    array = array.reshape(header.grid)
    return Nrrd(array, header.geometry, header.spacing_mm, header.warnings)


def _read_voxels(path: Path, header: NrrdHeader) -> np.ndarray:
    """Read the voxels from the file that the header names, as one long row.

    Raises:
        FormatError: If they are missing, lie elsewhere, or are not as many as declared.
    """
    source = path
    if header.data is not None:
        source = path.parent / header.data
        if header.data != Path(header.data).name or header.data == "LIST":
            raise FormatError(
                f"{path} names the voxels {header.data[:80]!r}; expected the name of one file "
                "beside it. Save it as one file."
            )
        if not source.is_file():
            raise FormatError(f"{path}: its voxels, {source}, are missing. Put them beside it.")
    start = _skip_lines(source, header)
    available = source.stat().st_size - start
    if header.compressed:
        return np.frombuffer(_inflate(source, header, before=start), header.dtype)
    skip = available - header.size if header.byte_skip == -1 else header.byte_skip
    if skip < 0 or available - skip != header.size:
        raise FormatError(
            f"{source} holds {available} bytes of voxels; {path.name} declares {header.size} "
            f"after {max(header.byte_skip, 0)}. It is truncated or belongs to another header."
        )
    count = header.size // header.dtype.itemsize
    return np.memmap(source, header.dtype, mode="r", offset=start + skip, shape=(count,))


def _skip_lines(source: Path, header: NrrdHeader) -> int:
    """Find where the voxels begin, after the lines to skip, in bytes.

    Raises:
        FormatError: If there are fewer lines.
    """
    with source.open("rb") as file:
        file.seek(header.length if header.data is None else 0)
        for _ in range(header.line_skip):
            if not file.readline(_CHUNK).endswith(b"\n"):
                raise FormatError(f"{source} has fewer than {header.line_skip} lines to skip.")
        return file.tell()


def _inflate(source: Path, header: NrrdHeader, *, before: int) -> bytes:
    """Decompress exactly as many bytes as the header declares, and those to skip.

    Raises:
        FormatError: If there are more or fewer, or the stream is damaged.
    """
    skip = max(header.byte_skip, 0)
    # One byte more than declared tells a stream that is too long.
    left = skip + header.size + 1
    pieces: list[bytes] = []
    inflater = zlib.decompressobj(31)
    try:
        with source.open("rb") as file:
            file.seek(before)
            while left and not inflater.eof and (chunk := file.read(_CHUNK)):
                while chunk and left:
                    pieces.append(inflater.decompress(chunk, left))
                    left -= len(pieces[-1])
                    chunk = inflater.unconsumed_tail
    except zlib.error as error:
        raise FormatError(f"{source}: the gzip stream is damaged ({error}).") from error
    if left != 1 or not inflater.eof:
        seen = "more" if left == 0 else str(skip + header.size + 1 - left)
        raise FormatError(
            f"{source} inflates to {seen} bytes; its header says {header.size} after {skip}. "
            "It is truncated or belongs to another header."
        )
    return b"".join(pieces)[skip:]
