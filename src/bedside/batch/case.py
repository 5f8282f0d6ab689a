"""One image, segmented into a folder: mask, pictures, report; all of them or none."""

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bedside.batch.process import peak_memory_mb, startup_ms
from bedside.batch.results import written_together
from bedside.errors import BackendError, InputError, UsageError, install_command, printable
from bedside.io.read_options import ReadOptions
from bedside.system.process_memory import trim_heap

if TYPE_CHECKING:
    from bedside.bundle import Bundle
    from bedside.io.source import Algorithm, Source
    from bedside.report.record import Report
    from bedside.segment import Segmentation, Segmenter

Moment = datetime | Literal["now", "source"]

_PAGE_TILE_PX = 440
_UNTRAINED = ("the bundle has random weights, made to measure cost only: its labels mean nothing",)


@dataclass(frozen=True)
class OutputOptions:
    """What the results of a case depend on, besides the image and the bundle.

    Attributes:
        labels_format: Format of the mask; "auto" for the source's own kind.
        reading: How files are opened.
        force: Go on where the image is of another kind than the bundle's.
        with_sr: Whether measurements are written as a DICOM SR beside a DICOM SEG.
        with_report: Whether report.json and report.html are written too.
        with_cost: Whether the reports tell time and memory, which differ from run to run.
        moment: When, as a DICOM SEG is to say it; see `bedside.io.source.Algorithm`.
        max_bytes: Resident memory that the process must not exceed; None for no ceiling.
    """

    labels_format: str = "auto"
    reading: ReadOptions = field(default_factory=ReadOptions)
    force: bool = False
    with_sr: bool = False
    with_report: bool = True
    with_cost: bool = True
    moment: Moment = "now"
    max_bytes: int | None = None


@dataclass(frozen=True)
class Loaded:
    """A bundle and what runs it.

    Attributes:
        bundle: For names, codes and the card.
        segmenter: Its network and steps, ready.
    """

    bundle: "Bundle"
    segmenter: "Segmenter"


@dataclass(frozen=True)
class Finished:
    """A case that is done.

    Attributes:
        folder: Where its results are.
        files: Their names.
        report: What was found.
    """

    folder: Path
    files: tuple[str, ...]
    report: "Report"

    def to_mapping(self) -> dict[str, Any]:
        """Return what `--json` prints: the report, and where the files are."""
        from bedside.report.record import report_mapping

        return {**report_mapping(self.report, files=self.files), "output": str(self.folder)}


def segment_case(
    loaded: "Loaded",
    source: "Source",
    folder: Path,
    *,
    choices: OutputOptions,
    on_frame: Callable[[int], None] | None = None,
) -> Finished:
    """Segment one image and write its results.

    Args:
        loaded: A loaded bundle.
        source: The image.
        folder: Where the results go.
        choices: How.
        on_frame: Called with the number of frames done.

    Raises:
        UsageError: If the mask of this image cannot be in that format.
        BackendError: If an SR is asked for, and what writes it is not installed.
        InputError: If the image is refused.
        OutputError: If a result cannot be written.
    """
    from bedside.io.formats import find_label_format
    from bedside.io.laterality import check_sides

    labels_format = find_label_format(choices.labels_format, source.kind, source.path).name
    if choices.with_sr:
        _check_sr(source, loaded.bundle, labels_format)
    check_sides(source, loaded.bundle.spec.labels, force=choices.force)
    started_ms = startup_ms()
    begin = time.perf_counter()
    try:
        source = replace(source, sequence=loaded.segmenter.resolve_axes(source.sequence))
        found = loaded.segmenter.segment_sequence(
            source.sequence, on_frame=on_frame, force=choices.force, max_bytes=choices.max_bytes
        )
    except InputError as error:
        if source.path.name in str(error):
            raise
        # The segmenter knows frames, not files.
        raise type(error)(f"{source.path}: {error}") from error
    wall_s = time.perf_counter() - begin
    trim_heap()
    with written_together(folder) as staging:
        report = _write_results(
            source, found, loaded, staging, choices=choices, labels_format=labels_format,
            cost=_Cost(wall_s, started_ms),
        )  # fmt: skip
        files = tuple(sorted(path.name for path in staging.iterdir()))
    return Finished(folder, files, report)


def _check_sr(source: "Source", bundle: "Bundle", labels_format: str) -> None:
    """Refuse an SR that could not be written, or that would say nothing of the patient.

    Raises:
        UsageError: If the mask is no binary DICOM SEG, or the network is untrained.
        BackendError: If what writes an SR is not installed.
    """
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


@dataclass(frozen=True)
class _Cost:
    """What a report tells of time: of the whole sequence, and until it could begin."""

    wall_s: float
    started_ms: float


def _write_results(
    source: "Source", found: "Segmentation", loaded: Loaded, folder: Path, *,
    choices: OutputOptions, labels_format: str, cost: _Cost,
) -> "Report":  # fmt: skip
    """Write everything; pictures are drawn while the rest is done."""
    from bedside.io.labels import describe_even_grid
    from bedside.system.parallel import run_in_background

    with run_in_background(
        lambda: _write_pictures(source, found, loaded.bundle, folder)
    ) as pictures:
        _write_mask(
            source, found, loaded.bundle, folder, labels_format=labels_format,
            moment=choices.moment,
        )  # fmt: skip
        report = _make_report(source, found, loaded, wall_s=cost.wall_s, started_ms=cost.started_ms)
        picture = pictures()
    notes = describe_even_grid(source.sequence, labels_format)
    report = replace(report, warnings=(*report.warnings, *notes))
    if choices.with_sr:
        report = _write_sr(report, source, loaded.bundle, folder, moment=choices.moment)
    if choices.with_report:
        _write_reports(report, folder, picture=picture, with_cost=choices.with_cost)
    return report


def _write_mask(
    source: "Source", found: "Segmentation", bundle: "Bundle", folder: Path, *,
    labels_format: str, moment: Moment,
) -> None:  # fmt: skip
    """Write the mask as `segmentation` with the suffix of its format."""
    from bedside.io.formats import label_formats
    from bedside.io.source import write_labels

    write_labels(
        found.labels,
        source,
        folder / f"segmentation{label_formats()[labels_format].suffix}",
        labels_spec=bundle.spec.labels,
        algorithm=_name_algorithm(bundle, moment),
        format=labels_format,
    )


def _name_algorithm(bundle: "Bundle", moment: Moment) -> "Algorithm":
    """Name who drew the labels, as DICOM files tell it."""
    from bedside.io.source import Algorithm

    return Algorithm(
        bundle.spec.name, bundle.spec.version, bundle.sha256, moment,
        untrained=bundle.card.untrained,
    )  # fmt: skip


def _write_sr(
    report: "Report", source: "Source", bundle: "Bundle", folder: Path, *, moment: Moment
) -> "Report":
    """Write the measurements of a report as a DICOM SR; where there are none, say why.

    Returns:
        The report, with that warning.
    """
    from bedside.report.dicom_sr import NO_SCALE, NOTHING_FOUND, write_sr

    if report.spacing_mm is None:
        return replace(report, warnings=(*report.warnings, NO_SCALE))
    written = write_sr(
        report.structures,
        source,
        folder / "segmentation.dcm",
        folder / "measurements.dcm",
        labels_spec=bundle.spec.labels,
        algorithm=_name_algorithm(bundle, moment),
        slices=report.slices,
        warnings=report.warnings,
    )
    return report if written else replace(report, warnings=(*report.warnings, NOTHING_FOUND))


def _write_pictures(
    source: "Source", found: "Segmentation", bundle: "Bundle", folder: Path
) -> bytes:
    """Write overlay and contact sheet; give the picture for the report's page."""
    from bedside.report import overlay

    plan = overlay.plan_overlay(source.sequence, found.labels, bundle.spec.labels)
    overlay.write_overlay(plan, folder)
    if len(source.sequence) > 1:
        overlay.write_contact_sheet(plan, folder, region=found.region)
    tile_px = _PAGE_TILE_PX if len(source.sequence) > 1 else 2 * _PAGE_TILE_PX
    page = overlay.draw_contact_sheet(plan, region=found.region, tile_px=tile_px)
    return overlay.encode_jpeg(page)


def _make_report(
    source: "Source", found: "Segmentation", loaded: "Loaded", *, wall_s: float,
    started_ms: float,
) -> "Report":  # fmt: skip
    """Gather what was found and what it cost."""
    from bedside.report.record import BundleFacts, RunFacts, make_report

    bundle, session = loaded.bundle, loaded.segmenter.session
    facts = RunFacts(
        source=printable(source.path.name),
        backend=session.backend,
        precision=session.precision,
        threads=session.threads,
        wall_s=wall_s,
        startup_ms=started_ms,
        peak_memory_mb=peak_memory_mb(),
        predicted_memory_mb=round(found.memory.peak_bytes / 2**20, 1) if found.memory else None,
        bundle=BundleFacts(
            name=bundle.spec.name,
            version=bundle.spec.version,
            sha256=bundle.sha256,
            bytes=bundle.size_bytes,
            license=bundle.card.license,
        ),
    )
    labels = found.labels if found.spacing_mm else replace(found.labels, spacing_mm=None)
    return make_report(
        labels,
        bundle.spec.labels,
        region=found.region,
        sequence=source.sequence,
        stage_ms=found.stage_ms,
        warnings=(*_UNTRAINED, *found.warnings) if bundle.card.untrained else found.warnings,
        facts=facts,
        changes=found.changes,
    )


def _write_reports(report: "Report", folder: Path, *, picture: bytes, with_cost: bool) -> None:
    """Write the report for machines, which lists all files, and the one for people."""
    from bedside.report.page import write_report_html
    from bedside.report.record import write_report_json

    written = {path.name for path in folder.iterdir()} | {"report.json", "report.html"}
    write_report_html(report, folder / "report.html", picture=picture, with_cost=with_cost)
    write_report_json(report, folder / "report.json", files=sorted(written), with_cost=with_cost)
