"""Output in the terminal: progress on stderr, results on stdout."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bedside.report.areas import StructureAreas
    from bedside.report.record import Report


def print_out(text: str = "") -> None:
    """Write a line to stdout."""
    sys.stdout.write(text + "\n")


def print_err(text: str) -> None:
    """Write a line to stderr, apart from the results."""
    sys.stderr.write(text + "\n")


def print_warning(text: str) -> None:
    """Write a warning to stderr."""
    print_err(f"warning: {text}")


@contextlib.contextmanager
def frame_progress(name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr while the frames of an image are segmented.

    Only a terminal shows it; the rest are spared even the loading of rich.

    Args:
        name: What is worked on.
        total: Number of frames.
        unit: What one of them is called.

    Yields:
        A function that takes the number of frames done.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}s"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=total, unit=unit)
        yield lambda done: progress.update(task, completed=done)


@contextlib.contextmanager
def case_progress(total: int, *, done: int = 0) -> Iterator[Callable[[str], None]]:
    """Show a bar on stderr while the cases of a batch finish; only a terminal shows it.

    Args:
        total: Number of cases.
        done: How many an earlier run has done.

    Yields:
        A function that takes what became of one more case.
    """
    if not sys.stderr.isatty():
        yield lambda status: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("cases{task.description}"),
        TimeRemainingColumn(),
    )
    bad = 0
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total, completed=done)

        def count(status: str) -> None:
            nonlocal bad
            bad += status != "done"
            told = f", {bad} of them refused or failed" if bad else ""
            progress.update(task, advance=1, description=told)

        yield count


def summary(report: "Report") -> list[str]:
    """A report in a few lines for the terminal."""
    frames = f"{report.frames} {report.unit}{'s' if report.frames > 1 else ''}"
    width = max((len(structure.name) for structure in report.structures), default=0)
    return [
        f"{report.source}: {frames}, {report.bundle.name} {report.bundle.version}",
        *(
            f"  {areas.name:<{width}}  {_range(areas, slices=report.slices)}"
            + "".join(f", {name} {value}" for name, value in areas.describe_measurements())
            for areas in report.structures
        ),
        f"  {_speed(report)}; {report.backend}, {report.precision}, {report.threads} "
        f"thread{'s' if report.threads > 1 else ''}",
        *(f"  {change.text}" for change in report.changes),
        *(f"  Warning: {warning}" for warning in report.warnings),
    ]


def group_warnings(warnings: Sequence[tuple[str, str]]) -> list[str]:
    """The warnings of many images, one line for those that differ in numbers only.

    Args:
        warnings: (image, warning) pairs.

    Example:
        >>> group_warnings([("a", "dark."), ("b", "3 px lost."), ("c", "4 px lost."), ("d", "dark.")])
        ['Warning: 2 images: dark.', 'Warning: 2 images, such as b: 3 px lost.']
        >>> group_warnings([("a", "dark.")])
        ['Warning: a: dark.']
    """  # noqa: E501
    groups: dict[str, list[tuple[str, str]]] = {}
    for image, text in warnings:
        groups.setdefault(re.sub(r"[0-9][0-9.,]*", "0", text), []).append((image, text))
    lines = []
    for group in groups.values():
        image, text = group[0]
        if len({seen for seen, _ in group}) == 1:
            where = image
        elif len({seen for _, seen in group}) == 1:
            where = f"{len(group)} images"
        else:
            where = f"{len(group)} images, such as {image}"
        lines.append(f"Warning: {where}: {text}")
    return lines


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells aligned in columns, the first to the left and the others to the right.

    Example:
        >>> table([("name", "frames"), ("a.dcm", "30")])
        ['name   frames', 'a.dcm      30']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _speed(report: "Report") -> str:
    """Time of a frame, or of a scan that was segmented as a whole."""
    total = report.latency_ms["total"]
    if report.latency_of in ("scan", "image"):
        return f"the {report.latency_of} in {total.p50:,.0f} ms"
    unit = report.latency_of
    return (
        f"{report.fps:.0f} {unit}s a second, a {unit} in {total.p50:.1f} ms (p95 {total.p95:.1f})"
    )


def _range(areas: "StructureAreas", *, slices: bool) -> str:
    """Volume of a structure, or its smallest and largest area."""
    if areas.volume_ml is not None:
        return f"{areas.volume_ml:,.2f} ml"
    if slices:
        return f"{sum(areas.area_px):,} voxels"
    values: Sequence[float] = areas.area_cm2 or areas.area_px
    unit, digits = ("cm2", 2) if areas.area_cm2 else ("px", 0)
    low, high = (f"{value:,.{digits}f}" for value in (min(values), max(values)))
    change = areas.fractional_area_change
    if change is None:
        return f"{high} {unit}"
    if change.fraction is None:
        return "in no frame"
    return (
        f"{low} to {high} {unit} (frames {change.smallest_frame} and {change.largest_frame}), "
        f"fractional area change {100 * change.fraction:.1f} %"
    )
