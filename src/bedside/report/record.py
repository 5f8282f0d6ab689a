"""What a run found and what it cost, as data: areas over time, latency, provenance, warnings."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bedside import __version__
from bedside.errors import printable
from bedside.report.diameter import Extent, measure_extents
from bedside.spec import DISCLAIMER, Label, to_mapping
from bedside.system.atomic import write_text
from bedside.volume import Box, Change, ImageSequence, LabelMap, SliceBlock, UnevenSlices

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
"""Keys of a report that tell what a run cost; all others are the same in every run."""


@dataclass(frozen=True)
class AreaChange:
    """A structure at its largest and at its smallest.

    Attributes:
        largest_px: Largest area in source pixels.
        smallest_px: Smallest area in source pixels.
        largest_frame: Its frame, counted from 1 as DICOM does.
        smallest_frame: Its frame, counted from 1.
        fraction: (largest - smallest) / largest; None if it is in no frame.
    """

    largest_px: int
    smallest_px: int
    largest_frame: int
    smallest_frame: int
    fraction: float | None


@dataclass(frozen=True)
class LargestDiameter:
    """A structure where it is longest.

    Attributes:
        mm: Largest diameter in the plane of a frame.
        frame: That frame, counted from 1.
    """

    mm: float
    frame: int


@dataclass(frozen=True)
class StructureAreas:
    """The area of one structure in every frame.

    Attributes:
        name: The label's name.
        color: (red, green, blue), each 0-255.
        area_px: Source pixels, per frame.
        area_cm2: Square centimetres, per frame; None where the scale is not to be trusted.
        area_fraction: Part of the region's pixels, per frame.
        fractional_area_change: None for a single frame, and for the slices of a scan.
        volume_ml: Of the slices of a scan together; None for frames over time, and where
            the scale is not to be trusted.
        diameter_mm: Largest diameter in the plane, per frame, 0 where it is not; None where
            the scale is not to be trusted.
        largest_diameter: The largest of these; None where it is in no frame, likewise.
        box_mm: Edges of the box around a structure in a scan, along the axes of the scan:
            (slice, row, column); None for frames over time, likewise.
    """

    name: str
    color: tuple[int, int, int]
    area_px: tuple[int, ...]
    area_cm2: tuple[float, ...] | None
    area_fraction: tuple[float, ...]
    fractional_area_change: AreaChange | None
    volume_ml: float | None = None
    diameter_mm: tuple[float, ...] | None = None
    largest_diameter: LargestDiameter | None = None
    box_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Percentiles:
    """Spread of a time over the frames, in ms.

    Attributes:
        p50: Median.
        p95: Time that 95 % of the frames stay within.
        p99: Time that 99 % of the frames stay within.
    """

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class BundleFacts:
    """Which bundle drew the labels.

    Attributes:
        name: Its name.
        version: Its version.
        sha256: Hash of its file.
        bytes: Size of its file.
        license: Terms that its data and weights come under.
    """

    name: str
    version: str
    sha256: str
    bytes: int
    license: str


@dataclass(frozen=True)
class RunFacts:
    """What a run was and cost; nothing of it is read from the image.

    Attributes:
        source: Name of the file that was segmented.
        backend: Runtime.
        precision: Precision of the graph.
        threads: Threads of the runtime.
        wall_s: Time for the whole sequence, with the look at it that precedes the first frame.
        startup_ms: From the start of the process until the first frame could be decoded.
        peak_memory_mb: Largest resident memory of the process, in MiB; None if unknown.
        predicted_memory_mb: What was predicted of it before the image was read; None without
            a ceiling.
        bundle: Which bundle.
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


@dataclass(frozen=True)
class Report:
    """Everything that `report.json` holds, and `report.html` shows.

    Attributes:
        source: Name of the file that was segmented.
        frames: Number of frames.
        slices: Whether the frames are the slices of a scan.
        frame_time_ms: Time from frame to frame, on average where it varies; None if unknown.
        frame_starts_ms: When each frame begins, from the first, where the time varies.
        spacing_mm: (row, column); None if not to be trusted.
        slice_blocks: Which slices of a scan are how far apart, if they are not evenly spaced;
            None otherwise.
        region: Where the image proper was found on the frame.
        structures: Areas of each structure.
        fps: Frames per second of processing, decoding to labels, one after another.
        wall_s: Time for the whole sequence, with the look at it that precedes the first frame.
        latency_ms: Per stage, and in total.
        latency_of: What these are the times of: each "frame", "slice" or "image", or the whole
            "scan", which a network of three axes takes at once.
        startup_ms: From the start of the process until the first frame could be decoded.
        peak_memory_mb: Largest resident memory of the process, in MiB; None if unknown.
        predicted_memory_mb: What was predicted of it before the image was read; None without
            a ceiling.
        backend: Runtime.
        precision: Precision of the graph.
        threads: Threads of the runtime.
        bundle: Which bundle.
        warnings: What was fixed, doubted or not found.
        changes: What repairs changed in the labels, and what was found odd about them.
        bedside_version: Version of this program.
        disclaimer: What the result is not for.
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
        region: Where the image proper was found.
        sequence: What was segmented; only what it says of time and place is read.
        stage_ms: For every stage, "total" among them, the time of each frame, (frames,) in
            ms; of a scan that was taken whole, (1,).
        warnings: What was fixed, doubted or not found.
        facts: What the run was and cost.
        changes: What repairs changed in the labels, and what was found odd about them.
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
    total_s = max(float(stage_ms["total"].sum()) / 1e3, 1e-9)
    return Report(
        source=facts.source,
        frames=len(labels.array),
        slices=slices,
        frame_time_ms=sequence.frame_time_ms,
        frame_starts_ms=sequence.frame_starts_ms,
        spacing_mm=labels.spacing_mm,
        region=region,
        structures=areas,
        fps=round(len(labels.array) / total_s, 2),
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
        slice_blocks=None if sequence.uneven is None else sequence.uneven.list_blocks(),
    )


def measure_areas(
    labels: LabelMap,
    structures: Sequence[Label],
    *,
    region: Box,
    slices: bool = False,
    slice_mm: float | None = None,
    uneven: UnevenSlices | None = None,
) -> tuple[StructureAreas, ...]:
    """Count the pixels of every structure in every frame, and measure how long it is.

    Args:
        labels: The labels, with the spacing of their pixels if that can be trusted.
        structures: What the label values mean.
        region: The part of the frame that `area_fraction` refers to.
        slices: Whether the frames are the slices of a scan.
        slice_mm: Distance from one to the next, if they are, and it is known.
        uneven: Where the slices lie, if they are not evenly spaced.

    Returns:
        One for each structure, in their order.
    """
    counts = labels.counts
    spacing = labels.spacing_mm
    pixel_cm2 = None if spacing is None else spacing[0] * spacing[1] / 100
    shares = np.ones(len(counts), int) if uneven is None else uneven.shares
    region_px = max(1, region.height * region.width)
    extents: dict[int, Extent] = {}
    if spacing is not None:
        extents = measure_extents(
            labels.array,
            [structure.value for structure in structures],
            spacing_mm=spacing,
            slice_mm=slice_mm,
            counts=counts,
            uneven=uneven,
        )
    return tuple(
        StructureAreas(
            name=structure.name,
            color=structure.color,
            area_px=tuple(area.tolist()),
            area_cm2=None if pixel_cm2 is None else tuple((area * pixel_cm2).round(4).tolist()),
            area_fraction=tuple((area / region_px).round(6).tolist()),
            fractional_area_change=None if slices or slice_mm else _area_change(area),
            volume_ml=(
                round(float(area @ shares) * pixel_cm2 * slice_mm / 10, 4)
                if slice_mm and pixel_cm2
                else None
            ),
            diameter_mm=None if extent is None else extent.diameter_mm,
            largest_diameter=None if extent is None else _find_largest(extent.diameter_mm),
            box_mm=None if extent is None else extent.box_mm,
        )
        for structure in structures
        for area, extent in [(counts[:, structure.value], extents.get(structure.value))]
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


def _find_largest(diameter_mm: Sequence[float]) -> LargestDiameter | None:
    """Find the frame in which a structure is longest."""
    place = int(np.argmax(diameter_mm))
    return LargestDiameter(diameter_mm[place], place + 1) if diameter_mm[place] else None


def _area_change(area: np.ndarray) -> AreaChange | None:
    """Compare the largest with the smallest area; a single frame has no change."""
    if len(area) < 2:
        return None
    largest, smallest = int(area.argmax()), int(area.argmin())
    most, least = int(area[largest]), int(area[smallest])
    fraction = round((most - least) / most, 4) if most else None
    return AreaChange(most, least, largest + 1, smallest + 1, fraction)


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
