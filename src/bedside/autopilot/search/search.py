"""THE SEARCH in one screen: a recipe and a budget in, the recipe with the network for it out.

recipe -> block times -> networks that use the budget -> their measured times -> rounds of
short trainings, each for the better half of the last -> recipe of the winner -> report
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bedside.autopilot.evaluator import CandidateEvaluator, Resources
from bedside.autopilot.finetune import FinetuneSetup
from bedside.autopilot.noninferiority import check_count
from bedside.autopilot.search.halving import SuccessiveHalving
from bedside.autopilot.search.report import SearchOutcome, describe_found, write_search_reports
from bedside.autopilot.search.search_state import RECIPE, SearchFolder, SearchSettings, SearchState
from bedside.autopilot.search.selection import (
    OnMessage,
    create_untrained,
    measure,
    measure_baseline,
    select,
)
from bedside.autopilot.source import Source
from bedside.autopilot.target import CompressionSettings, Target, check_reachable
from bedside.build import FinishedRun
from bedside.datasets import Case, list_recipe_cases
from bedside.errors import BudgetError, SpecError
from bedside.models import find_structure
from bedside.spec import Recipe, read_recipe, to_mapping
from bedside.spec.writing import to_toml
from bedside.system.atomic import output_folder, write_text
from bedside.system.revision import find_commit
from bedside.training.dataset import load_cases
from bedside.training.device import choose_device, choose_workers, configure_threads
from bedside.training.folder import Split, split_anew


def search(
    path: Path,
    output: Path,
    *,
    target: Target,
    data: Path | None = None,
    effort: SearchSettings | None = None,
    resources: Resources | None = None,
    on_message: OnMessage = lambda line: None,
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> SearchOutcome:
    """Find the network to train for a budget without test patients, or resume a stopped search.

    Args:
        path: The recipe: data, labels, input and training. Its network is one candidate.
        output: Folder for all that comes of it: `search.toml`, `search.json`, `search.md`,
            `search.svg`, and the networks of the last round.
        target: The budget; it has a target in milliseconds.
        data: Folder of the data set, if not the recipe's; the written recipe names it.
        effort: What may be spent.
        resources: Caches, threads.
        on_message: Called with a line for every measurement, epoch and decision.
        on_case: Called while images are read, with how many and of how many.

    Returns:
        What came of it.

    Raises:
        SpecError: If the recipe is missing or faulty.
        BudgetError: If no network can meet the budget here, or none uses enough of it; it
            names one that would do.
        PatientsError: If there are too few validation patients to compare networks on.
        DataError: If the data set is faulty, or a structure is in no validation case.
        UsageError: If the folder holds another search, or the recipe's architecture offers none.
        OutputError: If the folder cannot be written to, or holds what would be overwritten.
    """
    if target.target_ms is None:
        raise BudgetError("there is no target; give milliseconds with --target-ms.")
    effort, resources = effort or SearchSettings(), resources or Resources()
    recipe = _read(path, data)
    folder, known = SearchFolder(output), hash_recipe(recipe)
    state = folder.load_search(known, target, effort)
    with output_folder(output):
        evaluator = open_evaluator(
            path, recipe, target, effort, resources=resources, on_case=on_case,
            on_message=on_message,
        )  # fmt: skip
        if state is None:
            state = _begin(evaluator, known, effort, on_message=on_message)
            folder.save_search(state)
        if not state.measured:
            done = measure(evaluator, state.trials, state.precision, on_message=on_message)
            state = replace(state, trials=done, measured=True)
            folder.save_search(state)
        state = SuccessiveHalving(evaluator, folder, state, on_message).run()
    outcome = SearchOutcome(state, path.name, recipe.deployment.name, output / RECIPE)
    write_recipe(outcome, recipe)
    write_search_reports(output, outcome)
    return outcome


def _read(path: Path, data: Path | None) -> Recipe:
    """Read a recipe whose network can be searched for, with the folder of its data set."""
    recipe = read_recipe(path)
    structure = find_structure(recipe.deployment.model)
    if not structure.searchable:
        structure.refuse("space of networks to search")
    return recipe if data is None else replace(recipe, data=replace(recipe.data, path=str(data)))


def hash_recipe(recipe: Recipe) -> str:
    """SHA-256 of the content of a recipe, in hexadecimal."""
    text = json.dumps(to_mapping(recipe), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def open_evaluator(
    path: Path,
    recipe: Recipe,
    target: Target,
    effort: SearchSettings,
    *,
    resources: Resources,
    on_case: Callable[[int, int], None] = lambda done, total: None,
    on_message: OnMessage = lambda line: None,
) -> CandidateEvaluator:
    """Read the training images, and open an evaluator of networks.

    Args:
        path: Where the recipe was read from.
        recipe: Its network takes the place of a source.
        target: The budget.
        effort: What may be spent.
        resources: Caches, threads.
        on_case: Called while images are read.
        on_message: Called with a line for every patient whose image another part has.

    Raises:
        PatientsError: If there are too few validation patients.
        DataError: If the data set is faulty.
    """
    device = choose_device()
    configure_threads(resources.threads, device)
    cases = list_recipe_cases(recipe)
    finished = FinishedRun(recipe, _split(recipe, cases, on_message), find_commit(), cases)
    people = {case.person for case in finished.part("val")}
    check_count(len(people), wanted_to="compare networks on")
    network = create_untrained(recipe.deployment.model, seed=effort.seed)
    source = Source(path, hash_recipe(recipe), finished, network, from_bundle=False)
    learned = finished.part("train")
    examples = load_cases(
        learned,
        recipe.deployment,
        cache=resources.cache,
        on_case=lambda done: on_case(done, len(learned)),
    )
    setup = FinetuneSetup(
        recipe,
        examples,
        teachers=(),
        epochs=effort.epochs,
        rate=1.0,
        seed=effort.seed,
        workers=choose_workers(resources.threads, device),
        device=device,
    )
    spent = CompressionSettings(
        calibration_images=effort.calibration_images, timing_s=effort.timing_s, seed=effort.seed
    )
    return CandidateEvaluator(
        source, target, spent, setup=setup, clock=resources.clock, tables=resources.tables
    )


def _split(recipe: Recipe, cases: Sequence[Case], on_message: OnMessage) -> Split:
    """Split the cases, and say who came into another part."""
    split, joined = split_anew(recipe, cases)
    for text in joined:
        on_message(f"Split: {text}")
    return split


def write_recipe(outcome: SearchOutcome, recipe: Recipe) -> None:
    """Write the recipe with the winner's network, and check that it reads back as that.

    Raises:
        SpecError: If it does not.
        OutputError: If it cannot be written.
    """
    model = outcome.state.best.spec
    found = replace(recipe, deployment=replace(recipe.deployment, model=model))
    write_text(outcome.recipe, to_toml(found, comment=describe_found(outcome)))
    if read_recipe(outcome.recipe) != found:
        raise SpecError(f"{outcome.recipe} does not read back as what was written.")


def _begin(
    evaluator: CandidateEvaluator, known: str, effort: SearchSettings, *, on_message: OnMessage
) -> SearchState:
    """Choose the candidates.

    Raises:
        BudgetError: If there are none.
    """
    target, empty_ms = evaluator.target, evaluator.time_empty()
    check_reachable(target, empty_ms=empty_ms)
    on_message(f"an empty graph takes {empty_ms:.3f} ms; timing blocks")
    baseline = measure_baseline(evaluator, empty_ms=empty_ms, on_message=on_message)
    chosen = select(evaluator, baseline, effort, on_message=on_message)
    return SearchState(
        recipe=known,
        target=target,
        effort=effort,
        empty_ms=empty_ms,
        recipe_ms=baseline.recipe_ms,
        precision=baseline.precision,
        drawn=chosen.drawn,
        predicted=chosen.predicted,
        trials=chosen.trials,
    )
