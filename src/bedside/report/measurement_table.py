"""Measurements of many images in one CSV file: a row for each image and structure."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedside.errors import UsageError
from bedside.system.atomic import write_text

if TYPE_CHECKING:
    from bedside.report.areas import StructureAreas
    from bedside.report.record import Report

Row = Mapping[str, Any]

_COLUMNS = (
    "case", "source", "model", "model_version", "structure", "frames", "frames_found",
    "largest_area_px", "largest_area_cm2", "smallest_area_px", "smallest_area_cm2",
    "fractional_area_change", "volume_ml", "largest_diameter_mm",
    "box_slice_mm", "box_row_mm", "box_column_mm",
)  # fmt: skip


def measurement_rows(report: "Report") -> tuple[Row, ...]:
    """What was measured on one image, a row for each structure; None where it is unknown.

    A measurement of its own, such as the circumference of a head, is that of the frame in which
    the structure is largest.
    """
    return tuple(
        {
            "source": report.source,
            "model": report.bundle.name,
            "model_version": report.bundle.version,
            "frames": report.frames,
            **_measure(structure),
        }
        for structure in report.structures
    )


def check_table(target: Path) -> None:
    """Make sure that a table takes the place of nothing but an earlier table.

    Raises:
        UsageError: If there is something else, such as an image.
    """
    start = ",".join(_COLUMNS[:2]).encode()
    if not target.exists():
        return
    if target.is_file():
        with target.open("rb") as file:
            if file.read(len(start)) in (start, b""):
                return
    raise UsageError(
        f"{target} exists and is no table of measurements; name another file with --csv."
    )


def write_csv(target: Path, cases: Iterable[tuple[str, Iterable[Row]]]) -> Path:
    """Write the rows of all cases, those of `measurement_rows` for each.

    A text that a spreadsheet would compute, such as the name "=1+1.png", begins with "'".

    Args:
        target: The file.
        cases: Name of each case, and its rows.

    Raises:
        OutputError: If it cannot be written.
    """
    rows = [{"case": name, **row} for name, found in cases for row in found]
    own = dict.fromkeys(key for row in rows for key in row if key not in _COLUMNS)
    text = io.StringIO()
    table = csv.DictWriter(text, [*_COLUMNS, *own], lineterminator="\n")
    table.writeheader()
    table.writerows({key: _as_text(value) for key, value in row.items()} for row in rows)
    write_text(target, text.getvalue())
    return target


def _as_text(value: Any) -> Any:
    """Mark a text that a spreadsheet would take for a formula.

    Example:
        >>> _as_text("=1+1.png"), _as_text("a.png"), _as_text(-0.5)
        ("'=1+1.png", 'a.png', -0.5)
    """
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if is_formula else value


def _measure(structure: "StructureAreas") -> Row:
    areas_cm2, change = structure.area_cm2, structure.fractional_area_change
    largest, smallest = max(structure.area_px), min(structure.area_px)
    box = structure.box_mm or (None, None, None)
    diameter = structure.largest_diameter
    return {
        "structure": structure.name,
        "frames_found": sum(area > 0 for area in structure.area_px),
        "largest_area_px": largest,
        "largest_area_cm2": areas_cm2 and max(areas_cm2),
        "smallest_area_px": smallest,
        "smallest_area_cm2": areas_cm2 and min(areas_cm2),
        "fractional_area_change": change and change.fraction,
        "volume_ml": structure.volume_ml,
        "largest_diameter_mm": diameter and diameter.mm,
        **dict(zip(("box_slice_mm", "box_row_mm", "box_column_mm"), box, strict=True)),
        **structure.at_largest,
        **_bound(structure),
    }


def _bound(structure: "StructureAreas") -> Row:
    """Predicted Dice and intervals, of calibrated bundles alone."""
    sure, row = structure.confidence, dict[str, Any]()
    if sure is not None:
        row |= {"predicted_dice": sure.predicted_dice, "predicted_dice_low": sure.low,
                "predicted_dice_high": sure.high, "trusted": sure.trusted}  # fmt: skip
    for name in structure.intervals:
        if (span := structure.find_interval(name)) is not None:
            key = f"largest_{name}" if name.startswith("area_") else name
            row |= {f"{key}_low": span[0], f"{key}_high": span[1]}
    return row
