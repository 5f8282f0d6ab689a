"""Report of a pipeline ablation, as Markdown and JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bedside.evaluation.pipeline_ablation import (
    SMALLEST_DICE,
    SMALLEST_MM,
    PipelineAblation,
    VariantResult,
)
from bedside.evaluation.report import finite, markdown_table
from bedside.spec.card import DISCLAIMER, Interval
from bedside.spec.reading import to_mapping
from bedside.system.atomic import files_together, write_text

NAMES = ("pipeline_steps.json", "pipeline_steps.md")
"""Files that are written."""
HEADINGS = ("Pipeline", "Dice", "HD95 mm", "pre ms", "post ms", "Verdict")
"""Columns of the short table: means over structures, and differences beside them."""


def write_ablation(
    folder: Path, ablation: PipelineAblation, *, about: Mapping[str, Any], title: str
) -> list[Path]:
    """Write `NAMES` into a folder.

    Args:
        folder: Made if missing.
        ablation: What to write.
        about: Facts for the top of the report: the bundle, the data.
        title: Heading of the page.

    Raises:
        OutputError: If one cannot be written.
    """
    contents = (
        ablation_json(ablation, about=about),
        ablation_markdown(ablation, title=title, about=about),
    )
    with files_together(folder) as part:
        for name, content in zip(NAMES, contents, strict=True):
            write_text(part / name, content)
    return [folder / name for name in NAMES]


def ablation_json(ablation: PipelineAblation, *, about: Mapping[str, Any]) -> str:
    """Write an ablation as strict JSON; a number that does not exist is null."""
    content = {
        **about,
        "variants": [
            {
                "name": result.variant.name,
                "kind": result.variant.kind,
                "note": result.variant.note,
                "verdict": result.verdict,
                "preprocess_ms": round(result.preprocess_ms, 4),
                "network_ms": round(result.network_ms, 4),
                "postprocess_ms": round(result.postprocess_ms, 4),
                "pre_and_post_p95_ms": round(result.p95_ms, 4),
                "structures": to_mapping(result.evaluation.structures),
                "difference": to_mapping(result.overall),
                "difference_by_structure": to_mapping(result.structures),
            }
            for result in ablation.results
        ],
        "required": to_mapping(ablation.required),
        "disclaimer": DISCLAIMER,
    }
    return json.dumps(finite(content), indent=2, allow_nan=False) + "\n"


def ablation_markdown(ablation: PipelineAblation, *, title: str, about: Mapping[str, Any]) -> str:
    """Return the Markdown page."""
    plain = ablation.results[0]
    cases = plain.evaluation.cases
    ran = ", ".join(f"{about[key]}" for key in ("backend", "precision") if key in about)
    lines = [
        f"# {title}: the pipeline, step by step",
        "",
        f"{len(cases)} cases of {plain.evaluation.units} ({ran}, {about.get('threads', '?')} "
        "threads). Each variant drops or adds one step; all share the network's weights, and are "
        "run in turn on every case. Differences are to the unchanged pipeline, case by case, with "
        f"a 95 % interval by a bootstrap over {plain.evaluation.unit}. Times are medians, measured "
        "while the cases were scored: compare them only with each other. A verdict needs an "
        "interval without 0, over all structures or of one, and a difference of at "
        f"least {SMALLEST_DICE:g} in Dice or {SMALLEST_MM:g} mm. "
        f"The network takes {plain.network_ms:.2f} ms.",
        "",
        *markdown_table(list(HEADINGS), short_rows(ablation)),
        "",
        "## By structure",
        "",
        *markdown_table(*_structure_table(ablation)),
        "",
    ]
    if ablation.required:
        lines += ["## Not dropped", ""]
        lines += [f"- `{each.step}`: {each.reason}." for each in ablation.required]
        lines.append("")
    notes: dict[str, list[str]] = {}
    for result in ablation.results:
        if result.variant.note:
            notes.setdefault(result.variant.note, []).append(result.variant.name)
    told = about.get("warnings", ())
    if notes or told or plain.evaluation.warnings:
        lines += ["## To keep in mind", "", *(f"- {text}" for text in told)]
        lines += [f"- {', '.join(names)}: {note}." for note, names in notes.items()]
        lines += [f"- As it is: {text}" for text in plain.evaluation.warnings]
        lines.append("")
    return "\n".join([*lines, f"_{DISCLAIMER}_", ""])


def short_rows(ablation: PipelineAblation) -> list[list[str]]:
    """Return a table's cells: a row a variant, as `HEADINGS` names them."""
    return [
        [
            result.variant.name,
            _with_change(_mean(result, "dice"), result.overall.dice, places=4),
            _with_change(_mean(result, "hd95_mm"), result.overall.hd95_mm, places=2),
            f"{result.preprocess_ms:.2f}",
            f"{result.postprocess_ms:.2f}",
            result.verdict,
        ]
        for result in ablation.results
    ]


def _structure_table(ablation: PipelineAblation) -> tuple[list[str], list[list[str]]]:
    names = [each.name for each in ablation.results[0].evaluation.structures]
    head = ["Pipeline", *(f"{name}, {unit}" for name in names for unit in ("Dice", "HD95 mm"))]
    rows = []
    for result in ablation.results:
        row = [result.variant.name]
        for structure in result.evaluation.structures:
            difference = result.structures[structure.name]
            row.append(_with_change(structure.dice.mean, difference.dice, places=4))
            row.append(_with_change(structure.hd95_mm.mean, difference.hd95_mm, places=2))
        rows.append(row)
    return head, rows


def _mean(result: VariantResult, metric: str) -> float | None:
    """Average a metric over structures."""
    values = [getattr(each, metric).mean for each in result.evaluation.structures]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _with_change(value: float | None, change: Interval, *, places: int) -> str:
    """Write a mean, and how far it lies from the first row, unless it is that."""
    if value is None:
        return "unknown"
    text = f"{value:.{places}f}"
    if not change.mean and not change.low and not change.high:
        return text
    text += f" ({change.mean:+.{places}f}"
    if change.low is not None and change.high is not None:
        text += f", {change.low:+.{places}f} to {change.high:+.{places}f}"
    return text + ")"
