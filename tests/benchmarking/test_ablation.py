import argparse
import dataclasses

import pytest
import torch

import ablation
from ablation_variants import AS_IT_IS, VARIANTS, check_names, list_variants
from bedside.errors import SpecError
from bedside.models import create, named_spec
from bedside.spec import LevelSpec

RECIPE = "camus"


@pytest.fixture
def study(tmp_path):
    arguments = argparse.Namespace(
        epochs=3, data=None, runs=tmp_path / "runs", results=tmp_path / "results"
    )
    return ablation.open_study(RECIPE, arguments)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_each_row_is_another_network_that_can_be_built(spatial_dims):
    rows = list_variants(named_spec("nano", spatial_dims=spatial_dims))
    assert len({repr(row) for row in rows.values()}) == len(rows) >= 12
    for spec in rows.values():
        with torch.device("meta"):
            create(spec)


def test_a_row_changes_only_what_it_is_named_for():
    model = named_spec("tiny", num_classes=4)
    rows = list_variants(model)
    assert rows[AS_IT_IS] == model
    assert {level.block for level in rows["conv"].levels} == {"conv"}
    assert [level.exchange for level in rows["window-alone"].levels[2:]] == [False, False]
    assert [level.block for level in rows["dense"].levels] == ["conv", "conv", "window", "dense"]
    assert rows["two-scales"].levels[2].window == (8, 4)
    assert dataclasses.replace(rows["boundary"], boundary=False) == model
    for name in ("overlap", "routed", "pooled", "linear"):
        assert [level.block for level in rows[name].levels] == ["conv", "conv", name, name]
        assert [a.channels for a in rows[name].levels] == [b.channels for b in model.levels]


def test_windows_put_in_place_of_dense_attention_are_those_of_the_level_above():
    levels = (
        LevelSpec("conv", 8, 1),
        LevelSpec("window", 8, 1, window=5),
        LevelSpec("dense", 8, 1),
    )
    model = dataclasses.replace(named_spec("nano", spatial_dims=3), levels=levels)
    assert [level.window for level in list_variants(model)["window"].levels[1:]] == [5, 5]


def test_a_row_that_computes_what_the_recipe_does_is_left_out():
    levels = (LevelSpec("conv", 8, 1), LevelSpec("window", 8, 1, num_heads=2, window=8))
    model = dataclasses.replace(named_spec("nano"), levels=levels)
    # 64 x 64 pixels are one window of 8 x 8 tokens, 128 x 128 are four.
    one, four = list_variants(model, (64, 64)), list_variants(model, (128, 128))
    assert "dense" not in one
    assert "dense" in four
    assert {"conv", "linear", "boundary", "deep-supervision"} <= set(one)


def test_a_row_that_is_not_in_the_table_is_refused_by_name():
    check_names(list(VARIANTS))
    with pytest.raises(SpecError, match='no row "windows"'):
        check_names(["windows"])


def test_rows_add_up_and_those_without_a_training_say_so(study):
    names = [label.name for label in study.recipe.deployment.labels]
    accuracy = {
        "epochs": 3,
        "mean_dice": 0.5,
        "structures": dict.fromkeys(names, 0.25),
    }
    study.update("conv", "accuracy", accuracy)
    cost = {"parameters": 345_616, "median_ms": 1.5, "threads": 2, "input": [1, 1, 8, 8]}
    study.update("conv", "cost", cost | {"processor": "one"})
    study.update("routed", "cost", cost | {"processor": "one"})
    lines = ablation.format_page([study]).splitlines()
    (conv,) = [line for line in lines if line.startswith("| attention -> convolutions")]
    assert conv.split(" | ")[1:] == [
        "0.5000", "0.2500", "0.2500", "0.2500", "3", "1.50", "0.346 M |",
    ]  # fmt: skip
    (routed,) = [line for line in lines if line.startswith("| routed")]
    assert "not trained" in routed
    assert "1.50" in routed
    assert sum("not measured" in line for line in lines) == len(study.networks) - 2
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_weights_are_counted_as_inference_has_them(study):
    rows = study.networks
    plain = ablation.count_used(rows[AS_IT_IS])
    for name in ("reparam", "deep-supervision", "boundary"):
        assert ablation.count_used(rows[name]) == plain
    assert ablation.count_used(rows["shared"]) < plain
