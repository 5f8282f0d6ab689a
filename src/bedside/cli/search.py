"""`bedside search`: a recipe and a budget in, the recipe with the network for it out."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bedside.cli.arguments import option, positional
from bedside.cli.budget import BudgetOptions, read_multiple, read_target, show_reading
from bedside.cli.console import print_err, print_out
from bedside.cli.train import check_torch

if TYPE_CHECKING:
    from bedside.autopilot.search.report import SearchOutcome


@dataclass(frozen=True)
class Settings(BudgetOptions):
    """Find the network to train for a latency budget on this machine.

    Networks that use the budget are timed here and trained briefly, each round twice as long for
    the better half, until one is left. It can be interrupted and resumed.
    """

    recipe: Path = positional(
        help="the recipe, a TOML file or the name of a shipped one; its network is one candidate"
    )
    output: Path = option(help="folder for the resulting recipe and the report", short="-o")
    target_ms: float = option(help="median time of the network for one input, in ms")
    data: Path | None = option(help="folder of the data set (default: the recipe's)", default=None)
    candidates: int = option(help="networks trained in the first round", default=16)
    rounds: int = option(help="maximum number of rounds", default=4)
    epochs: int = option(help="epochs of the first round; doubled in each further round", default=4)
    seed: int = option(help="seed of sampling and training", default=0)


def run(settings: Settings) -> int:
    """Search, with measurements and decisions on stderr.

    Raises:
        BudgetError: If the budget means nothing, or no network fits it.
        PatientsError: If there are too few validation patients.
        BackendError: If torch is not installed.
        InputError: If recipe or data cannot be used.
    """
    check_torch("search")
    target = read_target(settings, settings.target_ms)
    from bedside.autopilot.evaluator import Resources
    from bedside.autopilot.search.search import search
    from bedside.autopilot.search.search_state import SearchSettings

    outcome = search(
        settings.recipe,
        settings.output,
        target=target,
        data=settings.data,
        effort=SearchSettings(
            candidates=settings.candidates,
            rounds=settings.rounds,
            epochs=settings.epochs,
            seed=settings.seed,
            multiple=read_multiple(settings) or 1,
        ),
        resources=Resources(cache=settings.cache, threads=settings.torch_threads),
        on_message=print_err,
        on_case=show_reading(),
    )
    for line in describe(outcome):
        print_out(line)
    return 0


def describe(outcome: "SearchOutcome") -> list[str]:
    """Summary of a search for the terminal."""
    from bedside.autopilot.search.report import MARKDOWN, describe_spec

    state, best = outcome.state, outcome.state.best
    trained = sum(bool(each.dice) for each in state.trials)
    return [
        f"Found: {best.number} {best.name}, {describe_spec(best.spec)}",
        f"Time: {best.time_ms:.3f} ms in {state.precision} of {state.target.target_ms:g} ms "
        f"(predicted {best.predicted_ms:.3f}); {best.parameters:,} weights",
        f"Dice: {best.mean_dice or 0.0:.4f} on the validation patients, after short trainings; "
        f"best of {trained} in {state.rounds} rounds",
        *(f"Warning: {text}" for text in outcome.warnings),
        f"See {outcome.recipe.parent / MARKDOWN}",
        f"Next: bedside train {outcome.recipe} -o runs/{outcome.name}",
    ]
