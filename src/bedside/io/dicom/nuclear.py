"""Nuclear medicine: frames whose slice, time or view is given by vectors."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import NuclearMedicineImageStorage

from bedside.errors import FormatError, GeometryError
from bedside.io.dicom.calibration import read_number
from bedside.io.dicom.split import FrameAxes
from bedside.io.dicom.stack import Plane, read_plane

_VECTORS = {
    "EnergyWindowVector": "energy windows",
    "DetectorVector": "detectors",
    "PhaseVector": "phases",
    "RotationVector": "rotations",
    "RRIntervalVector": "R-R intervals",
    "TimeSlotVector": "time slots",
    "SliceVector": "slices",
    "AngularViewVector": "angular views",
    "TimeSliceVector": "time slices",
}
_TIMES = ("TimeSlotVector", "TimeSliceVector")


def is_nuclear(header: Any) -> bool:
    """Whether a file is nuclear medicine, with vectors instead of functional groups."""
    return str(header.get("SOPClassUID")) == NuclearMedicineImageStorage


def are_nuclear_slices(header: Any, frames: int, path: Path) -> bool:
    """Whether the frames are slices; else they follow each other in time.

    Raises:
        FormatError: If they are neither, such as the views of a rotating camera.

    Source:
        DICOM PS3.3 C.8.4.8, NM Multi-frame.
    """
    counts = {name: len(set(vector)) for name, vector in _read_vectors(header, frames).items()}
    several = {name: count for name, count in counts.items() if count > 1}
    if "SliceVector" in several and several.keys() <= {"SliceVector", *_TIMES}:
        return True
    if several.keys() <= set(_TIMES):
        return False
    listed = " x ".join(f"{count} {_VECTORS[name]}" for name, count in several.items())
    raise FormatError(
        f"{path} is a nuclear medicine image of {listed}: its frames are neither the slices of a "
        "scan nor points in time of one image. Reconstruct it, or save each as an image of its own."
    )


def place_nuclear(header: Any, frames: int, path: Path) -> tuple[list[Plane], list[FrameAxes]]:
    """Return the place and point in time of the slices of a reconstruction.

    Returns:
        A plane for each frame, and its point in time.

    Raises:
        FormatError: If the distance between slices is missing.
        GeometryError: If position or orientation is missing.

    Source:
        DICOM PS3.3 C.8.4.11 (position of the first slice) and C.8.4.15: slice n lies n - 1 times
        SpacingBetweenSlices along the normal, and a negative spacing goes against it.
    """
    vectors = _read_vectors(header, frames)
    step_mm = read_number(header, "SpacingBetweenSlices")
    if not step_mm:
        raise FormatError(
            f"{path} is a nuclear medicine reconstruction without SpacingBetweenSlices, so where "
            "its slices lie is not known. Convert it to a classic series."
        )
    detectors = header.get("DetectorInformationSequence") or ()
    number = int(vectors.get("DetectorVector", [1])[0])
    detector = detectors[number - 1] if 0 < number <= len(detectors) else None
    if detector is None or not detector.get("ImagePositionPatient"):
        raise GeometryError(
            f"{path} is a nuclear medicine reconstruction whose DetectorInformationSequence has no "
            "ImagePositionPatient, so where it lies is not known. Convert it to a classic series."
        )
    first = read_plane(
        detector.get("ImagePositionPatient"),
        detector.get("ImageOrientationPatient"),
        header.get("PixelSpacing"),
        name=str(path),
    )
    planes, axes = [], []
    for index, slice_ in enumerate(vectors["SliceVector"]):
        position = first.position + (slice_ - 1) * step_mm * first.normal
        name = f"{path}: frame {index + 1}"
        orientation = first.orientation.tolist()
        planes.append(read_plane(position.tolist(), orientation, first.spacing_mm, name=name))
        times = [vectors[name][index] for name in _TIMES if name in vectors]
        axes.append(FrameAxes(stack=None, stack_id=None, time=float(sum(times)), channel=""))
    return planes, axes


def _read_vectors(header: Any, frames: int) -> dict[str, np.ndarray]:
    """Return the vectors, which have a number for each frame."""
    vectors = {}
    for keyword in _VECTORS:
        value = header.get(keyword)
        numbers = [value] if isinstance(value, int) else list(value or ())
        if len(numbers) == frames:
            vectors[keyword] = np.array(numbers, np.int64)
    return vectors
