"""Every architecture x every mechanism x 2D and 3D: one matrix over the tables."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch

from bedside.bundle.graph_guard import check_graph
from bedside.errors import SpecError
from bedside.export.onnx import trace_onnx
from bedside.export.parity import check_parity
from bedside.layers.attention import MECHANISMS
from bedside.models import ARCHITECTURES, NAMES, count_parameters, create, named_spec
from bedside.spec import LevelSpec, ModelSpec
from bedside.spec.named import CONV
from tolerances import F32_LOGIT_ATOL

BLOCKS = ("conv", "reparam", *MECHANISMS)
SIZES = {2: ((64, 64), (32, 96), (57, 70)), 3: ((32, 32, 32), (33, 40, 26))}
GRID = [
    pytest.param(name, block, spatial_dims, id=f"{name}-{block}-{spatial_dims}d")
    for name in ARCHITECTURES
    for block in BLOCKS
    for spatial_dims in SIZES
]


def make_spec(name, block, spatial_dims, **changes):
    level = LevelSpec(
        block, channels=16, depth=2, num_heads=2, head_dim=8, window=4, halo=2, region=4,
        top_k=2, grid=3,
    )  # fmt: skip
    first = LevelSpec("conv", channels=8, depth=1)
    return ModelSpec(
        architecture=name, in_channels=2, num_classes=3, levels=(first, level),
        stem_channels=8, decoder_channels=8, spatial_dims=spatial_dims, stem_stride=2, **changes,
    )  # fmt: skip


def make_model(spec, size):
    """A model whose batch norms have seen data, so that its logits have some size."""
    torch.manual_seed(0)
    model = create(spec).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(2, spec.in_channels, *size))
    return model.eval()


@pytest.mark.parametrize(("name", "block", "spatial_dims"), GRID)
def test_every_model_takes_any_size(name, block, spatial_dims):
    spec = make_spec(name, block, spatial_dims)
    model = create(spec).eval()
    for size in SIZES[spatial_dims]:
        with torch.no_grad():
            logits = model(torch.rand(2, 2, *size))
        assert logits.shape == (2, 3, *(-(-length // 2) for length in size))
        assert torch.isfinite(logits).all()


@pytest.mark.parametrize(("name", "block", "spatial_dims"), GRID)
def test_every_weight_of_every_model_learns(name, block, spatial_dims):
    torch.manual_seed(0)
    model = create(make_spec(name, block, spatial_dims, deep_supervision=True, boundary=True))
    outputs = model.supervise(torch.rand(2, 2, *SIZES[spatial_dims][0]))
    parts = (outputs.logits, *outputs.auxiliary, outputs.boundary)
    sum(part.square().mean() for part in parts).backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert not still


@pytest.mark.parametrize(("name", "block", "spatial_dims"), GRID)
def test_every_model_is_rebuilt_from_its_spec_by_a_strict_load(name, block, spatial_dims):
    spec = dataclasses.replace(make_spec(name, block, spatial_dims), deep_supervision=True)
    model = make_model(spec, SIZES[spatial_dims][0])
    rebuilt = create(spec).eval()
    rebuilt.load_state_dict(model.state_dict(), strict=True)
    x = torch.rand(1, 2, *SIZES[spatial_dims][0])
    with torch.no_grad():
        assert torch.equal(model(x), rebuilt(x))


@pytest.mark.parametrize(("name", "block", "spatial_dims"), GRID)
def test_every_model_exports_at_an_odd_size_and_does_the_same(name, block, spatial_dims):
    """The odd size takes the longer way: padding, hidden keys, cropping."""
    size = SIZES[spatial_dims][-1]
    spec = make_spec(name, block, spatial_dims, boundary=True)
    # One level holds all that differs between mechanisms, and exports in half the time.
    spec = dataclasses.replace(spec, levels=(dataclasses.replace(spec.levels[1], depth=1),))
    model = make_model(spec, size)
    x = np.random.default_rng(0).random((1, 2, *size), dtype=np.float32)
    graph = trace_onnx(model, torch.from_numpy(x)).SerializeToString()
    check_parity(graph, model, inputs=[x], tolerance=F32_LOGIT_ATOL)
    signature = check_graph(graph, where="the graph")
    assert len(signature.outputs) == 1
    names = {tensor.name for tensor in onnx.load_from_string(graph).graph.initializer}
    assert not [name for name in names if name.startswith("boundary")]


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(("stem", "stride"), [(4, 1), (4, 2), (4, 4), (2, 1), (1, 1)])
def test_logits_come_at_the_stride_that_is_asked_for(spatial_dims, stem, stride):
    spec = dataclasses.replace(
        make_spec("hybrid", "window", spatial_dims), stem_stride=stem, logit_stride=stride
    )
    size = (24, 20, 16)[:spatial_dims]
    with torch.no_grad():
        logits = create(spec).eval()(torch.rand(1, 2, *size))
    assert logits.shape[2:] == tuple(length // stride for length in size)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_supervision_adds_to_training_and_nothing_to_inference(spatial_dims):
    plain = make_spec("hybrid", "window", spatial_dims)
    full = dataclasses.replace(plain, deep_supervision=True, boundary=True)
    size = SIZES[spatial_dims][-1]
    model = make_model(full, size)
    x = torch.rand(1, 2, *size)
    with torch.no_grad():
        outputs, logits = model.supervise(x), model(x)
    assert torch.equal(outputs.logits, logits)
    assert [part.shape[1] for part in outputs.auxiliary] == [3]
    assert outputs.auxiliary[0].shape[2:] == tuple(-(-length // 4) for length in size)
    assert outputs.boundary.shape == (1, 1, *logits.shape[2:])
    assert [feature.shape[1] for feature in outputs.features] == [8, 16]
    bare = create(plain).eval()
    missing = bare.load_state_dict(model.state_dict(), strict=False)
    assert not missing.missing_keys
    with torch.no_grad():
        assert torch.equal(bare(x), logits)
        assert not bare.supervise(x).auxiliary
        assert bare.supervise(x).boundary is None


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_padding_does_not_leak_into_what_is_seen(spatial_dims):
    """The same network on an image and on one with a border beyond: logits far inside agree.

    Windows start at the same corner, and what padding adds is hidden, so that the only
    difference is the border itself, which convolutions see a few tokens deep.
    """
    spec = make_spec("hybrid", "window", spatial_dims)
    spec = dataclasses.replace(
        spec, levels=(spec.levels[0], dataclasses.replace(spec.levels[1], exchange=False, depth=1))
    )
    size = (80, 80, 32)[:spatial_dims]
    model = make_model(spec, size)
    x = torch.rand(1, 2, *size)
    smaller = x[:, :, :70, :74]
    with torch.no_grad():
        inside = (slice(None), slice(None), slice(0, 16), slice(0, 16))
        difference = (model(x)[inside] - model(smaller)[inside]).abs().max()
    assert difference < F32_LOGIT_ATOL


def test_a_run_of_the_first_release_loads_strictly():
    """Names and shapes of the shipped network's weights, as they were when it was trained."""
    levels = (
        LevelSpec("conv", 32, 1),
        LevelSpec("window", 64, 1, num_heads=2),
        LevelSpec("window", 112, 3, num_heads=4),
    )
    model = create(ModelSpec("hybrid", 1, 4, levels))
    assert count_parameters(model) == 345_616
    names = set(model.state_dict())
    assert len(names) == 218
    for name in (
        "stem.0.0.weight", "levels.0.0.spatial.0.weight",
        "levels.1.0.attention.project_in.0.weight",
        "levels.2.2.attention.project_out.1.running_var", "levels.2.1.expand.0.weight",
        "downs.1.0.weight", "laterals.2.1.bias", "fusions.0.project.0.weight", "head.bias",
    ):  # fmt: skip
        assert name in names


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_named_models_have_the_size_that_their_name_stands_for(spatial_dims):
    wanted = {"nano": 0.15e6, "tiny": 0.4e6, "small": 1.5e6, "base": 6e6}
    counts = {}
    for name in NAMES:
        with torch.device("meta"):
            counts[name] = count_parameters(
                create(named_spec(name, spatial_dims=spatial_dims, num_classes=4))
            )
    mixed = [count for name, count in counts.items() if not name.endswith(CONV)]
    assert mixed == sorted(mixed)
    for name, count in wanted.items():
        assert abs(counts[name] / count - 1) < 0.15
    assert counts["teacher"] >= 20e6


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(CONV)])
def test_networks_of_convolutions_differ_from_those_with_attention_in_blocks(name, spatial_dims):
    spec = named_spec(name, spatial_dims=spatial_dims)
    mixed = named_spec(name.removesuffix(CONV), spatial_dims=spatial_dims)
    assert {level.block for level in spec.levels} == {"conv"}
    assert [level.channels for level in spec.levels] == [level.channels for level in mixed.levels]
    assert dataclasses.replace(spec, levels=mixed.levels) == mixed
    # A block of convolutions is cheaper: in the same time there are more of them.
    assert sum(level.depth for level in spec.levels) > sum(level.depth for level in mixed.levels)
    with torch.device("meta"):
        counts = [count_parameters(create(each)) for each in (spec, mixed)]
    assert 1 < counts[0] / counts[1] < 1.35


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", ["nano", "tiny", "tiny-conv", "small"])
def test_named_models_run(name, spatial_dims):
    spec = named_spec(name, spatial_dims=spatial_dims, in_channels=3, num_classes=5)
    size = (50, 47, 33)[:spatial_dims]
    with torch.no_grad():
        logits = create(spec).eval()(torch.rand(1, 3, *size))
    assert logits.shape == (1, 5, *(-(-length // 2) for length in size))


def test_an_unknown_architecture_names_the_known_ones():
    with pytest.raises(SpecError, match="hybrid"):
        create(ModelSpec("hybird", 1, 2, levels=()))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("block", ["conv", "reparam", "pooled", "linear", "dense"])
def test_an_exchange_can_be_switched_on_where_there_are_no_windows(block, spatial_dims):
    size = SIZES[spatial_dims][-1]
    spec = dataclasses.replace(make_spec("hybrid", block, spatial_dims), in_channels=4)
    level = dataclasses.replace(spec.levels[1], depth=1, exchange_window=4)
    model = make_model(dataclasses.replace(spec, levels=(level,)), size)
    x = np.random.default_rng(0).random((1, 4, *size), dtype=np.float32)
    graph = trace_onnx(model, torch.from_numpy(x)).SerializeToString()
    check_parity(graph, model, inputs=[x], tolerance=F32_LOGIT_ATOL)
    check_graph(graph, where="the graph")
    model.train()(torch.from_numpy(x)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() for p in model.parameters())


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_level_that_shares_weights_exports_with_every_norm_folded_into_a_copy(spatial_dims):
    spec = make_spec("hybrid", "window", spatial_dims)
    level = dataclasses.replace(spec.levels[1], depth=2, shared="both")
    model = make_model(dataclasses.replace(spec, levels=(level,)), SIZES[spatial_dims][-1])
    x = np.random.default_rng(0).random((1, 2, *SIZES[spatial_dims][-1]), dtype=np.float32)
    graph = trace_onnx(model, torch.from_numpy(x)).SerializeToString()
    check_parity(graph, model, inputs=[x], tolerance=F32_LOGIT_ATOL)
