"""What a person sees in the terminal: progress on stderr, results on stdout."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bedside.io.report_json import Report, StructureAreas


def say(text: str = "") -> None:
    """Write a line to stdout."""
    sys.stdout.write(text + "\n")


def tell(text: str) -> None:
    """Write a line to stderr: what is being done, beside the results."""
    sys.stderr.write(text + "\n")


@contextlib.contextmanager
def frame_progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr while the frames of an image are segmented.

    Only a terminal shows it; the rest are spared even the loading of rich.

    Args:
        name: What is worked on.
        total: Number of frames.

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
        TextColumn("frames"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextlib.contextmanager
def case_progress(total: int, *, done: int = 0) -> Iterator[Callable[[str], None]]:
    """Show a bar on stderr while the cases of a batch are settled; only a terminal shows it.

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
    """Sum a report up in a few lines for the terminal."""
    unit = "slice" if report.slices else "frame"
    frames = f"{report.frames} {unit}{'s' if report.frames > 1 else ''}"
    width = max((len(structure.name) for structure in report.structures), default=0)
    return [
        f"{report.source}: {frames}, {report.bundle.name} {report.bundle.version}",
        *(f"  {areas.name:<{width}}  {_range(areas)}" for areas in report.structures),
        f"  {report.fps:.0f} {unit}s a second, {_pace(report)}; "
        f"{report.backend}, {report.precision}, {report.threads} threads",
        *(f"  {change.text}" for change in report.changes),
        *(f"  Warning: {warning}" for warning in report.warnings),
    ]


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align rows of cells in columns, the first to the left and the others to the right.

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


def _pace(report: "Report") -> str:
    """Tell how long a frame took, or a scan that was taken whole."""
    total = report.latency_ms["total"]
    if report.slices and total.p50 == total.p99:
        return f"the scan in {total.p50:.0f} ms"
    return f"a {'slice' if report.slices else 'frame'} in {total.p50:.1f} ms (p95 {total.p95:.1f})"


def _range(areas: "StructureAreas") -> str:
    """Tell a structure's volume, or its smallest and largest area."""
    if areas.volume_ml is not None:
        return f"{areas.volume_ml:,.2f} ml"
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
