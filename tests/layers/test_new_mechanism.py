"""A mechanism of attention is a file and a row: everything else finds it by the table."""

import dataclasses
import sys
import types

import pytest
import torch

from bedside.compression.groups import list_groups
from bedside.compression.importance import measure_importance
from bedside.compression.kv_heads import merge_kv_heads
from bedside.compression.prune import shrink
from bedside.errors import SpecError
from bedside.export.onnx import export_onnx
from bedside.layers.attention.heads import Heads
from bedside.models import TrainedNetwork, create
from bedside.spec import LevelSpec, from_mapping, to_mapping
from bedside.spec.mechanisms import MECHANISMS, MechanismRow
from models_for_tests import INPUT_SHAPE, make_spec


@dataclasses.dataclass(frozen=True)
class MeanAttention:
    """Each token reads the mean of all values."""

    heads: Heads

    def __call__(self, tokens):
        _, _, values = self.heads.split(tokens)
        mean = values.flatten(1, -2).mean(dim=1)
        repeated = mean.repeat(1, self.heads.num_heads // self.heads.kv_heads)
        shape = (len(tokens), *[1] * (tokens.ndim - 2), repeated.shape[1])
        return repeated.reshape(shape).expand(*tokens.shape[:-1], -1)


def test_a_row_is_all_that_is_needed(monkeypatch):
    with pytest.raises(SpecError, match='block is "mean"; expected one of conv, reparam, linear'):
        LevelSpec("mean", 8, 1)
    module = types.ModuleType("bedside.layers.attention.mean")
    module.create = lambda level: MeanAttention(
        Heads(level.num_heads, level.head_dim, level.kv_heads)
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(MECHANISMS, "mean", MechanismRow("mean:create"))
    spec = make_spec().model
    level = LevelSpec("mean", 32, depth=2, num_heads=4, head_dim=8, kv_heads=2, exchange_window=4)
    spec = dataclasses.replace(spec, levels=(spec.levels[0], level))
    assert from_mapping(type(spec), to_mapping(spec)) == spec
    torch.manual_seed(0)
    network = TrainedNetwork.of(create(spec), spec)
    assert list_groups(network)["heads.levels.1.0"].units == 4
    importance = measure_importance(network, (), None, method="magnitude")
    smaller = shrink(merge_kv_heads(network), importance, part="heads", ratio=0.5)
    assert smaller.spec.heads == {"levels.1.0": 2, "levels.1.1": 2}
    assert export_onnx(smaller.create(), input_shape=INPUT_SHAPE)
