"""NIfTI headers passed between processes, as hexadecimal digits."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from bedside.io.nifti.grid import NiftiGrid


def write_headers(header: NiftiGrid, folder: Path) -> dict[str, Any]:
    """Return the grid of an image as JSON.

    Args:
        header: The grid.
        folder: Not used: no file is needed.
    """
    return {
        "shape": header.shape,
        "affine": header.affine.tolist(),
        "binary": header.header.binaryblock.hex(),
        "endianness": header.header.endianness,
    }


def read_headers(header: Any, folder: Path) -> NiftiGrid:
    """Return the grid that `write_headers` described.

    Raises:
        Exception: Of any kind, if it is malformed.
    """
    binary = bytes.fromhex(header["binary"])
    second = len(binary) == nibabel.Nifti2Header.sizeof_hdr
    made_of: Any = nibabel.Nifti2Header if second else nibabel.Nifti1Header
    return NiftiGrid(
        tuple(int(size) for size in header["shape"]),
        np.array(header["affine"], np.float64).reshape(4, 4),
        made_of(binary, endianness="<" if header["endianness"] == "<" else ">", check=False),
    )
