"""`bedside compress`: a trained network and a budget in, a smaller bundle out."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bedside.cli.arguments import option, positional
from bedside.cli.budget import BudgetOptions, read_multiple, read_target, show_reading
from bedside.cli.console import print_err, print_out
from bedside.cli.train import check_torch
from bedside.errors import BudgetError

if TYPE_CHECKING:
    from bedside.autopilot.compress.already_met import AlreadyMet
    from bedside.autopilot.compress.report import Outcome
    from bedside.autopilot.target import CompressionSettings


@dataclass(frozen=True)
class Settings(BudgetOptions):
    """Compress a trained network to a budget, without loss on the validation patients.

    Each step is timed on this machine, and kept only if it is faster here and no structure is
    worse on the validation patients. It can be interrupted and resumed.
    """

    source: Path = positional(help="folder of a finished run, or a bundle (path or name)")
    output: Path = option(
        help="folder for the bundle, the report and the state of the run", short="-o"
    )
    data: Path | None = option(
        help="folder of the data set (default: the run's, or the recipe's)", default=None
    )
    recipe: Path | None = option(
        help="recipe that the bundle was trained with (default: plain augmentation)", default=None
    )
    target_ms: float | None = option(
        help="median time of the network for one input, in ms", default=None
    )
    max_drop: float = option(help="largest loss of Dice in any structure", default=0.005)
    epochs: int = option(help="epochs of finetuning after each step", default=3)
    step_fraction: float = option(
        help="fraction of the network's latency that a step should remove", default=0.12
    )
    qat: bool = option(
        help="also try training for 8 bits, where 8 bits lose too much as they are", default=False
    )
    sparsity: bool = option(
        help="also try zeros among the weights, if the size is above the budget; saves no time",
        default=False,
    )
    teacher: tuple[Path, ...] = option(
        help="run folders of further teachers beside the source", default=()
    )


def run(settings: Settings) -> int:
    """Compress to the budget, with measurements and decisions on stderr.

    Raises:
        BudgetError: If the budget means nothing, or could not be met; what was reached is
            written in that case.
        PatientsError: If there are too few validation patients to choose by.
        BackendError: If torch is not installed.
        InputError: If source or data cannot be used.
    """
    check_torch("compress")
    target, effort = (
        read_target(settings, settings.target_ms, settings.max_drop),
        read_effort(settings),
    )
    from bedside.autopilot.compress.already_met import AlreadyMet
    from bedside.autopilot.compress.compress import CompressionResources, compress

    outcome = compress(
        find_source(settings.source),
        settings.output,
        target=target,
        data=settings.data,
        effort=effort,
        resources=CompressionResources(
            cache=settings.cache,
            teachers=settings.teacher,
            recipe=settings.recipe,
            threads=settings.torch_threads,
        ),
        on_message=print_err,
        on_case=show_reading(),
    )
    if isinstance(outcome, AlreadyMet):
        print_out(describe_already_met(outcome))
        return 0
    for line in describe(outcome):
        print_out(line)
    if outcome.unmet:
        raise BudgetError(
            f"the budget was not met: {outcome.unmet}. What was reached is in "
            f"{settings.output}; allow a larger --max-drop or more --epochs, or start from a "
            "smaller network."
        )
    return 0


def find_source(path: Path) -> Path:
    """File of a shipped bundle by its name; any other path unchanged."""
    from bedside.bundle import find_bundle

    return path if path.exists() or path.suffix else find_bundle(str(path))


def read_effort(settings: Settings) -> "CompressionSettings":
    """Settings of the run from the command line.

    Raises:
        UsageError: If a number cannot mean anything.
    """
    from bedside.autopilot.target import CompressionSettings

    return CompressionSettings(
        epochs=settings.epochs,
        step_fraction=settings.step_fraction,
        min_step_fraction=min(CompressionSettings.min_step_fraction, settings.step_fraction),
        also=tuple(name for name in ("qat", "sparsity") if getattr(settings, name)),
        multiple=read_multiple(settings) or CompressionSettings.multiple,
    )


def describe_already_met(met: "AlreadyMet") -> str:
    """Message that there is nothing to compress."""
    time = "" if met.ms is None else f"{met.ms:.3f} ms in {met.precision}, "
    return (
        f"Already met: {met.source}, takes {time}{met.size_bytes:,} bytes; asked for was "
        f"{met.target.describe()}. Nothing was written."
    )


def describe(outcome: "Outcome") -> list[str]:
    """Summary of a compression run for the terminal."""
    state, latency_check = outcome.state, outcome.latency_check
    before, after = state.reference, state.metrics
    kept = sum(step.kept for step in state.steps)
    return [
        f"Compressed: {outcome.bundle}, {outcome.size_bytes:,} bytes (from {before.size_bytes:,})",
        f"Time: {after.ms:.3f} ms in {state.precision}, {before.ms / after.ms:.2f} times as fast; "
        f"{latency_check.subprocess_ms:.3f} ms in a new process",
        f"Steps: {kept} of {len(state.steps)} kept",
        *(f"Warning: {text}" for text in outcome.warnings),
        f"See {outcome.bundle.parent / 'compression.html'}",
    ]
