"""Labels as NIfTI, on the grid of their source."""

from typing import Any, BinaryIO

import nibabel
import numpy as np

from bedside.errors import UsageError
from bedside.io.even_grid import EvenGrid, find_even_grid
from bedside.io.nifti.grid import NiftiGrid
from bedside.io.opened import Algorithm, Source
from bedside.io.own_results import NIFTI_DESCRIPTION
from bedside.spec import Label
from bedside.volume import Geometry, LabelMap


def encode_nifti(
    labels: LabelMap, source: Source, file: BinaryIO, *, labels_spec: tuple[Label, ...],
    algorithm: Algorithm,
) -> None:  # fmt: skip
    """Write labels as uint8 in the shape, axis order and affine of their source.

    For a source of another format the file is (x, y, frame). If it has a place in the patient, that
    is the sform, which can be sheared; else both form codes are 0, and pixdim is the spacing in mm
    if known, else 1 with unit "unknown". Labels of uneven slices are repeated on an even grid.

    Args:
        labels: (frames, height, width), on the source's grid.
        source: The segmented image.
        file: The file to write to.
        labels_spec: Not used: NIfTI has no names.
        algorithm: Not used.

    Raises:
        UsageError: If they are not on the source's grid.
        OSError: If it cannot be written.
    """
    even = find_even_grid(source.sequence)
    _make_header(labels, source, even).write_to(file)
    for frame in labels.array if even is None else even.repeat(labels.array):
        # x runs fastest in a file, as columns do here.
        file.write(np.ascontiguousarray(frame, np.uint8).data)


def encode_probabilities(
    probabilities: np.ndarray, labels: LabelMap, source: Source, file: BinaryIO
) -> None:
    """Write class probabilities as float32, (x, y, z, class), in the place of the labels.

    Args:
        probabilities: (K, frames, height, width).
        labels: The labels of the same image.
        source: The segmented image.
        file: The file to write to.

    Raises:
        UsageError: If the labels are not on its grid.
        OSError: If it cannot be written.
    """
    even = find_even_grid(source.sequence)
    header = _make_header(labels, source, even)
    header.set_data_dtype(np.float32)
    header.set_data_shape((*(*header.get_data_shape(), 1, 1)[:3], len(probabilities)))
    header.write_to(file)
    for volume in probabilities:
        for frame in volume if even is None else even.repeat(volume):
            file.write(np.ascontiguousarray(frame, header.get_data_dtype()).data)


def _make_header(labels: LabelMap, source: Source, even: EvenGrid | None) -> Any:
    """Make the header of labels: on the grid of a NIfTI source, in a place, or without one."""
    geometry = source.sequence.geometry
    if isinstance(source.header, NiftiGrid):
        return _place_on(labels, source.header)
    if geometry is not None:
        return _place_at(geometry if even is None else even.geometry)
    return _place_free(labels)


def _place_free(labels: LabelMap) -> Any:
    """Return a header for labels without a place in the patient."""
    frames, height, width = labels.array.shape
    kind: Any = nibabel.Nifti1Header
    header = kind()
    header.set_data_shape((width, height, frames))
    row_mm, column_mm = labels.spacing_mm or (1.0, 1.0)
    header.set_zooms((column_mm, row_mm, 1.0))
    header.set_xyzt_units("mm" if labels.spacing_mm else "unknown")
    return _label_header(header)


def _place_on(labels: LabelMap, grid: NiftiGrid) -> Any:
    """Return a header for labels in the version, shape and place of their source."""
    if labels.array.size != np.prod(grid.shape, dtype=np.int64):
        raise UsageError(f"labels of shape {labels.array.shape} do not fit {grid.shape}.")
    header = grid.make_header()
    if header.get_data_shape() != grid.shape:
        header.set_data_shape(grid.shape)
    return _label_header(header)


def _place_at(geometry: Geometry) -> Any:
    """Return a header for labels with our LPS affine of (z, y, x)."""
    frames, height, width = geometry.shape
    kind: Any = nibabel.Nifti1Image
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.affine[:, [2, 1, 0, 3]]
    # An image without memory, for nibabel to set the affine's codes.
    image = kind(np.broadcast_to(np.uint8(0), (width, height, frames)), affine)
    image.header.set_xyzt_units("mm")
    return _label_header(image.header)


def _label_header(header: Any) -> Any:
    """Return a copy of a header for labels: uint8, no scaling, no display range."""
    copy = header.copy()
    copy.set_data_dtype(np.uint8)
    copy["cal_min"] = copy["cal_max"] = 0
    copy["descrip"] = NIFTI_DESCRIPTION
    copy["scl_slope"], copy["scl_inter"] = 1, 0
    copy.extensions.clear()
    copy["vox_offset"] = 0  # to be set as the header is written
    copy["magic"] = copy.single_magic
    return copy
