"""The functional groups of a DICOM SEG: which structure and which source frame each frame is."""

from collections.abc import Sequence
from typing import Any

from pydicom import Dataset
from pydicom.uid import generate_uid
from pydicom.valuerep import format_number_as_ds

from bedside.io.dicom_header import DicomInstances

_PLACE = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")


def build_reference(header: DicomInstances) -> Dataset:
    """Name the source's series and all its instances."""
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


def build_frames(
    seg: Any,
    header: DicomInstances,
    *,
    segments: int,
    spacing_mm: tuple[float, float] | None,
) -> None:
    """Add the dimensions and the groups of segments x frames to a SEG.

    Frames are indexed by structure, then by place where every source frame has one in the
    patient, else by time.

    Args:
        seg: The dataset to add to; it has its SOPInstanceUID.
        header: The source's instances.
        segments: Number of structures.
        spacing_mm: (row, column) distance, or None if not to be trusted.
    """
    frames = len(header.frames)
    scale = _build_scale(header.first, spacing_mm)
    places = [
        _find_place(header.instances[instance], max(number - 1, 0), scale)
        for instance, number in header.frames
    ]
    placed = bool(header.first.get("FrameOfReferenceUID"))
    placed = placed and all(len(place) == 3 for place in places)
    seg.NumberOfFrames = segments * frames
    _add_dimensions(seg, placed=placed)
    shared = Dataset()
    if placed:
        shared.PixelMeasuresSequence = places[0]["PixelMeasuresSequence"]
        shared.PlaneOrientationSequence = places[0]["PlaneOrientationSequence"]
    elif scale:
        shared.PixelMeasuresSequence = [scale]
    seg.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for segment in range(1, segments + 1):
        for frame, (instance, number) in enumerate(header.frames, start=1):
            group = Dataset()
            group.FrameContentSequence = [_build_content(segment, frame, placed=placed)]
            group.DerivationImageSequence = [_build_derivation(header.instances[instance], number)]
            group.SegmentIdentificationSequence = [Dataset()]
            group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = segment
            if placed:
                group.PlanePositionSequence = places[frame - 1]["PlanePositionSequence"]
            groups.append(group)
    seg.PerFrameFunctionalGroupsSequence = groups


def _add_dimensions(seg: Any, *, placed: bool) -> None:
    """Declare the two axes that frames are indexed by."""
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
    for keyword, group in (("ReferencedSegmentNumber", "SegmentIdentificationSequence"), second):
        index = Dataset()
        index.DimensionOrganizationUID = uid
        index.DimensionIndexPointer = keyword
        index.FunctionalGroupPointer = group
        index.DimensionDescriptionLabel = keyword
        indices.append(index)
    seg.DimensionIndexSequence = indices


def _build_content(segment: int, frame: int, *, placed: bool) -> Dataset:
    """Give a frame's place along the two axes."""
    content = Dataset()
    content.DimensionIndexValues = [segment, frame]
    if not placed:
        content.TemporalPositionIndex = frame
    return content


def _build_derivation(header: Any, frame: int) -> Dataset:
    """Refer to the source frame, counted from 1; 0 where the source is a single image."""
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
    """Write one of DICOM's own concepts as a sequence item."""
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = "DCM"
    item.CodeMeaning = meaning
    return item


def _find_place(header: Any, index: int, scale: Dataset | None) -> dict[str, Sequence[Any]]:
    """Find where a source frame lies in the patient, of a single or an enhanced image.

    Returns:
        The functional groups of position, orientation and pixel size that there are.
    """
    if "PerFrameFunctionalGroupsSequence" in header:
        frames = header.PerFrameFunctionalGroupsSequence
        own = frames[index] if index < len(frames) else Dataset()
        shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        groups = {keyword: own.get(keyword) or shared.get(keyword) for keyword in _PLACE}
        return {keyword: group for keyword, group in groups.items() if group}
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
    if scale:
        place["PixelMeasuresSequence"] = [scale]
    return place


def _build_scale(header: Any, spacing_mm: tuple[float, float] | None) -> Dataset | None:
    """Write the scale that the source was found to have, whatever its header claims."""
    if spacing_mm is None:
        return None
    scale = Dataset()
    scale.PixelSpacing = [format_number_as_ds(value) for value in spacing_mm]
    if header.get("SliceThickness"):
        scale.SliceThickness = header.SliceThickness
    return scale
