"""Enhanced CT, MR and PET: one file whose frames are slices, each placed by its own groups."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
)

from bedside.errors import FormatError, GeometryError
from bedside.io.dicom_header import DicomInstances
from bedside.io.dicom_options import DicomOptions
from bedside.io.dicom_pixels import FrameDecoder, say_stray_bits
from bedside.io.dicom_slices import make_scan
from bedside.io.dicom_split import choose_frames
from bedside.io.dicom_stack import Plane, check_alike, find_duplicates, is_seam, read_plane
from bedside.io.dicom_values import ValueRule, read_rule
from bedside.volume import Cine

_ENHANCED = frozenset(
    {
        EnhancedCTImageStorage,
        EnhancedMRImageStorage,
        EnhancedPETImageStorage,
        LegacyConvertedEnhancedCTImageStorage,
        LegacyConvertedEnhancedMRImageStorage,
        LegacyConvertedEnhancedPETImageStorage,
    }
)


def is_enhanced(dataset: Any) -> bool:
    """Tell a file whose frames have a place each by definition."""
    return str(dataset.get("SOPClassUID")) in _ENHANCED


def place_frames(
    dataset: Any, decoder: FrameDecoder, *, path: Path, options: DicomOptions,
    select: Mapping[str, int] | None = None,
) -> tuple[Cine, DicomInstances]:  # fmt: skip
    """Order the frames of an enhanced image by their place in the patient.

    Args:
        dataset: Its header.
        decoder: Of its frames, not inverted.
        path: Its file, for errors.
        options: What to do with gaps.
        select: Which of several stacks or points in time, counted from 1: {"stack": 2}.

    Returns:
        A cine with a geometry, and its header.

    Raises:
        FormatError: If the functional groups are missing, or there are several scans and none
            is chosen; they are listed.
        GeometryError: If the frames are no single, even stack.

    Source:
        DICOM PS3.3 C.7.6.16, Multi-frame Functional Groups.
    """
    frames = int(dataset.NumberOfFrames)
    own = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    if len(own) != frames:
        raise FormatError(
            f"{path} has {frames} frames and functional groups for {len(own)}, so where they lie "
            "is not known. Export it again, or as a classic series."
        )
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    planes, rules = [], []
    modality = str(dataset.get("Modality") or "") or None
    for number, groups in enumerate(own, start=1):
        name = f"{path}: frame {number}"
        planes.append(_read_plane(groups, shared, name))
        transformation = _group(groups, shared, "PixelValueTransformationSequence")
        rules.append(_read_rule(dataset, transformation, path, modality, options))
    kept = choose_frames(own, planes, select, path)
    planes, rules = [planes[index] for index in kept], [rules[index] for index in kept]
    _check_one_stack(planes, path)
    cine, frames_of = make_scan(
        planes, rules, lambda index: decoder(kept[index]),
        dataset=dataset, options=options, path=path,
    )  # fmt: skip
    numbered = tuple((0, kept[index] + 1) if index >= 0 else (-1, 0) for index in frames_of)
    notes = say_stray_bits(decoder)
    return replace(cine, warnings=(*cine.warnings, *notes)), DicomInstances((dataset,), numbered)


def _group(own: Any, shared: Any, keyword: str) -> Any:
    """Find a functional group of a frame, or of all frames; None if there is neither."""
    found = own.get(keyword) or shared.get(keyword)
    return found[0] if found else None


def _read_plane(own: Any, shared: Any, name: str) -> Plane:
    """Read where a frame lies.

    Raises:
        FormatError: If a functional group is missing; it is named.
    """
    found = {}
    for keyword in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
        found[keyword] = _group(own, shared, keyword)
        if found[keyword] is None:
            raise FormatError(
                f"{name} lacks {keyword}, so where it lies is not known. Export it again, or as "
                "a classic series."
            )
    measures, content = found["PixelMeasuresSequence"], own.get("FrameContentSequence")
    return read_plane(
        found["PlanePositionSequence"].get("ImagePositionPatient"),
        found["PlaneOrientationSequence"].get("ImageOrientationPatient"),
        measures.get("PixelSpacing"),
        name=name,
        thickness=measures.get("SliceThickness"),
        between=measures.get("SpacingBetweenSlices"),
        acquisition=content[0].get("FrameAcquisitionNumber") if content else None,
    )


def _read_rule(
    dataset: Any, transformation: Any, path: Path, modality: str | None, options: DicomOptions
) -> ValueRule:
    where = Dataset() if transformation is None else transformation
    return read_rule(dataset, path, modality=modality, options=options, transformation=where)


def _check_one_stack(planes: list[Plane], path: Path) -> None:
    """Refuse what are several scans, which nothing in their frames tells apart.

    Raises:
        GeometryError: If there are.
    """
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
