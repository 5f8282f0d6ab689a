"""NRRD scans (.nrrd, and .nhdr with voxels beside it) with their place in the patient.

Source: the format's definition, https://teem.sourceforge.net/nrrd/format.html.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from bedside.errors import FormatError
from bedside.io.nifti.grid import NiftiGrid, to_nifti_grid
from bedside.io.nonfinite import find_nonfinite
from bedside.io.nrrd.header import NrrdHeader, read_nrrd_header
from bedside.io.packing import Unpacker, unpack_bzip2, unpack_hex, unpack_text
from bedside.io.voxel_file import Stored, check_declared, find_beside, open_voxels
from bedside.io.voxel_names import expand_pattern, find_listed
from bedside.volume import ImageSequence, is_unit_grid

MAX_BYTES = 2**31
"""Largest array that is read: 2 GiB."""

_LONGEST_LINE = 2**20


def open_nrrd(
    path: Path, *, select: Mapping[str, int] | None = None, max_bytes: int = MAX_BYTES
) -> tuple[ImageSequence, NiftiGrid | None]:
    """Open a scan; its frames are the slices, read on request.

    Sizes are checked against `max_bytes` before memory is allocated and against the file
    afterwards; voxels must lie beside the header.

    Args:
        path: The .nrrd or .nhdr file.
        select: Index on a further axis, counted from 1: {"time": 3} or {"channel": 1}.
        max_bytes: A file whose voxels take more is refused.

    Returns:
        The frames, and the grid for labels in NIfTI; None if the scan has no place.

    Raises:
        FormatError: If the header is incomplete or malformed, or the voxels are missing, too few,
            too many, too large, not compressed as stated, or not one value each.
        GeometryError: If the axes are not finite and perpendicular.
        InputError: If too many voxels are not finite.
    """
    header = read_nrrd_header(path)
    check_declared(path, header.shape, header.dtype, max_bytes=max_bytes)
    times = 1 if select else header.times
    slices = _Slices(path, header, header.choose(select, path))
    depth, height, width = header.grid
    nonfinite = find_nonfinite(map(slices.read, range(depth * times)), header.dtype, path)
    spacing = header.spacing_mm
    warnings = [*header.warnings, *nonfinite.warnings]
    if header.colours == 4:
        warnings.append("the image's transparency is dropped")
    place = header.geometry
    sequence = ImageSequence(
        shape=(depth * times, 3 if header.colours else 1, height, width),
        decode=lambda index: nonfinite.fill(slices.read(index)),
        spacing_mm=spacing[1:] if spacing else None,
        frame_time_ms=header.frame_time_ms,
        warnings=tuple(warnings),
        geometry=None if times > 1 else place,
        slice_spacing_mm=(spacing[0] or None) if spacing and times == 1 else None,
        third_axis=_find_third_axis(header, times),
        default_grid=is_unit_grid(spacing, None if place is None else place.affine),
    )
    return sequence, None if place is None else to_nifti_grid(place, times=times)


def _find_third_axis(header: NrrdHeader, times: int) -> Literal["time", "space"] | None:
    """Return whether frames are times or slices, if the header says so."""
    if header.is_film and (times > 1 or header.extra != 0):
        return "time"
    # Consecutive scans: time has its own axis.
    has_times = header.extra == 0 and not header.colours
    return "space" if header.in_space or has_times else None


class _Slices:
    """The slices of an open file.

    Args:
        path: The header's file.
        header: The header.
        place: Index on the further axis, counted from 0.

    Raises:
        FormatError: If voxels are missing, elsewhere, or not as many as declared.
    """

    def __init__(self, path: Path, header: NrrdHeader, place: int) -> None:
        self._header, self._place = header, place
        stored = Stored(
            header.dtype,
            header.byte_skip,
            compressed=header.encoding == "gzip",
            unpack=_choose_unpacker(header),
            start=lambda source: _skip_lines(source, header),
        )
        self._voxels = open_voxels(_find_files(path, header), header.size, stored)

    def read(self, index: int) -> np.ndarray:
        """Return slice `index`, (C, H, W), in native byte order."""
        header = self._header
        axes = list(header.shape)
        if header.extra == 0 and not header.colours:
            # Scans are consecutive.
            del axes[0]
            index += self._place * (axes[0] if len(axes) == 3 else 1)
            return self._voxels.read(index, axes[-2:])[None]
        if header.extra == 0:
            # So are the planes of colours that are not interleaved.
            depth = header.grid[0]
            planes = [self._voxels.read(index + depth * each, axes[-2:]) for each in range(3)]
            return np.stack(planes)
        # Read at once: a plane with all values of its voxels.
        planes_of = len(axes) - (1 if header.extra else 0) == 3
        block = axes[1:] if planes_of else axes
        array = self._voxels.read(index, block)
        if not header.extra:
            return array[None]
        array = np.moveaxis(array, header.extra - len(axes) + len(block), 0)
        if not header.colours:
            return np.ascontiguousarray(array[self._place : self._place + 1])
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array[:3], 0, -1)), -1, 0)


def _choose_unpacker(header: NrrdHeader) -> Unpacker | None:
    """Return the decoder of an encoding other than gzip and raw."""
    if header.encoding == "ascii":
        return unpack_text(header.dtype)
    return {"bzip2": unpack_bzip2, "hex": unpack_hex}.get(header.encoding)


def _find_files(path: Path, header: NrrdHeader) -> list[Path]:
    """Return the files that hold the voxels."""
    if header.data is None:
        return [path]
    words = header.data.split()
    if words[0] != "LIST" and "%" not in header.data:
        return [find_beside(path, header.data)]
    is_list = words[0] == "LIST"
    axes = len(header.shape)
    # The last word may be the number of axes per file; by default one less.
    last = words[1] if is_list and len(words) == 2 else words[4] if len(words) == 5 else None
    own = int(last) if last and last.isdecimal() else axes - 1
    if not 1 <= own <= axes or len(words) > (2 if is_list else 5):
        raise FormatError(
            f"{path}: data file is {header.data[:80]!r}; expected LIST or a pattern such as "
            '"slice%03d.raw 0 19 1", and at most the number of axes of each file.'
        )
    count = math.prod(header.shape[: axes - own])
    if is_list:
        return find_listed(path, header.files, count=count)
    return expand_pattern(path, " ".join(words[:4]), count=count)


def _skip_lines(source: Path, header: NrrdHeader) -> int:
    """Return the offset of the voxels, after the lines to skip."""
    with source.open("rb") as file:
        file.seek(header.length if header.data is None else 0)
        for _ in range(header.line_skip):
            if not file.readline(_LONGEST_LINE).endswith(b"\n"):
                raise FormatError(f"{source} has fewer than {header.line_skip} lines to skip.")
        return file.tell()
