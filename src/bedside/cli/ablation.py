"""The part of `bedside evaluate` that drops and adds steps of the pipeline."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedside.cli.console import print_out, table

if TYPE_CHECKING:
    from bedside.datasets import Case
    from bedside.segment import Segmenter


def run_ablation(
    segmenter: "Segmenter",
    cases: "Sequence[Case]",
    *,
    output: Path,
    about: dict[str, Any],
    title: str,
    as_json: bool,
    on_case: Callable[[str], None],
) -> int:
    """Score every variant of a bundle's pipeline, write the page, and print the short table.

    Args:
        segmenter: The bundle, loaded; the variants share its network.
        cases: What to score.
        output: Folder for the page and its data.
        about: What was evaluated, and with what.
        title: Of the page.
        as_json: Print JSON, and nothing else.
        on_case: Called with the name of each case that is done.

    Raises:
        InputError: If a case is refused.
        OutputError: If the page cannot be written.
    """
    from bedside.evaluation.pipeline_ablation import ablate_pipeline
    from bedside.evaluation.pipeline_report import (
        HEADINGS,
        NAMES,
        ablation_json,
        short_rows,
        write_ablation,
    )
    from bedside.segment import Segmenter
    from bedside.spec.card import DISCLAIMER

    ablation = ablate_pipeline(
        lambda spec: Segmenter(spec, segmenter.session, warnings=segmenter.warnings),
        segmenter.spec,
        cases,
        on_case=on_case,
    )
    write_ablation(output, ablation, about=about, title=title)
    if as_json:
        print_out(ablation_json(ablation, about=about).rstrip("\n"))
        return 0
    print_out(f"{title}: {len(cases)} cases, each with every pipeline; mean over structures")
    for line in table([HEADINGS, *short_rows(ablation)]):
        print_out(line)
    for each in ablation.required:
        print_out(f"Not dropped: {each.step}, {each.reason}")
    print_out(f"Written to {output}: {', '.join(NAMES)}")
    print_out(DISCLAIMER)
    return 0
