"""Graphs in JAX's operations, StableHLO's files, and how products fill tiles."""

import functools
import json
import re

import jax
import numpy as np
import onnx
import pytest
from jax import export as jax_export
from onnx import TensorProto, helper, numpy_helper

from bedside.bundle import find_bundle, read_bundle, shipped_bundles
from bedside.errors import ExportError
from bedside.export.formats.format import Options
from bedside.export.formats.stablehlo import FILE, PROGRAM, TILES, make_converter
from bedside.export.jax_graph import make_function
from bedside.export.onnx import export_onnx
from bedside.export.programs import GraphProgram
from bedside.export.tiles import Product, TileReport, report_tiles
from bedside.models import create
from bedside.runtime import open_graph
from bedside.spec import LevelSpec, ModelSpec
from models_for_tests import INPUT_SHAPE, make_graph, make_noise
from tolerances import BF16_RTOL, F32_LOGIT_ATOL

# Windows are in the shipped networks; the other mechanisms need no further operation.
LEVELS = {"overlap": {"window": 4, "halo": 2}, "routed": {"region": 4, "top_k": 2}}
# A compiler that optimises takes seconds for each network.
QUICKLY = {"xla_backend_optimization_level": 0}
SHAPE_DEPENDS_ON_VALUES = re.compile(r"stablehlo\.\w*(?:gather|scatter|dynamic|case|while)\w*")


@functools.cache
def make_attention_graph(block):
    shape = (1, 1, 32, 32)
    levels = (
        LevelSpec("conv", channels=8, depth=1),
        LevelSpec(block, channels=16, depth=1, num_heads=2, head_dim=8, **LEVELS[block]),
    )
    spec = ModelSpec(
        architecture="hybrid",
        in_channels=1,
        num_classes=3,
        levels=levels,
        decoder_channels=8,
    )
    return export_onnx(create(spec).eval(), input_shape=shape), shape


def run_jax(content, image, *, precision="f32"):
    function = make_function(content, precision=precision)
    compiled = jax.jit(function).lower(image).compile(compiler_options=QUICKLY)
    return np.asarray(compiled(image))


@pytest.mark.parametrize("block", LEVELS)
def test_jax_computes_what_the_graph_computes(block):
    content, shape = make_attention_graph(block)
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    wanted = open_graph(content, precision="f32").predict(image)
    allowed = F32_LOGIT_ATOL * max(1, np.abs(wanted).max())
    np.testing.assert_allclose(run_jax(content, image), wanted, rtol=0, atol=allowed)


def test_bf16_rounds_the_factors_of_products_only():
    image = make_noise(seed=1)
    exact, rounded = (run_jax(make_graph(), image, precision=each) for each in ("f32", "bf16"))
    difference = np.abs(exact - rounded).max()
    assert 0 < difference < BF16_RTOL * np.abs(exact).max()


@pytest.mark.parametrize("name", [path.stem for path in shipped_bundles()])
def test_no_shipped_network_needs_a_gather_or_a_shape_that_depends_on_values(name):
    bundle = read_bundle(find_bundle(name))
    shape = (1, bundle.spec.input.channels, *bundle.spec.input.size_px)
    function = make_function(bundle.read_graph("f32"))
    text = jax.jit(function).lower(jax.ShapeDtypeStruct(shape, np.float32)).as_text()
    assert SHAPE_DEPENDS_ON_VALUES.search(text) is None
    assert "stablehlo.convolution" in text


def test_routed_attention_does_gather():
    content, shape = make_attention_graph("routed")
    text = jax.jit(make_function(content)).lower(np.zeros(shape, np.float32)).as_text()
    assert SHAPE_DEPENDS_ON_VALUES.search(text).group() == "stablehlo.gather"


def test_the_bytecode_is_what_was_run(tmp_path):
    converter = make_converter(Options())
    converter.convert(GraphProgram(make_graph()), tmp_path)
    program = jax_export.deserialize(bytearray((tmp_path / PROGRAM).read_bytes()))
    assert (tmp_path / FILE).read_bytes() == program.mlir_module_serialized
    assert program.platforms == ("tpu",)
    assert [each.shape for each in program.in_avals] == [INPUT_SHAPE]
    tiles = json.loads((tmp_path / TILES).read_text())
    assert tiles["tile"] == 128
    assert sum(product["mac"] for product in tiles["products"]) == tiles["mac"]


def test_an_operation_that_is_not_there_is_refused_by_name():
    with pytest.raises(ExportError, match="not converted to JAX: Erf, Sinh"):
        make_function(make_chain("Sinh", "Erf"))


@pytest.mark.parametrize(
    ("scales", "mode", "why"),
    [
        ((1, 1, 1.5, 2), {"nearest_mode": "floor"}, "a factor is 1.5"),
        ((1, 1, 2, 2), {"mode": "linear"}, "not upsampling by whole factors"),
    ],
)
def test_upsampling_that_is_not_ours_is_refused(scales, mode, why):
    node = helper.make_node(
        "Resize",
        ["image", "", "scales"],
        ["logits"],
        coordinate_transformation_mode="asymmetric",
        **mode,
    )
    content = make_model([node], scales=np.array(scales, np.float32))
    with pytest.raises(ExportError, match=f'"Resize" is not converted to JAX: .*{why}'):
        jax.eval_shape(make_function(content), np.zeros((1, 1, 4, 4), np.float32))


@pytest.mark.parametrize("mode", ["CRD", "DCR"])
def test_cells_are_spread_as_onnx_says(mode):
    node = helper.make_node("DepthToSpace", ["image"], ["logits"], blocksize=2, mode=mode)
    content = make_model([node], shape=(1, 12, 2, 3))
    image = np.arange(72, dtype=np.float32).reshape(1, 12, 2, 3)
    wanted = onnx.reference.ReferenceEvaluator(onnx.load_from_string(content))
    (spread,) = wanted.run(None, {"image": image})
    np.testing.assert_array_equal(make_function(content)(image), spread)


def make_chain(*operations):
    names = ["image", *(f"v{index}" for index in range(len(operations) - 1)), "logits"]
    return make_model(
        [
            helper.make_node(operation, [names[index]], [names[index + 1]])
            for index, operation in enumerate(operations)
        ]
    )


def make_model(nodes, *, shape=(1, 1, 4, 4), **constants):
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def test_a_product_of_full_tiles_fills_them():
    assert Product("matmul", 1, 300, 128, 256).fill == 1
    # One of the two factors is held; with 16 rows, 256 columns fill twice 16/128.
    assert Product("matmul", 1, 64, 16, 256).fill == pytest.approx(16 / 128)
    assert Product("matmul", 1, 64, 129, 128).fill == pytest.approx(129 / 256)


def test_fill_of_a_network_is_weighed_by_the_time_that_padding_takes():
    full, half = Product("conv", 1, 10, 128, 128), Product("conv", 1, 10, 64, 128)
    assert half.fill == 0.5
    assert TileReport((full, half)).fill == pytest.approx(1.5 / 2)


def test_products_of_a_function_are_found():
    weight = np.zeros((6, 2, 3, 3), np.float32)
    dimension = ("NCHW", "OIHW", "NCHW")

    def function(image):
        grouped = jax.lax.conv_general_dilated(
            image, weight, (1, 1), "SAME", dimension_numbers=dimension, feature_group_count=2
        )
        return grouped.reshape(6, 20) @ np.zeros((20, 7), np.float32)

    report = report_tiles(function, (1, 4, 4, 5))
    assert report.products == (
        Product("conv", 2, 20, 18, 3),
        Product("matmul", 1, 6, 20, 7),
    )
    assert report.mac == 2 * 20 * 18 * 3 + 6 * 20 * 7
