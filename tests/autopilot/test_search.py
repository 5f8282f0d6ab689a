import importlib.util
import json
import re
import shutil
from dataclasses import replace
from functools import partial

import pytest

from bedside.autopilot.evaluator import CandidateEvaluator, Resources
from bedside.autopilot.search.halving import rank
from bedside.autopilot.search.search import hash_recipe, open_evaluator, search
from bedside.autopilot.search.search_state import STATE, SearchFolder, SearchSettings, Trial
from bedside.autopilot.search.selection import LEAST_USE, measure_baseline, select
from bedside.autopilot.target import Target
from bedside.cli.main import main
from bedside.datasets import list_cases
from bedside.errors import BudgetError, OutputError, PatientsError, UsageError
from bedside.models import count_parameters
from bedside.spec import named_spec, read_recipe
from bedside.spec.writing import to_toml
from bedside.training.split import split_cases
from clocks_for_tests import Counting
from runs_for_tests import StoppedError, make_recipe

pytest_plugins = ["autopilot_fixtures"]

# By the clock of these tests the smallest network of the space takes 1.7 ms.
GOAL = Target(target_ms=4)
EFFORT = SearchSettings(candidates=3, rounds=2, epochs=1, timing_s=0.1)


@pytest.fixture(scope="module", autouse=True)
def _quick_graphs():
    """Stand-ins for the graphs that are only timed: as long as their weights.

    Real ones of the whole space are made in test_space.py.
    """

    def trace(module, shape):
        return bytes(400 + 4 * count_parameters(module))

    with pytest.MonkeyPatch.context() as patch:
        for module in ("latency.device_table", "latency.blocks", "evaluator"):
            patch.setattr(f"bedside.autopilot.{module}.trace_block", trace)
        for module in ("latency.device_table", "evaluator"):
            patch.setattr(f"bedside.autopilot.{module}.quantize_uncalibrated", lambda graph: graph)
        yield


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def recipe(many_patients, tmp_path_factory):
    """The file of a recipe with 9 validation patients."""
    made = make_recipe(many_patients, epochs=12)
    made = replace(made, data=replace(made.data, split=(0.4, 0.3, 0.3)))
    file = tmp_path_factory.mktemp("recipe") / "made.toml"
    file.write_text(to_toml(made))
    return file


def find(
    recipe, output, tables, *, target=GOAL, effort=EFFORT, clock=None, on_message=lambda line: None
):
    resources = Resources(tables=tables, threads=1, clock=clock or Counting())
    return search(
        recipe, output, target=target, effort=effort, resources=resources, on_message=on_message
    )


@pytest.fixture(scope="module")
def searched(recipe, tables, tmp_path_factory):
    """A search to its end, and all that it told."""
    told = []
    output = tmp_path_factory.mktemp("search") / "out"
    return find(recipe, output, tables, on_message=told.append), told


def test_all_candidates_use_the_budget_and_none_passes_it(searched):
    state = searched[0].state
    assert len(state.trials) == EFFORT.candidates
    for each in state.trials:
        assert LEAST_USE * GOAL.target_ms <= each.predicted_ms <= GOAL.target_ms
        assert each.ms <= GOAL.target_ms or "above the target" in each.left
    assert state.drawn >= state.predicted >= len(state.trials)


def test_each_round_the_better_half_goes_on_and_one_is_left(searched):
    state = searched[0].state
    assert len(state.remaining) == 1
    assert state.remaining[0] == state.best
    rounds = [[each for each in state.trials if len(each.dice) > number] for number in range(2)]
    assert [len(each) for each in rounds] == [3, 2]
    assert state.epochs == (1, 2)
    for number, trained in enumerate(rounds):
        dice = {each.number: sum(each.dice[number].values()) for each in trained}
        left = [each for each in trained if each.left.startswith(f"round {number + 1}:")]
        stayed = [each for each in trained if each not in left]
        assert max(dice[each.number] for each in left) <= min(dice[e.number] for e in stayed)


def test_the_recipe_that_is_found_reads_back_to_the_winner(searched, recipe):
    outcome = searched[0]
    found, given = read_recipe(outcome.recipe), read_recipe(recipe)
    assert found.deployment.model == outcome.state.best.spec
    assert replace(found, deployment=given.deployment) == given
    assert replace(found.deployment, model=given.deployment.model) == given.deployment
    assert "extends" not in outcome.recipe.read_text()


def test_pages_tell_of_every_candidate(searched):
    outcome = searched[0]
    folder, state = outcome.recipe.parent, outcome.state
    told = json.loads((folder / "search.json").read_text())
    assert [each["number"] for each in told["candidates"] if each["won"]] == [state.winner]
    assert told["candidates"][0]["spec"]["levels"]
    page, plot = ((folder / f"search.{kind}").read_text() for kind in ("md", "svg"))
    assert "budget 4 ms" in plot
    for each in state.trials:
        assert f"{each.number} {each.name}" in plot
        assert each.left in page


def test_a_stopped_and_continued_search_ends_as_an_unbroken_one(searched, recipe, tables, tmp_path):
    stops = iter(["1 ", "round 1, 1", "round 2, .* epoch 1", "round 2, .* Dice"])

    def stop(line):
        if re.match(waiting[0], line):
            waiting[0] = next(stops, "never")
            raise StoppedError

    waiting = [next(stops)]
    for _ in range(4):
        with pytest.raises(StoppedError):
            find(recipe, tmp_path, tables, on_message=stop)
    assert waiting == ["never"]
    assert find(recipe, tmp_path, tables).state == searched[0].state
    assert not list((tmp_path / "training").iterdir())


def test_a_finished_search_trains_nothing_again(searched, recipe, tables):
    told = []
    again = find(recipe, searched[0].recipe.parent, tables, on_message=told.append)
    assert again.state == searched[0].state
    assert told == []


def test_a_folder_of_another_search_is_left_alone(searched, recipe, tables, tmp_path):
    folder = searched[0].recipe.parent
    with pytest.raises(UsageError, match="another target"):
        find(recipe, folder, tables, target=replace(GOAL, target_ms=5))
    with pytest.raises(UsageError, match="another effort"):
        find(recipe, folder, tables, effort=replace(EFFORT, seed=1))
    (tmp_path / "search.toml").write_text("")
    with pytest.raises(OutputError, match="already"):
        find(recipe, tmp_path, tables)


def test_the_recipes_content_counts_and_not_its_file(recipe, searched):
    content = read_recipe(recipe)
    folder = SearchFolder(searched[0].recipe.parent)
    assert folder.load_search(hash_recipe(content), GOAL, EFFORT) == searched[0].state
    other = replace(content, training=replace(content.training, epochs=13))
    with pytest.raises(UsageError, match="another recipe"):
        folder.load_search(hash_recipe(other), GOAL, EFFORT)


def test_prediction_proposes_and_measurement_decides(recipe, tables, tmp_path):
    class Grudging(Counting):
        """One candidate takes longer than its blocks."""

        def __call__(self, graphs, total_s):
            times = super().__call__(graphs, total_s)
            return times | ({"1": 9.0} if "1" in times and "2" in times else {})

    def stop(line):
        if line.startswith("round 1"):
            raise StoppedError

    with pytest.raises(StoppedError):
        find(recipe, tmp_path, tables, clock=Grudging(), on_message=stop)
    trials = json.loads((tmp_path / STATE).read_text())["trials"]
    assert trials[0]["left"] == "measured 9.000 ms, above the target"
    assert not any(each["left"] for each in trials[1:])


@pytest.mark.parametrize("target", [1e-4, 0.05, 500.0])
def test_a_budget_that_nothing_fits_is_refused_with_one_that_would_do(
    target, recipe, tables, tmp_path
):
    effort = replace(EFFORT, candidates=1)
    with pytest.raises(BudgetError, match="Ask for") as refused:
        find(recipe, tmp_path, tables, target=Target(target_ms=target), effort=effort)
    assert not (tmp_path / STATE).exists()
    if target < 0.01:
        assert "an empty graph takes" in str(refused.value)
        return
    asked = float(re.search(r"Ask for at (?:least|most) ([\d.]+) ms", str(refused.value))[1])
    resources = Resources(tables=tables, threads=1, clock=Counting())
    evaluator = open_evaluator(
        recipe, read_recipe(recipe), Target(target_ms=asked), effort, resources=resources
    )
    baseline = measure_baseline(
        evaluator, empty_ms=evaluator.time_empty(), on_message=lambda line: None
    )
    [trial] = select(evaluator, baseline, effort, on_message=lambda line: None).trials
    assert trial.predicted_ms <= asked


def test_a_size_that_nothing_fits_is_refused_with_one_that_would_do(
    recipe, tables, tmp_path, monkeypatch
):
    def weigh(evaluator, candidate):
        return 30_000 + 2 * count_parameters(candidate.network.create())

    monkeypatch.setattr(CandidateEvaluator, "size", weigh)
    effort, target = replace(EFFORT, candidates=2), replace(GOAL, max_size_bytes=20_000)
    with pytest.raises(BudgetError, match="networks fit the target by their time") as refused:
        find(recipe, tmp_path, tables, target=target, effort=effort)
    asked = 1000 * int(re.search(r"Allow at least (\d+) kB", str(refused.value))[1])
    target = replace(target, max_size_bytes=asked)
    state = find(recipe, tmp_path, tables, target=target, effort=replace(effort, rounds=1)).state
    assert all(each.size_bytes <= asked for each in state.trials)


def test_a_faster_precision_is_counted_on_if_the_recipe_builds_it(recipe, tables, monkeypatch):
    def choose(build_int8, **parts):
        content = read_recipe(recipe)
        content = replace(content, build=replace(content.build, int8=build_int8))
        resources = Resources(tables=tables, threads=1, clock=Counting(**parts))
        evaluator = open_evaluator(recipe, content, GOAL, EFFORT, resources=resources)
        monkeypatch.setattr(evaluator, "precisions", lambda: ("f32", "bf16", "int8"))
        return measure_baseline(evaluator, empty_ms=0.01, on_message=lambda line: None).precision

    assert choose(True, bf16=0.5, int8=0.1) == "int8"
    assert choose(False, bf16=0.5, int8=0.1) == "bf16"
    assert choose(True, bf16=0.99, int8=2.0) == "f32"


def test_patients_that_share_an_image_are_told_of(recipe, many_patients, tables, tmp_path):
    data = shutil.copytree(many_patients, tmp_path / "data")
    content = read_recipe(recipe)
    content = replace(content, data=replace(content.data, path=str(data)))
    split = split_cases([case.patient_id for case in list_cases(data)], content.data)
    learned, judged = (
        data / split[part][0] / f"{split[part][0]}_4CH_ED.nii.gz" for part in ("train", "val")
    )
    judged.write_bytes(learned.read_bytes())
    told, resources = [], Resources(tables=tables, threads=1, clock=Counting())
    open_evaluator(recipe, content, GOAL, EFFORT, resources=resources, on_message=told.append)
    moved, apart = split["val"][0], learned.name.removesuffix(".nii.gz")
    assert told[0].startswith(f"Split: {moved} was moved from val to train: ")
    assert apart in told[0]
    assert len(told) == 1


def test_of_two_that_are_as_good_the_faster_one_is_before():
    slow, fast, bad = (
        Trial(number, "x", named_spec("nano"), ms, 0, dice=({"a": dice},))
        for number, (ms, dice) in enumerate([(2.0, 0.9), (1.0, 0.9), (0.5, 0.8)], 1)
    )
    assert rank((bad, slow, fast)) == [fast, slow, bad]


def test_too_few_validation_patients_are_refused(recipe, tables, tmp_path):
    content = read_recipe(recipe)
    few = tmp_path / "few.toml"
    few.write_text(to_toml(replace(content, data=replace(content.data, split=(0.7, 0.1, 0.2)))))
    with pytest.raises(PatientsError, match="3 validation patients; at least 8"):
        find(few, tmp_path / "out", tables)


def test_the_command_tells_what_was_found_and_what_to_do_next(
    searched, recipe, tables, monkeypatch, capsys
):
    resources = partial(Resources, tables=tables, clock=Counting())
    monkeypatch.setattr("bedside.autopilot.evaluator.Resources", resources)
    effort = partial(SearchSettings, timing_s=EFFORT.timing_s)
    monkeypatch.setattr("bedside.autopilot.search.search_state.SearchSettings", effort)
    outcome, options = searched[0], "--target-ms 4 --candidates 3 --rounds 2 --epochs 1"
    folder = outcome.recipe.parent
    command = ["search", str(recipe), "-o", str(folder), *options.split(), "--torch-threads", "1"]
    assert main(command) == 0
    said = capsys.readouterr().out
    best = outcome.state.best
    assert said.startswith(f"Found: {best.number} {best.name}, stem {best.spec.stem_channels}")
    assert f"Next: bedside train {outcome.recipe} -o runs/tiny" in said


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--target-ms", "0"], 2, "the target is 0 ms"),
        (["--target-ms", "4", "--rounds", "0"], 2, "rounds is 0"),
        (["--target-ms", "4", "--max-size", "small"], 2, "no amount of memory"),
        (["--target-ms", "4"], 3, "cannot read"),
        ([], 2, "--target-ms"),
    ],
)
def test_what_cannot_be_searched_is_one_line_and_a_code(options, code, said, tmp_path, capsys):
    missing = str(tmp_path / "no.toml")
    assert main(["search", missing, "-o", str(tmp_path / "out"), *options]) == code
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


def test_without_torch_the_search_names_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["search", "r.toml", "-o", "out", "--target-ms", "4"]) == 4
    assert 'pip install "torch==2.13.0"' in capsys.readouterr().err
