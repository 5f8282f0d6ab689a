"""Widths, heads and ranks of single blocks are in the spec, and are read strictly."""

import dataclasses
import json

import pytest

from bedside.bundle import read_bundle
from bedside.bundle.shipped import shipped_bundles
from bedside.errors import SpecError
from bedside.spec import LevelSpec, ModelSpec, from_mapping, named_spec, to_mapping

SPEC = ModelSpec(
    "hybrid",
    in_channels=1,
    num_classes=2,
    levels=(
        LevelSpec("conv", 8, 2, exchange_window=4, num_heads=2),
        LevelSpec("window", 16, 2, num_heads=4, kv_heads=2, shared="mlp"),
    ),
)


def test_an_uncompressed_network_is_written_as_before():
    written = to_mapping(named_spec("nano"))
    assert not {"hidden", "heads", "ranks"} & set(written)
    assert from_mapping(ModelSpec, written) == named_spec("nano")


def test_a_compressed_network_survives_json():
    spec = dataclasses.replace(
        SPEC,
        hidden={"levels.0.1": 12, "fusions.0": 40},
        heads={"levels.1.1": 2, "levels.0.2": 1},
        ranks={"downs.0": (4, 8), "laterals.0": (3,)},
    )
    assert from_mapping(ModelSpec, json.loads(json.dumps(to_mapping(spec)))) == spec


def test_blocks_that_borrow_are_not_named_apart():
    assert list(SPEC.plain_hidden) == ["levels.0.0", "levels.0.1", "levels.1.0", "fusions.0"]
    assert SPEC.plain_heads == {"levels.0.2": 2, "levels.1.0": 4, "levels.1.1": 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": {"levels.1.1": 8}}, 'hidden names "levels.1.1".* Did you mean "levels.1.0"'),
        ({"hidden": {"levels.0.0": 0}}, "hidden has levels.0.0 = 0; expected at least 1"),
        ({"heads": {"levels.0.0": 1}}, 'heads names "levels.0.0"'),
        ({"heads": {"levels.1.0": 3}}, "heads of levels.1.0: num_heads is 3; expected a multiple"),
        ({"ranks": {"downs.0": (1, 2, 3)}}, "two for one of more taps"),
        ({"ranks": {"downs.0": ()}}, r"ranks has downs.0 = \(\); expected at least 1"),
        ({"ranks": {"downs.0": (0, 2)}}, "expected at least 1"),
    ],
)
def test_what_no_network_can_be_built_from_is_refused(changes, message):
    with pytest.raises(SpecError, match=message):
        dataclasses.replace(SPEC, **changes)


def test_a_level_may_be_empty_but_not_less():
    assert LevelSpec("window", 16, 0).owners("mlp") == range(0)
    with pytest.raises(SpecError, match="depth is -1; expected at least 0"):
        LevelSpec("window", 16, -1)


@pytest.mark.parametrize("path", shipped_bundles(), ids=lambda path: path.stem)
def test_shipped_bundles_read_as_before_and_are_written_without_the_new_fields(path):
    model = read_bundle(path).spec.model
    assert [model.hidden, model.heads, model.ranks] == [{}, {}, {}]
    assert not {"hidden", "heads", "ranks"} & set(to_mapping(model))
