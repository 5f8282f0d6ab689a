"""A shipped bundle as a Core ML package; it is read here, and run on macOS only."""

import json
from importlib.util import find_spec

import onnx
import pytest

from bedside.bundle import find_bundle, read_bundle
from bedside.cli.main import main
from bedside.errors import BackendError
from bedside.export.formats.table import find_format
from bedside.system.quiet import quiet

COREML = find_format("coreml")


def test_the_default_network_becomes_a_package_of_its_shapes_and_convolutions(tmp_path):
    if find_spec("coremltools") is None:
        pytest.skip(f"NOT TESTED: coreml is not installed: {COREML.install}")
    out = tmp_path / "out"
    assert main(["export", "camus-4ch", "--chip", "coreml", "-o", str(out)]) == 0
    with quiet():
        from coremltools.models.utils import load_spec
    described = load_spec(str(out / "model.mlpackage"))
    (taken,), (given,) = described.description.input, described.description.output
    assert (taken.name, list(taken.type.multiArrayType.shape)) == ("image", [1, 1, 256, 256])
    assert given.name == "logits"
    (function,) = described.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    kinds = [operation.type for operation in block.operations]
    graph = read_bundle(find_bundle("camus-4ch")).read_graph("f32")
    assert kinds.count("conv") == count_convolutions(graph)
    assert json.loads((out / "chip.json").read_text())["after"] == []
    certificate = json.loads((out / "certificate.json").read_text())
    # Off macOS nothing is known of what it computes, and the certificate says so.
    assert certificate["passed"] is (True if certificate["ran_in"] else None)


def test_without_coremltools_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("bedside.export.formats.format.find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r'Install it with: pip install "coremltools>=9\.0"'):
        COREML.check(spatial_dims=2, precision="f32")


def count_convolutions(graph):
    return sum(node.op_type == "Conv" for node in onnx.load_from_string(graph).graph.node)
