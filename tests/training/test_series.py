import dataclasses
import json

import pytest

from bedside.errors import SpecError
from bedside.training.series import (
    Spread,
    list_members,
    read_spread,
    spread_dice,
    train_series,
)

pytest_plugins = ["training_fixtures"]


def test_every_fold_meets_every_seed_in_a_folder_of_its_own(recipe):
    members = list_members(recipe, seeds=(0, 3), folds=2)
    assert [member.name for member in members] == [
        "fold-0-seed-0", "fold-0-seed-3", "fold-1-seed-0", "fold-1-seed-3",
    ]  # fmt: skip
    last = members[-1].recipe
    assert (last.training.seed, last.data.folds, last.data.fold) == (3, 2, 1)
    assert [member.name for member in list_members(recipe, seeds=(2, 1, 2))] == ["seed-2", "seed-1"]
    assert [member.name for member in list_members(recipe, seeds=(), folds=2)] == [
        "fold-0-seed-0", "fold-1-seed-0",
    ]  # fmt: skip
    with pytest.raises(SpecError, match="fold is 0 of 1"):
        list_members(recipe, seeds=(), folds=1)


def test_the_spread_is_derived_by_hand():
    runs = {"a": {"x": 0.5, "y": 0.25}, "b": {"x": 1.0, "y": 0.75}, "c": {"x": 0.75, "y": 0.5}}
    assert spread_dice(runs) == {
        "x": Spread(0.75, 0.5, 1.0),
        "y": Spread(0.5, 0.25, 0.75),
        "mean": Spread(0.625, 0.375, 0.875),
    }


def test_a_series_goes_on_where_it_was_and_sums_up(recipe, tmp_path):
    short = dataclasses.replace(
        recipe, training=dataclasses.replace(recipe.training, epochs=1, validate_every=9)
    )
    members = list_members(short, seeds=(0, 1))
    train_series(members[:1], tmp_path, threads=1)
    first = (tmp_path / "seed-0" / "weights.safetensors").stat().st_mtime_ns
    trained = []

    def note(member, progress):
        if progress.stage == "training":
            trained.append(member.name)

    summary = train_series(members, tmp_path, threads=1, cache=tmp_path / "c", on_progress=note)
    assert trained == ["seed-1"]
    assert (tmp_path / "seed-0" / "weights.safetensors").stat().st_mtime_ns == first
    told = json.loads(summary.read_text())
    for name in ("seed-0", "seed-1"):
        evaluation = json.loads((tmp_path / name / "validation" / "evaluation.json").read_text())
        for structure in evaluation["structures"]:
            assert told["validation_dice"][name][structure["name"]] == structure["dice"]["mean"]
    assert read_spread(summary) == spread_dice(told["validation_dice"])
