import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bedside.autopilot.compress.already_met import AlreadyMet, find_already_met
from bedside.autopilot.compress.compress import CompressionResources, compress, open_run
from bedside.autopilot.latency.timing import Setting, Timed
from bedside.autopilot.source import open_source
from bedside.autopilot.state import Folder
from bedside.autopilot.target import CompressionSettings, Target
from bedside.bundle import read_bundle, write_bundle
from bedside.cli.main import main
from bedside.errors import BudgetError, OutputError, PatientsError, UsageError
from bedside.runtime.table import find_backend
from bedside.training.checkpoint import read_json
from bedside.training.folder import RUN
from clocks_for_tests import Counting
from processors_for_tests import NEEDS_INT8, NEEDS_NATIVE_BF16
from runs_for_tests import StoppedError

pytest_plugins = ["autopilot_fixtures"]

# The made-up network has so few weights that any step hurts: what is tested is the run.
GOAL = Target(target_ms=0.25, max_drop=0.04)
EFFORT = CompressionSettings(
    epochs=2, step_fraction=0.4, min_step_fraction=0.2, calibration_images=8, timing_s=0.1
)
# What the network is small enough for without much ado.
NEAR = replace(GOAL, target_ms=0.3)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


def run(
    trained, output, tables, *, target=GOAL, effort=EFFORT, clock=None, on_message=lambda line: None
):
    resources = CompressionResources(tables=tables, threads=1, clock=clock or Counting())
    return compress(
        trained, output, target=target, effort=effort, resources=resources, on_message=on_message
    )


def only_run(
    trained, output, tables, *, target, effort=EFFORT, clock=None, on_message=lambda line: None
):
    """Walk without what follows: the test patients, the bundle, the pages."""
    resources = CompressionResources(tables=tables, threads=1, clock=clock or Counting())
    how = {
        "target": target,
        "effort": effort,
        "resources": resources,
        "on_message": on_message,
    }
    return open_run(open_source(trained), output, **how).run()


@pytest.fixture(scope="module")
def finished(trained, tables, tmp_path_factory):
    """A run with steps that are kept, finetuned and undone, and its messages."""
    output, told = tmp_path_factory.mktemp("run") / "out", []
    return run(trained, output, tables, on_message=told.append), told


def test_a_run_ends_where_its_budget_is_met(trained, tables, tmp_path):
    state = only_run(trained, tmp_path, tables, target=NEAR)
    assert state.reference.ms > NEAR.target_ms >= state.metrics.ms
    assert state.steps[-1].kept


def test_steps_are_kept_only_if_no_structure_is_worse(finished):
    state = finished[0].state
    judged = [step for step in state.steps if step.metrics]
    assert {step.kept for step in judged} == {True, False}
    for step in judged:
        assert step.kept == all(result.screened for result in step.comparisons)
        assert all(v.screen_bound > -GOAL.max_drop for v in step.comparisons) == step.kept


def test_only_what_needs_it_is_finetuned(finished):
    outcome, told = finished
    judged = [step for step in outcome.state.steps if step.metrics]
    assert {step.finetuned for step in judged} == {True, False}
    finetunings = sum(line.startswith("to be finetuned") for line in told)
    assert finetunings == sum(step.finetuned for step in judged)
    # A step that is too bad for finetuning is tried again at half its size.
    assert any(not step.kept and not step.finetuned for step in judged)


def test_each_kept_step_is_faster_than_the_one_before(finished):
    state = finished[0].state
    times = [state.reference.ms, *(step.metrics.ms for step in state.steps if step.kept)]
    assert times == sorted(times, reverse=True)


def test_the_result_is_a_run_and_a_bundle_of_the_same_network(finished, trained):
    outcome = finished[0]
    folder = outcome.bundle.parent
    bundle, source = read_bundle(outcome.bundle), open_source(folder)
    last = Folder(folder).read_network(f"{outcome.state.network:03d}")
    assert bundle.spec.model == source.network.spec == last.spec
    assert bundle.spec.model != open_source(trained).network.spec
    assert (folder / "weights.safetensors").exists()
    assert bundle.card.parameters == outcome.state.metrics.parameters
    assert outcome.size_bytes == outcome.bundle.stat().st_size


def test_the_card_tells_what_was_compressed_and_how(finished, trained):
    outcome = finished[0]
    source = open_source(trained)
    first, *steps = read_bundle(outcome.bundle).card.compression
    assert source.sha256[:12] in first
    assert "0.25 ms" in first
    assert len(steps) == sum(step.kept for step in outcome.state.steps)
    assert all(step.startswith(("prune: ", "low rank: ")) for step in steps)


def test_the_size_that_steps_are_judged_by_is_that_of_the_bundle(finished):
    outcome = finished[0]
    # What its card says of measurements comes on top: certificates of every backend, accuracy.
    assert 0 <= outcome.size_bytes - outcome.state.metrics.size_bytes < 2500


def test_test_patients_are_looked_at_once(finished, trained, tables):
    outcome = finished[0]
    patients = set(open_source(trained).finished.split["test"])
    assert outcome.state.test.patients == len(patients)
    told = []
    again = run(trained, outcome.bundle.parent, tables, on_message=told.append)
    assert again.state == outcome.state
    assert not any("test patients" in line for line in told)


def test_pages_follow_the_steps(finished):
    outcome = finished[0]
    folder = outcome.bundle.parent
    told = json.loads((folder / "compression.json").read_text())
    assert told["met"] is not bool(outcome.unmet)
    assert len(told["steps"]) == len(outcome.state.steps)
    assert told["result"]["times_as_fast"] > 1
    result, reference = outcome.latency_check.result_ms, outcome.latency_check.reference_ms
    assert told["latency_check"]["result_ms"] == result
    # The stand-in for the clock counts work, so that the end of the run repeats its beginning.
    assert reference == pytest.approx(outcome.state.reference.ms)
    assert result == pytest.approx(outcome.state.metrics.ms)
    page = (folder / "compression.md").read_text()
    for step in outcome.state.steps:
        assert step.about in page
        assert step.reason in page
    html, plot = ((folder / f"compression.{kind}").read_text() for kind in ("html", "svg"))
    assert "budget 0.25 ms" in plot
    assert plot.strip() in html
    judged = [step for step in outcome.state.steps if step.metrics]
    assert all(f"{step.number} {step.kind}" in plot for step in judged)


def test_a_stopped_and_continued_run_decides_as_an_unbroken_one(
    finished, trained, tables, tmp_path
):
    stops = iter(["undone: ", "finetuning: epoch 1", "scoring the test"])

    def stop(line):
        if line.startswith(waiting[0]):
            waiting[0] = next(stops, "never")
            raise StoppedError

    waiting = [next(stops)]
    for _ in range(3):
        with pytest.raises(StoppedError):
            run(trained, tmp_path, tables, on_message=stop)
    state, unbroken = run(trained, tmp_path, tables).state, finished[0].state
    assert [replace(step, seconds=0) for step in state.steps] == [
        replace(step, seconds=0) for step in unbroken.steps
    ]
    assert state.metrics == unbroken.metrics
    assert state.test == unbroken.test


def test_a_folder_of_another_run_is_left_alone(finished, trained, tables):
    folder = finished[0].bundle.parent
    with pytest.raises(UsageError, match="another target"):
        run(trained, folder, tables, target=replace(GOAL, target_ms=0.2))
    with pytest.raises(UsageError, match="another effort"):
        run(trained, folder, tables, effort=replace(EFFORT, epochs=3))


def test_a_run_is_not_overwritten(trained, tables):
    with pytest.raises(OutputError, match=r"run\.json is there already"):
        run(trained, trained, tables)


def test_what_loses_too_much_is_undone_with_its_reason(trained, tables, tmp_path):
    effort = replace(EFFORT, epochs=0, hopeless=0.001)
    target = replace(NEAR, max_drop=0.001)
    state = only_run(trained, tmp_path, tables, target=target, effort=effort)
    kept = [step for step in state.steps if step.kept]
    undone = [step for step in state.steps if step.metrics and not step.kept]
    assert undone
    assert all("loses" in step.reason or "cannot be excluded" in step.reason for step in undone)
    # It stands where it stood before them: at what loses nothing, or at the source.
    assert state.network == (kept[-1].number if kept else 0)
    assert state.metrics == (kept[-1].metrics if kept else state.reference)
    assert state.metrics.ms > target.target_ms


class Grudging(Counting):
    """Whatever is in a network's place takes as long."""

    def __call__(self, graphs, total_s):
        times = super().__call__(graphs, total_s)
        return times | ({"after": times["before"]} if "after" in times else {})


def test_what_is_not_faster_here_is_not_even_judged(trained, tables, tmp_path):
    told = []
    state = only_run(
        trained, tmp_path, tables, target=NEAR, clock=Grudging(), on_message=told.append
    )
    assert state.steps
    assert all(step.reason.startswith("not faster here") for step in state.steps)
    assert not any(step.metrics for step in state.steps)


@NEEDS_INT8
def test_too_few_patients_for_so_small_a_loss_are_refused(trained, tables, tmp_path):
    target = replace(NEAR, max_drop=1e-5)
    with pytest.raises(PatientsError, match=r"9 patients are too few .* would do"):
        only_run(trained, tmp_path, tables, target=target, clock=Counting(int8=0.5))


def test_too_few_patients_for_any_bound_are_refused(trained, tables, tmp_path):
    run = tmp_path / "few"
    shutil.copytree(trained, run)
    record = json.loads((run / "run.json").read_text())
    del record["split"]["val"][5:]
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(PatientsError, match="5 validation patients; at least 8"):
        only_run(run, tmp_path / "out", tables, target=NEAR)


def test_a_target_below_an_empty_graph_is_refused(trained, tables, tmp_path):
    with pytest.raises(BudgetError, match="an empty graph takes"):
        only_run(trained, tmp_path, tables, target=replace(NEAR, target_ms=0.001))


@pytest.mark.parametrize(
    "target",
    [
        Target(target_ms=1e6),
        Target(max_size_bytes=10**9),
        Target(target_ms=1e6, max_size_bytes=10**9),
    ],
)
def test_a_source_that_meets_its_budget_is_left_alone(
    trained, tables, tmp_path, monkeypatch, target
):
    read = []
    monkeypatch.setattr("bedside.autopilot.scoring.read_case", lambda *case: read.append(case))
    met = run(trained, tmp_path / "out", tables, target=target)
    assert isinstance(met, AlreadyMet)
    assert (met.ms is None) == (target.target_ms is None)
    assert read == []
    assert not (tmp_path / "out").exists()


def test_a_bundle_meets_its_budget_in_a_certified_precision_only(
    finished, tables, tmp_path, capsys
):
    bundle = finished[0].bundle
    data = read_json(bundle.parent / RUN)["recipe"]["data"]["path"]
    f32 = Timed(read_bundle(bundle).read_graph("f32"), (), Setting())
    f32_ms = Counting()({"f32": f32}, 0)["f32"]
    target = Target(target_ms=0.9 * f32_ms)
    source = open_source(bundle, Path(data))
    halved = {"clock": Counting(bf16=0.5), "timing_s": 0.1}
    met = find_already_met(source, target, **halved)
    native = find_backend("openvino").load().native_precisions()
    assert (met is not None and met.precision == "bf16") == ("bf16" in native)
    assert find_already_met(source, target, clock=Counting(), timing_s=0.1) is None
    sound = read_bundle(bundle)
    card = replace(
        sound.card,
        precisions=tuple(replace(each, passed=False) for each in sound.card.precisions),
    )
    refused = tmp_path / bundle.name
    write_bundle(
        refused, spec=sound.spec, card=card, graphs={"f32": sound.read_graph("f32")},
        split=sound.split,
    )  # fmt: skip
    assert find_already_met(open_source(refused, Path(data)), target, **halved) is None


def test_the_command_says_that_a_budget_is_already_met(trained, tmp_path, capsys):
    assert main(["compress", str(trained), "-o", str(tmp_path / "out"), "--max-size", "1GB"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("Already met: the run run")
    assert not (tmp_path / "out").exists()


@NEEDS_NATIVE_BF16
def test_a_faster_precision_is_the_gentlest_step(trained, tables, tmp_path):
    target = replace(NEAR, max_drop=0.1)
    state = only_run(trained, tmp_path, tables, target=target, clock=Counting(bf16=0.5))
    [step] = state.steps
    assert step.about == "compute in bfloat16"
    assert state.precision == "bf16"
    assert state.metrics.parameters == state.reference.parameters


def test_fewer_bits_make_a_bundle_smaller_where_size_is_missing(trained, tables, tmp_path):
    target = Target(max_size_bytes=24_000, max_drop=0.1)
    outcome = run(trained, tmp_path, tables, target=target)
    kept = [step for step in outcome.state.steps if step.kept]
    assert [step.kind for step in kept] == ["bits"]
    assert outcome.size_bytes <= 24_000 < outcome.state.reference.size_bytes
    assert set(read_bundle(outcome.bundle).spec.model.bits.values()) <= {8, 4}


def test_where_nothing_meets_the_time_the_size_is_met_all_the_same(trained, tables, tmp_path):
    target, told = replace(NEAR, max_size_bytes=24_000, max_drop=0.1), []
    state = only_run(
        trained, tmp_path, tables, target=target, clock=Grudging(), on_message=told.append
    )
    assert "no step meets the latency; continuing with the size" in told
    kept = [step for step in state.steps if step.kept]
    assert {step.kind for step in kept} == {"bits"}
    assert not any(step.kept for step in state.steps if step.number < kept[0].number)
    assert state.metrics.size_bytes <= target.max_size_bytes < state.reference.size_bytes
    assert state.metrics.ms > target.target_ms
