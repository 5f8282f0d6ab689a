"""THE SEARCH in one screen: a recipe and a budget in, the recipe with the network for it out.

recipe -> block times -> networks that use the budget -> their real times -> rounds of short
trainings, each letting the better half go on -> recipe of the winner -> page
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bedside.atomic import check_writable, write_text
from bedside.autopilot.contest import RECIPE, SearchEffort, SearchFolder, SearchState
from bedside.autopilot.goal import Effort, Goal, check_reachable
from bedside.autopilot.halving import Contest
from bedside.autopilot.heal import Lesson
from bedside.autopilot.noninferiority import check_count
from bedside.autopilot.search_report import SearchOutcome, say_found, write_search_reports
from bedside.autopilot.selection import Tell, find_pace, make_fresh, measure, select
from bedside.autopilot.source import Source
from bedside.autopilot.timing import Clock, time_graphs
from bedside.autopilot.workshop import Workshop
from bedside.build import FinishedRun
from bedside.datasets import list_recipe_cases
from bedside.errors import BudgetError, SpecError
from bedside.spec import Recipe, read_recipe, to_mapping
from bedside.spec.writing import to_toml
from bedside.training.dataset import load_cases
from bedside.training.folder import find_commit
from bedside.training.machine import choose_device, choose_workers, settle
from bedside.training.split import split_cases


@dataclass(frozen=True)
class SearchMeans:
    """With what a search works, beside its goal and its effort.

    Attributes:
        cache: Folder of preprocessed cases; None for none.
        tables: Folder of the tables of block times; None for the user's cache.
        threads: Threads of torch; None leaves its choice.
        clock: How graphs are timed.
    """

    cache: Path | None = None
    tables: Path | None = None
    threads: int | None = None
    clock: Clock = time_graphs


def search(
    path: Path,
    output: Path,
    *,
    goal: Goal,
    data: Path | None = None,
    effort: SearchEffort | None = None,
    means: SearchMeans | None = None,
    tell: Tell = lambda line: None,
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> SearchOutcome:
    """Find the network to train for a budget, or go on where a stopped search left off.

    Test patients are not looked at.

    Args:
        path: The recipe: data, labels, input and training. Its network is one candidate.
        output: Folder for all that comes of it: `search.toml`, `search.json`, `search.md`,
            `search.svg`, and the networks of the last round.
        goal: The budget; it has a target in milliseconds.
        data: Folder of the data set, if not the recipe's; the written recipe names it.
        effort: What may be spent.
        means: Caches, threads.
        tell: Called with a line for every measurement, epoch and decision.
        on_case: Called while images are read, with how many and of how many.

    Returns:
        What came of it.

    Raises:
        SpecError: If the recipe is missing or faulty.
        BudgetError: If no network can meet the budget here, or none uses enough of it; it
            names one that would do.
        PatientsError: If there are too few validation patients to compare networks on.
        DataError: If the data set is faulty, or a structure is in no validation case.
        UsageError: If the folder holds another search.
        OutputError: If the folder cannot be written to, or holds what would be overwritten.
    """
    if goal.target_ms is None:
        raise BudgetError("there is no target; give milliseconds with --target-ms.")
    effort, means = effort or SearchEffort(), means or SearchMeans()
    recipe = read_recipe(path)
    if data is not None:
        recipe = replace(recipe, data=replace(recipe.data, path=str(data)))
    folder, known = SearchFolder(output), hash_recipe(recipe)
    state = folder.load_search(known, goal, effort)
    check_writable(output)
    shop = open_shop(path, recipe, goal, effort, means=means, on_case=on_case)
    if state is None:
        state = _begin(shop, known, effort, tell=tell)
        folder.save_search(state)
    if not state.measured:
        entrants = measure(shop, state.entrants, state.precision, tell=tell)
        state = replace(state, entrants=entrants, measured=True)
        folder.save_search(state)
    state = Contest(shop, folder, state, tell).run()
    outcome = SearchOutcome(state, path.name, recipe.deployment.name, output / RECIPE)
    write_recipe(outcome, recipe)
    write_search_reports(output, outcome)
    return outcome


def hash_recipe(recipe: Recipe) -> str:
    """Give the SHA-256 of what a recipe says, in hexadecimal, whatever its file looks like."""
    text = json.dumps(to_mapping(recipe), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def open_shop(
    path: Path,
    recipe: Recipe,
    goal: Goal,
    effort: SearchEffort,
    *,
    means: SearchMeans,
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> Workshop:
    """Read the training images, and make ready to measure networks.

    Args:
        path: Where the recipe was read from.
        recipe: Whose own network stands where a walk has its source.
        goal: The budget.
        effort: What may be spent.
        means: Caches, threads.
        on_case: Called while images are read.

    Raises:
        PatientsError: If there are too few validation patients.
        DataError: If the data set is faulty.
    """
    device = choose_device()
    settle(means.threads, device)
    cases = list_recipe_cases(recipe)
    split = split_cases([case.patient_id for case in cases], recipe.data)
    finished = FinishedRun(recipe, split, find_commit(), cases)
    people = {case.person for case in finished.part("val")}
    check_count(len(people), wanted_to="compare networks on")
    source = Source(
        path,
        hash_recipe(recipe),
        finished,
        make_fresh(recipe.deployment.model, seed=effort.seed),
        from_bundle=False,
    )
    learned = finished.part("train")
    examples = load_cases(
        learned,
        recipe.deployment,
        cache=means.cache,
        on_case=lambda done: on_case(done, len(learned)),
    )
    lesson = Lesson(
        recipe,
        examples,
        teachers=(),
        epochs=effort.epochs,
        rate=1.0,
        seed=effort.seed,
        workers=choose_workers(means.threads, device),
        device=device,
    )
    spent = Effort(
        calibration_images=effort.calibration_images, timing_s=effort.timing_s, seed=effort.seed
    )
    return Workshop(source, goal, spent, lesson=lesson, clock=means.clock, tables=means.tables)


def write_recipe(outcome: SearchOutcome, recipe: Recipe) -> None:
    """Write the recipe with the winner's network, and check that it reads back as that.

    Raises:
        SpecError: If it does not.
        OutputError: If it cannot be written.
    """
    model = outcome.state.best.spec
    found = replace(recipe, deployment=replace(recipe.deployment, model=model))
    write_text(outcome.recipe, to_toml(found, comment=say_found(outcome)))
    if read_recipe(outcome.recipe) != found:
        raise SpecError(f"{outcome.recipe} does not read back as what was written.")


def _begin(shop: Workshop, known: str, effort: SearchEffort, *, tell: Tell) -> SearchState:
    """Choose who takes part.

    Raises:
        BudgetError: If nobody can.
    """
    goal, empty_ms = shop.goal, shop.time_empty()
    check_reachable(goal, empty_ms=empty_ms)
    tell(f"an empty graph takes {empty_ms:.3f} ms; timing blocks")
    pace = find_pace(shop, empty_ms=empty_ms, tell=tell)
    chosen = select(shop, pace, effort, tell=tell)
    return SearchState(
        recipe=known,
        goal=goal,
        effort=effort,
        empty_ms=empty_ms,
        recipe_ms=pace.recipe_ms,
        precision=pace.precision,
        drawn=chosen.drawn,
        predicted=chosen.predicted,
        entrants=chosen.entrants,
    )
