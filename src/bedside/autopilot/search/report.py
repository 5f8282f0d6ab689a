"""Reports of a search: JSON, Markdown and a plot."""

import json
from dataclasses import dataclass
from pathlib import Path

from bedside.autopilot.plot import COLORS, Dot, Frame, describe_threads, draw_dots, draw_frontier
from bedside.autopilot.search.search_state import SearchState, Trial, average_dice
from bedside.autopilot.search.selection import LEAST_USE
from bedside.evaluation.report import finite, markdown_table
from bedside.runtime.machine import describe_processor, fingerprint
from bedside.spec import LevelSpec, ModelSpec, to_mapping
from bedside.spec.card import DISCLAIMER
from bedside.spec.model import CONV_BLOCKS
from bedside.system.atomic import write_text

JSON, MARKDOWN, PLOT = (f"search.{kind}" for kind in ("json", "md", "svg"))


@dataclass(frozen=True)
class SearchOutcome:
    """Outcome of a search.

    Attributes:
        state: Where it ended, with all candidates and the winner.
        source: Name of the file of the recipe that was given.
        name: Name of what is to be deployed.
        recipe: The recipe that was found.
    """

    state: SearchState
    source: str
    name: str
    recipe: Path

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know before training the winner."""
        state, said = self.state, []
        trained = [each for each in state.trials if each.dice]
        if len(trained) == 1:
            said.append("only one network met the budget: there was nothing to choose from.")
        if state.precision != "f32":
            said.append(
                f"times are those of {state.precision}; whether the trained network keeps its "
                "accuracy in it is measured when its bundle is built."
            )
        return tuple(said)


def write_search_reports(folder: Path, outcome: SearchOutcome) -> list[Path]:
    """Write all three files.

    Raises:
        OutputError: If one cannot be written.
    """
    contents = {
        folder / JSON: to_json(outcome),
        folder / MARKDOWN: to_markdown(outcome),
        folder / PLOT: draw_search(outcome.state),
    }
    for path, content in contents.items():
        write_text(path, content)
    return list(contents)


def describe_found(outcome: SearchOutcome) -> str:
    """Description of the winner, for the head of its recipe."""
    state, best = outcome.state, outcome.state.best
    dice = "" if best.mean_dice is None else f", mean validation Dice {best.mean_dice:.4f}"
    return (
        f"{outcome.source} with the network that was found for {describe_budget(state)}:\n"
        f"{describe_spec(best.spec)}\n"
        f"{best.time_ms:.3f} ms in {state.precision}, {best.parameters:,} weights{dice} after "
        f"{len(best.dice)} short training{'s' if len(best.dice) > 1 else ''}.\n"
        "Settings that are left out have their defaults."
    )


def describe_budget(state: SearchState) -> str:
    """The budget in words."""
    target = state.target
    size = "" if target.max_size_bytes is None else f" and {target.max_size_bytes / 1000:g} kB"
    return (
        f"at most {target.target_ms:g} ms with {describe_threads(target.threads)} of "
        f"{target.backend}{size}"
    )


def describe_spec(spec: ModelSpec) -> str:
    """A network in one line.

    Example:
        >>> from bedside.spec import named_spec
        >>> describe_spec(named_spec("nano"))
        'stem 16, conv 24 x 1, conv 40 x 1, window 56 x 1 (2 heads), window 64 x 2 (4 heads), decoder 24'
    """  # noqa: E501
    levels = ", ".join(_describe_level(level) for level in spec.levels)
    return f"stem {spec.stem_channels}, {levels}, decoder {spec.decoder_channels}"


def _describe_level(level: LevelSpec) -> str:
    plain = f"{level.block} {level.channels} x {level.depth}"
    return plain if level.block in CONV_BLOCKS else f"{plain} ({level.num_heads} heads)"


def draw_search(state: SearchState) -> str:
    """Draw each candidate that was trained, by mean validation Dice over its time.

    A line connects its rounds; a cross marks the last one of a candidate that was dropped.
    """
    trained = [each for each in state.trials if each.dice]
    rounds = [(each.time_ms, average_dice(dice)) for each in trained for dice in each.dice]
    target = state.target
    frame = Frame.around(rounds, target.target_ms)
    parts = frame.draw(
        target_ms=target.target_ms,
        x_title=f"ms in {state.precision}, {target.backend}, {describe_threads(target.threads)}",
        y_title="mean validation Dice, round by round",
        key=(
            f'<tspan fill="{COLORS["kept"]}">\u25cf winner</tspan>'
            f'<tspan dx="12" fill="{COLORS["undone"]}">\u00d7 left</tspan>'
            '<tspan dx="12">\u25cb earlier round</tspan><tspan dx="12">- - frontier</tspan>'
        ),
    )
    dots = [
        Dot(
            f"{each.number} {each.name}",
            each.time_ms,
            average_dice(each.dice[-1]),
            "kept" if each.number == state.winner else "undone",
        )
        for each in trained
    ]
    parts.append(draw_frontier(dots, frame))
    parts += [_draw_rounds(each, frame) for each in trained if len(each.dice) > 1]
    # The winner is drawn last, over the others.
    dots.sort(key=lambda dot: dot.kind == "kept")
    parts += draw_dots(dots, frame, target_ms=target.target_ms)
    return "".join([*parts, "</svg>"]) + "\n"


def _draw_rounds(trial: Trial, frame: Frame) -> str:
    """Draw the rounds before a candidate's last one, with a line through all of them."""
    x = frame.x(trial.time_ms)
    places = [frame.y(average_dice(dice)) for dice in trial.dice]
    path = " ".join(f"{x:.1f},{y:.1f}" for y in places)
    circles = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="white" stroke="#8a949e"/>'
        for y in places[:-1]
    )
    return f'<polyline points="{path}" fill="none" stroke="#c5ccd3"/>{circles}'


def to_json(outcome: SearchOutcome) -> str:
    """Write it as strict JSON; a number that does not exist is null."""
    state = outcome.state
    content = {
        "source": outcome.source,
        "recipe": outcome.recipe.name,
        "recipe_sha256": state.recipe,
        "target": {
            "target_ms": state.target.target_ms,
            "max_size_bytes": state.target.max_size_bytes,
            "threads": state.target.threads,
            "backend": state.target.backend,
        },
        "effort": to_mapping(state.effort),
        "machine": {"processor": describe_processor(), "fingerprint": fingerprint()},
        "empty_ms": state.empty_ms,
        "recipe_ms": state.recipe_ms,
        "precision": state.precision,
        "drawn": state.drawn,
        "predicted": state.predicted,
        "rounds": state.rounds,
        "epochs": list(state.epochs),
        "winner": state.winner,
        "candidates": [_trial_mapping(each, state) for each in state.trials],
        "warnings": list(outcome.warnings),
        "disclaimer": DISCLAIMER,
    }
    return json.dumps(finite(content), indent=1, allow_nan=False) + "\n"


def _trial_mapping(trial: Trial, state: SearchState) -> dict[str, object]:
    known: dict[str, object] = to_mapping(trial)
    return known | {"mean_dice": trial.mean_dice, "won": trial.number == state.winner}


def to_markdown(outcome: SearchOutcome) -> str:
    """The report in Markdown."""
    state, best = outcome.state, outcome.state.best
    lines = [f"# {outcome.name}: the network for {describe_budget(state)}", ""]
    lines += [
        f"**{best.number} {best.name}**: {describe_spec(best.spec)}. Written into "
        f"`{outcome.recipe.name}`, which is ready to be trained.",
        "",
        f"{state.drawn} networks were drawn, {state.predicted} of them predicted by the times of "
        f"their blocks, and {len(state.trials)} fit: they use at least {100 * LEAST_USE:.0f} % "
        f"of the target. All are computed in {state.precision}. An empty graph takes "
        f"{state.empty_ms:.3f} ms, the network of {outcome.source} {state.recipe_ms:.3f} ms in f32 "
        f"({describe_processor()}).",
        "",
        *(f"Note: {text}" for text in outcome.warnings),
        "",
        f"![Dice over milliseconds]({PLOT})",
        "",
        "Dice is the mean over structures and validation patients, after trainings from fresh "
        f"weights of {', then '.join(map(str, state.epochs))} epochs. Test patients were not "
        "looked at.",
        "",
    ]
    rounds = max(len(each.dice) for each in state.trials)
    headings = ["", "network", "weights", "ms", "predicted", "kB"]
    headings += [f"round {number}" for number in range(1, rounds + 1)]
    ordered = sorted(
        state.trials, key=lambda each: (-len(each.dice), -(each.mean_dice or 0.0), each.number)
    )
    rows = [_row(each, state, rounds=rounds) for each in ordered]
    lines += [*markdown_table([*headings, "outcome"], rows), ""]
    lines += [f"* {each.number} {each.name}: {describe_spec(each.spec)}" for each in ordered]
    return "\n".join([*lines, "", DISCLAIMER, ""])


def _row(trial: Trial, state: SearchState, *, rounds: int) -> list[str]:
    dice = [f"{average_dice(each):.4f}" for each in trial.dice]
    size = "" if trial.size_bytes is None else f"{trial.size_bytes / 1000:.0f}"
    return [
        str(trial.number),
        trial.name,
        f"{trial.parameters:,}",
        "" if trial.ms is None else f"{trial.ms:.3f}",
        f"{trial.predicted_ms:.3f}",
        size,
        *dice,
        *[""] * (rounds - len(dice)),
        "won" if trial.number == state.winner else trial.left,
    ]
