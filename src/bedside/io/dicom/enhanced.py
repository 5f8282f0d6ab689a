"""Multi-frame files whose frames are slices, placed by functional groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, uid

from bedside.errors import FormatError, GeometryError
from bedside.io.dicom.functional import FrameGroups, list_groups
from bedside.io.dicom.header import DicomInstances, number_frames
from bedside.io.dicom.nuclear import are_nuclear_slices, is_nuclear, place_nuclear
from bedside.io.dicom.options import DicomOptions
from bedside.io.dicom.parts import Part
from bedside.io.dicom.pixels import describe_stray_bits
from bedside.io.dicom.slices import make_scan
from bedside.io.dicom.split import FrameAxes, choose_frames, read_axes
from bedside.io.dicom.stack import Plane, check_alike, find_duplicates, is_seam, read_plane
from bedside.io.dicom.values import ValueRule, is_colour, read_colour_rule, read_rule
from bedside.volume import ImageSequence

_ENHANCED = frozenset({
    uid.EnhancedCTImageStorage, uid.EnhancedMRImageStorage, uid.EnhancedPETImageStorage,
    uid.EnhancedUSVolumeStorage, uid.LegacyConvertedEnhancedCTImageStorage,
    uid.LegacyConvertedEnhancedMRImageStorage, uid.LegacyConvertedEnhancedPETImageStorage,
})  # fmt: skip
_IN_VOLUME = (
    "the slices are placed in the frame of the transducer, not of the patient: left and right, "
    "front and back of the patient are not known"
)


@dataclass(frozen=True)
class _Places:
    """Places of the frames of all parts.

    Attributes:
        planes: For each frame.
        groups: For each frame.
        axes: For each frame, what distinguishes its scan from others in the file.
        in_patient: Whether places are in the patient.
    """

    planes: list[Plane] = field(repr=False)
    groups: list[FrameGroups] = field(repr=False)
    axes: list[FrameAxes] = field(repr=False)
    in_patient: bool = True


def is_enhanced(header: Any) -> bool:
    """Whether a file is of a class whose frames always have a place."""
    return str(header.get("SOPClassUID")) in _ENHANCED


def are_slices(parts: Sequence[Part]) -> bool:
    """Whether frames are slices: by definition of their class, or by their positions.

    Frames at one place follow each other in time; those of such a class only if each has its own
    point in time.

    Raises:
        FormatError: If they are neither slices nor points in time.
    """
    first = parts[0]
    if is_nuclear(first.header):
        return are_nuclear_slices(first.header, first.frames, first.path)
    if "TotalPixelMatrixColumns" in first.header:
        raise FormatError(
            f"{first.path} is a whole slide image: its frames are tiles of one picture, neither "
            "slices nor points in time. Name a picture of the region that you want segmented."
        )
    groups = [each for part in parts for each in list_groups(part.header, part.frames)]
    if len(groups) != sum(part.frames for part in parts):
        return is_enhanced(first.header)
    several = any(
        len({str(each.place("PlanePositionSequence", in_patient=where)) for each in groups}) > 1
        for where in (True, False)
    )
    return several or (is_enhanced(first.header) and sort_in_time(groups) is None)


def sort_in_time(groups: Sequence[FrameGroups]) -> list[int] | None:
    """Return indices by point in time; None if frames do not each have their own."""
    times = [each.read("FrameContentSequence", "TemporalPositionIndex") for each in groups]
    if None in times or len(set(times)) < len(times):
        return None
    return sorted(range(len(times)), key=lambda index: int(times[index]))


def place_frames(
    parts: Sequence[Part], *, path: Path, options: DicomOptions,
    select: Mapping[str, int] | None = None,
) -> tuple[ImageSequence, DicomInstances]:  # fmt: skip
    """Return frames ordered by place in the patient.

    Args:
        parts: Their files.
        path: Name for errors.
        options: What to do with gaps.
        select: Which of several stacks or points in time, counted from 1: {"stack": 2}.

    Returns:
        The slices with their geometry, and their headers.

    Raises:
        FormatError: If the functional groups are missing, or there are several scans and none
            is chosen; they are listed.
        GeometryError: If the frames are no single, even stack.

    Source:
        DICOM PS3.3 C.7.6.16, Multi-frame Functional Groups; C.8.24.3, Enhanced US Volume.
    """
    places = _read_places(parts)
    frames = number_frames([(part.header, part.frames) for part in parts])
    rules = _read_rules(places.groups, path, options)
    kept = choose_frames(places.axes, select, path)
    planes, rules = [places.planes[index] for index in kept], [rules[index] for index in kept]
    _check_one_stack(planes, path)

    def decode(index: int) -> np.ndarray:
        part, number = frames[kept[index]]
        return parts[part].decoder(max(number - 1, 0))

    first = parts[0]
    sequence, order = make_scan(
        planes, rules, decode, dataset=first.header, options=options, path=path
    )  # fmt: skip
    sequence = replace(sequence, shape=(len(sequence), first.channels, *sequence.shape[2:]))
    placed = tuple(frames[kept[index]] if index >= 0 else (-1, 0) for index in order)
    notes = describe_stray_bits(first.decoder)
    if not places.in_patient:
        notes = [_IN_VOLUME, *notes]
    header = DicomInstances(tuple(part.header for part in parts), placed, places.in_patient)
    return replace(sequence, warnings=(*sequence.warnings, *notes)), header


def read_frame_rule(groups: FrameGroups, path: Path, options: DicomOptions) -> ValueRule:
    """Return the value rule of a frame, from its groups or else from the header.

    Raises:
        FormatError: As `read_rule`.
    """
    header = groups.header
    if is_colour(header):
        return read_colour_rule(header)
    modality = str(header.get("Modality") or "") or None
    transformation = groups.find("PixelValueTransformationSequence")
    return read_rule(
        header, path, modality=modality, options=options, transformation=transformation
    )


def _read_rules(
    groups: Sequence[FrameGroups], path: Path, options: DicomOptions
) -> list[ValueRule]:
    return [read_frame_rule(each, path, options) for each in groups]


def _read_places(parts: Sequence[Part]) -> _Places:
    """Return the places of frames: in the patient if known, else in the transducer's volume."""
    first = parts[0]
    if is_nuclear(first.header):
        planes, axes = place_nuclear(first.header, first.frames, first.path)
        nothing = Dataset()
        return _Places(planes, [FrameGroups(first.header, nothing, nothing)] * len(planes), axes)
    groups, names = [], []
    for part in parts:
        own = list_groups(part.header, part.frames)
        if not own:
            found = len(part.header.get("PerFrameFunctionalGroupsSequence") or ())
            raise FormatError(
                f"{part.path} has {part.frames} frames and functional groups for {found}, so "
                "where they lie is not known. Convert it to a classic series."
            )
        groups += own
        names += [f"{part.path}: frame {number + 1}" for number in range(part.frames)]
    in_patient = any(each.find("PlanePositionSequence") is not None for each in groups) or not any(
        each.find("PlanePositionVolumeSequence") is not None for each in groups
    )
    planes = [
        _read_plane(each, name, in_patient=in_patient)
        for each, name in zip(groups, names, strict=True)
    ]
    axes = [read_axes(each.own, plane) for each, plane in zip(groups, planes, strict=True)]
    return _Places(planes, groups, axes, in_patient)


def _read_plane(groups: FrameGroups, name: str, *, in_patient: bool) -> Plane:
    """Return the place of a frame."""
    position = groups.place("PlanePositionSequence", in_patient=in_patient)
    orientation = groups.place("PlaneOrientationSequence", in_patient=in_patient)
    spacing = groups.read("PixelMeasuresSequence", "PixelSpacing")
    # Classes without functional groups may have shared attributes like single images.
    header = groups.header
    orientation = orientation or header.get("ImageOrientationPatient")
    spacing = spacing or header.get("PixelSpacing")
    wanted = {
        "PlanePositionSequence": position,
        "PlaneOrientationSequence": orientation,
        "PixelMeasuresSequence": spacing,
    }
    for keyword, value in wanted.items():
        if value is None:
            raise FormatError(
                f"{name} lacks {keyword}, so where it lies is not known. Convert the file to a "
                "classic series, or name one that places each frame."
            )
    return read_plane(
        position,
        orientation,
        spacing,
        name=name,
        thickness=groups.read("PixelMeasuresSequence", "SliceThickness"),
        between=groups.read("PixelMeasuresSequence", "SpacingBetweenSlices"),
        acquisition=groups.read("FrameContentSequence", "FrameAcquisitionNumber"),
    )


def _check_one_stack(planes: list[Plane], path: Path) -> None:
    """Refuse several scans in one file that cannot be told apart."""
    way_out = "Save each as a series of its own."
    directions = {tuple(np.round(plane.orientation, 2)) for plane in planes}
    try:
        check_alike(planes)
    except GeometryError as error:
        raise GeometryError(
            f"{path} holds {len(directions)} stacks of slices, or more: {error} {way_out}"
        ) from error
    again = [pair for pair in find_duplicates(planes) if not is_seam(planes, *pair)]
    if again:
        first, second = again[0]
        places = len(planes) - len(again)
        raise GeometryError(
            f"{path} holds {len(planes)} frames at {places} place{'s' if places > 1 else ''} "
            f"(frames {first + 1} and {second + 1} lie together): several points in time, "
            f"echoes or stacks. {way_out}"
        )
