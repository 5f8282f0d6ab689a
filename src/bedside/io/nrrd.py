"""Reads NRRD scans (.nrrd, and .nhdr with its voxels beside it) with their place in the patient.

Source: the format's definition, https://teem.sourceforge.net/nrrd/format.html.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bedside.errors import FormatError
from bedside.io.metaimage import to_nifti_grid
from bedside.io.nrrd_header import NrrdHeader, read_nrrd_header
from bedside.io.voxel_file import check_declared, find_beside, open_voxels
from bedside.io.voxels import find_gaps
from bedside.volume import Cine

if TYPE_CHECKING:
    from bedside.io.nifti import NiftiGrid

MAX_BYTES = 2**31
"""Largest array that is read: 2 GiB."""

_LONGEST_LINE = 2**20


def open_nrrd(
    path: Path, *, select: Mapping[str, int] | None = None, max_bytes: int = MAX_BYTES
) -> tuple[Cine, "NiftiGrid | None"]:
    """Open a scan as a cine whose frames are its slices, read when they are asked for.

    The header decides nothing unchecked: sizes are held against `max_bytes` before anything
    is allocated and against the file's length after, and voxels are only looked for beside
    the header.

    Args:
        path: The .nrrd or .nhdr file.
        select: Which one of a further axis, counted from 1: {"time": 3} or {"channel": 1}.
        max_bytes: A file whose voxels take more is refused.

    Returns:
        The cine, and the grid for labels in NIfTI; None where the scan has no place.

    Raises:
        FormatError: If the header lacks a field or has one that cannot be meant, or the
            voxels are missing, too few, too many, too large, not compressed as said, or not
            one value a voxel.
        GeometryError: If the axes are not finite and perpendicular.
        InputError: If too many voxels are not numbers.
    """
    path = Path(path)
    header = read_nrrd_header(path)
    check_declared(path, header.shape, header.dtype, max_bytes=max_bytes)
    place = header.choose(select, path)
    slices = _Slices(path, header, place)
    depth, height, width = header.grid
    gaps = find_gaps(map(slices.read, range(depth)), header.dtype, path)
    spacing = header.spacing_mm
    cine = Cine(
        shape=(depth, 1, height, width),
        decode=lambda index: gaps.fill(slices.read(index))[None],
        spacing_mm=spacing[1:] if spacing else None,
        warnings=(*header.warnings, *gaps.warnings),
        geometry=header.geometry,
        slice_spacing_mm=(spacing[0] or None) if spacing else None,
    )
    return cine, None if header.geometry is None else to_nifti_grid(header.geometry)


class _Slices:
    """The slices of an open file.

    Args:
        path: The header's file.
        header: What it says.
        place: Which one along its further axis, counted from 0.

    Raises:
        FormatError: If voxels are missing, lie elsewhere, or are not as many as declared.
    """

    def __init__(self, path: Path, header: NrrdHeader, place: int) -> None:
        source = path if header.data is None else find_beside(path, header.data)
        self._header, self._place = header, place
        self._voxels = open_voxels(
            source, header.dtype, header.size, start=_skip_lines(source, header),
            skip=header.byte_skip, compressed=header.compressed,
        )  # fmt: skip

    def read(self, index: int) -> np.ndarray:
        """Read slice `index`, (H, W), in the machine's byte order."""
        header = self._header
        axes = list(header.shape)
        if header.extra == 0:
            # One whole scan lies behind another.
            del axes[0]
            index += self._place * (axes[0] if len(axes) == 3 else 1)
        # What is read at once: a plane, with all the values at its places where it has several.
        planes = len(axes) - (1 if header.extra else 0) == 3
        block = axes[1:] if planes else axes
        array = self._voxels.read(index, block)
        if header.extra:
            array = np.take(array, self._place, axis=header.extra - len(axes) + len(block))
        return array


def _skip_lines(source: Path, header: NrrdHeader) -> int:
    """Find where the voxels begin, after the lines to skip, in bytes.

    Raises:
        FormatError: If there are fewer lines.
    """
    with source.open("rb") as file:
        file.seek(header.length if header.data is None else 0)
        for _ in range(header.line_skip):
            if not file.readline(_LONGEST_LINE).endswith(b"\n"):
                raise FormatError(f"{source} has fewer than {header.line_skip} lines to skip.")
        return file.tell()
