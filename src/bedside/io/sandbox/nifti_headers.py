"""NIfTI headers passed between processes, as hexadecimal digits."""

from pathlib import Path
from typing import Any

import numpy as np

from bedside.io.nifti.grid import NiftiGrid


def write_headers(header: NiftiGrid, folder: Path) -> dict[str, Any]:
    """Return the grid of an image as JSON.

    Args:
        header: The grid.
        folder: Not used: no file is needed.
    """
    written = {"shape": header.shape, "affine": header.affine.tolist()}
    if header.header is None:
        return written
    binary, endianness = header.header.binaryblock.hex(), header.header.endianness
    return {**written, "binary": binary, "endianness": endianness}


def read_headers(header: Any, folder: Path) -> NiftiGrid:
    """Return the grid that `write_headers` described.

    Raises:
        Exception: Of any kind, if it is malformed.
    """
    shape = tuple(int(size) for size in header["shape"])
    affine = np.array(header["affine"], np.float64).reshape(4, 4)
    if "binary" not in header:
        return NiftiGrid(shape, affine)
    import nibabel

    binary = bytes.fromhex(header["binary"])
    second = len(binary) == nibabel.Nifti2Header.sizeof_hdr
    made_of: Any = nibabel.Nifti2Header if second else nibabel.Nifti1Header
    endianness = "<" if header["endianness"] == "<" else ">"
    return NiftiGrid(shape, affine, made_of(binary, endianness=endianness, check=False))
