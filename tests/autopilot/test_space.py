"""The space that a search draws from, with the real graphs of its networks."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bedside.autopilot.latency.blocks import trace_block
from bedside.autopilot.latency.device_table import DeviceTable
from bedside.autopilot.latency.timing import Setting
from bedside.autopilot.latency.uncalibrated_int8 import quantize_uncalibrated
from bedside.autopilot.search.space import (
    SPACES,
    count_levels,
    draw_specs,
    guess_work,
    list_anchors,
)
from bedside.models import create
from bedside.runtime import open_graph
from bedside.spec import named_spec
from clocks_for_tests import Counting

SIZES = {2: (64, 64), 3: (32, 32, 32)}


def test_the_same_seed_gives_the_same_candidates_and_another_one_others():
    like = named_spec("tiny")
    first, again, other = (
        list(draw_specs(like, (64, 64), seed=seed, count=20)) for seed in (0, 0, 1)
    )
    assert first == again
    assert not any(spec in first for spec in other)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_every_level_of_the_space_is_valid(spatial_dims):
    space, like = SPACES[spatial_dims], named_spec("tiny", spatial_dims=spatial_dims)
    for stage in space.stages:
        for block, channels in itertools.product(stage.blocks, stage.channels):
            settings = space.settings[block]
            for chosen in itertools.product(*settings.values()):
                level = replace(
                    like.levels[0],
                    block=block,
                    channels=channels,
                    **dict(zip(settings, chosen, strict=True)),
                )
                replace(like, levels=(level,))
    specs = list(draw_specs(like, SIZES[spatial_dims], seed=0, count=300))
    assert len(specs) > 290
    blocks = {level.block for spec in specs for level in spec.levels}
    stages = space.stages[: count_levels(like, SIZES[spatial_dims])[-1]]
    assert blocks == {block for stage in stages for block in stage.blocks}
    for spec in specs:
        assert len(spec.levels) in count_levels(like, SIZES[spatial_dims])
        channels = [level.channels for level in spec.levels]
        assert channels == sorted(channels)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_networks_of_the_space_can_be_built_and_predicted(spatial_dims, tmp_path):
    like, size = named_spec("nano", spatial_dims=spatial_dims), SIZES[spatial_dims]
    table = DeviceTable(Setting(), folder=tmp_path, clock=Counting())
    fit = table.calibrate(like, size)
    anchors = list_anchors(like, size)
    assert list(anchors) == ["recipe", "tiny", "small", "smallest", "largest"]
    specs = [*anchors.values(), *draw_specs(like, size, seed=0, count=3)]
    table.measure(specs, size)
    times = [fit.predict(table.add_up(spec, size)) for spec in specs]
    assert min(times) > 0
    assert times[3] < times[0] < times[4]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_work_is_guessed_well_enough_to_leave_out_what_is_far_off(spatial_dims):
    like, size = named_spec("tiny", spatial_dims=spatial_dims), SIZES[spatial_dims]
    for spec in draw_specs(like, size, seed=0, count=4):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            create(spec).eval()(torch.zeros(1, 1, *size))
        assert 0.5 < guess_work(spec, size) / (counter.get_total_flops() / 2) < 1.5


def test_draws_keep_the_strides_and_the_supervision_of_the_recipe():
    like = replace(
        named_spec("tiny", in_channels=3, num_classes=5),
        stem_stride=2,
        deep_supervision=True,
        hidden={"levels.0.0": 16},
    )
    [spec] = draw_specs(like, (64, 64), seed=0, count=1)
    kept = ("in_channels", "num_classes", "stem_stride", "logit_stride", "deep_supervision")
    assert [getattr(spec, name) for name in kept] == [getattr(like, name) for name in kept]
    assert spec.hidden == {}
    assert list_anchors(like, (64, 64))["recipe"] == like


@pytest.mark.parametrize(
    ("spatial_dims", "stride", "block"),
    [
        (2, 4, "window"),
        (2, 2, "overlap"),
        (3, 4, "window"),
        (3, 2, "window"),
        (3, 2, "routed"),
        (2, 4, "linear"),
    ],
)
def test_the_graphs_that_are_timed_compute_what_the_network_does(spatial_dims, stride, block):
    spec, size = named_spec("nano", spatial_dims=spatial_dims), SIZES[spatial_dims]
    last = replace(spec.levels[-1], block=block, window=6)
    # At a stride of 2 maps are no whole windows, so that what fills them up must be hidden.
    spec = replace(spec, stem_stride=stride, levels=(*spec.levels[:-1], last))
    model, image = create(spec).eval(), torch.rand(1, 1, *size)
    graph = trace_block(model, tuple(image.shape))
    found = open_graph(graph, backend="openvino", precision="f32", threads=1).predict(image.numpy())
    with torch.no_grad():
        assert np.allclose(found, model(image).numpy(), atol=1e-4)
    rough = open_graph(
        quantize_uncalibrated(graph), backend="openvino", precision="int8", threads=1
    )
    assert rough.predict(image.numpy()).shape == found.shape
