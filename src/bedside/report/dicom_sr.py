"""Writes measurements as a DICOM SR (TID 1500) that refers to the SEG, its segments and the image.

Written with highdicom, which implements the template and validates its content.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as SrCode
from pydicom.uid import generate_uid

from bedside.errors import UsageError
from bedside.io.dicom.certainty import list_parameters
from bedside.io.dicom.datetimes import read_moment
from bedside.io.dicom.seg import reference_errors
from bedside.io.opened import Algorithm, Source
from bedside.report.areas import Span, StructureAreas
from bedside.spec import DISCLAIMER, Code, Label
from bedside.system.atomic import written_atomically
from bedside.version import __version__

NO_SCALE = "no measurements.dcm was written: the scale of the image is not known"
"""The warning that takes the place of an SR where nothing can be measured."""

NOTHING_FOUND = "no measurements.dcm was written: no structure was found"
"""The warning that takes the place of an SR where there is nothing to measure."""

_SERIES_NUMBER = 1001
_MILLILITRE = SrCode("ml", "UCUM", "milliliter")
_ABOVE = SrCode("371886008", "SCT", "+, range of upper measurement uncertainty")
_BELOW = SrCode("371885007", "SCT", "-, range of lower measurement uncertainty")
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def write_sr(
    structures: Sequence[StructureAreas],
    source: Source,
    seg_path: Path,
    target: Path,
    *,
    labels_spec: tuple[Label, ...],
    algorithm: Algorithm,
    slices: bool,
    warnings: Sequence[str] = (),
) -> bool:
    """Write the volume of each structure of a scan, or its area in each frame.

    A scan has a group of measurements for each structure that is in it: volume, and the
    largest diameter in a slice. Frames have one for each structure in each frame that it is
    in: area and largest diameter. Comments say that it is for research, by which bundle it was
    measured, and every warning. The same source, labels, bundle and warnings give the same UIDs.

    Args:
        structures: What was measured, in mm; in the order of `labels_spec`.
        source: The DICOM image.
        seg_path: The SEG with its structures, as it was written; a binary one.
        target: The file to write.
        labels_spec: Names and codes of the structures.
        algorithm: The bundle, as DICOM files state it.
        slices: Whether the frames are the slices of a scan.
        warnings: Corrections, doubts and missing structures, in sentences.

    Returns:
        Whether it was written: without a structure there is nothing to report.

    Raises:
        UsageError: If the network is untrained: its measurements are meaningless.
        FormatError: If the source's header does not let an SR refer to it.
        OutputError: If it cannot be written.

    Source:
        DICOM PS3.16 TID 1500 Measurement Report, with TID 1410 and 1411.
    """
    if algorithm.untrained:
        raise UsageError(
            f'bundle "{algorithm.name}" has random weights: what it measures says nothing of a '
            "patient, so no SR is written. Leave --sr out, or choose a trained bundle."
        )
    with reference_errors(source, "SR", "Leave --sr out."):
        seg = pydicom.dcmread(seg_path, stop_before_pixels=True)
        about = _About(_Drawn(seg, source), algorithm, tuple(warnings))
        groups = _scan_groups if slices else _frame_groups
        found = list(groups(structures, labels_spec, about))
        if not found:
            return False
        report = _build(found, about, source)
        with written_atomically(target) as temporary:
            report.save_as(temporary, enforce_file_format=True)
        return True


class _Drawn:
    """A written SEG: which of its frames shows which structure on which frame of the source.

    Args:
        seg: The SEG, without pixels.
        source: What it was drawn on.
    """

    def __init__(self, seg: Dataset, source: Source) -> None:
        self.seg = seg
        self.instances: tuple[Dataset, ...] = source.header.instances
        places = {
            (str(self.instances[instance].SOPInstanceUID), number): frame
            for frame, (instance, number) in enumerate(source.header.frames)
        }
        self.frames: tuple[tuple[int, int], ...] = source.header.frames
        # By structure, the SEG's frame of each source frame.
        self._numbers: dict[int, dict[int, int]] = defaultdict(dict)
        for number, group in enumerate(seg.PerFrameFunctionalGroupsSequence, 1):
            if "DerivationImageSequence" not in group:
                continue  # It lies between the slices of the source.
            image = group.DerivationImageSequence[0].SourceImageSequence[0]
            place = (
                str(image.ReferencedSOPInstanceUID),
                int(image.get("ReferencedFrameNumber") or 0),
            )
            segment = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            self._numbers[segment][places[place]] = number

    def frame_of(self, segment: int, frame: int) -> Any:
        """Name the SEG's frame of a structure on a frame of the source, and that frame."""
        from highdicom.sr import ReferencedSegmentationFrame

        reference = ReferencedSegmentationFrame(
            self.seg.SOPClassUID,
            self.seg.SOPInstanceUID,
            self._numbers[segment][frame],
            segment,
            self.image_of([frame])[0],
        )
        # A frame is of one structure; DICOM wants the one number or the other.
        del reference[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
        return reference

    def image_of(self, frames: Sequence[int]) -> list[Any]:
        """Return the source images of frames: each instance with its frame numbers.

        Frames that lie between slices have none.
        """
        from highdicom.sr import SourceImageForSegmentation

        numbers: dict[int, list[int]] = defaultdict(list)
        for frame in frames:
            instance, number = self.frames[frame]
            if instance >= 0:
                numbers[instance] += [number] if number else []
        return [
            SourceImageForSegmentation(
                self.instances[instance].SOPClassUID,
                self.instances[instance].SOPInstanceUID,
                own or None,
            )
            for instance, own in numbers.items()
        ]


@dataclass(frozen=True)
class _About:
    """Provenance shared by all groups of measurements."""

    drawn: _Drawn
    algorithm: Algorithm
    warnings: tuple[str, ...]

    def describe(self, label: Label, name: str, found: StructureAreas) -> dict[str, Any]:
        """Name a group of measurements, its finding, its algorithm and how sure that is."""
        from highdicom.sr import AlgorithmIdentification, TrackingIdentifier

        seg = self.drawn.seg
        return {
            "tracking_identifier": TrackingIdentifier(
                uid=generate_uid(entropy_srcs=[seg.SOPInstanceUID, "sr", name]), identifier=name
            ),
            "finding_type": _code(label.type),
            "finding_category": _code(label.category),
            "algorithm_id": AlgorithmIdentification(
                self.algorithm.name[:64],
                self.algorithm.version[:64],
                parameters=[
                    f"bundle_sha256={self.algorithm.sha256}",
                    *list_parameters(found.confidence),
                ],
            ),
        }


def _scan_groups(
    structures: Sequence[StructureAreas], labels: Sequence[Label], about: _About
) -> Iterator[Any]:
    """Measure each structure of a scan as a whole."""
    from highdicom.sr import (
        ReferencedSegment,
        SourceSeriesForSegmentation,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )

    drawn = about.drawn
    for found, label in zip(structures, labels, strict=True):
        shown = [frame for frame, area in enumerate(found.area_px) if area]
        measurements = []
        if found.volume_ml is not None:
            measurements.append(
                _measurement(
                    codes.SCT.Volume, found.volume_ml, _MILLILITRE,
                    span=found.find_interval("volume_ml"),
                )
            )  # fmt: skip
        if found.largest_diameter is not None:
            measurements.append(_diameter(found.largest_diameter.mm))
        if not shown or not measurements:
            continue
        images = drawn.image_of(shown)
        series = SourceSeriesForSegmentation(drawn.instances[0].SeriesInstanceUID)
        yield VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=ReferencedSegment(
                drawn.seg.SOPClassUID,
                drawn.seg.SOPInstanceUID,
                label.value,
                source_images=images or None,
                source_series=None if images else series,
            ),
            measurements=measurements,
            **about.describe(label, label.name, found),
        )


def _frame_groups(
    structures: Sequence[StructureAreas], labels: Sequence[Label], about: _About
) -> Iterator[Any]:
    """Measure each structure in each frame that it is in."""
    from highdicom.sr import PlanarROIMeasurementsAndQualitativeEvaluations

    drawn = about.drawn
    for found, label in zip(structures, labels, strict=True):
        if found.area_cm2 is None or found.diameter_mm is None:
            continue
        for frame, pixels in enumerate(found.area_px):
            if not pixels:
                continue
            yield PlanarROIMeasurementsAndQualitativeEvaluations(
                referenced_segment=drawn.frame_of(label.value, frame),
                measurements=[
                    _measurement(
                        codes.SCT.Area,
                        found.area_cm2[frame],
                        codes.UCUM.SquareCentimeter,
                        span=(found.intervals.get("area_cm2") or {frame: None})[frame],
                    ),
                    _diameter(found.diameter_mm[frame]),
                ],
                **about.describe(label, f"{label.name}, frame {frame + 1}", found),
            )


def _measurement(
    name: Any, value: float, unit: Any, *, derivation: Any = None, span: Span | None = None
) -> Any:
    """Write a value, with its ranges of uncertainty (TID 310) where it has an interval."""
    from highdicom.sr import Measurement, MeasurementProperties, NumContentItem

    properties = None
    if span is not None:
        properties = MeasurementProperties()  # whose own arguments would be without a unit
        for meaning, width in ((_ABOVE, span[1] - value), (_BELOW, value - span[0])):
            properties.append(
                NumContentItem(
                    meaning, round(max(width, 0.0), 4), unit, relationship_type="HAS PROPERTIES"
                )
            )
    return Measurement(name, value, unit, derivation=derivation, properties=properties)


def _diameter(length_mm: float) -> Any:
    """Write the largest diameter in the plane of a frame."""
    return _measurement(
        codes.SCT.Diameter, length_mm, codes.UCUM.Millimeter, derivation=codes.SCT.Maximum
    )


def _code(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning[:64])


def _build(groups: Sequence[Any], about: _About, source: Source) -> Any:
    """Put the report together around its groups."""
    from highdicom.sr import (
        ComprehensiveSR,
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
        TextContentItem,
    )

    seg, algorithm = about.drawn.seg, about.algorithm
    observer = DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=["bedside", algorithm.sha256]),
        name=algorithm.name[:64],
        manufacturer_name="bedside",
        model_name=algorithm.name[:64],
        serial_number=algorithm.sha256[:64] or "0",
    )
    content = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(codes.DCM.Device, observer)
        ),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=groups,
    )
    for text in _comments(about):
        content[0].ContentSequence.append(
            TextContentItem(codes.DCM.Comment, text, relationship_type="CONTAINS")
        )
    report = ComprehensiveSR(
        # The SEG has all that highdicom asks of the first: it is our own.
        evidence=[seg, *map(_reference, about.drawn.instances)],
        content=content,
        series_instance_uid=generate_uid(entropy_srcs=[seg.SeriesInstanceUID, "sr"]),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=generate_uid(entropy_srcs=[seg.SOPInstanceUID, "sr", *about.warnings]),
        instance_number=int(seg.InstanceNumber),
        manufacturer="bedside",
        manufacturer_model_name=algorithm.name[:64],
        device_serial_number=algorithm.sha256[:64] or "0",
        software_versions=(f"bedside {__version__}", f"{algorithm.name} {algorithm.version}"[:64]),
        series_description=f"{algorithm.name[:32]} measurements, research use only",
        # Nobody has read it: complete, preliminary and unverified.
        is_complete=True,
        specific_character_set="ISO_IR 192",
    )
    _set_moment(report, *read_moment(algorithm.moment, source.header.first))
    return report


def _comments(about: _About) -> list[str]:
    """Comments on the measurements, in sentences."""
    algorithm = about.algorithm
    return [
        DISCLAIMER,
        f"Measured by a program and read by nobody: bundle {algorithm.name} {algorithm.version}, "
        f"sha256 {algorithm.sha256}, bedside {__version__}.",
        *(f"Warning: {warning}" for warning in about.warnings),
    ]


def _reference(header: Dataset) -> Dataset:
    """The part of an image's header that a reference needs."""
    kept = Dataset()
    for keyword in _NEEDED:
        setattr(kept, keyword, header[keyword].value)
    return kept


def _set_moment(report: Any, day: str, clock: str) -> None:
    """Replace the date and time that highdicom took from the clock."""
    for word in ("Content", "InstanceCreation", "Series"):
        setattr(report, f"{word}Date", day)
        setattr(report, f"{word}Time", clock)
    for equipment in report.get("ContributingEquipmentSequence") or ():
        equipment.ContributionDateTime = day + clock
