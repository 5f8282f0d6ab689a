"""Headers of the instances behind a sequence, for writing a DICOM SEG."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset


@dataclass(frozen=True)
class DicomInstances:
    """The instances behind a sequence: one file of frames, or the files of a series.

    Attributes:
        instances: Their headers, pydicom datasets without pixel data.
        frames: For every frame the index of its instance, and its number there, counted from 1; 0
            where the instance is a single image, which DICOM does not number. The instance is -1
            for an interpolated frame.
        in_patient: Whether places are in the patient, and not in an ultrasound volume.
    """

    instances: tuple[Dataset, ...] = field(repr=False)
    frames: tuple[tuple[int, int], ...] = field(repr=False)
    in_patient: bool = True

    @property
    def first(self) -> Dataset:
        """The header of the first instance, for what all share."""
        return self.instances[0]


def number_frames(files: Sequence[tuple[Any, int]]) -> tuple[tuple[int, int], ...]:
    """Return the index of its file and its number there for each frame of several files.

    Args:
        files: The header of each, and how many frames it has.

    Returns:
        For each frame the index of its file, and its number there as `DicomInstances` has it.
    """
    return tuple(
        (place, number + 1 if "NumberOfFrames" in header else 0)
        for place, (header, frames) in enumerate(files)
        for number in range(frames)
    )
