"""Reports of an evaluation: JSON, CSV and Markdown."""

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bedside.evaluation.cases import METRICS, CaseResult, Evaluation
from bedside.spec.card import DISCLAIMER, Interval
from bedside.spec.reading import to_mapping
from bedside.system.atomic import write_text

HEADINGS = {
    "dice": "Dice",
    "iou": "IoU",
    "asd_mm": "ASD mm",
    "hd95_mm": "HD95 mm",
    "hd_mm": "HD mm",
}
"""What people call the metrics."""

MEASUREMENT_HEADINGS = (
    "Measurement",
    "Mean absolute error",
    "Bias",
    "Error on the experts' masks",
)
"""Columns of the table of measurements."""

_COUNTS = ("Cases with it", "False alarms in cases without")

PICTURE = "worst_cases.png"
"""Name of the picture beside the report."""

_WORST = 6


def to_json(evaluation: Evaluation, *, about: Mapping[str, Any]) -> str:
    """Write an evaluation as strict JSON; a number that does not exist is null.

    Args:
        evaluation: What to write.
        about: Facts for the top of the report: the bundle, the data.

    Returns:
        JSON with the keys of `about`, and "unit" (what counts as independent, such as
        "patients"), "units" (how many there are), "structures", "measurements", "cases",
        "warnings", "disclaimer".
    """
    content = {
        **about,
        "unit": evaluation.unit,
        "units": evaluation.unit_count,
        "structures": to_mapping(evaluation.structures),
        "measurements": to_mapping(evaluation.measurements),
        "cases": [_case_mapping(case) for case in evaluation.cases],
        "warnings": list(evaluation.warnings),
        "disclaimer": DISCLAIMER,
    }
    return json.dumps(finite(content), indent=2, allow_nan=False) + "\n"


def to_csv(evaluation: Evaluation) -> str:
    """Write one line a case and structure; a number that does not exist is left empty.

    `false_alarm` is 0 or 1 where the case does not have the structure, and else empty.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "patient", "structure", *METRICS, "false_alarm"])
    for case in evaluation.cases:
        for name, scores in case.structures.items():
            values = [getattr(scores, metric) for metric in METRICS]
            row = ["" if value is None else f"{value:.6g}" for value in values]
            alarm = int(scores.false_alarm) if scores.dice is None else ""
            writer.writerow([case.case_id, case.patient_id, name, *row, alarm])
    return text.getvalue()


def to_markdown(evaluation: Evaluation, *, title: str, picture: str | None) -> str:
    """Return a Markdown page: the table, the worst cases, the warnings.

    Args:
        evaluation: What to write.
        title: Its heading.
        picture: File name of the worst cases' picture, if there is one.

    Returns:
        A page of Markdown.
    """
    lines = [
        f"# {title}",
        "",
        f"{len(evaluation.cases)} cases of {evaluation.units}, each scored on its own pixel grid. "
        f"{describe_means(evaluation)}",
        "",
        *markdown_table(structure_headings(evaluation), structure_rows(evaluation)),
        "",
        *_measurement_lines(evaluation),
        "## Worst cases",
        "",
        *markdown_table(["Case", "Mean Dice", *_names(evaluation)], _worst_rows(evaluation)),
        "",
    ]
    if picture:
        lines += [f"![The worst cases: truth and prediction]({picture})", ""]
    if evaluation.warnings:
        lines += ["## Warnings", "", *(f"- {text}" for text in evaluation.warnings), ""]
    return "\n".join([*lines, f"_{DISCLAIMER}_", ""])


def write_report(
    folder: Path, evaluation: Evaluation, *, about: Mapping[str, Any], title: str
) -> list[Path]:
    """Write evaluation.json, evaluation.csv and evaluation.md into a folder.

    The page shows `worst_cases.png` if that has been written there before.

    Args:
        folder: Made if missing.
        evaluation: What to write.
        about: See `to_json`.
        title: Heading of the page.

    Returns:
        The files written.

    Raises:
        OutputError: If one cannot be written.
    """
    picture = PICTURE if (folder / PICTURE).exists() else None
    contents = {
        folder / "evaluation.json": to_json(evaluation, about=about),
        folder / "evaluation.csv": to_csv(evaluation),
        folder / "evaluation.md": to_markdown(evaluation, title=title, picture=picture),
    }
    for path, content in contents.items():
        write_text(path, content)
    return list(contents)


def describe_means(evaluation: Evaluation) -> str:
    """Return the caption of a table of means."""
    if all(structure.dice.low is None for structure in evaluation.structures):
        return f"Means over cases; too few {evaluation.unit} for intervals."
    return f"Mean over cases (95 % interval, bootstrap over {evaluation.unit})."


def structure_headings(evaluation: Evaluation) -> list[str]:
    """Return the headings of a table of structures; counts only where a structure is rare."""
    return ["Structure", *HEADINGS.values(), *(_COUNTS if _is_rare(evaluation) else ())]


def structure_rows(evaluation: Evaluation) -> list[list[str]]:
    """Return a table's cells: a row a structure, under `structure_headings`."""
    rows, rare = [], _is_rare(evaluation)
    for structure in evaluation.structures:
        row = [structure.name, *(_show(metric, getattr(structure, metric)) for metric in METRICS)]
        if rare:
            row += [str(structure.cases), f"{structure.false_alarms} of {structure.absent}"]
        rows.append(row)
    return rows


def show_dice(dice: float | None) -> str:
    """Write the Dice of one case; a case without the structure has none.

    Example:
        >>> show_dice(0.9), show_dice(None)
        ('0.900', 'absent')
    """
    return "absent" if dice is None else f"{dice:.3f}"


def measurement_rows(evaluation: Evaluation) -> list[list[str]]:
    """Return a table's cells: a row a measurement, as `MEASUREMENT_HEADINGS` names them."""
    return [
        [
            f"{each.title}, {each.name.rpartition('_')[2]}",
            *(_show(each.name, value) for value in (each.absolute_error, each.bias, each.floor)),
        ]
        for each in evaluation.measurements
    ]


def _measurement_lines(evaluation: Evaluation) -> list[str]:
    """Write the section of measurements, where there are any."""
    if not evaluation.measurements:
        return []
    return [
        "## Measurements",
        "",
        *markdown_table(list(MEASUREMENT_HEADINGS), measurement_rows(evaluation)),
        "",
        "Beside what experts measured on the image. The error on the experts' own masks, "
        "measured in the same way, is what the way of measuring costs.",
        "",
    ]


def _worst_rows(evaluation: Evaluation) -> list[list[str]]:
    return [
        [case.case_id, show_dice(case.mean_dice)]
        + [
            "false alarm" if scores.false_alarm else show_dice(scores.dice)
            for scores in case.structures.values()
        ]
        for case in evaluation.worst(_WORST)
    ]


def _is_rare(evaluation: Evaluation) -> bool:
    """Whether some case lacks some structure."""
    return any(structure.absent for structure in evaluation.structures)


def _names(evaluation: Evaluation) -> list[str]:
    return [structure.name for structure in evaluation.structures]


def _show(metric: str, interval: Interval) -> str:
    """Write a mean and its interval: overlap to three places, millimetres to two."""
    places = 2 if metric.endswith("_mm") else 3
    if interval.mean is None:
        return "unknown" if metric.endswith("_mm") else "none"
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.{places}f}"
    return f"{interval.mean:.{places}f} ({interval.low:.{places}f}-{interval.high:.{places}f})"


def markdown_table(headings: list[str], rows: list[list[str]]) -> list[str]:
    """Lay out a Markdown table with its columns aligned in plain text too."""
    cells = [headings, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _case_mapping(case: CaseResult) -> dict[str, Any]:
    return {
        "case": case.case_id,
        "patient": case.patient_id,
        "frames": case.frames,
        "spacing_mm": case.spacing_mm,
        "structures": to_mapping(case.structures),
        "measured": to_mapping(case.measured),
    }


def finite(value: Any) -> Any:
    """Replace every NaN and infinity with None, which JSON can hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
