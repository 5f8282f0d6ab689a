import json

import onnx
import openvino as ov
import pytest
from export_fixtures import make_bundle

from bedside.build import build_untrained
from bedside.bundle import find_bundle, read_bundle
from bedside.export.bundle import ValidationData, export_bundle
from bedside.export.formats.format import Options
from bedside.export.metadata import metadata_of, with_metadata
from bedside.runtime import open_graph
from models_for_tests import INPUT_SHAPE, make_graph, make_noise
from runs_for_tests import make_recipe


def read_metadata(graph):
    return {entry.key: entry.value for entry in onnx.load_from_string(graph).metadata_props}


def test_a_graph_names_its_tensors_their_layout_and_its_labels():
    spec = make_bundle().spec
    found = read_metadata(with_metadata(make_graph(), spec))
    assert found == metadata_of(spec)
    assert (found["input_name"], found["output_name"]) == ("image", "logits")
    assert (found["input_layout"], found["output_layout"]) == ("NCHW", "NCHW")
    assert json.loads(found["input_size_px"]) == list(INPUT_SHAPE[2:])
    assert int(found["input_channels"]) == INPUT_SHAPE[1]
    assert int(found["logit_stride"]) == spec.model.logit_stride
    assert json.loads(found["labels"]) == [
        {"value": label.value, "name": label.name} for label in spec.labels
    ]


def test_a_network_of_three_axes_has_its_depth_before_its_height():
    found = metadata_of(read_bundle(find_bundle("hippocampus")).spec)
    assert found["input_layout"] == "NCDHW"
    assert json.loads(found["input_size_px"]) == [40, 56, 40]


def test_metadata_change_no_logit_and_are_written_once():
    spec = make_bundle().spec
    described = with_metadata(make_graph(), spec)
    assert with_metadata(described, spec) == described
    one, other = (open_graph(graph).predict(make_noise()) for graph in (make_graph(), described))
    assert (one == other).all()


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_an_exported_graph_holds_them_in_onnx_and_in_openvino(tmp_path, precision):
    bundle = make_bundle(int8=True)
    wanted = metadata_of(bundle.spec)
    how = {"options": Options(precision), "validation": ValidationData(max_drop=0.5)}
    export_bundle(bundle, tmp_path / "onnx", to="onnx", **how)
    assert read_metadata((tmp_path / "onnx" / "model.onnx").read_bytes()) == wanted
    export_bundle(bundle, tmp_path / "ov", to="openvino", **how)
    model = ov.Core().read_model(tmp_path / "ov" / "model.xml")
    assert {key: model.get_rt_info(["framework", key]).value for key in wanted} == wanted


def test_a_new_bundle_holds_them(tmp_path):
    bundle = read_bundle(build_untrained(make_recipe(tmp_path), tmp_path / "new.bedside"))
    assert read_metadata(bundle.read_graph("f32")) == metadata_of(bundle.spec)
