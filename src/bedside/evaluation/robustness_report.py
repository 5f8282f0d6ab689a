"""The table of planted artefacts as a page, with a plot and the worst pictures."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bedside.datasets.case import Case
from bedside.evaluation.cases import CaseResult, Scores, Segmenter
from bedside.evaluation.pictures import Tile, pick_frame, write_tiles
from bedside.evaluation.planted import list_artefacts
from bedside.evaluation.report import finite, markdown_table
from bedside.evaluation.robustness import LARGE_LOSS, Robustness, segment_spoilt
from bedside.spec.card import DISCLAIMER, Interval
from bedside.spec.deployment import Label
from bedside.spec.reading import to_mapping
from bedside.system.atomic import files_together, write_text

PAGE, DATA, PLOT, PICTURE = (
    "robustness.md",
    "robustness.json",
    "robustness.svg",
    "robustness_worst.png",
)
_TILES = 6
_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 720, 170, 24, 44, 26
_LINE = 16
_INK, _GRID = "#59636e", "#e3e8ed"


def robustness_headings(robustness: Robustness) -> list[str]:
    """Headings of the table of artefacts."""
    lost = [f"{name}, lost" for name in robustness.structures]
    return ["Artefact", *lost, f"Cases losing over {LARGE_LOSS:g}", "Warned", "Refused"]


def robustness_rows(robustness: Robustness) -> list[list[str]]:
    """Cells of the table of artefacts, a row each."""
    return [
        [
            each.name,
            *(_show(loss) for loss in each.loss),
            f"{100 * each.large:.0f} %",
            f"{100 * each.warned:.0f} %",
            f"{100 * each.refused:.0f} %",
        ]
        for each in robustness.artefacts
    ]


def robustness_json(robustness: Robustness, *, about: Mapping[str, Any]) -> str:
    """All figures, case by case, as strict JSON."""
    content = {**about, **to_mapping(robustness), "disclaimer": DISCLAIMER}
    return json.dumps(finite(content), indent=1, allow_nan=False) + "\n"


def list_warnings(warnings: Sequence[str]) -> list[str]:
    """Lines of Markdown that say what to mind of the cases; none without a warning."""
    return [*(f"* **{text}**" for text in warnings), ""] if warnings else []


def robustness_markdown(
    robustness: Robustness,
    *,
    title: str,
    plot: str | None,
    picture: str | None,
    warnings: Sequence[str] = (),
) -> str:
    """A page of Markdown: the table, the plot, the worst pictures, and warnings of the cases."""
    clean = ", ".join(
        f"{name} {_show(dice)}"
        for name, dice in zip(robustness.structures, robustness.clean, strict=True)
    )
    lines = [
        f"# {title}: planted artefacts",
        "",
        f"{robustness.cases} cases of {robustness.units} {robustness.unit}, seed "
        f"{robustness.seed}. Dice without an artefact: {clean}.",
        "",
        *list_warnings(warnings),
        "Dice lost with an artefact, mean over cases (95 % interval, bootstrap over "
        f"{robustness.unit}), each case against itself without it. Refused cases are left out; "
        "warned are those with a warning that they do not have without the artefact.",
        "",
        *markdown_table(robustness_headings(robustness), robustness_rows(robustness)),
        "",
    ]
    if plot:
        lines += [f"![Dice lost by artefact and structure]({plot})", ""]
    if picture:
        lines += ["## Worst cases", "", f"![The worst cases: truth and prediction]({picture})", ""]
    return "\n".join([*lines, f"_{DISCLAIMER}_", ""])


def write_robustness(
    folder: Path,
    robustness: Robustness,
    *,
    segmenter: Segmenter,
    cases: Sequence[Case],
    about: Mapping[str, Any],
    title: str,
) -> list[str]:
    """Write robustness.md, .json and .svg, and robustness_worst.png into a folder.

    Args:
        folder: Made if missing.
        robustness: What to write.
        segmenter: What it was made with; the worst cases are segmented again.
        cases: The cases that it is of.
        about: Facts for the top of the JSON: the bundle, the data.
        title: Heading of the page.

    Returns:
        Names of the files.

    Raises:
        OutputError: If one cannot be written.
    """
    labels = segmenter.spec.labels
    tiles = _look_at_worst(robustness, segmenter, cases)
    picture = PICTURE if tiles else None
    page = robustness_markdown(
        robustness, title=title, plot=PLOT, picture=picture, warnings=about.get("warnings", ())
    )
    with files_together(folder) as part:
        if tiles:
            write_tiles(part / PICTURE, tiles, labels)
        write_text(part / DATA, robustness_json(robustness, about=about))
        write_text(part / PLOT, draw_losses(robustness, labels) + "\n")
        write_text(part / PAGE, page)
    return [PAGE, DATA, PLOT, *([PICTURE] if tiles else [])]


def draw_losses(robustness: Robustness, labels: Sequence[Label]) -> str:
    """Plot the Dice lost by each artefact, a dot with its interval for each structure, as SVG."""
    pairs = [(loss, each) for each in robustness.artefacts for loss in each.loss]
    highs = [end for loss, _ in pairs for end in (loss.mean, loss.high) if end is not None]
    lows = [end for loss, _ in pairs for end in (loss.mean, loss.low) if end is not None]
    high, low = max([0.05, *highs]), min([0.0, *lows])
    names, lines = _draw_names(labels)
    top = _TOP + _LINE * (lines - 1)
    height = top + _ROW * len(robustness.artefacts) + 34

    def x(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _RIGHT - _LEFT)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" font-family="sans-serif" '
        f'font-size="11" fill="{_INK}"><rect width="100%" height="100%" fill="white"/>'
    ]
    bottom = height - 30
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / step <= 10)
    for number in range(int(low / step), int(high / step) + 1):
        at = x(number * step)
        color = _INK if number == 0 else _GRID
        parts.append(
            f'<path d="M{at:.1f} {top - 8}V{bottom}" stroke="{color}"/>'
            f'<text x="{at:.1f}" y="{bottom + 14}" text-anchor="middle">{number * step:g}</text>'
        )
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{height - 3}" text-anchor="end">Dice lost</text>')
    parts += names
    for row, each in enumerate(robustness.artefacts):
        middle = top + _ROW * (row + 0.5)
        parts.append(
            f'<text x="{_LEFT - 10}" y="{middle + 4:.1f}" text-anchor="end">'
            f"{escape(each.name)}</text>"
        )
        for index, (label, loss) in enumerate(zip(labels, each.loss, strict=True)):
            at = middle + 6 * (index - (len(labels) - 1) / 2)
            parts.append(_draw_dot(loss, label, x, at))
    return "".join([*parts, "</svg>"])


def _draw_names(labels: Sequence[Label]) -> tuple[list[str], int]:
    """Names of the structures with their colours, and the number of lines that they take."""
    parts, place, line = [], float(_LEFT), 0
    for label in labels:
        width = 24 + 6.4 * len(label.name)
        if place > _LEFT and place + width > _WIDTH:
            place, line = float(_LEFT), line + 1
        parts.append(
            f'<circle cx="{place:.0f}" cy="{14 + _LINE * line}" r="4" fill="rgb{label.color}"/>'
            f'<text x="{place + 9:.0f}" y="{18 + _LINE * line}">{escape(label.name)}</text>'
        )
        place += width
    return parts, line + 1


def _draw_dot(loss: Interval, label: Label, x: Any, y: float) -> str:
    if loss.mean is None:
        return ""
    color = f"rgb{label.color}"
    line = ""
    if loss.low is not None and loss.high is not None:
        line = (
            f'<path d="M{x(loss.low):.1f} {y:.1f}H{x(loss.high):.1f}" stroke="{color}" '
            'stroke-width="2" stroke-opacity="0.6"/>'
        )
    return f'{line}<circle cx="{x(loss.mean):.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>'


def _look_at_worst(
    robustness: Robustness, segmenter: Segmenter, cases: Sequence[Case]
) -> list[Tile]:
    """The cases with the lowest mean Dice, at most one of each artefact and case."""
    by_id = {case.case_id: case for case in cases}
    by_name = {each.name: each for each in list_artefacts(segmenter.spec.input.modality)}
    ranked = sorted(
        (
            (sum(known) / len(known), each.name, trial)
            for each in robustness.artefacts
            for trial in each.trials
            if each.name in by_name and (known := [d for d in trial.dice if d is not None])
        ),
        key=lambda item: item[:2],
    )
    tiles: list[Tile] = []
    seen: set[str] = set()
    for _, name, trial in ranked:
        if name in seen or trial.case_id in seen or len(tiles) == _TILES:
            continue
        seen |= {name, trial.case_id}
        case = by_id[trial.case_id]
        frames, truth, prediction, _ = segment_spoilt(
            segmenter, case, by_name[name], seed=robustness.seed
        )
        index, wrong = pick_frame(truth, prediction)
        scores = {
            label.name: Scores(dice, None, None, None, None)
            for label, dice in zip(segmenter.spec.labels, trial.dice, strict=True)
        }
        result = CaseResult(trial.case_id, trial.patient_id, scores, len(truth), None)
        place = f"{name}: {wrong:,} px differ"
        tiles.append(
            Tile(frames[index], truth[index], prediction[index], (1.0, 1.0), result, place)
        )
    return tiles


def _show(interval: Interval) -> str:
    if interval.mean is None:
        return "none"
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} ({interval.low:.3f} to {interval.high:.3f})"
