"""One case of a data set: an image, its expert labels, and the patient they belong to."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bedside.errors import DataError
from bedside.io.source import Source, open_source

if TYPE_CHECKING:
    from bedside.io.nifti import NiftiGrid

# Writers round affines to float32 and quaternions; labels that lie elsewhere are off by more.
_GRID_TOLERANCE_VOX = 0.05


@dataclass(frozen=True)
class Case:
    """An image with expert labels.

    Attributes:
        case_id: Name of the case, unique in its data set.
        patient_id: The patient, so that no split and no interval counts one twice.
        image: File of the image.
        truth: File of the labels, on the image's grid.
    """

    case_id: str
    patient_id: str
    image: Path
    truth: Path


def read_truth(case: Case, label_values: tuple[int, ...]) -> np.ndarray:
    """Read the expert labels of a case.

    Args:
        case: The case.
        label_values: Values that may occur besides 0, the background.

    Returns:
        (frames, height, width) uint8 on the image's grid.

    Raises:
        DataError: If the labels lie on another grid than the image, are not whole numbers,
            or have a value that is not allowed.
        FormatError: If the image or the labels cannot be read.
    """
    return read_case(case, label_values)[1]


def read_case(case: Case, label_values: tuple[int, ...]) -> tuple[Source, np.ndarray]:
    """Open the image of a case and read its labels: as `read_truth`, with the image.

    Returns:
        The opened image, and (frames, height, width) uint8 on its grid.

    Raises:
        DataError: As `read_truth`.
        FormatError: As `read_truth`.
    """
    image, truth = open_source(case.image), open_source(case.truth)
    _check_same_grid(case, image, truth)
    frames = np.stack([_one_channel(case, frame) for frame in truth.cine])
    found = np.unique(frames)
    allowed = (0, *label_values)
    strange = [value for value in found.tolist() if value not in allowed]
    if strange:
        seen = ", ".join(f"{value:g}" for value in strange[:8])
        raise DataError(
            f"case {case.case_id}: {case.truth} holds the label {seen}; expected only "
            f"{', '.join(map(str, allowed))}. Relabel it, or use a bundle with these labels."
        )
    return image, frames.astype(np.uint8)


def _one_channel(case: Case, frame: np.ndarray) -> np.ndarray:
    """Take the labels out of a frame, grey or grey saved as colour.

    Raises:
        DataError: If the channels differ, so that they are colours and not labels.
    """
    if (frame != frame[:1]).any():
        raise DataError(
            f"case {case.case_id}: {case.truth} is a colour picture; expected label values "
            "in one channel."
        )
    return np.asarray(frame[0])


def _check_same_grid(case: Case, image: Source, truth: Source) -> None:
    """Refuse labels that do not lie on their image.

    Raises:
        DataError: If size, spacing or place differ.
    """
    frames, _, *plane = image.cine.shape
    truth_frames, _, *truth_plane = truth.cine.shape
    if (frames, *plane) != (truth_frames, *truth_plane):
        raise DataError(
            f"case {case.case_id}: {case.truth} has (frames, height, width) "
            f"{(truth_frames, *truth_plane)} and its image {(frames, *plane)}. "
            "Resample the labels to the image's grid."
        )
    if image.kind == truth.kind == "nifti" and not _same_place(image.header, truth.header):
        raise DataError(
            f"case {case.case_id}: {case.truth} lies elsewhere than {case.image}: their "
            "affines differ. Resample the labels to the image's grid."
        )


def _same_place(image: "NiftiGrid", truth: "NiftiGrid") -> bool:
    """Tell whether two NIfTI grids of one size agree to a small part of a voxel.

    A header that does not say where its image lies has only a spacing to compare.
    """
    spacing_mm = np.linalg.norm(image.affine[:3, :3], axis=0)
    tolerance_mm = _GRID_TOLERANCE_VOX * spacing_mm.min()
    sizes = np.array([*image.shape, 1, 1, 1][:3]) - 1
    if not (_is_placed(image) and _is_placed(truth)):
        apart = sizes * (np.linalg.norm(truth.affine[:3, :3], axis=0) - spacing_mm)
        return bool((np.abs(apart) <= tolerance_mm).all())
    corners = np.indices((2, 2, 2)).reshape(3, -1) * sizes[:, None]
    difference = truth.affine - image.affine
    apart = difference[:3, :3] @ corners + difference[:3, 3:]
    return bool((np.linalg.norm(apart, axis=0) <= tolerance_mm).all())


def _is_placed(grid: "NiftiGrid") -> bool:
    """Tell whether a NIfTI header says where its image lies in the patient."""
    return int(grid.header["qform_code"]) != 0 or int(grid.header["sform_code"]) != 0
