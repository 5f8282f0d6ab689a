"""What a DICOM SEG has to know of its source: the headers, and which frame is in which file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset


@dataclass(frozen=True)
class DicomInstances:
    """The instances behind a cine: one file of frames, or the files of a series.

    Attributes:
        instances: Their headers, pydicom datasets without pixel data.
        frames: For every frame of the cine the index of its instance, and its number there,
            counted from 1; 0 where the instance is a single image, which DICOM does not number.
            The instance is -1 for a frame that was interpolated and is in no file.
        in_patient: Whether places are those in the patient; not where they are those in the
            volume of an ultrasound transducer.
    """

    instances: tuple[Dataset, ...] = field(repr=False)
    frames: tuple[tuple[int, int], ...] = field(repr=False)
    in_patient: bool = True

    @property
    def first(self) -> Dataset:
        """The header of the first instance, which stands for all in what they share."""
        return self.instances[0]


def of_one_file(dataset: Dataset, frames: int) -> DicomInstances:
    """Describe a single file whose frames are those of the cine.

    Args:
        dataset: Its header.
        frames: How many frames it has.

    Example:
        >>> of_one_file(Dataset(), 1).frames
        ((0, 0),)
    """
    return DicomInstances((dataset,), number_frames([(dataset, frames)]))


def number_frames(files: Sequence[tuple[Any, int]]) -> tuple[tuple[int, int], ...]:
    """Number the frames of files one after another.

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
