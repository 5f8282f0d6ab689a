"""A CT scan that is made, for measuring what a scan of some size costs: no patient's image."""

import contextlib
import gzip
from pathlib import Path
from typing import IO

import nibabel
import numpy as np

SPACING_MM = (1.5, 0.7, 0.7)


def write_scan(path: Path, shape: tuple[int, int, int], *, seed: int = 0) -> None:
    """Write a body of soft tissue with organs, bones and noise in air, as int16 HU.

    Args:
        path: A .nii or .nii.gz file; written slice by slice, so that any size can be made.
        shape: (slices, rows, columns), 1.5 x 0.7 x 0.7 mm each.
        seed: Of organs and noise.
    """
    rng = np.random.default_rng(seed)
    depth, height, width = shape
    affine = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((width, height, depth))
    header.set_sform(affine, code=1)
    header.set_zooms(SPACING_MM[::-1])
    header.set_xyzt_units("mm")
    header["vox_offset"] = 352
    header["magic"] = b"n+1\0"
    organs = [
        (rng.uniform(0.25, 0.75, 3), rng.uniform(0.04, 0.14, 3), rng.integers(20, 300))
        for _ in range(24)
    ]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    rows, columns = rows / height, columns / width
    body = ((rows - 0.5) / 0.33) ** 2 + ((columns - 0.5) / 0.42) ** 2 < 1
    noise = rng.normal(0, 15, (height + 64, width + 64)).astype(np.float32)
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(path.open("wb"))
        if path.suffix == ".gz":
            file = stack.enter_context(gzip.GzipFile("", "wb", 1, fileobj=file))
        header.write_to(file)
        for index in range(depth):
            plane = np.where(body, np.float32(40), np.float32(-1000))
            for middle, radius, density in organs:
                along = ((index / depth - middle[0]) / radius[0]) ** 2
                if along < 1:
                    across = ((rows - middle[1]) / radius[1]) ** 2
                    inside = across + ((columns - middle[2]) / radius[2]) ** 2 < 1 - along
                    plane[inside & body] = density
            top, left = rng.integers(0, 64, 2)
            plane += noise[top : top + height, left : left + width]
            file.write(np.ascontiguousarray(plane.round().astype("<i2")).tobytes())
