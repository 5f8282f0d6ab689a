"""NIfTI headers, from one process to another: their bytes, in hexadecimal digits."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from bedside.io.nifti.grid import NiftiGrid


def write_headers(header: NiftiGrid, folder: Path) -> dict[str, Any]:
    """The grid of an image, as JSON holds it.

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
    """The grid of what `write_headers` gave.

    Raises:
        Exception: Of many kinds, if it is of another form.
    """
    binary = bytes.fromhex(header["binary"])
    second = len(binary) == nibabel.Nifti2Header.sizeof_hdr
    made_of: Any = nibabel.Nifti2Header if second else nibabel.Nifti1Header
    return NiftiGrid(
        tuple(int(size) for size in header["shape"]),
        np.array(header["affine"], np.float64).reshape(4, 4),
        made_of(binary, endianness="<" if header["endianness"] == "<" else ">", check=False),
    )
