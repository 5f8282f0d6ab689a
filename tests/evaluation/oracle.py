"""Inputs for the evaluation loop: a data set of squares, and a segmenter that knows the truth.

The oracle is an input and not a stand-in: it says what a real one would be right or wrong
about, so that every score can be worked out by hand.
"""

from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np

from bedside.pipeline.protocol import Segmentation
from bedside.spec import Code, Label, Region
from bedside.volume import Box, ImageSequence, LabelMap

_CODE = Code("91723000", "SCT", "Anatomical Structure")
LABELS = (
    Label(1, "inner", (230, 60, 60), _CODE, _CODE),
    Label(2, "outer", (70, 200, 90), _CODE, _CODE),
)
SPACING_MM = (0.5, 2.0)
SHAPE = (40, 60)


def square_labels(*, shift: int = 0, frames: int = 1) -> np.ndarray:
    """Label 1: rows 10-19, columns 10-19. Label 2: rows 22-31, columns 30-39. Shifted right."""
    labels = np.zeros((frames, *SHAPE), np.uint8)
    labels[:, 10:20, 10 + shift : 20 + shift] = 1
    labels[:, 22:32, 30 + shift : 40 + shift] = 2
    return labels


def write_nifti(path: Path, frames: np.ndarray, *, spacing_mm=SPACING_MM) -> None:
    """Write (F, H, W) the way NIfTI has it: (x, y), or (x, y, z)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = frames.transpose(2, 1, 0)
    array = array[:, :, 0] if array.shape[2] == 1 else array
    affine = np.diag([-spacing_mm[1], -spacing_mm[0], 1.0, 1.0])
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def write_camus(folder: Path, shifts: dict[str, tuple[int, int]]) -> Path:
    """Write a data set in the layout of CAMUS; the shift is the brightest pixel's value.

    The dark background is another one for every patient, as images of patients are.
    """
    for patient, pair in shifts.items():
        random = np.random.default_rng(list(patient.encode()))
        for moment, shift in zip(("ED", "ES"), pair, strict=True):
            stem = folder / patient / f"{patient}_4CH_{moment}"
            dark = random.integers(0, 41, (1, *SHAPE), dtype=np.uint8)
            image = np.where(square_labels() > 0, 60 * square_labels() + 20, dark)
            image[0, 0, 0] = 200 + shift
            write_nifti(stem.with_name(f"{stem.name}.nii.gz"), image)
            write_nifti(stem.with_name(f"{stem.name}_gt.nii.gz"), square_labels())
    return folder


class Oracle:
    """Finds the squares exactly, then moves them right by as much as the image tells it to."""

    def __init__(
        self,
        *,
        spacing_known: bool = True,
        warnings: tuple[str, ...] = (),
        regions: tuple[Region, ...] = (),
    ) -> None:
        self.spec = SimpleNamespace(labels=LABELS, regions=regions, name="oracle")
        self._spacing_known = spacing_known
        self._warnings = warnings

    def segment_sequence(self, sequence: ImageSequence, *, force: bool = False) -> Segmentation:
        shift = int(sequence.decode(0)[0, 0, 0]) - 200
        spacing_mm = sequence.spacing_mm if self._spacing_known else None
        labels = LabelMap(square_labels(shift=shift, frames=len(sequence)), spacing_mm)
        box = Box(0, 0, *sequence.shape[2:])
        return Segmentation(labels, {}, box, spacing_mm, self._warnings)
