"""Areas, volumes and lengths of structures, measured on a label map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bedside.report.diameter import Extent, measure_extents
from bedside.report.own_measurements import measure_structure
from bedside.spec import Label
from bedside.spec.confidence import StructureConfidence
from bedside.spec.reading import UNLESS_EMPTY
from bedside.volume import Box, LabelMap, UnevenSlices

Span = tuple[float, float]
"""Lower and upper end of an interval."""


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
        measurements: What is measured on this kind of structure alone, such as the circumference
            of a head: by name, which ends in the unit, for each frame; None where it cannot be.
        confidence: How far its mask is to be trusted; None if it was not calibrated.
        intervals: Ends between which the truth lies in 90 % of cases, by name of the measurement:
            for each frame, but once for "volume_ml" and "fractional_area_change".
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
    measurements: Mapping[str, tuple[float | None, ...]] = field(
        default_factory=dict, metadata=UNLESS_EMPTY
    )
    confidence: StructureConfidence | None = field(default=None, metadata=UNLESS_EMPTY)
    intervals: Mapping[str, tuple[Span | None, ...]] = field(
        default_factory=dict, metadata=UNLESS_EMPTY
    )

    @property
    def at_largest(self) -> Mapping[str, float | None]:
        """`measurements` in the frame in which the structure is largest."""
        frame = self.area_px.index(max(self.area_px))
        return {name: values[frame] for name, values in self.measurements.items()}

    def find_interval(self, name: str) -> Span | None:
        """Interval of a measurement, of a frame's where the structure is largest."""
        spans = self.intervals.get(name, ())
        if len(spans) == len(self.area_px):
            return spans[self.area_px.index(max(self.area_px))]
        return spans[0] if spans else None

    def describe_measurements(self) -> list[tuple[str, str]]:
        """Name and value with unit of each of `measurements`, where the structure is largest."""
        return [
            (name.rpartition("_")[0].replace("_", " "), f"{value:.1f} {name.rpartition('_')[2]}")
            for name, value in self.at_largest.items()
            if value is not None
        ]


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
        values = [structure.value for structure in structures]
        extents = measure_extents(
            labels.array, values, spacing_mm=spacing, slice_mm=slice_mm, counts=counts,
            uneven=uneven,
        )  # fmt: skip
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
            measurements={} if slices else measure_structure(labels, structure),
        )
        for structure in structures
        for area, extent in [(counts[:, structure.value], extents.get(structure.value))]
    )


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
