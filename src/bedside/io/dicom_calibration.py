"""What a DICOM header says of place and scale in a frame, believed only where it fits the frame."""

import math
from dataclasses import dataclass, field
from typing import Any

from bedside.volume import Box

_TWO_DIMENSIONAL, _TISSUE, _CENTIMETRES = 1, 1, 3
_CORNERS = (
    "RegionLocationMinX0",
    "RegionLocationMinY0",
    "RegionLocationMaxX1",
    "RegionLocationMaxY1",
)


@dataclass(frozen=True)
class Calibration:
    """Where the image proper lies in a frame, and its scale.

    Attributes:
        region: The image proper, or None if not told or not to be trusted.
        spacing_mm: (row, column) distance in mm, or None if not told or not to be trusted.
        warnings: Why something is None, in sentences for a person.
    """

    region: Box | None = None
    spacing_mm: tuple[float, float] | None = None
    warnings: tuple[str, ...] = field(default=())


def read_calibration(dataset: Any) -> Calibration:
    """Read the region and the scale of a frame out of its header.

    Ultrasound tells both in its regions; everything else its scale in PixelSpacing. The
    spacing at a detector (ImagerPixelSpacing) is not one in the patient, and is not used.

    Args:
        dataset: A pydicom dataset with Rows, Columns and Modality.

    Source:
        DICOM PS3.3 C.8.5.5, US Region Calibration; corners are zero-based and inclusive.
    """
    if "SequenceOfUltrasoundRegions" in dataset:
        return _from_regions(dataset)
    if dataset.get("Modality") in ("US", "IVUS"):
        return Calibration(
            warnings=("the file has no ultrasound calibration; areas are given in pixels",)
        )
    return _from_pixel_spacing(dataset)


def read_number(dataset: Any, keyword: str) -> float | None:
    """Read one finite number, or None where it is absent, empty or not a number."""
    try:
        number = float(getattr(dataset, keyword))
    except (AttributeError, TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def read_frame_time_ms(dataset: Any) -> float | None:
    """Read the time from one frame to the next, or None where the header does not tell."""
    frame_time = read_number(dataset, "FrameTime")
    if frame_time is not None and frame_time > 0:
        return frame_time
    for keyword in ("CineRate", "RecommendedDisplayFrameRate"):
        rate = read_number(dataset, keyword)
        if rate is not None and rate > 0:
            return 1000.0 / rate
    return None


def _from_pixel_spacing(dataset: Any) -> Calibration:
    """Take PixelSpacing, (row, column) in mm, if it is two positive numbers."""
    if dataset.get("PixelSpacing") is None:
        return Calibration(warnings=("the file has no pixel spacing; areas are given in pixels",))
    try:
        row_mm, column_mm = (float(value) for value in dataset.PixelSpacing)
    except (TypeError, ValueError):
        row_mm = column_mm = math.nan
    if not (0 < row_mm < math.inf and 0 < column_mm < math.inf):
        seen = dataset.PixelSpacing
        return Calibration(
            warnings=(f"the pixel spacing {seen} is no scale; areas are given in pixels",)
        )
    return Calibration(spacing_mm=(row_mm, column_mm))


def _from_regions(dataset: Any) -> Calibration:
    """Take the largest two-dimensional tissue region, if it lies within the frame.

    Some machines write the first column after the region instead of its last one; such a
    region is cut by that pixel, and not taken for one of another frame size.
    """
    tissue = [
        (item, box)
        for item in dataset.SequenceOfUltrasoundRegions
        if item.get("RegionSpatialFormat") == _TWO_DIMENSIONAL
        and item.get("RegionDataType") == _TISSUE
        and (box := _read_box(item)) is not None
    ]
    if not tissue:
        return Calibration(
            warnings=("no ultrasound region shows tissue in 2D; areas are given in pixels",)
        )
    item, box = max(tissue, key=lambda pair: pair[1].height * pair[1].width)
    notes = []
    if len(tissue) > 1:
        notes.append(
            f"the file has {len(tissue)} ultrasound regions of 2D tissue; the largest is taken "
            f"(columns {box.left}-{box.right - 1}, rows {box.top}-{box.bottom - 1})"
        )
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    cut = ""
    if box.right == columns + 1 or box.bottom == rows + 1:
        bottom = rows if box.bottom == rows + 1 else box.bottom
        right = columns if box.right == columns + 1 else box.right
        box = Box(box.top, box.left, bottom, right)
        cut = "the ultrasound region ends one pixel past the frame, and is cut to it"
    misfit = _find_misfit(box, rows, columns)
    if misfit:
        return Calibration(warnings=(*notes, _say_untrusted(misfit, item)))
    if cut:
        notes.append(cut)
    spacing_mm = _read_spacing_mm(item)
    if spacing_mm is None:
        notes.append(
            "the ultrasound region is not calibrated in cm "
            f"(units {item.get('PhysicalUnitsXDirection')}, "
            f"{item.get('PhysicalUnitsYDirection')}); areas are given in pixels"
        )
    return Calibration(box, spacing_mm, tuple(notes))


def _read_box(item: Any) -> Box | None:
    """Read a region's corners, or None where one is missing."""
    corners = [read_number(item, keyword) for keyword in _CORNERS]
    if any(corner is None for corner in corners):
        return None
    left, top, right, bottom = (int(corner) for corner in corners if corner is not None)
    return Box(top, left, bottom + 1, right + 1)


def _find_misfit(box: Box, rows: int, columns: int) -> str:
    """Say how a region fails to fit its frame; empty if it fits."""
    past = []
    if box.right > columns:
        past.append(f"to column {box.right - 1} of a frame {columns} wide")
    if box.bottom > rows:
        past.append(f"to row {box.bottom - 1} of a frame {rows} high")
    if past:
        return "reaches " + " and ".join(past)
    if box.left < 0 or box.top < 0 or box.height < 2 or box.width < 2:
        return (
            f"goes from column {box.left} to {box.right - 1} "
            f"and from row {box.top} to {box.bottom - 1}"
        )
    return ""


def _say_untrusted(misfit: str, item: Any) -> str:
    """Tell why neither the crop nor the scale of a region is believed."""
    delta = read_number(item, "PhysicalDeltaX")
    scale = f" ({abs(delta):.3g} cm a pixel)" if delta is not None else ""
    return (
        f"the ultrasound region {misfit}: its crop and its calibration{scale} belong to "
        "another frame size; areas are given in pixels"
    )


def _read_spacing_mm(item: Any) -> tuple[float, float] | None:
    """Read a region's (row, column) scale, which some machines write negative, in mm."""
    units = (item.get("PhysicalUnitsXDirection"), item.get("PhysicalUnitsYDirection"))
    column_cm = read_number(item, "PhysicalDeltaX")
    row_cm = read_number(item, "PhysicalDeltaY")
    if units != (_CENTIMETRES, _CENTIMETRES) or not row_cm or not column_cm:
        return None
    return abs(row_cm) * 10, abs(column_cm) * 10
