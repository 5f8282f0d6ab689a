"""Reports of a compression run: JSON, Markdown, HTML and a plot."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from bedside.autopilot.bounds import FAILURE, WORST_LOSS
from bedside.autopilot.compress.compression_run import describe_size
from bedside.autopilot.latency.subprocess_timing import LatencyCheck
from bedside.autopilot.noninferiority import NoninferiorityResult, describe_shown
from bedside.autopilot.plot import Dot, Kind, describe_threads, draw_path
from bedside.autopilot.state import Metrics, RunState, Step, TestResult
from bedside.evaluation.report import finite, markdown_table
from bedside.report.page_frame import write_page, write_table
from bedside.runtime.machine import describe_processor, fingerprint
from bedside.spec import to_mapping
from bedside.spec.card import DISCLAIMER
from bedside.system.atomic import write_text

JSON, MARKDOWN, HTML, PLOT = (f"compression.{kind}" for kind in ("json", "md", "html", "svg"))

# Losses that a plot shows, over the largest that passes.
_DEPTH = 5


@dataclass(frozen=True)
class Outcome:
    """Outcome of a compression run.

    Attributes:
        state: Where it ended, with all steps and the look at the test patients.
        latency_check: Its time as measured by the run and in a new process.
        bundle: The bundle.
        size_bytes: Its size.
        warnings: What a user should know.
    """

    state: RunState
    latency_check: LatencyCheck
    bundle: Path
    size_bytes: int
    warnings: tuple[str, ...] = ()

    @property
    def unmet(self) -> str:
        """The budget that was missed; empty if none was."""
        state, target = self.state, self.state.target
        missed = []
        if target.target_ms is not None and state.metrics.ms > target.target_ms:
            missed.append(f"{state.metrics.ms:.3f} ms are more than {target.target_ms:g} ms")
        if target.max_size_bytes is not None and self.size_bytes > target.max_size_bytes:
            missed.append(
                f"{self.size_bytes / 1000:.1f} kB are more than {target.max_size_bytes / 1000:g} kB"
            )
        return "; ".join(missed)


def write_reports(folder: Path, outcome: Outcome) -> list[Path]:
    """Write all four files.

    Raises:
        OutputError: If one cannot be written.
    """
    plot = draw_run(outcome.state)
    contents = {
        folder / JSON: to_json(outcome),
        folder / MARKDOWN: to_markdown(outcome),
        folder / HTML: to_html(outcome, plot),
        folder / PLOT: plot,
    }
    for path, content in contents.items():
        write_text(path, content)
    return list(contents)


def draw_run(state: RunState) -> str:
    """Draw every candidate that was judged, by mean validation Dice over time.

    What was ruined is an arrow at the lower edge, with its Dice: on an axis down to 0 the
    differences that decide could not be seen.
    """
    reference = state.reference
    lowest = reference.accuracy.mean_dice - _DEPTH * state.target.max_drop
    dots = [Dot("source, f32", reference.ms, reference.accuracy.mean_dice, "source")]
    for step in state.steps:
        if step.metrics is not None:
            kind: Kind = "kept" if step.kept else "undone"
            dice = step.metrics.accuracy.mean_dice
            dots.append(Dot(f"{step.number} {step.kind}", step.metrics.ms, dice, kind))
    return draw_path(
        dots,
        target_ms=state.target.target_ms,
        x_title=f"ms, {state.target.backend}, {describe_threads(state.target.threads)}",
        y_title="mean validation Dice",
        lowest=lowest,
    )


def to_json(outcome: Outcome) -> str:
    """Write it as strict JSON; a number that does not exist is null."""
    state = outcome.state
    content: dict[str, Any] = {
        "source": state.source,
        "target": to_mapping(state.target),
        "effort": to_mapping(state.effort),
        "machine": {"processor": describe_processor(), "fingerprint": fingerprint()},
        "met": not outcome.unmet,
        "unmet": outcome.unmet,
        "empty_ms": state.empty_ms,
        "reference": to_mapping(state.reference),
        "result": {
            **to_mapping(state.metrics),
            "precision": state.precision,
            "bundle": outcome.bundle.name,
            "bundle_bytes": outcome.size_bytes,
            "times_as_fast": state.reference.ms / state.metrics.ms,
            "smaller": 1 - outcome.size_bytes / state.reference.size_bytes,
        },
        "latency_check": {
            **to_mapping(outcome.latency_check),
            "error": outcome.latency_check.error,
            "relative_error": outcome.latency_check.relative_error,
        },
        "prediction_errors": predict_errors(state),
        "test": to_mapping(state.test),
        "steps": to_mapping(state.steps),
        "warnings": list(outcome.warnings),
        "disclaimer": DISCLAIMER,
    }
    return json.dumps(finite(content), indent=1, allow_nan=False) + "\n"


def predict_errors(state: RunState) -> list[float]:
    """Error of the table of block times, as a part of each measured time."""
    return [
        step.predicted_ms / step.metrics.ms - 1
        for step in state.steps
        if step.predicted_ms is not None and step.metrics is not None
    ]


def to_markdown(outcome: Outcome) -> str:
    """The report in Markdown."""
    lines = [f"# {_title(outcome)}", "", *_summary(outcome), ""]
    lines += [f"![Dice over milliseconds]({PLOT})", ""]
    lines += ["## Steps", "", *markdown_table(*_steps(outcome.state)), ""]
    lines += ["## What each step lost", "", *markdown_table(*_losses(outcome.state)), ""]
    if outcome.state.test is not None:
        lines += ["## Test patients", "", _explain_test(outcome.state.test), ""]
        lines += [*markdown_table(*_test(outcome.state)), ""]
    return "\n".join([*lines, f"_{DISCLAIMER}_", ""])


def to_html(outcome: Outcome, plot: str) -> str:
    """The report in HTML, with the plot inside."""
    head, *texts = _summary(outcome)
    parts = [
        f"<header><h1>{escape(_title(outcome))}</h1><p>{escape(head)}</p>"
        f'<p class="notice">{escape(DISCLAIMER)}</p></header>',
        *(f"<p>{escape(text)}</p>" for text in texts),
        f'<div class="scroll"><div class="wide">{plot}</div></div>',
        "<h2>Steps</h2>",
        _table(*_steps(outcome.state)),
        "<h2>What each step lost</h2>",
        _table(*_losses(outcome.state)),
    ]
    if outcome.state.test is not None:
        parts += ["<h2>Test patients</h2>", f"<p>{escape(_explain_test(outcome.state.test))}</p>"]
        parts.append(_table(*_test(outcome.state)))
    return write_page(_title(outcome), parts)


def _title(outcome: Outcome) -> str:
    return f"{outcome.bundle.name}: compressed to {outcome.state.target.describe()}"


def _summary(outcome: Outcome) -> list[str]:
    """Summary in a few sentences."""
    state, latency_check = outcome.state, outcome.latency_check
    before, after = state.reference, state.metrics
    met = f"The budget was not met: {outcome.unmet}." if outcome.unmet else "The budget is met."
    kept = sum(step.kept for step in state.steps)
    errors = predict_errors(state)
    lines = [
        f"From {state.source}. {met}",
        f"Time {before.ms:.3f} to {after.ms:.3f} ms ({before.ms / after.ms:.2f} times as fast, "
        f"computed in {state.precision}); bundle {before.size_bytes / 1000:.1f} to "
        f"{outcome.size_bytes / 1000:.1f} kB "
        f"({describe_size(before.size_bytes, outcome.size_bytes)}); weights "
        f"{before.parameters:,} to {after.parameters:,}.",
        f"At the end of the run the result took {latency_check.result_ms:.3f} ms and the "
        "source, interleaved with it, "
        f"{latency_check.reference_ms:.3f} ms; in a new process the bundle takes "
        f"{latency_check.subprocess_ms:.3f} and the source "
        f"{latency_check.subprocess_reference_ms:.3f} ms: an "
        "error of "
        f"{100 * latency_check.error:+.1f} %, and as a part of the source's time by "
        f"{100 * latency_check.relative_error:+.1f} %.",
        f"{kept} of {len(state.steps)} steps were kept. Every step was compared with the source "
        f"on the validation patients; a bound is the one-sided lower 95 % bound of the mean "
        f"difference between patients (bootstrap), and has to lie above -{state.target.max_drop:g} "
        "in every structure. That chooses and shows nothing: it is blind to what a few patients "
        "lose that are not among these.",
        f"Measured on: {describe_processor()}.",
    ]
    if errors:
        worst = max(errors, key=abs)
        lines.append(
            f"The table of block times was off by {100 * worst:+.1f} % at most over "
            f"{len(errors)} steps."
        )
    return lines + [f"Warning: {text}" for text in outcome.warnings]


def _steps(state: RunState) -> tuple[list[str], list[list[str]]]:
    """Return the table of what each step gained."""
    head = ["Step", "What", "ms before", "ms after", "predicted", "kB", "Weights", "Decision"]
    rows = [["0", "source, f32", "", *_costs(state.reference, None), "reference"]]
    for step in state.steps:
        costs = ["-", _ms(step.predicted_ms), "-", "-"]
        if step.metrics is not None:
            costs = _costs(step.metrics, step.predicted_ms)
        decision = f"{'kept' if step.kept else 'undone'}: {step.reason}"
        what = f"{step.kind}: {step.about}"
        rows.append([str(step.number), what, _ms(step.before_ms), *costs, decision])
    return head, rows


def _costs(metrics: Metrics, predicted_ms: float | None) -> list[str]:
    size = f"{metrics.size_bytes / 1000:.1f}"
    return [_ms(metrics.ms), _ms(predicted_ms), size, f"{metrics.parameters:,}"]


def _losses(state: RunState) -> tuple[list[str], list[list[str]]]:
    """Return the table of Dice, distances and small parts, a row a step and structure."""
    head = ["Step", "Structure", "Dice", "Difference", "Bound", "HD95 mm", "Smallest recall", ""]
    rows = [
        ["0", name, f"{dice:.4f}", "", "", *_others(state.reference, name), ""]
        for name, dice in state.reference.accuracy.dice.items()
    ]
    for step in state.steps:
        if step.metrics is not None:
            rows += [_loss(step, step.metrics, result) for result in step.comparisons]
    return head, rows


def _loss(step: Step, metrics: Metrics, result: NoninferiorityResult) -> list[str]:
    name = result.structure
    return [
        str(step.number),
        name,
        f"{metrics.accuracy.dice[name]:.4f}",
        f"{result.difference:+.4f}",
        f"{result.screen_bound:+.4f}",
        *_others(metrics, name),
        "" if result.screened else "too much",
    ]


def _others(metrics: Metrics, name: str) -> list[str]:
    accuracy = metrics.accuracy
    return [_number(accuracy.hd95_mm[name], 2), _number(accuracy.smallest_recall[name], 3)]


def _explain_test(test: TestResult) -> str:
    shown = all(result.passed for result in test.comparisons)
    return (
        f"{test.patients} patients that no step was decided by, scored once. The bound is the "
        "one-sided lower 97.5 % bound of the mean difference between patients for losses of any "
        f"shape, up to {WORST_LOSS:g} for a patient. "
    ) + ("No structure is worse." if shown else "Not every structure is shown not to be worse.")


def _test(state: RunState) -> tuple[list[str], list[list[str]]]:
    """Return the table of the test patients."""
    test = state.test
    assert test is not None
    head = [
        "Structure",
        "Source",
        "Result",
        "Difference",
        "Bound",
        f"Lose over {FAILURE:g}",
        "HD95 mm",
        "Smallest recall",
        "",
    ]
    rows = []
    for result in test.comparisons:
        name = result.structure
        pairs = [
            f"{_number(test.source.hd95_mm[name], 2)} to {_number(test.result.hd95_mm[name], 2)}",
            f"{_number(test.source.smallest_recall[name], 3)} to "
            f"{_number(test.result.smallest_recall[name], 3)}",
        ]
        rows.append(
            [
                name,
                f"{test.source.dice[name]:.4f}",
                f"{test.result.dice[name]:.4f}",
                f"{result.difference:+.4f}",
                f"{result.bound:+.4f}",
                f"{result.failing}, at most {100 * result.failing_bound:.1f} % of all",
                *pairs,
                describe_shown(result, max_drop=state.target.max_drop),
            ]
        )
    return head, rows


def _ms(value: float | None) -> str:
    return _number(value, 3)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return write_table(head, [[escape(cell) for cell in row] for row in rows], words=True)
