"""The result of segmenting one image: labels, probabilities, measurements, files."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bedside.bundle import Bundle
from bedside.errors import UsageError
from bedside.io.opened import Algorithm, Source
from bedside.options import Moment, OutputOptions
from bedside.pipeline.protocol import Segmentation
from bedside.report.areas import StructureAreas
from bedside.report.intervals import with_intervals
from bedside.report.provenance import identify_input
from bedside.report.record import Report, RunFacts, make_report
from bedside.report.results import SavedResult, write_results
from bedside.spec.confidence import Confidences
from bedside.volume import Box, LabelMap

if TYPE_CHECKING:
    from pydicom import Dataset

_UNTRAINED = "the bundle has random weights, made to measure cost only: its labels mean nothing"


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """Labels of one image, on its own grid, with measurements and warnings.

    Attributes:
        source: The image.
        bundle: The bundle that segmented it.
        segmentation: Output of the pipeline.
        facts: Runtime, time and memory of the run.
        rerun: Segments the image again, with probabilities.
        is_plane: Whether the image was one plane, (H, W), without an axis of frames.
    """

    source: Source
    bundle: Bundle
    segmentation: Segmentation
    facts: RunFacts
    rerun: Callable[[], Segmentation]
    is_plane: bool = False

    @property
    def labels(self) -> np.ndarray:
        """Labels as uint8, 0 for the background: (frames, H, W), or (H, W) for a plane."""
        array = self.segmentation.labels.array
        return array[0] if self.is_plane else array

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each label value, "background" first: the classes of `probabilities`."""
        return ("background", *(label.name for label in self.bundle.spec.labels))

    @property
    def label_map(self) -> LabelMap:
        """Labels (frames, H, W), with their spacing if it is trustworthy."""
        return self.segmentation.labels

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """(row, column) spacing in mm, (slice, row, column) for a 3D network; None if unknown."""
        return self.segmentation.spacing_mm

    @property
    def region(self) -> Box:
        """Part of a frame that holds the image, such as the ultrasound sector."""
        return self.segmentation.region

    @property
    def stage_ms(self) -> Mapping[str, np.ndarray]:
        """Time of each stage and in "total", in ms: per frame, or once for a scan."""
        return self.segmentation.stage_ms

    @property
    def warnings(self) -> tuple[str, ...]:
        """Corrections, doubts and missing structures, in sentences."""
        return self.report.warnings

    @property
    def confidence(self) -> Confidences:
        """Predicted Dice of each structure, its interval, and whether to trust it, by name.

        Of a scan as a whole; of frames over time that of the median frame; empty if the bundle is
        not calibrated.
        """
        return self.segmentation.confidence

    @property
    def frame_confidence(self) -> tuple[Confidences, ...]:
        """The same for each frame; empty for a 3D network."""
        return self.segmentation.frame_confidence

    @property
    def measurements(self) -> Mapping[str, StructureAreas]:
        """Areas, volume and diameters of each structure, by its name."""
        return {structure.name: structure for structure in self.report.structures}

    @functools.cached_property
    def report(self) -> Report:
        """The report: measurements, warnings, changes of labels, cost, provenance."""
        found = self.segmentation
        untrained = (_UNTRAINED,) if self.bundle.card.untrained else ()
        report = make_report(
            self.label_map,
            self.bundle.spec.labels,
            region=found.region,
            sequence=self.source.sequence,
            stage_ms=found.stage_ms,
            warnings=(*untrained, *found.warnings),
            facts=self.facts,
            changes=found.changes,
        )
        report = with_intervals(
            report, self.bundle.confidence, whole=found.confidence, frames=found.frame_confidence
        )
        return replace(report, input=identify_input(self.source))

    def probabilities(self) -> np.ndarray:
        """Return the probability of each class on the image's grid, background first.

        They are those before postprocessing. Without `with_probabilities` at `segment`, the
        network runs a second time.

        Returns:
            (K, frames, H, W) float32, or (K, H, W) for a plane; they sum to 1 over the classes.
        """
        array = self._probabilities
        return array[:, 0] if self.is_plane else array

    @functools.cached_property
    def _probabilities(self) -> np.ndarray:
        found = self.segmentation.probabilities
        if found is None:
            found = self.rerun().probabilities
        assert found is not None  # they were asked for
        return found

    def overlay(self, frame: int = 0) -> np.ndarray:
        """Return one frame with the outlines of the structures.

        Args:
            frame: Which frame, from 0.

        Returns:
            (height, width, 3) uint8, RGB, in true proportions.

        Raises:
            UsageError: If there is no such frame.
        """
        from bedside.report import overlay

        count = len(self.source.sequence)
        if not 0 <= frame < count:
            raise UsageError(f"frame is {frame}; the image has {count}, counted from 0.")
        plan = overlay.plan_overlay(
            self.source.sequence, self.label_map, self.bundle.spec.labels,
            confidence=self.frame_confidence or (self.confidence,),
        )  # fmt: skip
        return overlay.draw_frame(plan, frame)

    def to_dicom_seg(self, *, as_labelmap: bool = False, moment: Moment = "now") -> "Dataset":
        """Return the labels as a DICOM SEG that refers to the image; nothing is written to disk.

        Args:
            as_labelmap: Write a label map segmentation, not a binary one.
            moment: Its date and time; "source" for those of the image.

        Raises:
            UsageError: If the image is not DICOM.
            FormatError: If its header lacks what a reference needs.
        """
        from bedside.io.labels import to_dicom_seg

        return to_dicom_seg(
            self.label_map, self.source, labels_spec=self.bundle.spec.labels,
            algorithm=self.algorithm(moment), as_labelmap=as_labelmap,
        )  # fmt: skip

    def to_bytes(self, labels_format: str = "auto", *, moment: Moment = "now") -> bytes:
        """Return the labels as the bytes of the file that `save` writes, without writing it.

        Args:
            labels_format: "dicom-seg", "nifti", "seg-nrrd", ...; "auto" for that of the image.
            moment: Date and time of a DICOM SEG; "source" for those of the image.

        Raises:
            UsageError: If the format is unknown or not for this image, or holds one frame only.
        """
        from bedside.io.labels import encode_labels

        return encode_labels(
            self.label_map, self.source, labels_spec=self.bundle.spec.labels,
            algorithm=self.algorithm(moment), format=labels_format,
        )  # fmt: skip

    def algorithm(self, moment: Moment = "now") -> Algorithm:
        """Return the name of the bundle, and how sure it is, as DICOM files state them.

        Args:
            moment: The time that the file states.

        Raises:
            UsageError: If it is no moment.
        """
        if moment not in ("now", "source") and not isinstance(moment, datetime):
            raise UsageError(f'moment is {moment!r}; expected "now", "source" or a datetime.')
        spec = self.bundle.spec
        return Algorithm(
            spec.name, spec.version, self.bundle.sha256, moment,
            untrained=self.bundle.card.untrained, confidence=self.confidence,
            frame_confidence=self.frame_confidence,
        )  # fmt: skip

    def save(self, folder: Path | str, options: OutputOptions | None = None) -> SavedResult:
        """Write mask, pictures and reports into a folder, all of them or none.

        Args:
            folder: The folder; created if missing.
            options: What is written; the default is that of `bedside segment`.

        Returns:
            Names of the files and the report.

        Raises:
            UsageError: If the mask of this image cannot be in that format.
            BackendError: If an SR is asked for, and what writes it is not installed.
            OutputError: If a result cannot be written.
        """
        return write_results(self, Path(folder), options or OutputOptions())

    def __repr__(self) -> str:
        """Bundle, shape, structures and how many warnings."""
        found = ", ".join(
            structure.name for structure in self.report.structures if any(structure.area_px)
        )
        shape = " x ".join(map(str, self.labels.shape))
        warned = len(self.warnings)
        return (
            f"<Result of {self.bundle.spec.name} on {self.facts.source}: {shape} labels, "
            f"{found or 'nothing found'}, {warned} warning{'' if warned == 1 else 's'}>"
        )
