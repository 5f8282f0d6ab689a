"""Region and scale of a frame from its DICOM header, used only if they fit the frame."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from bedside.volume import Box

_TWO_DIMENSIONAL, _TISSUE, _CENTIMETRES = 1, 1, 3
_CALIBRATED = ("GEOMETRY", "FIDUCIAL")
_PROJECTIONS = frozenset({"CR", "DX", "IO", "MG", "PX", "RF", "RG", "XA"})
_AT_DETECTOR = ("ImagerPixelSpacing", "NominalScannedPixelSpacing")
_SAME_SCALE = 0.02
_ROUNDING = 0.005
# Regions beside each other may share an edge.
_SHARED_PX = 2
_CORNERS = (
    "RegionLocationMinX0",
    "RegionLocationMinY0",
    "RegionLocationMaxX1",
    "RegionLocationMaxY1",
)


@dataclass(frozen=True)
class Calibration:
    """Region and scale of a frame.

    Attributes:
        region: The part of the frame that holds the image; None if unknown or not to be trusted.
        spacing_mm: (row, column) in mm; None if unknown or not to be trusted.
        warnings: Why something is None, in sentences for the user.
    """

    region: Box | None = None
    spacing_mm: tuple[float, float] | None = None
    warnings: tuple[str, ...] = field(default=())


def read_calibration(dataset: Any, measured: Any = None) -> Calibration:
    """Return the region and the scale of a frame from its header.

    Ultrasound has both in its regions; other images have PixelSpacing. No ultrasound module
    defines PixelSpacing: there it counts only if the header says how it was calibrated, or if the
    image has a place in the patient. ImagerPixelSpacing is measured at the detector, where the
    patient appears magnified, and not used; nor is the PixelSpacing of a projection that may have
    been measured there.

    Args:
        dataset: A pydicom dataset with Rows, Columns and Modality.
        measured: PixelSpacing from the functional groups of all frames, if they have it.

    Source:
        DICOM PS3.3 C.8.5.5, US Region Calibration; corners are zero-based and inclusive.
        10.7.1.1, Basic Pixel Spacing Calibration.
    """
    if dataset.get("SequenceOfUltrasoundRegions"):
        return _beside_regions(_from_regions(dataset), _from_pixel_spacing(dataset))
    if measured is not None:
        return _check_spacing(measured)
    if dataset.get("Modality") in ("US", "IVUS"):
        return _without_regions(dataset)
    if dataset.get("Modality") in _PROJECTIONS:
        return _of_projection(dataset)
    return _from_pixel_spacing(dataset)


def read_aspect(dataset: Any) -> float | None:
    """Return the height of a pixel divided by its width; None if unknown.

    Spacing at a detector is not to scale in the patient, but its aspect ratio is right.
    """
    own = ("PixelSpacing",) if dataset.get("Modality") in _PROJECTIONS else ()
    for keyword in (*own, "PixelAspectRatio", *_AT_DETECTOR):
        sides = _read_lengths(dataset, keyword)
        if sides is not None:
            return sides[0] / sides[1]
    return None


def read_number(dataset: Any, keyword: str) -> float | None:
    """Return one finite number; None if it is absent, empty or not a number."""
    try:
        number = float(getattr(dataset, keyword))
    except (AttributeError, TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _read_lengths(dataset: Any, keyword: str) -> tuple[float, float] | None:
    """Return (row, column) of a spacing or a ratio; None if it is not two positive numbers."""
    return _to_lengths(dataset.get(keyword))


def _to_lengths(value: Any) -> tuple[float, float] | None:
    try:
        row, column = (float(each) for each in value)
    except (TypeError, ValueError):
        return None
    return (row, column) if 0 < row < math.inf and 0 < column < math.inf else None


def _from_pixel_spacing(dataset: Any) -> Calibration:
    """Return the calibration of PixelSpacing, if that is two positive numbers."""
    if dataset.get("PixelSpacing") is None:
        return Calibration(warnings=("the file has no pixel spacing; areas are given in pixels",))
    return _check_spacing(dataset.PixelSpacing)


def _check_spacing(spacing: Any) -> Calibration:
    """Return (row, column) in mm, if it is two positive numbers."""
    spacing_mm = _to_lengths(spacing)
    if spacing_mm is None:
        return Calibration(
            warnings=(f"the pixel spacing {spacing} is not valid; areas are given in pixels",)
        )
    return Calibration(spacing_mm=spacing_mm)


def _without_regions(dataset: Any) -> Calibration:
    """Return the calibration of ultrasound without regions."""
    if dataset.get("PixelSpacing") is None:
        return Calibration(
            warnings=("the file has no ultrasound calibration; areas are given in pixels",)
        )
    found = _from_pixel_spacing(dataset)
    if found.spacing_mm is None:
        return found
    shown = _show_spacing(found.spacing_mm)
    how = _read_calibration_type(dataset)
    if how in _CALIBRATED:
        why = f"its calibration ({how}) is stated"
    elif dataset.get("ImagePositionPatient") and dataset.get("ImageOrientationPatient"):
        why = "the image has a place in the patient"
    else:
        return Calibration(
            warnings=(
                f"the file has no ultrasound regions, and its PixelSpacing of {shown} was not "
                "used: ultrasound defines none, and nothing says how it was measured (no "
                "PixelSpacingCalibrationType, no place in the patient); areas are given in pixels",
            )
        )
    note = f"the file has no ultrasound regions; its PixelSpacing of {shown} was used, since {why}"
    return replace(found, warnings=(note,))


def _of_projection(dataset: Any) -> Calibration:
    """Return the calibration of a projection, whose PixelSpacing may be that of the detector.

    There the patient appears larger, by a tenth to a half as a rule.

    Source:
        DICOM PS3.3 10.7.1.3: equal to ImagerPixelSpacing, PixelSpacing is not corrected for
        magnification; different, it is.
    """
    found = _from_pixel_spacing(dataset)
    if found.spacing_mm is None:
        return found
    shown = _show_spacing(found.spacing_mm)
    how = _read_calibration_type(dataset)
    if how in _CALIBRATED:
        return replace(
            found, warnings=(f"its PixelSpacing of {shown} is calibrated by {how}, and was used",)
        )
    there = [lengths for each in _AT_DETECTOR if (lengths := _read_lengths(dataset, each))]
    if any(_find_apart(one, found.spacing_mm) > _ROUNDING for one in there):
        note = (
            f"its PixelSpacing of {shown} differs from the {_show_spacing(there[0])} at the "
            "detector, so it is corrected for magnification, and was used"
        )
        return replace(found, warnings=(note,))
    why = "is that at the detector" if there else "may be that at the detector"
    return Calibration(
        warnings=(
            f"its PixelSpacing of {shown} {why}, where the patient appears magnified, and was not "
            "used (no PixelSpacingCalibrationType); areas are given in pixels",
        )
    )


def _read_calibration_type(dataset: Any) -> str:
    """Return how PixelSpacing was calibrated; empty if the file does not say so."""
    return str(dataset.get("PixelSpacingCalibrationType") or "").strip()


def _find_apart(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return the larger part by which two spacings differ."""
    return max(abs(first / second - 1) for first, second in zip(one, other, strict=True))


def _beside_regions(regions: Calibration, spacing: Calibration) -> Calibration:
    """Return a warning if PixelSpacing contradicts the ultrasound regions."""
    if spacing.spacing_mm is None:
        return regions
    shown = _show_spacing(spacing.spacing_mm)
    if regions.spacing_mm is None:
        note = f"its PixelSpacing of {shown} was not used, since its regions do not confirm it"
        return replace(regions, warnings=(*regions.warnings, note))
    if _find_apart(spacing.spacing_mm, regions.spacing_mm) <= _SAME_SCALE:
        return regions
    note = (
        f"the file's PixelSpacing of {shown} differs from the scale of its ultrasound region, "
        f"{_show_spacing(regions.spacing_mm)}; the region's was used"
    )
    return replace(regions, warnings=(*regions.warnings, note))


def _show_spacing(spacing_mm: tuple[float, float]) -> str:
    return "{:.4g} x {:.4g} mm".format(*spacing_mm)


def _from_regions(dataset: Any) -> Calibration:
    """Return the calibration of the largest two-dimensional tissue region, if it fits the frame.

    Some machines write the first column after the region instead of its last one; such a region is
    cut by that pixel.
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
        return Calibration(warnings=(*notes, _describe_untrusted(misfit, item)))
    if cut:
        notes.append(cut)
    spacing_mm, problem = _find_scale(item, box, dataset.SequenceOfUltrasoundRegions)
    if problem:
        notes.append(f"{problem}; areas are given in pixels")
    return Calibration(box, spacing_mm, tuple(notes))


def _find_scale(item: Any, box: Box, items: Any) -> tuple[tuple[float, float] | None, str]:
    """Return the (row, column) spacing of a region in mm, or None and why there is none."""
    spacing_mm = _read_spacing_mm(item)
    if spacing_mm is None:
        units = (item.get(f"PhysicalUnits{axis}Direction") for axis in "XY")
        return None, "the ultrasound region is not calibrated in cm (units {}, {})".format(*units)
    for each in items:
        other, scale = _read_box(each), _read_spacing_mm(each)
        if each.get("RegionSpatialFormat") != _TWO_DIMENSIONAL or other is None or scale is None:
            continue
        across = min(box.right, other.right) - max(box.left, other.left)
        down = min(box.bottom, other.bottom) - max(box.top, other.top)
        if min(across, down) > _SHARED_PX and _find_apart(scale, spacing_mm) > _SAME_SCALE:
            return None, (
                "a region of another scale lies within the ultrasound region, as an enlarged "
                "inset does"
            )
    return spacing_mm, ""


def _read_box(item: Any) -> Box | None:
    """Return a region as a box; None if a corner is missing."""
    corners = [read_number(item, keyword) for keyword in _CORNERS]
    if any(corner is None for corner in corners):
        return None
    left, top, right, bottom = (int(corner) for corner in corners if corner is not None)
    return Box(top, left, bottom + 1, right + 1)


def _find_misfit(box: Box, rows: int, columns: int) -> str:
    """Return how a region fails to fit its frame; empty if it fits."""
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


def _describe_untrusted(misfit: str, item: Any) -> str:
    """Return why a region is not used."""
    delta = read_number(item, "PhysicalDeltaX")
    scale = f" ({abs(delta):.3g} cm per pixel)" if delta is not None else ""
    return (
        f"the ultrasound region {misfit}: its crop and its calibration{scale} belong to "
        "another frame size; areas are given in pixels"
    )


def _read_spacing_mm(item: Any) -> tuple[float, float] | None:
    """Return a region's (row, column) spacing in mm; some machines write it negative."""
    units = (item.get("PhysicalUnitsXDirection"), item.get("PhysicalUnitsYDirection"))
    column_cm = read_number(item, "PhysicalDeltaX")
    row_cm = read_number(item, "PhysicalDeltaY")
    if units != (_CENTIMETRES, _CENTIMETRES) or not row_cm or not column_cm:
        return None
    return abs(row_cm) * 10, abs(column_cm) * 10
