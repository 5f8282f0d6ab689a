"""The part of `bedside evaluate` that plants artefacts into images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedside.cli.console import print_out, table

if TYPE_CHECKING:
    from bedside.datasets import Case
    from bedside.segment import Segmenter


def run_robustness(
    segmenter: "Segmenter",
    cases: "Sequence[Case]",
    *,
    output: Path,
    about: dict[str, Any],
    title: str,
    seed: int,
    as_json: bool,
    on_case: Callable[[str], None],
) -> int:
    """Score every case with every artefact, write the page, and print the table.

    Args:
        segmenter: The bundle, loaded.
        cases: What to score.
        output: Folder for the page, its data, plot and pictures.
        about: What was evaluated, and with what.
        title: Of the page.
        seed: Seed of what is planted.
        as_json: Print JSON, and nothing else.
        on_case: Called with the name of each case that is done.

    Raises:
        InputError: If a case is refused as it is.
        OutputError: If the page cannot be written.
    """
    from bedside.evaluation.robustness import evaluate_robustness
    from bedside.evaluation.robustness_report import (
        robustness_headings,
        robustness_json,
        robustness_rows,
        write_robustness,
    )
    from bedside.spec.card import DISCLAIMER

    robustness = evaluate_robustness(segmenter, cases, seed=seed, on_case=on_case)
    names = write_robustness(
        output, robustness, segmenter=segmenter, cases=cases, about=about, title=title
    )
    if as_json:
        print_out(robustness_json(robustness, about=about).rstrip("\n"))
        return 0
    print_out(f"{title}: {len(cases)} cases, each as it is and with every artefact")
    # Means alone: with their intervals the table would not fit into a terminal.
    rows = [[cell.partition(" (")[0] for cell in row] for row in robustness_rows(robustness)]
    for line in table([robustness_headings(robustness), *rows]):
        print_out(line)
    print_out(f"Written to {output}: {', '.join(names)}")
    print_out(DISCLAIMER)
    return 0
