"""The grid of a NIfTI image, also used for MetaImage and NRRD; no heavy imports."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bedside.volume import Geometry


@dataclass(frozen=True)
class NiftiGrid:
    """The grid of a NIfTI image, for writing labels on it.

    Attributes:
        shape: The array's shape in the file, (x, y), (x, y, z), or with trailing ones.
        affine: (4, 4). Maps (x, y, z, 1) to mm in RAS, NIfTI's own convention.
        header: The nibabel header, with its qform, sform and codes.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    header: Any

    @property
    def in_patient(self) -> bool:
        """Whether the header places the image in the patient."""
        return int(self.header["qform_code"]) != 0 or int(self.header["sform_code"]) != 0


def to_nifti_grid(geometry: Geometry, *, times: int = 1) -> NiftiGrid:
    """Return the grid of a scan in NIfTI's convention, (x, y, z) and RAS.

    Args:
        geometry: Of an array (D, H, W).
        times: Number of times, for a single slice over time.
    """
    import nibabel

    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.affine[:, [2, 1, 0, 3]]
    shape = (*geometry.shape[::-1], *([times] if times > 1 else []))
    kind: Any = nibabel.Nifti1Header
    header = kind()
    header.set_data_shape(shape)
    header.set_qform(affine, code="scanner")
    header.set_sform(affine, code="scanner")
    header.set_xyzt_units("mm")
    return NiftiGrid(shape, affine, header)
