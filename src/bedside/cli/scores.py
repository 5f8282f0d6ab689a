"""What an evaluation found, for the terminal: the table of structures, warnings, and looks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from bedside.evaluation.cases import Evaluation


def print_scores(console: "Console", evaluation: "Evaluation", *, title: str) -> None:
    """Print the table of structures, the worst cases' names and the warnings."""
    from rich import box
    from rich.table import Table

    from bedside.evaluation.report import (
        MEASUREMENT_HEADINGS,
        describe_means,
        measurement_rows,
        show_dice,
        structure_headings,
        structure_rows,
    )
    from bedside.spec.card import DISCLAIMER

    table = Table(
        title=f"{title}: {len(evaluation.cases)} cases, {evaluation.units}",
        caption=describe_means(evaluation),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title_style="bold",
    )
    name, *headings = structure_headings(evaluation)
    table.add_column(name)
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in structure_rows(evaluation):
        # The interval on a line of its own, so that all columns fit into 80 characters.
        table.add_row(*(cell.replace(" (", "\n").removesuffix(")") for cell in row))
    console.print(table)
    for name, *cells in measurement_rows(evaluation):
        pairs = zip(MEASUREMENT_HEADINGS[1:], cells, strict=True)
        text = ", ".join(f"{heading.lower()} {cell}" for heading, cell in pairs)
        console.print(f"{name}: {text}", highlight=False)
    worst = ", ".join(f"{case.case_id} {show_dice(case.mean_dice)}" for case in evaluation.worst(3))
    console.print(f"Lowest mean Dice: {worst}", highlight=False)
    print_warnings(console, evaluation.warnings)
    console.print(DISCLAIMER, style="dim", highlight=False)


def print_warnings(console: "Console", warnings: Sequence[str]) -> None:
    """Print warnings, a line each."""
    for text in warnings:
        console.print(f"Warning: {text}", style="yellow", markup=False, highlight=False)


def print_looks(console: "Console", looks: str | None) -> None:
    """Print how often the test part was looked at, if it was."""
    if looks:
        console.print(looks, markup=False, highlight=False)
