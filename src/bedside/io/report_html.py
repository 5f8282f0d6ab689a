"""The report as one page for a person: self-contained, printable on A4, no scripts."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from bedside.atomic import write_text
from bedside.io.curves import draw_curves
from bedside.io.report_json import Report, StructureAreas

_STYLE = """
@page { size: A4; margin: 10mm }
* { box-sizing: border-box }
html { -webkit-print-color-adjust: exact; print-color-adjust: exact }
body { font: 12px/1.35 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: #1b1f24;
  max-width: 190mm; margin: 0 auto; padding: 10px }
h1 { font-size: 19px; margin: 0 } h2 { font-size: 13px; margin: 9px 0 2px }
header { border-bottom: 2px solid #1b1f24; padding-bottom: 5px; margin-bottom: 8px }
p { margin: 2px 0 } .quiet { color: #59636e }
.notice { font-weight: 600 }
.warnings { background: #fff5d6; border-left: 4px solid #d4a72c; padding: 5px 10px; margin: 8px 0 }
.warnings ul { margin: 0; padding-left: 16px }
img { display: block; max-width: 100%; max-height: 92mm; margin: 6px auto; background: #111 }
svg { display: block; width: 100%; height: auto }
table { border-collapse: collapse; width: 100%; font-size: 11px }
th, td { text-align: right; padding: 2px 6px; border-bottom: 1px solid #d8dee4;
  font-variant-numeric: tabular-nums }
th { font-weight: 600; color: #59636e } th:first-child, td:first-child { text-align: left }
td.text { text-align: left; overflow-wrap: anywhere }
.patch { display: inline-block; width: 10px; height: 10px; margin-right: 6px }
.columns { display: grid; grid-template-columns: 1fr 1fr; gap: 0 18px }
footer { border-top: 2px solid #1b1f24; margin-top: 9px; padding-top: 4px }
code { font-size: 9px; overflow-wrap: anywhere }
@media (max-width: 600px) { .columns { grid-template-columns: 1fr } }
@media print { body { padding: 0 } section { break-inside: avoid } }
"""

_STAGES = {
    "decode": "Decode",
    "preprocess": "Preprocess",
    "network": "Network",
    "postprocess": "Postprocess",
    "total": "Total",
}


def write_report_html(
    report: Report, target: Path, *, picture: bytes, with_cost: bool = True
) -> Path:
    """Write `report.html`.

    Args:
        report: What to show.
        target: The file.
        picture: The picture at its top, as JPEG, PNG or GIF.
        with_cost: Whether it tells what the run cost.

    Raises:
        OutputError: If it cannot be written.
    """
    write_text(target, to_html(report, picture=picture, with_cost=with_cost))
    return target


def to_html(report: Report, *, picture: bytes, with_cost: bool = True) -> str:
    """Lay a report out as one HTML page that needs nothing beside it."""
    parts = [
        _header(report),
        _warnings(report.warnings),
        f'<img alt="Contours over the frames" src="{_embedded(picture)}">',
        _curves(report),
        _areas(report),
        _changes(report),
        f'<div class="columns">{_latency(report) if with_cost else ""}'
        f"{_provenance(report, with_cost=with_cost)}</div>",
        f'<footer><p class="notice">{escape(report.disclaimer)}</p><p class="quiet">'
        f"<code>bundle sha256 {escape(report.bundle.sha256)}</code></p></footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.source)} - bedside report</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def _header(report: Report) -> str:
    """Say what was segmented with what."""
    unit = "slice" if report.slices else "frame"
    frames = f"{report.frames} {unit}{'s' if report.frames > 1 else ''}"
    if report.frame_time_ms is not None and report.frames > 1:
        average = " on average" if report.frame_starts_ms else ""
        frames += f", {report.frame_time_ms:.1f} ms apart{average}"
    scale = "scale unknown: areas in pixels"
    if report.spacing_mm is not None:
        scale = "{:.3g} x {:.3g} mm a pixel".format(*report.spacing_mm)
    bundle = f"{report.bundle.name} {report.bundle.version}"
    return (
        f"<header><h1>{escape(report.source)}</h1>"
        f'<p class="quiet">{escape(frames)}; {escape(scale)}; segmented with '
        f"{escape(bundle)}</p></header>"
    )


def _warnings(warnings: Sequence[str]) -> str:
    """List what a reader must know before believing a number."""
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    return f'<section class="warnings"><ul>{items}</ul></section>'


def _curves(report: Report) -> str:
    """Draw the area of each structure over time."""
    if report.frames < 2:
        return ""
    time = report.frame_time_ms
    positions = [index * time if time else index + 1.0 for index in range(report.frames)]
    positions = list(report.frame_starts_ms or positions)
    unit = _unit(report.structures)
    curves = {
        structure.name: (structure.color, structure.area_cm2 or structure.area_px)
        for structure in report.structures
    }
    drawn = draw_curves(
        positions,
        curves,
        x_title="slice" if report.slices else "time in ms" if time else "frame",
        y_title=f"area in {unit}",
    )
    heading = "Area by slice" if report.slices else "Area over time"
    return f"<section><h2>{heading}</h2>{drawn}</section>"


def _areas(report: Report) -> str:
    """Tell each structure's largest and smallest area, or the only one."""
    unit = _unit(report.structures)
    if report.slices:
        return _volumes(report)
    if report.frames == 1:
        head = ["Structure", f"Area, {unit}", "Part of the image"]
    else:
        head = ["Structure", f"Largest, {unit}", "in frame", f"Smallest, {unit}", "in frame",
                "Fractional change"]  # fmt: skip
    head.append("Largest diameter, mm")
    rows = [_area_row(structure) for structure in report.structures]
    return f"<section><h2>Areas</h2>{_table(head, rows)}</section>"


def _volumes(report: Report) -> str:
    """Tell the volume of each structure, in voxels too."""
    rows = [
        [
            _named(structure),
            "unknown" if structure.volume_ml is None else f"{structure.volume_ml:.2f}",
            f"{sum(structure.area_px):,}",
            str(sum(area > 0 for area in structure.area_px)),
            _diameter(structure),
            "unknown"
            if structure.box_mm is None
            else " x ".join(f"{length:.1f}" for length in structure.box_mm),
        ]
        for structure in report.structures
    ]
    head = ["Structure", "Volume, ml", "Voxels", "Slices", "Largest diameter, mm", "Box, mm"]
    table = _table(head, rows)
    return f"<section><h2>Volumes</h2>{table}</section>"


def _changes(report: Report) -> str:
    """List what was changed in the network's labels, and what is odd about them."""
    if not report.changes:
        return ""
    items = "".join(f"<li>{escape(change.text)}</li>" for change in report.changes)
    return f"<section><h2>Changed after the network</h2><ul>{items}</ul></section>"


def _named(structure: StructureAreas) -> str:
    """Write a structure's name behind a patch of its colour."""
    color = "rgb({},{},{})".format(*structure.color)
    return f'<span class="patch" style="background:{color}"></span>{escape(structure.name)}'


def _area_row(structure: StructureAreas) -> list[str]:
    """Make one row of the table of areas, as HTML."""
    name = _named(structure)
    areas: Sequence[float] = structure.area_cm2 or structure.area_px
    change = structure.fractional_area_change
    if change is None:
        part = f"{100 * structure.area_fraction[0]:.1f} %"
        return [name, _number(areas[0]), part, _diameter(structure)]
    fraction = "-" if change.fraction is None else f"{100 * change.fraction:.1f} %"
    largest, smallest = change.largest_frame, change.smallest_frame
    return [name, _number(areas[largest - 1]), str(largest), _number(areas[smallest - 1]),
            str(smallest), fraction, _diameter(structure)]  # fmt: skip


def _diameter(structure: StructureAreas) -> str:
    """Write the largest diameter of a structure in the plane of a frame."""
    if structure.diameter_mm is None:
        return "unknown"
    return "-" if structure.largest_diameter is None else f"{structure.largest_diameter.mm:.1f}"


def _latency(report: Report) -> str:
    """Tell how long a frame takes, stage by stage."""
    rows = [
        [escape(_STAGES.get(stage, stage)), *(f"{ms:.2f}" for ms in (time.p50, time.p95, time.p99))]
        for stage, time in report.latency_ms.items()
    ]
    table = _table(["ms per frame", "p50", "p95", "p99"], rows)
    return f"<section><h2>Latency</h2>{table}</section>"


def _provenance(report: Report, *, with_cost: bool) -> str:
    """Tell what ran, on which terms, and what it took."""
    memory = report.peak_memory_mb
    threads = f", {report.threads} threads" if with_cost else ""
    cost = {
        "Speed": f"{report.fps:.1f} frames a second; start-up {report.startup_ms:.0f} ms",
        "Memory": "unknown" if memory is None else f"{memory:.0f} MiB at most",
    }
    rows = {
        "Bundle": f"{report.bundle.name} {report.bundle.version}, {report.bundle.bytes:,} bytes",
        "Licence": report.bundle.license,
        "Runtime": f"{report.backend}, {report.precision}{threads}",
        **(cost if with_cost else {}),
        "Software": f"bedside {report.bedside_version}",
    }
    cells = "".join(
        f'<tr><td>{escape(name)}</td><td class="text">{escape(text)}</td></tr>'
        for name, text in rows.items()
    )
    return f"<section><h2>Provenance</h2><table>{cells}</table></section>"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Make a table; the head is text, the cells are HTML already."""
    header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{header}</tr>{body}</table>"


def _unit(structures: Sequence[StructureAreas]) -> str:
    return "cm²" if structures and structures[0].area_cm2 is not None else "px"


def _number(area: float) -> str:
    return f"{area:,}" if isinstance(area, int) else f"{area:.2f}"


def _embedded(picture: bytes) -> str:
    """Turn a picture into an address that holds it."""
    kinds = {b"\xff\xd8": "jpeg", b"\x89P": "png", b"GI": "gif"}
    return f"data:image/{kinds[picture[:2]]};base64,{base64.b64encode(picture).decode('ascii')}"
