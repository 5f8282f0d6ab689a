"""Writes one result into a folder: mask, pictures, report; all of them or none."""

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bedside.bundle import Bundle
from bedside.errors import BackendError, UsageError, install_command
from bedside.io.formats import find_label_format
from bedside.io.labels import SUFFIXES, describe_even_grid, write_labels
from bedside.io.opened import Algorithm, Source
from bedside.io.probabilities import write_probabilities
from bedside.options import Moment, OutputOptions
from bedside.report.folder import written_together
from bedside.report.process_cost import peak_memory_mb
from bedside.report.record import Report, report_mapping, write_report_json
from bedside.spec.confidence import Confidences
from bedside.system.parallel import run_in_background
from bedside.volume import Box, LabelMap

if TYPE_CHECKING:
    from bedside.report.overlay import Overlay

_PAGE_TILE_PX = 440


class Segmented(Protocol):
    """A segmented image, as `bedside.result.Result` is."""

    @property
    def source(self) -> Source:
        """The image."""

    @property
    def bundle(self) -> Bundle:
        """What segmented it."""

    @property
    def label_map(self) -> LabelMap:
        """Its labels, (frames, H, W)."""

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each label value, the background first."""

    @property
    def region(self) -> Box:
        """Where the image proper was found on a frame."""

    @property
    def confidence(self) -> Confidences:
        """How far each structure is to be trusted."""

    @property
    def frame_confidence(self) -> tuple[Confidences, ...]:
        """The same for each frame; empty for a whole scan."""

    @property
    def report(self) -> Report:
        """What was measured; worked out when first asked for."""

    def probabilities(self) -> np.ndarray:
        """Probability of each class."""

    def algorithm(self, moment: Moment) -> Algorithm:
        """The name of the bundle as DICOM files state it."""


@dataclass(frozen=True)
class SavedResult:
    """A result on disk.

    Attributes:
        folder: Where it is.
        files: Names of its files.
        report: What was found.
    """

    folder: Path
    files: tuple[str, ...]
    report: Report

    def to_mapping(self) -> dict[str, Any]:
        """The report and the place of the files, as `--json` prints them."""
        return {**report_mapping(self.report, files=self.files), "output": str(self.folder)}


def choose_format(source: Source, bundle: Bundle, options: OutputOptions) -> str:
    """The format of the mask; with --sr, whether an SR can be written. Checked before any work.

    Raises:
        UsageError: If the mask of this image cannot be in that format, or there can be no SR.
        BackendError: If an SR is asked for, and what writes it is not installed.
    """
    chosen = find_label_format(options.labels_format, source.kind, source.path).name
    if options.with_sr:
        _check_sr(source, bundle, chosen)
    return chosen


def write_results(result: Segmented, folder: Path, options: OutputOptions) -> SavedResult:
    """Write mask, pictures and reports into a folder.

    Raises:
        UsageError: If the mask of this image cannot be in that format.
        BackendError: If an SR is asked for, and what writes it is not installed.
        OutputError: If a result cannot be written.
    """
    labels_format = choose_format(result.source, result.bundle, options)
    with written_together(folder) as staging:
        report = _write_all(result, staging, options=options, labels_format=labels_format)
        files = tuple(sorted(path.name for path in staging.iterdir()))
    return SavedResult(folder, files, report)


def _write_all(
    result: Segmented, folder: Path, *, options: OutputOptions, labels_format: str
) -> Report:
    """Write everything; pictures are drawn while the rest is done."""
    source, bundle = result.source, result.bundle
    with run_in_background(lambda: _write_pictures(result, folder)) as pictures:
        write_labels(
            result.label_map,
            source,
            folder / f"segmentation{SUFFIXES[labels_format]}",
            labels_spec=bundle.spec.labels,
            algorithm=result.algorithm(options.moment),
            format=labels_format,
        )
        if options.with_probabilities:
            probabilities = result.probabilities()
            write_probabilities(
                probabilities, result.label_map, source, folder, names=result.names,
                as_nifti=labels_format == "nifti",
            )  # fmt: skip
        report = replace(result.report, peak_memory_mb=peak_memory_mb())
        plan, picture = pictures()
    if options.with_probabilities:
        _write_unsure(plan, probabilities, folder, region=result.region)
    notes = describe_even_grid(source.sequence, labels_format)
    report = replace(report, warnings=(*report.warnings, *notes))
    if options.with_sr:
        report = write_measurements(result, report, folder, moment=options.moment)
    if options.with_report:
        _write_reports(report, folder, picture=picture, with_cost=options.with_cost)
    return report


def _check_sr(source: Source, bundle: Bundle, labels_format: str) -> None:
    """Refuse an SR that could not be written, or would have no meaning for the patient."""
    # What an SR may say of a label map is not settled: dciodvfy finds fault with its segments.
    if labels_format != "dicom-seg":
        raise UsageError(
            f"--sr refers to a binary DICOM SEG, but the mask of {source.path} is written as "
            f"{labels_format}. Leave --sr out, or choose --format dicom-seg."
        )
    if bundle.card.untrained:
        raise UsageError(
            f'bundle "{bundle.spec.name}" has random weights: what it measures says nothing '
            "of a patient, so no --sr is written. Leave --sr out, or choose a trained bundle."
        )
    if importlib.util.find_spec("highdicom") is None:
        raise BackendError(
            "--sr needs highdicom, which is not installed. Install it with: "
            f"{install_command('sr')}."
        )


def write_measurements(
    result: Segmented, report: Report, folder: Path, *, moment: Moment
) -> Report:
    """Write the measurements of a report as a DICOM SR, or a warning why there is none.

    Args:
        result: What was measured.
        report: Its report.
        folder: Where its SEG is, as "segmentation.dcm"; the SR is "measurements.dcm".
        moment: Date and time of the SR.

    Returns:
        The report, with that warning.

    Raises:
        OutputError: If it cannot be written.
    """
    from bedside.report.dicom_sr import NO_SCALE, NOTHING_FOUND, write_sr

    if report.spacing_mm is None:
        return replace(report, warnings=(*report.warnings, NO_SCALE))
    written = write_sr(
        report.structures,
        result.source,
        folder / "segmentation.dcm",
        folder / "measurements.dcm",
        labels_spec=result.bundle.spec.labels,
        algorithm=result.algorithm(moment),
        slices=report.slices,
        warnings=report.warnings,
    )
    return report if written else replace(report, warnings=(*report.warnings, NOTHING_FOUND))


def _write_pictures(result: Segmented, folder: Path) -> tuple["Overlay", bytes]:
    """Write overlay and contact sheet; return how frames are shown, and the page's picture."""
    from bedside.report import overlay
    from bedside.report.sides import has_sides

    sequence, region = result.source.sequence, result.region
    plan = overlay.plan_overlay(
        sequence, result.label_map, result.bundle.spec.labels,
        confidence=result.frame_confidence or (result.confidence,),
        with_sides=has_sides(sequence, result.bundle.spec.input.modality),
    )  # fmt: skip
    overlay.write_overlay(plan, folder)
    if len(sequence) > 1:
        overlay.write_contact_sheet(plan, folder, region=region)
    tile_px = _PAGE_TILE_PX if len(sequence) > 1 else 2 * _PAGE_TILE_PX
    sheet = overlay.draw_contact_sheet(plan, region=region, tile_px=tile_px)
    return plan, overlay.encode_jpeg(sheet)


def _write_unsure(plan: "Overlay", probabilities: np.ndarray, folder: Path, *, region: Box) -> None:
    """Write the picture of where the network is unsure."""
    from bedside.report.overlay import write_unsure_sheet

    probabilities = probabilities.reshape(-1, *plan.labels.array.shape)
    write_unsure_sheet(plan, probabilities, folder, region=region)


def _write_reports(report: Report, folder: Path, *, picture: bytes, with_cost: bool) -> None:
    """Write the report for machines, which lists all files, and the one for people."""
    from bedside.report.page import write_report_html

    written = {path.name for path in folder.iterdir()} | {"report.json", "report.html"}
    write_report_html(report, folder / "report.html", picture=picture, with_cost=with_cost)
    write_report_json(report, folder / "report.json", files=sorted(written), with_cost=with_cost)
