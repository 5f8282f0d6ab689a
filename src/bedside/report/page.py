"""The report as one HTML page: self-contained, printable on A4, no scripts."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from bedside.report.areas import StructureAreas
from bedside.report.curves import draw_curves
from bedside.report.page_frame import write_page, write_table
from bedside.report.record import Report
from bedside.system.atomic import write_text

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
        _picture(report, picture),
        _curves(report),
        _areas(report),
        _measurements(report),
        _confidence(report),
        _changes(report),
        f'<div class="columns">{_latency(report) if with_cost else ""}'
        f"{_provenance(report, with_cost=with_cost)}</div>",
        f'<footer><p class="notice">{escape(report.disclaimer)}</p><p class="quiet">'
        f"<code>bundle sha256 {escape(report.bundle.sha256)}</code></p></footer>",
    ]
    return write_page(f"{report.source} - bedside report", parts)


def _header(report: Report) -> str:
    """Heading: source and bundle."""
    frames = f"{report.frames} {report.unit}{'s' if report.frames > 1 else ''}"
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
        f"{escape(bundle)}</p>"
        f'<p class="notice">{escape(report.disclaimer)}</p></header>'
    )


def _picture(report: Report, picture: bytes) -> str:
    """Show the picture; of several frames it is wide, and scrolls on a small screen."""
    names = ", ".join(structure.name for structure in report.structures)
    shown = "the image" if report.frames == 1 else f"{report.unit}s of {report.source}"
    wide = ' class="wide"' if report.frames > 1 else ""
    return (
        f'<div class="scroll"><img{wide} alt="{escape(f"Outlines of {names} on {shown}")}" '
        f'src="{_embedded(picture)}"></div>'
    )


def _warnings(warnings: Sequence[str]) -> str:
    """List of warnings."""
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    heading = "Warning" if len(warnings) == 1 else "Warnings"
    return f'<section class="warnings"><h2>{heading}</h2><ul>{items}</ul></section>'


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
    shown = f'<div class="scroll"><div class="wide">{drawn}</div></div>'
    return f"<section><h2>{heading}</h2>{shown}</section>"


def _areas(report: Report) -> str:
    """Show each structure's largest and smallest area, or the only one."""
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
    return f"<section><h2>Areas</h2>{write_table(head, rows)}</section>"


def _volumes(report: Report) -> str:
    """Volume of each structure, in ml and voxels."""
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
    table = write_table(head, rows)
    return f"<section><h2>Volumes</h2>{table}</section>"


def _measurements(report: Report) -> str:
    """Show what is measured on one kind of structure alone, in the frame where it is largest."""
    rows = [
        [_named(structure), escape(name), escape(value)]
        for structure in report.structures
        for name, value in structure.describe_measurements()
    ]
    table = write_table(["Structure", "Measurement", "Value"], rows) if rows else ""
    return f"<section><h2>Measurements</h2>{table}</section>" if rows else ""


_BOUNDED = {
    "volume_ml": "volume, ml",
    "area_cm2": "area, cm²",
    "area_px": "area, px",
    "fractional_area_change": "fractional change",
}


def _confidence(report: Report) -> str:
    """Show how sure each structure is, and between which ends its largest measurement lies."""
    rows = []
    for structure in report.structures:
        sure = structure.confidence
        if sure is None:
            continue
        spans = []
        for name in structure.intervals:
            span = structure.find_interval(name)
            if span is not None and not (name == "area_px" and "area_cm2" in structure.intervals):
                words = _BOUNDED.get(name, name.replace("_", " "))
                spans.append(f"{words}: {_end(span[0])} to {_end(span[1])}")
        rows.append([
            _named(structure), f"{sure.predicted_dice:.2f}", f"{sure.low:.2f} to {sure.high:.2f}",
            "yes" if sure.trusted else "<strong>no</strong>", escape("; ".join(spans)) or "-",
        ])  # fmt: skip
    if not rows:
        return ""
    head = ["Structure", "Predicted Dice", "90 % interval", "Trusted", "90 % intervals"]
    return f"<section><h2>How sure</h2>{write_table(head, rows)}</section>"


def _end(value: float) -> str:
    """Write an end of an interval to three digits, without a power of ten."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


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
    """Show how long a frame takes, or the whole scan, stage by stage."""
    once = report.latency_of in ("scan", "image")
    rows = [
        [
            escape(_STAGES.get(stage, stage)),
            *(f"{ms:,.2f}" for ms in ((time.p50,) if once else (time.p50, time.p95, time.p99))),
        ]
        for stage, time in report.latency_ms.items()
    ]
    head = [f"Milliseconds for the whole {report.latency_of}", "ms"]
    if not once:
        head = [f"Milliseconds a {report.latency_of}", "Median", "95 % within", "99 % within"]
    return f"<section><h2>Time</h2>{write_table(head, rows)}</section>"


def _provenance(report: Report, *, with_cost: bool) -> str:
    """Bundle, licence, runtime and cost."""
    memory = report.peak_memory_mb
    speed = f"{report.fps:.1f} {report.unit}s a second"
    if report.latency_of in ("scan", "image"):
        speed = f"the whole {report.latency_of} in {report.latency_ms['total'].p50:,.0f} ms"
    threads = f", {report.threads} thread{'s' if report.threads > 1 else ''}" if with_cost else ""
    cost = {
        "Speed": f"{speed}; start-up {report.startup_ms:,.0f} ms",
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
    return f"<section><h2>Made with</h2><table>{cells}</table></section>"


def _unit(structures: Sequence[StructureAreas]) -> str:
    return "cm²" if structures and structures[0].area_cm2 is not None else "px"


def _number(area: float) -> str:
    return f"{area:,}" if isinstance(area, int) else f"{area:.2f}"


def _embedded(picture: bytes) -> str:
    """Return a picture as a data URL."""
    kinds = {b"\xff\xd8": "jpeg", b"\x89P": "png", b"GI": "gif"}
    return f"data:image/{kinds[picture[:2]]};base64,{base64.b64encode(picture).decode('ascii')}"
