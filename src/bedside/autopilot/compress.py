"""COMPRESSION TO THE CLOCK in one screen: a trained network and a budget in, a bundle out.

source -> block times -> steps, each kept only if it pays and loses nothing (validation
patients) -> one look at the test patients -> bundle -> its time in a fresh process -> page
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from bedside import __version__
from bedside.atomic import check_writable, write_text
from bedside.autopilot.already_met import AlreadyMet, find_already_met
from bedside.autopilot.fresh import Promise, time_afresh
from bedside.autopilot.goal import Effort, Goal
from bedside.autopilot.heal import Lesson
from bedside.autopilot.noninferiority import judge
from bedside.autopilot.report import Outcome, write_reports
from bedside.autopilot.source import Source, open_source
from bedside.autopilot.state import Accuracy, Folder, TestLook, WalkState
from bedside.autopilot.timing import Clock, time_graphs
from bedside.autopilot.walk import Tell, Walk, begin_walk
from bedside.autopilot.workshop import REFERENCE, Candidate, Workshop
from bedside.build import build_bundle
from bedside.bundle import read_bundle
from bedside.errors import OutputError
from bedside.export.rebuild import restore_statistics
from bedside.models import TrainedNetwork, count_parameters
from bedside.spec import to_mapping
from bedside.training.checkpoint import save_tensors
from bedside.training.dataset import load_cases
from bedside.training.example import Example
from bedside.training.folder import RUN, WEIGHTS, find_commit
from bedside.training.machine import choose_device, choose_workers, settle
from bedside.training.teacher import open_teacher

# Images that norms of a network out of a bundle are measured on.
_STATISTICS = 64
# A machine whose speed changed by this part during a walk is told of.
_DRIFT = 0.2


@dataclass(frozen=True)
class Means:
    """With what a walk works, beside its goal and its effort.

    Attributes:
        cache: Folder of preprocessed cases; None for none.
        tables: Folder of the tables of block times; None for the user's cache.
        teachers: Runs that teach beside the source.
        recipe: How a bundle is trained on; a run knows its own.
        threads: Threads of torch; None leaves its choice.
        clock: How graphs are timed.
    """

    cache: Path | None = None
    tables: Path | None = None
    teachers: Sequence[Path] = ()
    recipe: Path | None = None
    threads: int | None = None
    clock: Clock = time_graphs


def compress(
    path: Path,
    output: Path,
    *,
    goal: Goal,
    data: Path | None = None,
    effort: Effort | None = None,
    means: Means | None = None,
    tell: Tell = lambda line: None,
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome | AlreadyMet:
    """Make a trained network smaller until it meets a budget, or go on where it was stopped.

    A source that meets the budget as it is is left alone: nothing is trained or written, and no
    patient is looked at.

    Args:
        path: Folder of a finished run, or a bundle.
        output: Folder for all that comes of it: `NAME.bedside`, `compression.json`,
            `compression.md`, `compression.html`, `compression.svg`, and the run folder of the
            result, which can be built, taught by, and compressed again.
        goal: The budget.
        data: Folder of the data set, if not the run's; a bundle needs it.
        effort: What may be spent.
        means: Caches, teachers, threads.
        tell: Called with a line for every measurement and decision.
        on_case: Called while images are read, with how many and of how many.

    Returns:
        What came of it; or how the source meets the budget already.

    Raises:
        BudgetError: If the target is below what an empty graph takes here.
        PatientsError: If there are too few patients to show that nothing is lost.
        DataError: If the data do not fit the source.
        UsageError: If the folder holds a walk from another source or to another goal.
        OutputError: If the folder cannot be written to.
    """
    effort, means = effort or Effort(), means or Means()
    source = open_source(path, data, means.recipe)
    if Folder(output).load(source.about, goal, effort) is None:
        met = find_already_met(source, goal, clock=means.clock, timing_s=effort.timing_s)
        if met is not None:
            return met
    walk = walk_from(
        source, output, goal=goal, effort=effort, means=means, tell=tell, on_case=on_case
    )
    walk.run()
    return _conclude(walk, data=data)


def open_walk(
    path: Path,
    output: Path,
    *,
    goal: Goal,
    data: Path | None,
    effort: Effort,
    means: Means,
    tell: Tell = lambda line: None,
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> Walk:
    """Read source, data and what was done before, and measure the source if that is nothing.

    Args:
        path: As in `compress`, and so are all others.
        output: Folder of the walk.
        goal: The budget.
        data: Folder of the data set.
        effort: What may be spent.
        means: Caches, teachers, threads.
        tell: Called with a line for every measurement and decision.
        on_case: Called while images are read.
    """
    source = open_source(path, data, means.recipe)
    return walk_from(
        source, output, goal=goal, effort=effort, means=means, tell=tell, on_case=on_case
    )


def walk_from(
    source: Source,
    output: Path,
    *,
    goal: Goal,
    effort: Effort,
    means: Means,
    tell: Tell,
    on_case: Callable[[int, int], None],
) -> Walk:
    """Do what `open_walk` does from a source that is open."""
    device, folder = choose_device(), Folder(output)
    settle(means.threads, device)
    check_writable(output)
    state = folder.load(source.about, goal, effort)
    if state is None:
        _check_free(output, source)
    cases = source.finished.part("train")
    examples = load_cases(
        cases,
        source.finished.recipe.deployment,
        cache=means.cache,
        on_case=lambda done: on_case(done, len(cases)),
    )
    source = _with_statistics(source, examples)
    lesson = _plan_lesson(source, examples, effort, means, device)
    shop = Workshop(source, goal, effort, lesson=lesson, clock=means.clock, tables=means.tables)
    return Walk(shop, folder, state or begin_walk(shop, folder, tell=tell), tell)


def _check_free(output: Path, source: Source) -> None:
    """Refuse a folder that holds what would be overwritten.

    Raises:
        OutputError: If there is a run or a bundle of that name in it.
    """
    name = source.finished.recipe.deployment.name
    for path in (output / RUN, output / f"{name}.bedside"):
        if path.exists():
            raise OutputError(f"{path} is there already. Choose another folder with -o.")


def _with_statistics(source: Source, examples: Sequence[Example]) -> Source:
    """Give the norms of a network out of a bundle what training needs of them."""
    if not source.from_bundle:
        return source
    size = source.finished.recipe.deployment.input.size_px
    inputs = [
        example.image[None].astype("float32")
        for example in examples[:: max(1, len(examples) // _STATISTICS)]
        if example.image.shape[1:] == size
    ]
    return replace(source, network=restore_statistics(source.network, inputs))


def _plan_lesson(
    source: Source,
    examples: Sequence[Example],
    effort: Effort,
    means: Means,
    device: torch.device,
) -> Lesson:
    """Say what networks are healed with: the training images, and who teaches."""
    recipe, split = source.finished.recipe, source.finished.split
    teachers: list[nn.Module] = [source.network.create().to(device)]
    teachers += [open_teacher(run, recipe, split, device).model for run in means.teachers]
    return Lesson(
        recipe,
        examples,
        tuple(teachers),
        epochs=effort.epochs,
        rate=effort.rate,
        seed=effort.seed,
        workers=choose_workers(means.threads, device),
        device=device,
    )


def _conclude(walk: Walk, *, data: Path | None) -> Outcome:
    """Score source and result on the test patients, once, and write all that stays."""
    shop, folder, state, tell = walk.shop, walk.folder, walk.state, walk.tell
    result = Candidate(folder.read_network(f"{state.network:03d}"), state.precision)
    if state.test is None:
        state = replace(state, test=_look_at_test(shop, state, result, tell))
        folder.save(state)
    bundle = folder.path / f"{shop.source.finished.recipe.deployment.name}.bedside"
    if not bundle.exists():
        write_run(folder.path, shop.source, state, result.network)
        tell("building the bundle")
        int8 = state.precision == "int8"
        build_bundle(folder.path, bundle, data=data, int8=int8, on_stage=tell)
    tell("timing the bundle, here and in a fresh process")

    def time_here() -> tuple[float, float]:
        times = shop.time({"result": result}, exact=True, total_s=state.effort.timing_s / 3)
        return times["result"], times[REFERENCE]

    promise = time_afresh(
        bundle,
        shop.graphs(Candidate(shop.source.network), final=True)["f32"],
        setting=shop.setting(state.precision),
        time_here=time_here,
        total_s=4 * state.effort.timing_s,
    )
    warnings = (*_find_broken(state, bundle), *_find_drift(state, promise))
    outcome = Outcome(state, promise, bundle, bundle.stat().st_size, warnings)
    write_reports(folder.path, outcome)
    return outcome


def _look_at_test(shop: Workshop, state: WalkState, result: Candidate, tell: Tell) -> TestLook:
    """Compare source and result on patients that nothing was decided by."""
    tell("scoring the test patients, once")
    source = shop.score(Candidate(shop.source.network), part="test", final=True)
    score = shop.score(result, part="test", final=True)
    verdicts = judge(
        source.by_patient(),
        score.by_patient(),
        max_drop=state.goal.max_drop,
        new_alarms=score.new_alarms(source),
        seed=state.effort.seed,
    )
    patients = len(source.by_patient())
    return TestLook(Accuracy.of(source), Accuracy.of(score), verdicts, patients)


def _find_broken(state: WalkState, bundle: Path) -> tuple[str, ...]:
    """Say what was promised and does not hold, in sentences."""
    card = read_bundle(bundle).card
    if card.certifies(state.goal.backend, state.precision):
        return ()
    return (
        f"{state.precision} loses more beside the result's own f32 than the recipe's "
        "build.max_dice_drop allows: runtimes will not choose it by themselves.",
    )


def _find_drift(state: WalkState, promise: Promise) -> tuple[str, ...]:
    """Say so if the source takes another time now than when the walk began."""
    ratio = promise.reference_ms / state.reference.ms
    if 1 / (1 + _DRIFT) <= ratio <= 1 + _DRIFT:
        return ()
    return (
        f"The source takes {promise.reference_ms:.3f} ms now and took {state.reference.ms:.3f} ms "
        "when the walk began: this machine's speed changed, by its neighbours or its clock. The "
        "walk's milliseconds are those of its beginning; ratios hold, and the time in a fresh "
        "process is that of now.",
    )


def write_run(folder: Path, source: Source, state: WalkState, network: TrainedNetwork) -> None:
    """Write the result as the folder of a finished run, for `build`, `train` and `compress`."""
    finished = source.with_network(network)
    run = {
        "recipe": to_mapping(finished.recipe),
        "split": to_mapping(finished.split),
        "network": network.spec.architecture,
        "parameters": count_parameters(network.create()),
        "teachers": [],
        "commit": find_commit(),
        "bedside": __version__,
        "torch": torch.__version__,
        "compression": [*finished.compression, *describe_steps(state)],
    }
    save_tensors(folder / WEIGHTS, network.weights)
    write_text(folder / RUN, json.dumps(run, indent=1))


def describe_steps(state: WalkState) -> list[str]:
    """Say for the card what was compressed, to which budget, and what was done to it."""
    kept = [step for step in state.steps if step.kept]
    lines = [f"from {state.source}; {state.goal.describe()}"]
    for step in kept:
        figures = step.figures
        times = "" if figures is None else f" ({figures.ms:.3g} ms, {figures.parameters:,} weights)"
        lines.append(f"{step.move}: {step.about}{times}")
    return lines
