"""A graph against the profile of a chip: what falls back, and what is rewritten exactly."""

import json

import numpy as np
import onnx
import pytest
from export_fixtures import make_bundle
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bedside.chips import Limits, Operation, find_chip, list_chips, read_chip
from bedside.cli.main import main
from bedside.errors import ExportError, SpecError, UsageError
from bedside.export import chip as chip_module
from bedside.export.bundle import ValidationData, export_bundle
from bedside.export.chip import check_bundle, prepare_graph
from bedside.export.chip_check import check_graph, list_misaligned
from bedside.export.formats.format import Options
from bedside.export.formats.table import find_format
from bedside.graphs.exact_rewrites import REWRITERS, list_swaps, rewrite_nodes
from models_for_tests import make_graph

CHIPS = sorted(list_chips())


def make_model(nodes, *, shape, outputs=("out",), constants=None):
    tensors = [numpy_helper.from_array(np.array(v), n) for n, v in (constants or {}).items()]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def make_chip(**changes):
    """A chip that has the operations named, with their limits, and no others."""
    return _replace(find_chip("rk3588"), max_opset=None, **changes)


def _replace(chip, **changes):
    import dataclasses

    return dataclasses.replace(chip, **changes)


def run(model, shape):
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    return ReferenceEvaluator(model).run(None, {"image": image})


@pytest.mark.parametrize("name", CHIPS)
def test_every_profile_says_where_it_is_from_and_what_is_unknown(name):
    chip = find_chip(name)
    assert chip.unknown
    assert chip.command
    assert all(each.where.startswith("https://") and each.version for each in chip.sources.values())
    for to in chip.formats:
        assert find_format(to).name == to


def test_a_profile_without_the_source_of_a_fact_is_refused(tmp_path):
    text = (list_chips.__globals__["_FOLDER"] / "rk3588.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('facts_source = "matmul"', 'facts_source = "hearsay"'))
    with pytest.raises(SpecError, match="no source 'hearsay'"):
        read_chip(path)
    path.write_text(text)
    assert read_chip(path).name == "mine"


NODES = {
    "DepthToSpace CRD": (
        [helper.make_node("DepthToSpace", ["image"], ["out"], blocksize=2, mode="CRD")],
        (1, 12, 3, 5),
    ),
    "DepthToSpace DCR": (
        [helper.make_node("DepthToSpace", ["image"], ["out"], blocksize=2, mode="DCR")],
        (1, 12, 3, 5),
    ),
    "Softmax": ([helper.make_node("Softmax", ["image"], ["out"], axis=-1)], (4, 3, 5)),
    "Transpose": (
        [helper.make_node("Transpose", ["image"], ["out"], perm=[0, 2, 4, 1, 3, 5])],
        (1, 2, 3, 4, 5, 6),
    ),
    "Unsqueeze": ([helper.make_node("Unsqueeze", ["image", "axis"], ["out"])], (3, 5)),
    "Split": (
        [
            helper.make_node("Split", ["image", "parts"], ["a", "b"], axis=-1),
            helper.make_node("Concat", ["b", "a"], ["out"], axis=-1),
        ],
        (2, 7),
    ),
}


@pytest.mark.parametrize("name", NODES)
def test_a_rewritten_operation_gives_the_very_same_values(name):
    nodes, shape = NODES[name]
    model = make_model(nodes, shape=shape, constants={"axis": [1], "parts": [3, 4]})
    before = run(model, shape)
    operation = nodes[0].op_type
    (rewriter,) = REWRITERS[operation]
    assert rewrite_nodes(model, [nodes[0].output[0]], rewriter) == 1
    assert operation == "Softmax" or "Transpose" in name or nodes[0] not in model.graph.node
    np.testing.assert_array_equal(run(model, shape)[0], before[0])
    if operation == "Transpose":
        orders = [n.attribute[0].ints for n in model.graph.node if n.op_type == "Transpose"]
        assert {len(order) for order in orders} == {4}


def test_swaps_of_neighbours_make_up_any_transpose():
    draws = np.random.default_rng(0)
    for _ in range(200):
        shape = tuple(int(size) for size in draws.integers(1, 4, draws.integers(2, 8)))
        order = [int(axis) for axis in draws.permutation(len(shape))]
        before = np.arange(np.prod(shape)).reshape(shape)
        moved = before
        for sizes, swap in list_swaps(shape, order):
            moved = moved.reshape(sizes).transpose(swap)
        wanted = before.transpose(order)
        np.testing.assert_array_equal(moved.reshape(wanted.shape), wanted)


@pytest.mark.parametrize(
    ("limits", "node", "shape", "reason"),
    [
        (Limits(max_stride=1), "conv", (1, 2, 8, 8), "stride 2; at most 1"),
        (Limits(spatial_dims=(3,)), "conv", (1, 2, 8, 8), "convolves over 2 axes; 3 are there"),
        (Limits(constant=(1,)), "matmul", (1, 4, 4), "input 1 is computed"),
        (Limits(max_rank=3), "softmax", (1, 2, 3, 4), "4 axes, 1 x 2 x 3 x 4; at most 3"),
        (Limits(max_batch=1), "softmax", (2, 3), "2 images in a batch"),
        (Limits(max_rows=5), "softmax", (2, 3, 4), "6 rows"),
        (Limits(modes=("linear",)), "resize", (1, 1, 4, 4), "mode nearest; one of linear"),
        (Limits(factors=(2,)), "resize", (1, 1, 4, 4), "factor 3; one of 2"),
        (Limits(max_reduced=3), "mean", (1, 4), "reduces 4 values; at most 3"),
        (Limits(types=("int8",)), "quantize", (1, 4), "quantized to uint8; int8 is there"),
        (Limits(zero_point=True), "quantize", (1, 4), "a zero point is not 0"),
    ],
)
def test_each_limit_is_found_and_named(limits, node, shape, reason):
    nodes = {
        "conv": helper.make_node("Conv", ["image", "head.weight"], ["out"], strides=[2, 2]),
        "matmul": helper.make_node("MatMul", ["image", "image"], ["out"]),
        "softmax": helper.make_node("Softmax", ["image"], ["out"]),
        "resize": helper.make_node("Resize", ["image", "", "scales"], ["out"], mode="nearest"),
        "mean": helper.make_node("ReduceMean", ["image", "axes"], ["out"]),
        "quantize": helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["out"]),
    }
    constants = {
        "head.weight": np.ones((3, 2, 1, 1), np.float32),
        "scales": np.float32([1, 1, 3, 3]),
        "axes": np.int64([1]),
        "scale": np.float32(0.1),
        "zero": np.uint8(3),
    }
    model = make_model([nodes[node]], shape=shape, constants=constants)
    operation = nodes[node].op_type
    free = make_chip(operations={operation: Operation()})
    assert check_graph(model, free) == ()
    (finding,) = check_graph(model, make_chip(operations={operation: Operation(limits=limits)}))
    assert finding.status == "falls back"
    assert reason in finding.reason
    assert finding.node == ("head" if node == "conv" else "out")


def test_an_operation_that_no_list_has_falls_back_or_is_unknown():
    model = make_model([helper.make_node("Det", ["image"], ["out"])], shape=(2, 2))
    (listed,), (unlisted,) = (
        check_graph(model, make_chip(operations={}, complete=complete))
        for complete in (True, False)
    )
    assert (listed.status, unlisted.status) == ("falls back", "unknown")
    assert "2.1.0" in listed.reason


def test_what_depends_on_weights_only_is_no_matter_of_the_chip():
    cast = helper.make_node("Cast", ["half"], ["whole"], to=TensorProto.FLOAT)
    add = helper.make_node("Add", ["image", "whole"], ["out"])
    model = make_model([cast, add], shape=(1,), constants={"half": np.float16([1])})
    assert check_graph(model, make_chip(operations={"Add": Operation()})) == ()


def test_channels_that_do_not_fill_a_unit_are_listed():
    node = helper.make_node("Conv", ["image", "head.weight"], ["out"])
    weight = np.ones((24, 1, 1, 1), np.float32)
    model = make_model([node], shape=(1, 1, 4, 4), constants={"head.weight": weight})
    assert list_misaligned(model, 8) == list_misaligned(model, None) == ()
    (found,) = list_misaligned(model, 16)
    assert (found.node, found.channels, found.filled) == ("head", 24, 0.75)


def test_an_export_for_a_chip_is_rewritten_certified_and_described(tmp_path):
    bundle, chip = make_bundle(), find_chip("rk3588")
    report = check_bundle(bundle, chip, to="onnx", precision="f32")
    assert report.falls_back == ()
    certificate = export_bundle(
        bundle,
        tmp_path / "out",
        to="onnx",
        options=Options(),
        validation=ValidationData(most=2),
        chip=report,
    )
    assert certificate.passed
    assert "chip.json" in certificate.files
    written = json.loads((tmp_path / "out" / "chip.json").read_text())
    assert written["chip"]["name"] == "rk3588"
    assert written["chip"]["sources"]["operators"]["version"] == "2.1.0"
    model = onnx.load(tmp_path / "out" / "model.onnx")
    assert model.opset_import[0].version == 19
    assert {entry.key for entry in model.metadata_props} >= {"name", "labels"}
    assert check_graph(model, chip) == ()


def test_a_rewrite_that_is_not_exact_is_refused(monkeypatch):
    def swap(node, values):
        (right,) = REWRITERS["DepthToSpace"]
        made = right(node, values)
        weight = values.added[-1]
        wrong = numpy_helper.to_array(weight)[::-1]
        weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(wrong), weight.name))
        return made

    graph = make_graph()
    lacking = {n.op_type: Operation() for n in onnx.load_from_string(graph).graph.node}
    shuffle = lacking.pop("DepthToSpace", None)
    if shuffle is None:
        pytest.fail("the small network upsamples its logits otherwise; choose another operation")
    chip = make_chip(operations={**lacking, "ConvTranspose": Operation()})
    assert prepare_graph(graph, chip, precision="f32")[1].after == ()
    monkeypatch.setattr(chip_module, "REWRITERS", {"DepthToSpace": (swap,)})
    with pytest.raises(ExportError, match=r"differs by .* Nothing was written"):
        prepare_graph(graph, chip, precision="f32")


@pytest.mark.parametrize("name", CHIPS)
def test_what_a_report_finds_is_found_in_the_graph_that_is_exported(name):
    graph, report = prepare_graph(make_graph(), find_chip(name), precision="f32")
    assert report.before == check_graph(onnx.load_from_string(make_graph()), report.chip)
    assert report.after == check_graph(onnx.load_from_string(graph), report.chip)


def test_what_a_compiler_does_not_read_is_refused_and_nothing_is_written(tmp_path, capsys):
    with pytest.raises(UsageError, match="reads litert or vela in int8, not onnx in f32"):
        check_bundle(make_bundle(), find_chip("ethos-u55"), to="onnx", precision="f32")
    out = str(tmp_path / "out")
    assert main(["export", "camus-4ch", "--chip", "abacus", "-o", out]) == UsageError.exit_code
    assert 'no chip "abacus"; choose one of coreml' in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_the_command_lists_chips_and_checks_a_bundle(capsys):
    assert main(["chips"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in CHIPS)
    assert main(["chips", "hailo-8"]) == 0
    assert "unknown: alignment of channels" in capsys.readouterr().out
    assert main(["chips", "rk3588", "--bundle", "camus-4ch", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["after"] == []
    assert report["difference"] == 0
    assert [each["operation"] for each in report["rewrites"]] == ["Softmax", "opset 20"]
