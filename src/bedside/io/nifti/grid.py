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
        header: The nibabel header, with its qform, sform and codes; None of another format,
            which lies where the affine says.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    header: Any = None

    @property
    def in_patient(self) -> bool:
        """Whether the grid has a place in the patient."""
        header = self.header
        return header is None or int(header["qform_code"]) != 0 or int(header["sform_code"]) != 0

    def make_header(self) -> Any:
        """Return a nibabel header of this grid."""
        if self.header is not None:
            return self.header.copy()
        import nibabel

        kind: Any = nibabel.Nifti1Header
        header = kind()
        header.set_data_shape(self.shape)
        header.set_qform(self.affine, code="scanner")
        header.set_sform(self.affine, code="scanner")
        header.set_xyzt_units("mm")
        return header


def to_nifti_grid(geometry: Geometry, *, times: int = 1) -> NiftiGrid:
    """Return the grid of a scan in NIfTI's convention, (x, y, z) and RAS.

    Args:
        geometry: Of an array (D, H, W).
        times: Number of times, for a single slice over time.
    """
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.affine[:, [2, 1, 0, 3]]
    return NiftiGrid((*geometry.shape[::-1], *([times] if times > 1 else [])), affine)
