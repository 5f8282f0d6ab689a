"""MetaImage scans (.mhd with their voxels beside them, and .mha) with their place.

Source: the format as ITK writes it, https://docs.itk.org, "MetaIO"; its world is LPS in mm.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bedside.errors import FormatError
from bedside.io.metaimage.header import MetaHeader, read_metaimage_header
from bedside.io.nifti.grid import NiftiGrid, to_nifti_grid
from bedside.io.nonfinite import find_nonfinite
from bedside.io.packing import unpack_text
from bedside.io.select import choose_place
from bedside.io.voxel_file import Stored, VoxelFile, check_declared, find_beside, open_voxels
from bedside.io.voxel_names import expand_pattern, find_listed
from bedside.volume import Geometry, ImageSequence, is_unit_grid

MAX_BYTES = 2**31
"""Largest array that is read: 2 GiB."""

_LOCAL = "LOCAL"


def open_metaimage(
    path: Path, *, select: Mapping[str, int] | None = None, max_bytes: int = MAX_BYTES
) -> tuple[ImageSequence, NiftiGrid | None]:
    """Open an image; its frames are the slices, or the times of a single slice.

    Slices are read on request. Sizes are checked against `max_bytes` before reading and against the
    file afterwards; voxels must lie beside the header.

    Args:
        path: The .mhd or .mha file.
        select: Which time or channel of a file that has several, counted from 1.
        max_bytes: A scan whose voxels take more is refused.

    Returns:
        The frames, and the grid for labels; None for a plane.

    Raises:
        FormatError: If the header is incomplete or malformed, or the voxels are missing, too few,
            too many, too large, or not compressed as stated.
        GeometryError: If the axes are not perpendicular unit vectors, or spacings not above 0.
        InputError: If too many voxels are not finite.
    """
    header = read_metaimage_header(path)
    check_declared(path, (*header.shape, header.channels), header.dtype, max_bytes=max_bytes)
    slices = _Slices(header, _open_voxels(path, header), path, select)
    depth, height, width = slices.grid
    nonfinite = find_nonfinite(map(slices.read, range(depth)), header.dtype, path)
    film = slices.film or header.is_film
    # If time has its own axis, the third one is in space.
    has_times = len(header.shape) == 4 and header.shape[0] > 1
    # Of a film, the place of its slice.
    shape = (1, height, width) if slices.film else slices.grid
    place = None if header.affine is None else Geometry(shape, header.affine, space="LPS")
    spacing = header.spacing_mm
    sequence = ImageSequence(
        shape=(depth, slices.channels, height, width),
        decode=lambda index: nonfinite.fill(slices.read(index)),
        spacing_mm=spacing[1:] if spacing else None,
        warnings=(*header.warnings, *slices.warnings, *nonfinite.warnings),
        geometry=None if slices.film else place,
        slice_spacing_mm=(spacing[0] or None) if spacing and not slices.film else None,
        third_axis="time" if film else "space" if has_times else None,
        default_grid=is_unit_grid(spacing, header.affine),
    )
    return sequence, None if place is None else to_nifti_grid(place, times=depth // shape[0])


class _Slices:
    """The slices of an open file.

    Args:
        header: Its header.
        voxels: Its voxels.
        path: For errors.
        select: Which time or channel to read.

    Attributes:
        film: Whether the frames are one slice at several times.
        grid: (frames, H, W).
        channels: Channels of a frame: 1, or 3 for colours.
        warnings: What is left out.

    Raises:
        FormatError: If there are several times or channels and none is selected.
    """

    def __init__(
        self, header: MetaHeader, voxels: VoxelFile, path: Path, select: Mapping[str, int] | None
    ) -> None:
        times, depth, *plane = (*[1] * (4 - len(header.shape)), *header.shape)
        colours = header.channels in (3, 4) and header.dtype.itemsize == 1
        self.film = depth == 1 < times and not select
        values = 1 if colours else header.channels
        axes = {"channel": values, "time": 1 if self.film else times}
        time, self._channel = divmod(choose_place(select, axes, path), values)
        self.grid = (times if self.film else depth, plane[0], plane[1])
        self.channels = 3 if colours else 1
        self.warnings = ("the image's transparency is dropped",) if header.channels == 4 else ()
        self._voxels, self._first = voxels, time * depth
        self._block = (plane[0], plane[1], header.channels)

    def read(self, index: int) -> np.ndarray:
        """Return slice `index`, (C, H, W), in native byte order."""
        values = self._voxels.read(self._first + index, self._block)
        if self.channels == 1:
            return np.ascontiguousarray(values[..., self._channel])[None]
        return np.ascontiguousarray(values[..., :3]).transpose(2, 0, 1)


def _open_voxels(path: Path, header: MetaHeader) -> VoxelFile:
    """Open the voxels in the file or the files that the header names."""
    local = header.data == _LOCAL
    start, skip = header.length if local else 0, header.skip
    if header.compressed:
        # Skipped bytes are before the stream.
        start, skip = start + max(skip, 0), 0
    unpack = unpack_text(header.dtype) if header.text else None
    stored = Stored(header.dtype, skip, header.compressed, unpack, start=lambda _: start)
    return open_voxels(_find_files(path, header), header.size, stored)


def _find_files(path: Path, header: MetaHeader) -> list[Path]:
    """Return the files that hold the voxels."""
    words = header.data.split()
    if header.data == _LOCAL:
        return [path]
    if words[:1] == ["LIST"]:
        axes = _read_axes_of_file(words, len(header.shape), path)
        return find_listed(path, header.files, count=math.prod(header.shape[:-axes]))
    if "%" in header.data:
        return expand_pattern(path, header.data, count=header.shape[0])
    return [find_beside(path, header.data)]


def _read_axes_of_file(words: list[str], axes: int, path: Path) -> int:
    """Return the number of axes per file of a list, "LIST" or "LIST 2D"; one less by default."""
    word = words[1].upper().removesuffix("D") if len(words) == 2 else str(axes - 1)
    if len(words) > 2 or word not in [str(count) for count in range(1, axes + 1)]:
        raise FormatError(
            f"{path}: ElementDataFile is {' '.join(words)[:60]}; expected LIST and at most the "
            f"number of axes of each file, 1 to {axes}."
        )
    return int(word)
