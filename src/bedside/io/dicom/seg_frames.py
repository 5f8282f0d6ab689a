"""Functional groups of a DICOM SEG: structure and source of each frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import generate_uid
from pydicom.valuerep import format_number_as_ds

from bedside.io.dicom.functional import (
    PLACE_GROUPS,
    FrameGroups,
    find_frame_of_reference,
    list_groups,
)
from bedside.io.dicom.header import DicomInstances
from bedside.volume import Geometry, UnevenSlices

_PLACE = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")


def build_reference(header: DicomInstances) -> Dataset:
    """Return the reference to the source's series and instances."""
    instances = []
    for instance in header.instances:
        item = Dataset()
        item.ReferencedSOPClassUID = instance.SOPClassUID
        item.ReferencedSOPInstanceUID = instance.SOPInstanceUID
        instances.append(item)
    series = Dataset()
    series.SeriesInstanceUID = header.first.SeriesInstanceUID
    series.ReferencedInstanceSequence = instances
    return series


@dataclass(frozen=True)
class Scale:
    """The trusted scale of a source, whatever its header claims.

    Attributes:
        pixel_mm: (row, column), or None.
        slice_mm: From slice to slice, the mean of uneven ones; None if frames are not slices.
        uneven: Positions of slices that are not evenly spaced.
    """

    pixel_mm: tuple[float, float] | None
    slice_mm: float | None
    uneven: UnevenSlices | None = None


def build_frames(
    seg: Any,
    header: DicomInstances,
    *,
    shown: Sequence[tuple[int | None, int]],
    scale: Scale,
    geometry: Geometry | None,
    comments: Sequence[str] = (),
) -> None:
    """Add the dimensions and the groups of the frames to a SEG.

    Frames are indexed by structure, unless each shows all, then by place if all source frames have
    one in the patient, else by time.

    Args:
        seg: The dataset to add to, with its SOPInstanceUID.
        header: The source's instances.
        shown: For each frame its structure, None for all, and its source frame, counted from 0.
        scale: Of the source.
        geometry: Of the source frames, if they are the slices of a scan.
        comments: On each frame; none if empty.
    """
    frames = list(dict.fromkeys(frame for _, frame in shown))
    scales = {frame: _build_scale(header, frame, scale) for frame in frames}
    measures = scales[frames[0]]
    alike = all(each == measures for each in scales.values())
    places = {frame: _find_place(header, frame, scales[frame], geometry, scale) for frame in frames}
    placed = find_frame_of_reference(header.first) is not None
    placed = placed and all(len(place) == 3 for place in places.values())
    by_structure = shown[0][0] is not None
    seg.NumberOfFrames = len(shown)
    _add_dimensions(seg, placed=placed, by_structure=by_structure)
    first = places[frames[0]] if placed else {}
    seg.SharedFunctionalGroupsSequence = [_build_shared(first, measures, alike=alike)]
    derivations = {
        frame: [_build_derivation(header.instances[instance], number)]
        for frame in frames
        for instance, number in [header.frames[frame]]
        if instance >= 0
    }
    groups = []
    for (structure, frame), comment in zip(shown, comments or [""] * len(shown), strict=True):
        group = Dataset()
        group.FrameContentSequence = [_build_content(structure, frame + 1, comment, placed=placed)]
        if frame in derivations:
            group.DerivationImageSequence = derivations[frame]
        if structure is not None:
            group.SegmentIdentificationSequence = [Dataset()]
            group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = structure
        if placed:
            group.PlanePositionSequence = places[frame]["PlanePositionSequence"]
            if not alike:
                group.PixelMeasuresSequence = places[frame]["PixelMeasuresSequence"]
        groups.append(group)
    seg.PerFrameFunctionalGroupsSequence = groups


def _build_shared(
    place: dict[str, Sequence[Any]], measures: Dataset | None, *, alike: bool
) -> Dataset:
    """Return what all frames have in common.

    Args:
        place: Groups of the first frame; empty if frames have no place in the patient.
        measures: Scale of the first frame.
        alike: Whether all frames have that scale.
    """
    shared = Dataset()
    if place:
        if alike:
            shared.PixelMeasuresSequence = place["PixelMeasuresSequence"]
        shared.PlaneOrientationSequence = place["PlaneOrientationSequence"]
    elif measures:
        shared.PixelMeasuresSequence = [measures]
    return shared


def _add_dimensions(seg: Any, *, placed: bool, by_structure: bool) -> None:
    """Add the axes that frames are indexed by."""
    uid = generate_uid(entropy_srcs=[seg.SOPInstanceUID, "dimensions"])
    organization = Dataset()
    organization.DimensionOrganizationUID = uid
    seg.DimensionOrganizationSequence = [organization]
    second = (
        ("ImagePositionPatient", "PlanePositionSequence")
        if placed
        else ("TemporalPositionIndex", "FrameContentSequence")
    )
    indices = []
    structure = ("ReferencedSegmentNumber", "SegmentIdentificationSequence")
    for keyword, group in (structure, second) if by_structure else (second,):
        index = Dataset()
        index.DimensionOrganizationUID = uid
        index.DimensionIndexPointer = keyword
        index.FunctionalGroupPointer = group
        index.DimensionDescriptionLabel = keyword
        indices.append(index)
    seg.DimensionIndexSequence = indices


def _build_content(structure: int | None, frame: int, comment: str, *, placed: bool) -> Dataset:
    """Return a frame's index along the axes, and the comment on it if there is one."""
    content = Dataset()
    content.DimensionIndexValues = [frame] if structure is None else [structure, frame]
    if not placed:
        content.TemporalPositionIndex = frame
    if comment:
        content.FrameComments = comment
    return content


def _build_derivation(header: Any, frame: int) -> Dataset:
    """Return the reference to the source frame, counted from 1; 0 for a single image."""
    image = Dataset()
    image.ReferencedSOPClassUID = header.SOPClassUID
    image.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if frame:
        image.ReferencedFrameNumber = frame
    image.SpatialLocationsPreserved = "YES"
    image.PurposeOfReferenceCodeSequence = [
        _code("121322", "Source image for image processing operation")
    ]
    derivation = Dataset()
    derivation.SourceImageSequence = [image]
    derivation.DerivationCodeSequence = [_code("113076", "Segmentation")]
    return derivation


def _code(value: str, meaning: str) -> Dataset:
    """Return one of DICOM's own concepts as a sequence item."""
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = "DCM"
    item.CodeMeaning = meaning
    return item


def _find_place(
    header: DicomInstances, frame: int, measures: Dataset | None, geometry: Geometry | None,
    scale: Scale,
) -> dict[str, Sequence[Any]]:  # fmt: skip
    """Return the place of a source frame in the patient.

    Returns:
        The functional groups of position, orientation and pixel size, as far as known.
    """
    instance, number = header.frames[frame]
    place: dict[str, Sequence[Any]] = {}
    if instance >= 0:
        place = _copy_place(header.instances[instance], max(number - 1, 0))
    if geometry is not None and len(place.keys() & PLACE_GROUPS.keys()) < len(PLACE_GROUPS):
        index = float(frame)
        if scale.uneven is not None:
            index = float(scale.uneven.places[frame])
        place = _compute_place(geometry, index)
    if measures and (geometry is not None or "PixelMeasuresSequence" not in place):
        place["PixelMeasuresSequence"] = [measures]
    return place


def _compute_place(geometry: Geometry, frame: float) -> dict[str, Sequence[Any]]:
    """Return the place of a frame without one in its file: interpolated or nuclear."""
    position, orientation = Dataset(), Dataset()
    place = geometry.affine @ [frame, 0, 0, 1]
    _, down, across = geometry.affine[:3, :3].T
    directions = [*(across / np.linalg.norm(across)), *(down / np.linalg.norm(down))]
    position.ImagePositionPatient = [format_number_as_ds(float(value)) for value in place[:3]]
    orientation.ImageOrientationPatient = [
        format_number_as_ds(float(value)) for value in directions
    ]
    return {"PlanePositionSequence": [position], "PlaneOrientationSequence": [orientation]}


def _copy_place(header: Any, index: int) -> dict[str, Sequence[Any]]:
    """Copy the place of a single image, or of a frame of an enhanced one."""
    if "PerFrameFunctionalGroupsSequence" in header:
        frames = len(header.PerFrameFunctionalGroupsSequence)
        groups = list_groups(header, frames)
        return _copy_groups(groups[index]) if index < frames else {}
    place: dict[str, Sequence[Any]] = {}
    if "NumberOfFrames" in header and int(header.NumberOfFrames or 1) > 1:
        return place
    for keyword, name in zip(
        _PLACE, ("ImagePositionPatient", "ImageOrientationPatient"), strict=False
    ):
        if header.get(name):
            item = Dataset()
            setattr(item, name, header[name].value)
            place[keyword] = [item]
    return place


def _copy_groups(groups: FrameGroups) -> dict[str, Sequence[Any]]:
    """Copy the place of a frame; one in a transducer's volume as if in the patient."""
    place: dict[str, Sequence[Any]] = {}
    in_patient = groups.find("PlanePositionSequence") is not None
    for keyword, (attribute, _) in PLACE_GROUPS.items():
        value = groups.place(keyword, in_patient=in_patient)
        if value is not None:
            item = Dataset()
            numbers = value if in_patient else [format_number_as_ds(float(part)) for part in value]
            setattr(item, attribute, numbers)
            place[keyword] = [item]
    measures = groups.find("PixelMeasuresSequence")
    return place if measures is None else {**place, "PixelMeasuresSequence": [measures]}


def _build_scale(header: DicomInstances, frame: int, scale: Scale) -> Dataset | None:
    """Return the scale of a frame, if it is trusted."""
    if scale.pixel_mm is None:
        return None
    measures = Dataset()
    measures.PixelSpacing = [format_number_as_ds(value) for value in scale.pixel_mm]
    if scale.slice_mm is not None and scale.uneven is None:
        measures.SpacingBetweenSlices = format_number_as_ds(scale.slice_mm)
    thickness = _find_thickness(header, frame, scale)
    if thickness:
        measures.SliceThickness = format_number_as_ds(float(thickness))
    return measures


def _find_thickness(header: DicomInstances, frame: int, scale: Scale) -> float | None:
    """Return the thickness of a slice: its header's, else the distance to the next."""
    instance, number = header.frames[frame]
    if instance < 0 and scale.uneven is not None:
        return float(scale.uneven.covered_mm[frame])
    source: Any = header.instances[max(instance, 0)]
    thickness = source.get("SliceThickness")
    if not thickness:
        groups = _copy_place(source, max(number - 1, 0)).get("PixelMeasuresSequence")
        thickness = groups[0].get("SliceThickness") if groups else None
    if thickness:
        return float(thickness)
    return scale.slice_mm if scale.uneven is None else float(scale.uneven.covered_mm[frame])
