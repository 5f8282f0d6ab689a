"""COMPRESSION in one screen: a trained network and a budget in, a bundle out.

source -> block times -> steps, each kept only if it gains and loses nothing (validation
patients) -> test patients, once -> bundle -> its time in a new process -> report
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from bedside.autopilot.compress.already_met import AlreadyMet, find_already_met
from bedside.autopilot.compress.compression_run import CompressionRun, OnMessage, begin_run
from bedside.autopilot.compress.report import Outcome, write_reports
from bedside.autopilot.evaluator import REFERENCE, Candidate, CandidateEvaluator, Resources
from bedside.autopilot.finetune import FinetuneSetup
from bedside.autopilot.latency.subprocess_timing import LatencyCheck, time_in_subprocess
from bedside.autopilot.noninferiority import judge
from bedside.autopilot.source import Source, open_source
from bedside.autopilot.state import Accuracy, Folder, RunState, TestResult
from bedside.autopilot.target import CompressionSettings, Target
from bedside.build import build_bundle
from bedside.bundle import read_bundle
from bedside.errors import OutputError
from bedside.export.rebuild import restore_statistics
from bedside.models import TrainedNetwork, count_parameters
from bedside.spec import to_mapping
from bedside.system.atomic import output_folder, write_text
from bedside.system.revision import find_commit
from bedside.training.checkpoint import save_tensors
from bedside.training.dataset import load_cases
from bedside.training.device import choose_device, choose_workers, configure_threads
from bedside.training.example import Example
from bedside.training.folder import RUN, WEIGHTS
from bedside.training.teacher import open_teacher
from bedside.version import __version__

# Images that norms of a network out of a bundle are measured on.
_STATISTICS = 64
# Relative change of the speed of the machine during a run from which on there is a warning.
_DRIFT = 0.2


@dataclass(frozen=True)
class CompressionResources(Resources):
    """Resources of a compression run.

    Attributes:
        teachers: Runs of further teachers beside the source.
        recipe: Recipe to finetune a bundle by; a run has its own.
    """

    teachers: Sequence[Path] = ()
    recipe: Path | None = None


def compress(
    path: Path,
    output: Path,
    *,
    target: Target,
    data: Path | None = None,
    effort: CompressionSettings | None = None,
    resources: CompressionResources | None = None,
    on_message: OnMessage = lambda line: None,
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome | AlreadyMet:
    """Compress a trained network until it meets a budget, or resume a stopped run.

    If the source meets the budget already, nothing is trained or written and no patient is
    scored.

    Args:
        path: Folder of a finished run, or a bundle.
        output: Folder for the results: `NAME.bedside`, `compression.json`,
            `compression.md`, `compression.html`, `compression.svg`, and the run folder of the
            result, which can be built, teach and be compressed again.
        target: The budget.
        data: Folder of the data set, if not the run's; a bundle needs it.
        effort: What may be spent.
        resources: Caches, teachers, threads.
        on_message: Called with a line for every measurement and decision.
        on_case: Called while images are read, with how many and of how many.

    Returns:
        The outcome; or how the source meets the budget already.

    Raises:
        BudgetError: If the target is below what an empty graph takes here.
        PatientsError: If there are too few validation patients to choose by.
        DataError: If the data do not fit the source.
        UsageError: If the folder holds a run from another source or to another target.
        OutputError: If the folder cannot be written to.
    """
    effort, resources = effort or CompressionSettings(), resources or CompressionResources()
    source = open_source(path, data, resources.recipe)
    if Folder(output).load(source.about, target, effort) is None:
        met = find_already_met(source, target, clock=resources.clock, timing_s=effort.timing_s)
        if met is not None:
            return met
    with output_folder(output):
        run = open_run(
            source,
            output,
            target=target,
            effort=effort,
            resources=resources,
            on_message=on_message,
            on_case=on_case,
        )
        run.run()
        return _conclude(run, data=data)


def open_run(
    source: Source,
    output: Path,
    *,
    target: Target,
    effort: CompressionSettings,
    resources: CompressionResources,
    on_message: OnMessage = lambda line: None,
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> CompressionRun:
    """Open a compression run: read data and state, or measure the source at its start.

    Args:
        source: The network to compress; all other arguments are as in `compress`.
        output: Folder of the run.
        target: The budget.
        effort: What may be spent.
        resources: Caches, teachers, threads.
        on_message: Called with a line for every measurement and decision.
        on_case: Called while images are read.
    """
    device, folder = choose_device(), Folder(output)
    configure_threads(resources.threads, device)
    state = folder.load(source.about, target, effort)
    if state is None:
        _check_free(output, source)
    cases = source.finished.part("train")
    examples = load_cases(
        cases,
        source.finished.recipe.deployment,
        cache=resources.cache,
        on_case=lambda done: on_case(done, len(cases)),
    )
    source = _with_statistics(source, examples)
    setup = _plan_finetuning(source, examples, effort, resources, device)
    evaluator = CandidateEvaluator(
        source, target, effort, setup=setup, clock=resources.clock, tables=resources.tables
    )
    return CompressionRun(
        evaluator, folder, state or begin_run(evaluator, folder, on_message=on_message), on_message
    )


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
    """Source with norm statistics for training, if it comes from a bundle."""
    if not source.from_bundle:
        return source
    size = source.finished.recipe.deployment.input.size_px
    inputs = [
        example.image[None].astype("float32")
        for example in examples[:: max(1, len(examples) // _STATISTICS)]
        if example.image.shape[1:] == size
    ]
    return replace(source, network=restore_statistics(source.network, inputs))


def _plan_finetuning(
    source: Source,
    examples: Sequence[Example],
    effort: CompressionSettings,
    resources: CompressionResources,
    device: torch.device,
) -> FinetuneSetup:
    """Training images, teachers and schedule for finetuning."""
    recipe, split = source.finished.recipe, source.finished.split
    teachers: list[nn.Module] = [source.network.create().to(device)]
    teachers += [open_teacher(run, recipe, split, device).model for run in resources.teachers]
    return FinetuneSetup(
        recipe,
        examples,
        tuple(teachers),
        epochs=effort.epochs,
        rate=effort.rate,
        seed=effort.seed,
        workers=choose_workers(resources.threads, device),
        device=device,
    )


def _conclude(run: CompressionRun, *, data: Path | None) -> Outcome:
    """Score source and result on the test patients, once, and write the results."""
    evaluator, folder, state, on_message = run.evaluator, run.folder, run.state, run.on_message
    result = Candidate(folder.read_network(f"{state.network:03d}"), state.precision)
    if state.test is None:
        state = replace(state, test=_score_test_set(evaluator, state, result, on_message))
        folder.save(state)
    bundle = folder.path / f"{evaluator.source.finished.recipe.deployment.name}.bedside"
    if not bundle.exists():
        write_run(folder.path, evaluator.source, state, result.network)
        on_message("building the bundle")
        int8 = state.precision == "int8"
        build_bundle(folder.path, bundle, data=data, int8=int8, on_stage=on_message)
    on_message("timing the bundle, here and in a new process")

    def time_here() -> tuple[float, float]:
        times = evaluator.time({"result": result}, exact=True, total_s=state.effort.timing_s / 3)
        return times["result"], times[REFERENCE]

    latency_check = time_in_subprocess(
        bundle,
        evaluator.graphs(Candidate(evaluator.source.network), final=True)["f32"],
        setting=evaluator.setting(state.precision),
        time_here=time_here,
        total_s=4 * state.effort.timing_s,
    )
    warnings = (*_find_broken(state, bundle), *_find_drift(state, latency_check))
    outcome = Outcome(state, latency_check, bundle, bundle.stat().st_size, warnings)
    write_reports(folder.path, outcome)
    return outcome


def _score_test_set(
    evaluator: CandidateEvaluator, state: RunState, result: Candidate, on_message: OnMessage
) -> TestResult:
    """Compare source and result on the test patients, which decided nothing."""
    on_message("scoring the test patients, once")
    source = evaluator.score(Candidate(evaluator.source.network), part="test", final=True)
    score = evaluator.score(result, part="test", final=True)
    results = judge(
        source.by_patient(),
        score.by_patient(),
        max_drop=state.target.max_drop,
        new_alarms=score.new_alarms(source),
        seed=state.effort.seed,
    )
    patients = len(source.by_patient())
    return TestResult(Accuracy.of(source), Accuracy.of(score), results, patients)


def _find_broken(state: RunState, bundle: Path) -> tuple[str, ...]:
    """Warnings about certificates that the result does not have."""
    card = read_bundle(bundle).card
    if card.certifies(state.target.backend, state.precision):
        return ()
    return (
        f"{state.precision} loses more beside the result's own f32 than the recipe's "
        "build.max_dice_drop allows: runtimes will not choose it by themselves.",
    )


def _find_drift(state: RunState, latency_check: LatencyCheck) -> tuple[str, ...]:
    """Warning if the latency of the source has changed since the start of the run."""
    ratio = latency_check.reference_ms / state.reference.ms
    if 1 / (1 + _DRIFT) <= ratio <= 1 + _DRIFT:
        return ()
    return (
        f"The source takes {latency_check.reference_ms:.3f} ms now and took "
        f"{state.reference.ms:.3f} ms at the start of the run: the speed of this machine changed "
        "(other load, or its clock). The milliseconds of the steps are those of the start; their "
        "ratios hold. The time in a new process is current.",
    )


def write_run(folder: Path, source: Source, state: RunState, network: TrainedNetwork) -> None:
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


def describe_steps(state: RunState) -> list[str]:
    """Lines for the card: what was compressed, to which budget, and by which steps."""
    kept = [step for step in state.steps if step.kept]
    lines = [f"from {state.source}; {state.target.describe()}"]
    for step in kept:
        metrics = step.metrics
        times = "" if metrics is None else f" ({metrics.ms:.3g} ms, {metrics.parameters:,} weights)"
        lines.append(f"{step.kind}: {step.about}{times}")
    return lines
