"""Labels as a DICOM SEG that refers to the frames of its source.

Written with pydicom: highdicom requires a frame of reference for several frames, which an
ultrasound cine does not have. highdicom reads the result.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, BinaryIO

import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SegmentationStorage, generate_uid

from bedside.errors import BedsideError, FormatError, UsageError
from bedside.io.dicom.certainty import (
    describe_frame,
    describe_segment,
    hash_confidence,
    list_parameters,
)
from bedside.io.dicom.datetimes import read_moment
from bedside.io.dicom.functional import find_frame_of_reference
from bedside.io.dicom.seg_frames import Scale, build_frames, build_reference
from bedside.io.dicom.seg_pixels import find_present, gather_labels, pack_bits
from bedside.io.dicom.warnings import collected_warnings
from bedside.io.opened import Algorithm, Source
from bedside.spec import Code, Label
from bedside.version import __version__
from bedside.volume import LabelMap

_PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "ReferringPhysicianName", "StudyID", "AccessionNumber",
)  # fmt: skip
_OPTIONAL = ("StudyDescription", "BodyPartExamined")
_NEEDED_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_LOSSY_METHODS = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
}
_SERIES_NUMBER = 1000
# DICOM Supplement 243 (2024); pydicom has no name for it yet.
_LABEL_MAP_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")
_ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")


def build_seg(
    labels: LabelMap,
    source: Source,
    *,
    labels_spec: tuple[Label, ...],
    algorithm: Algorithm,
    as_labelmap: bool = False,
) -> Dataset:
    """Return a segmentation whose frames refer to those of the source.

    BINARY frames are ordered by structure, then by source frame; a label map has one frame per
    source frame. Equal source, labels and bundle give equal UIDs.

    Args:
        labels: (frames, height, width), on the source's grid.
        source: The DICOM image that was segmented.
        labels_spec: Names, colours and codes of the structures, numbered 1, 2, 3 ...
        algorithm: Name and version of the bundle.
        as_labelmap: LABELMAP frames, a byte per pixel, instead of BINARY ones; smaller and
            simpler, but not every viewer supports them yet.

    Raises:
        UsageError: If the labels are not on the source's grid.
        FormatError: If the source lacks the UIDs that a reference needs.

    Source:
        DICOM PS3.3 A.51 Segmentation IOD, C.8.20 Segmentation modules; Supplement 243.
    """
    frames, _, height, width = source.sequence.shape
    if labels.array.shape != (frames, height, width):
        raise UsageError(
            f"labels of shape {labels.array.shape} are not on the grid of {source.path}, "
            f"{(frames, height, width)}."
        )
    with reference_errors(source, "SEG", "Choose --format nifti or png."):
        _check_uids(source)
        return _build(labels, source, labels_spec, algorithm, as_labelmap=as_labelmap)


def encode_seg(
    labels: LabelMap, source: Source, file: BinaryIO, *, labels_spec: tuple[Label, ...],
    algorithm: Algorithm, as_labelmap: bool = False,
) -> None:  # fmt: skip
    """Write the segmentation of `build_seg` to an open file.

    Raises:
        UsageError: As `build_seg`.
        FormatError: As `build_seg`.
        OSError: If it cannot be written.
    """
    seg = build_seg(
        labels, source, labels_spec=labels_spec, algorithm=algorithm, as_labelmap=as_labelmap
    )
    with reference_errors(source, "SEG", "Choose --format nifti or png."):
        seg.save_as(file, enforce_file_format=True)


encode_labelmap = functools.partial(encode_seg, as_labelmap=True)
"""Writes the labels as LABELMAP frames."""


@contextlib.contextmanager
def reference_errors(source: Source, form: str, way_out: str) -> Iterator[None]:
    """Turn errors about values of the source's header into a FormatError.

    Args:
        source: The DICOM image that is referred to.
        form: "SEG" or "SR".
        way_out: Advice.

    Raises:
        FormatError: If an error is raised that is neither this program's nor the system's.
    """
    try:
        # Invalid values of the source's header are copied unchanged.
        with collected_warnings():
            yield
    except (BedsideError, OSError):
        raise
    except Exception as error:
        raise FormatError(
            f"{source.path}: its header does not let a DICOM {form} refer to it: {error}. {way_out}"
        ) from error


def _build(
    labels: LabelMap, source: Source, labels_spec: tuple[Label, ...], algorithm: Algorithm, *,
    as_labelmap: bool,
) -> Dataset:  # fmt: skip
    """Return the SEG."""
    header = source.header.first
    seg = Dataset()
    seg.SpecificCharacterSet = "ISO_IR 192"
    _copy_patient_and_study(seg, header)
    _add_identity(seg, header, labels=labels, algorithm=algorithm, as_labelmap=as_labelmap)
    _add_image(seg, header, as_labelmap=as_labelmap)
    over_time = source.sequence.geometry is None and len(source.sequence) > 1
    seg.SegmentSequence = [
        _build_segment(label, algorithm, over_time=over_time) for label in labels_spec
    ]
    seg.ReferencedSeriesSequence = [build_reference(source.header)]
    sequence = source.sequence
    values = [label.value for label in labels_spec]
    if as_labelmap:
        known = [frame for frame in range(len(sequence)) if frame not in set(sequence.unknown)]
        seg.PixelData = gather_labels(labels, known)
        shown: list[tuple[int | None, int]] = [(None, frame) for frame in known]
    else:
        chosen = _choose_frames(labels, source, values)
        seg.PixelData = pack_bits(labels, chosen)
        shown = [*chosen]
    build_frames(
        seg,
        source.header,
        shown=shown,
        scale=Scale(sequence.spacing_mm, sequence.slice_spacing_mm, sequence.uneven),
        geometry=sequence.geometry,
        comments=_comment_frames(labels_spec, algorithm, shown, frames=len(sequence)),
    )
    seg["PixelData"].VR = "OB"
    seg.file_meta = FileMetaDataset()
    seg.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    seg.file_meta.MediaStorageSOPClassUID = seg.SOPClassUID
    seg.file_meta.MediaStorageSOPInstanceUID = seg.SOPInstanceUID
    return seg


def _comment_frames(
    labels_spec: Sequence[Label], algorithm: Algorithm, shown: Sequence[tuple[int | None, int]], *,
    frames: int,
) -> list[str]:  # fmt: skip
    """How sure what each frame shows is; nothing where frames are not judged one by one."""
    sure = algorithm.frame_confidence
    if len(sure) != frames or frames == 1:
        return []
    every = [label.name for label in labels_spec]
    return [
        describe_frame(sure[frame], every if value is None else [every[value - 1]])
        for value, frame in shown
    ]


def _choose_frames(labels: LabelMap, source: Source, values: list[int]) -> list[tuple[int, int]]:
    """Return the structures and frames to write as BINARY masks.

    Of a scan only masks that are not empty: a slice without a frame is empty by the standard, and
    most are. Of a cine all: a structure that was not found in a frame is a finding.
    """
    frames = range(len(source.sequence))
    if source.sequence.geometry is None:
        return [(value, frame) for value in values for frame in frames]
    present = find_present(labels, values)
    found = [
        (value, frame)
        for value, row in zip(values, present, strict=True)
        for frame in frames
        if row[frame]
    ]
    # A SEG has at least one frame; an empty one says that nothing was found.
    return found or [(values[0], 0)]


def _check_uids(source: Source) -> None:
    """Refuse a source that cannot be referred to."""
    missing = [
        keyword
        for keyword in _NEEDED_UIDS
        if not all(instance.get(keyword) for instance in source.header.instances)
    ]
    if missing:
        raise FormatError(
            f"{source.path} lacks {', '.join(missing)}, so a DICOM SEG cannot refer to it. "
            "Choose --format nifti or png."
        )


def _copy_patient_and_study(seg: Any, header: Any) -> None:
    """Copy patient and study; missing or malformed values are left empty."""
    for keyword in (*_PATIENT_AND_STUDY, *_OPTIONAL):
        try:
            value = str(header.get(keyword) or "")
            if value or keyword not in _OPTIONAL:
                setattr(seg, keyword, value)
        except (TypeError, ValueError, NotImplementedError):
            setattr(seg, keyword, "")
    seg.StudyInstanceUID = header.StudyInstanceUID
    frame_of_reference = find_frame_of_reference(header)
    if frame_of_reference is not None:
        seg.FrameOfReferenceUID = frame_of_reference
        seg.PositionReferenceIndicator = str(header.get("PositionReferenceIndicator") or "")
    else:
        seg.PatientOrientation = header.get("PatientOrientation") or ""


def _add_identity(
    seg: Any, header: Any, *, labels: LabelMap, algorithm: Algorithm, as_labelmap: bool
) -> None:
    """Add the identity of the series and instance, the device and the time."""
    day, clock = read_moment(algorithm.moment, header)
    seg.SOPClassUID = _LABEL_MAP_STORAGE if as_labelmap else SegmentationStorage
    seg.SOPInstanceUID = generate_uid(
        entropy_srcs=[
            header.SOPInstanceUID,
            algorithm.sha256,
            sha256(np.ascontiguousarray(labels.array).data).hexdigest(),
            *(["labelmap"] if as_labelmap else []),
            *hash_confidence(algorithm),
        ]
    )
    seg.Modality = "SEG"
    seg.SeriesInstanceUID = generate_uid(entropy_srcs=[header.SeriesInstanceUID, algorithm.sha256])
    seg.SeriesNumber = _SERIES_NUMBER
    seg.SeriesDescription = (
        f"{algorithm.name[:40]} segmentation{', UNTRAINED' * algorithm.untrained}"
    )
    seg.InstanceNumber = _read_instance_number(header)
    seg.SeriesDate = seg.ContentDate = day
    seg.SeriesTime = seg.ContentTime = clock
    if algorithm.moment != "source":
        seg.InstanceCreationDate, seg.InstanceCreationTime = day, clock
    seg.Manufacturer = "bedside"
    seg.ManufacturerModelName = algorithm.name[:64]
    seg.DeviceSerialNumber = algorithm.sha256[:64] or "0"
    seg.SoftwareVersions = [f"bedside {__version__}", f"{algorithm.name} {algorithm.version}"[:64]]
    seg.ContentLabel = "SEGMENTATION"
    seg.ContentDescription = (
        "By an UNTRAINED network: means nothing. Not a medical device"
        if algorithm.untrained
        else "Drawn by a program; research use, not a medical device"
    )
    seg.ContentCreatorName = ""


def _read_instance_number(header: Any) -> int:
    """Return the source's number, so that the SEGs of a series keep its order."""
    try:
        return int(header.InstanceNumber)
    except (AttributeError, TypeError, ValueError):
        return 1


def _add_image(seg: Any, header: Any, *, as_labelmap: bool) -> None:
    """Describe the pixels: one bit or one label each, on the source's grid."""
    seg.ImageType = ["DERIVED", "PRIMARY"]
    seg.BurnedInAnnotation = "NO"
    seg.SamplesPerPixel = 1
    seg.PhotometricInterpretation = "MONOCHROME2"
    seg.Rows, seg.Columns = header.Rows, header.Columns
    seg.BitsAllocated = seg.BitsStored = 8 if as_labelmap else 1
    seg.HighBit = seg.BitsStored - 1
    seg.PixelRepresentation = 0
    seg.SegmentationType = "LABELMAP" if as_labelmap else "BINARY"
    if as_labelmap:
        seg.PixelPaddingValue = 0
    seg.SegmentsOverlap = "NO"
    seg.LossyImageCompression = "01" if header.get("LossyImageCompression") == "01" else "00"
    if seg.LossyImageCompression == "01":
        syntax = str(header.file_meta.TransferSyntaxUID)
        method = header.get("LossyImageCompressionMethod") or _LOSSY_METHODS.get(syntax)
        for keyword, value in (
            ("LossyImageCompressionRatio", header.get("LossyImageCompressionRatio")),
            ("LossyImageCompressionMethod", method),
        ):
            if value not in (None, ""):
                setattr(seg, keyword, value)


def _build_segment(label: Label, algorithm: Algorithm, *, over_time: bool) -> Dataset:
    """Return the item of one structure and its algorithm."""
    segment = Dataset()
    segment.SegmentNumber = label.value
    segment.SegmentLabel = label.name[:64]
    segment.SegmentDescription = describe_segment(label.name, algorithm, over_time=over_time)
    segment.SegmentedPropertyCategoryCodeSequence = [_build_code(label.category)]
    segment.SegmentedPropertyTypeCodeSequence = [_build_code(label.type)]
    segment.SegmentAlgorithmType = "AUTOMATIC"
    segment.SegmentAlgorithmName = algorithm.name[:64]
    segment.RecommendedDisplayCIELabValue = encode_cielab(label.color)
    identification = Dataset()
    identification.AlgorithmFamilyCodeSequence = [_build_code(_ARTIFICIAL_INTELLIGENCE)]
    identification.AlgorithmName = algorithm.name[:64]
    identification.AlgorithmVersion = f"{algorithm.version} sha256:{algorithm.sha256[:16]}"[:64]
    sure = list_parameters(algorithm.confidence.get(label.name))
    identification.AlgorithmParameters = "; ".join([f"bundle_sha256={algorithm.sha256}", *sure])
    identification.AlgorithmSource = f"bedside {__version__}"
    segment.SegmentationAlgorithmIdentificationSequence = [identification]
    return segment


def _build_code(code: Code) -> Dataset:
    """Return a coded concept as a sequence item."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = code.meaning[:64]
    return item


def encode_cielab(color: tuple[int, int, int]) -> list[int]:
    """Return an sRGB colour as DICOM's CIELab words.

    Args:
        color: (red, green, blue), each 0-255.

    Returns:
        (L*, a*, b*) under D50, L* 0-100 and a*, b* -128-127 each spread over 0-65535.

    Source:
        DICOM PS3.3 C.10.7.1.1; sRGB to D50 by IEC 61966-2-1 and Bradford's adaptation.

    Example:
        >>> encode_cielab((255, 255, 255))
        [65535, 32896, 32896]
    """
    srgb = np.array(color) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [
            [0.4360747, 0.3850649, 0.1430804],
            [0.2225045, 0.7168786, 0.0606169],
            [0.0139322, 0.0971045, 0.7141733],
        ]
    )
    ratio = matrix @ linear / matrix.sum(axis=1)
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    lab = 116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])
    words = lab[0] / 100 * 65535, (lab[1] + 128) / 255 * 65535, (lab[2] + 128) / 255 * 65535
    return [round(float(np.clip(word, 0, 65535))) for word in words]
