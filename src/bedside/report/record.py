"""The report of a run as data: measurements, latency, provenance, warnings."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bedside.errors import printable
from bedside.report.areas import StructureAreas, measure_areas
from bedside.report.provenance import InputFacts, hash_labels
from bedside.spec import DISCLAIMER, Label, to_mapping
from bedside.system.atomic import write_text
from bedside.version import __version__
from bedside.volume import Box, Change, ImageSequence, LabelMap, SliceBlock

COST_KEYS = (
    "fps",
    "wall_s",
    "latency_ms",
    "latency_of",
    "startup_ms",
    "peak_memory_mb",
    "predicted_memory_mb",
    "threads",
)
"""Keys of a report for time and memory; all others are the same in every run."""


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of a time over the frames, in ms.

    Attributes:
        p50: Median.
        p95: 95th percentile.
        p99: 99th percentile.
    """

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class BundleFacts:
    """The bundle that was used.

    Attributes:
        name: Its name.
        version: Its version.
        sha256: Hash of its file.
        bytes: Size of its file.
        license: Licence of its data and weights.
    """

    name: str
    version: str
    sha256: str
    bytes: int
    license: str


@dataclass(frozen=True)
class RunFacts:
    """Runtime, time and memory of a run.

    Attributes:
        source: Name of the file that was segmented.
        backend: Runtime.
        precision: Precision of the graph.
        threads: Threads of the runtime.
        wall_s: Time for the whole sequence, planning included.
        startup_ms: From the start of the process until the first frame could be decoded.
        peak_memory_mb: Largest resident memory of the process, in MiB; None if unknown.
        predicted_memory_mb: Predicted before the image is read; None without a limit.
        bundle: Which bundle.
        runtime: The runtime's package, with its version.
        options: Options that may change labels, by their names in `RunOptions`, `ReadOptions`
            and `DicomOptions`.
    """

    source: str
    backend: str
    precision: str
    threads: int
    wall_s: float
    startup_ms: float
    peak_memory_mb: float | None
    predicted_memory_mb: float | None
    bundle: BundleFacts
    runtime: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """Content of `report.json` and `report.html`.

    Attributes:
        source: Name of the file that was segmented.
        frames: Number of frames.
        slices: Whether the frames are the slices of a scan.
        frame_time_ms: Time from frame to frame, on average where it varies; None if unknown.
        frame_starts_ms: When each frame begins, from the first, where the time varies.
        spacing_mm: (row, column); None if unknown or not trustworthy.
        slice_blocks: Spacing of each range of slices, if they are uneven; else None.
        region: Part of the frame that holds the image.
        structures: Areas of each structure.
        fps: Frames per second, decoding to labels, one after another.
        wall_s: Time for the whole sequence, planning included.
        latency_ms: Per stage, and in total.
        latency_of: Whether these are times per "frame", "slice" or "image", or of the whole
            "scan", for a 3D network.
        startup_ms: From the start of the process until the first frame could be decoded.
        peak_memory_mb: Largest resident memory of the process, in MiB; None if unknown.
        predicted_memory_mb: Predicted before the image is read; None without a limit.
        backend: Runtime.
        precision: Precision of the graph.
        threads: Threads of the runtime.
        bundle: Which bundle.
        warnings: Corrections, doubts and missing structures, in sentences.
        changes: Changes of the labels by postprocessing, and violated priors.
        bedside_version: Version of this program.
        runtime: The runtime's package, with its version.
        options: Options of the run that may change labels; of those for reading, the ones that
            differ from the defaults.
        input: Hash of the files of the image; None where no file names it.
        labels_sha256: Hash of the labels; see `bedside.report.provenance.hash_labels`.
        disclaimer: Statement of the research use.
    """

    source: str
    frames: int
    slices: bool
    frame_time_ms: float | None
    frame_starts_ms: tuple[float, ...] | None
    spacing_mm: tuple[float, float] | None
    region: Box
    structures: tuple[StructureAreas, ...]
    fps: float
    wall_s: float
    latency_ms: Mapping[str, Percentiles]
    latency_of: Literal["frame", "slice", "image", "scan"]
    startup_ms: float
    peak_memory_mb: float | None
    predicted_memory_mb: float | None
    backend: str
    precision: str
    threads: int
    bundle: BundleFacts
    warnings: tuple[str, ...]
    changes: tuple[Change, ...] = ()
    slice_blocks: tuple[SliceBlock, ...] | None = None
    bedside_version: str = __version__
    runtime: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    input: InputFacts | None = None
    labels_sha256: str = ""
    disclaimer: str = DISCLAIMER

    @property
    def unit(self) -> Literal["frame", "slice", "image"]:
        """What people call one of its frames: "image" if it is the only one."""
        return "image" if self.frames == 1 else "slice" if self.slices else "frame"


def make_report(
    labels: LabelMap,
    structures: Sequence[Label],
    *,
    region: Box,
    sequence: ImageSequence,
    stage_ms: Mapping[str, np.ndarray],
    warnings: Sequence[str],
    facts: RunFacts,
    changes: Sequence[Change] = (),
) -> Report:
    """Sum up a run.

    Args:
        labels: The result; its spacing is None where the scale is not to be trusted.
        structures: What the label values mean.
        region: Part of the frame that holds the image.
        sequence: What was segmented; only what it says of time and place is read.
        stage_ms: For every stage, "total" among them, the time of each frame, (frames,) in
            ms; of a scan that was taken whole, (1,).
        warnings: Corrections, doubts and missing structures, in sentences.
        facts: What the run was and cost.
        changes: Changes of the labels by postprocessing, and violated priors.
    """
    slices = sequence.has_slices
    areas = measure_areas(
        labels,
        structures,
        region=region,
        slices=slices,
        slice_mm=sequence.slice_spacing_mm if slices else None,
        uneven=sequence.uneven,
    )
    return Report(
        source=facts.source,
        frames=len(labels.array),
        slices=slices,
        frame_time_ms=sequence.frame_time_ms,
        frame_starts_ms=sequence.frame_starts_ms,
        spacing_mm=labels.spacing_mm,
        region=region,
        structures=areas,
        fps=round(1e3 * len(labels.array) / max(float(stage_ms["total"].sum()), 1e-6), 2),
        wall_s=round(facts.wall_s, 3),
        latency_of="scan" if len(stage_ms["total"]) < len(sequence) else sequence.unit,
        latency_ms={stage: _percentiles(times) for stage, times in stage_ms.items()},
        startup_ms=round(facts.startup_ms, 1),
        peak_memory_mb=facts.peak_memory_mb,
        predicted_memory_mb=facts.predicted_memory_mb,
        backend=facts.backend,
        precision=facts.precision,
        threads=facts.threads,
        bundle=facts.bundle,
        warnings=(*warnings, *([] if slices else _sometimes_missing(areas))),
        changes=tuple(changes),
        runtime=facts.runtime,
        options=facts.options,
        labels_sha256=hash_labels(labels.array),
        slice_blocks=None if sequence.uneven is None else sequence.uneven.list_blocks(),
    )


def write_report_json(
    report: Report, target: Path, *, files: Sequence[str] = (), with_cost: bool = True
) -> Path:
    """Write `report.json`.

    Args:
        report: What to write.
        target: The file.
        files: Names of the other results of the same run, beside it.
        with_cost: Whether it tells what the run cost; without, its bytes depend on the image
            and the bundle only.

    Raises:
        OutputError: If it cannot be written.
    """
    told = report_mapping(report, files=files)
    if not with_cost:
        told = {key: value for key, value in told.items() if key not in COST_KEYS}
    write_text(target, to_json(told) + "\n")
    return target


def report_mapping(report: Report, *, files: Sequence[str] = ()) -> dict[str, Any]:
    """Turn a report into what JSON holds, with the names of the files of the same run."""
    return {**to_mapping(report), "files": list(files)}


def to_json(value: Any) -> str:
    """Write strict JSON, indented, with lists of numbers on one line each."""
    return _indented(value, "")


def _indented(value: Any, indent: str) -> str:
    """Write one value; only lists and mappings that hold others are spread over lines."""
    inner = indent + "  "
    if isinstance(value, Mapping) and value:
        named = ((json.dumps(printable(key)), item) for key, item in value.items())
        rows = [f"{name}: {_indented(item, inner)}" for name, item in named]
        return "{\n" + ",\n".join(inner + row for row in rows) + "\n" + indent + "}"
    if isinstance(value, list) and any(isinstance(item, dict | list | str) for item in value):
        rows = [inner + _indented(item, inner) for item in value]
        return "[\n" + ",\n".join(rows) + "\n" + indent + "]"
    # Half characters of a file's name would be JSON that not every reader takes.
    return json.dumps(printable(value) if isinstance(value, str) else value, allow_nan=False)


def _percentiles(times: np.ndarray) -> Percentiles:
    p50, p95, p99 = np.percentile(times, (50, 95, 99)).round(3).tolist()
    return Percentiles(p50, p95, p99)


def _sometimes_missing(areas: Sequence[StructureAreas]) -> list[str]:
    """Warn of structures that come and go: their smallest area is then 0, and means nothing."""
    found = {areas_of.name: sum(area > 0 for area in areas_of.area_px) for areas_of in areas}
    total = len(areas[0].area_px) if areas else 0
    return [
        f"{name} was found in {count} of {total} frames only; its area change means nothing."
        for name, count in found.items()
        if 0 < count < total
    ]
