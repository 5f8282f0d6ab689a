import dataclasses
import json

import numpy as np
import onnx
import pytest
from export_fixtures import make_bundle, make_material, make_quantized, noise
from onnx import numpy_helper

from bedside.errors import ExportError, UsageError
from bedside.export.certificate import Bound, bound_of
from bedside.export.certified import export_certified
from bedside.export.error_localization import find_faulty_layer
from bedside.export.formats.format import Options
from bedside.export.formats.table import find_format
from bedside.export.mixed import leave_in_f32
from bedside.export.programs import GraphProgram
from bedside.graphs.constant_folding import fold_constants
from bedside.runtime import execution_modes, open_graph
from models_for_tests import make_graph
from processors_for_tests import NEEDS_INT8

FAULTY = "levels.1.0.expand.0"
OPENVINO = find_format("openvino")
# A network with random weights draws ragged masks, which rounding to 8 bits frays.
RAGGED = Bound(0.1)


def converter(precision="f32", *, spoil=lambda program: program):
    """OpenVINO's converter, which first does to a program what a fault would do."""
    real = OPENVINO.make_converter(Options(precision))
    return dataclasses.replace(
        real, convert=lambda program, folder: real.convert(spoil(program), folder)
    )


def scale_weights(program, layer, factor):
    """What a batch norm folded with wrong statistics does to the weights of a layer."""
    if layer not in program.layers:
        return program
    model = onnx.load_from_string(program.content)
    for node in model.graph.node:
        if node.op_type == "Conv" and node.output[0] == program.layers[layer]:
            values = fold_constants(program.content, [node.input[1]])[node.input[1]] * factor
            node.input[1] = "spoiled"
            model.graph.initializer.append(
                numpy_helper.from_array(values.astype(np.float32), "spoiled")
            )
    return GraphProgram(model.SerializeToString())


def scale_image(program):
    """What forgetting to divide by the largest value does."""
    model = onnx.load_from_string(program.content)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(3.0), "factor"))
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == "image":
                node.input[place] = "scaled"
    first = onnx.helper.make_node("Mul", ["image", "factor"], ["scaled"])
    model.graph.node.insert(0, first)
    return GraphProgram(model.SerializeToString())


def clip_range(quantized, layer, factor=0.1):
    """Make the range that a layer's input is rounded in too narrow."""
    plain = GraphProgram(make_graph())
    model = onnx.load_from_string(quantized)
    makers = {name: node for node in model.graph.node for name in node.output}
    conv = makers[plain.layers[layer]]
    pair = [makers[conv.input[0]], makers[makers[conv.input[0]].input[0]]]
    scale = fold_constants(quantized, [pair[0].input[1]])[pair[0].input[1]]
    model.graph.initializer.append(
        numpy_helper.from_array((scale * factor).astype(np.float32), "narrow")
    )
    for node in pair:
        node.input[1] = "narrow"
    return model.SerializeToString()


def test_a_sound_export_is_written_with_all_that_is_needed_to_use_it(tmp_path):
    certificate = export_certified(make_material(), OPENVINO, converter(), tmp_path / "out")
    assert certificate.passed
    assert certificate.comparison.worst_logit_part < 1e-3
    assert certificate.comparison.cases == 2
    assert not certificate.comparison.with_truth
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "model.xml", "model.bin", "spec.json", "card.json", "certificate.json", "LICENSE.txt",
        "golden", "sample",
    }  # fmt: skip
    golden = json.loads((tmp_path / "out" / "golden" / "golden.json").read_text())
    assert golden["bundle"]["sha256"] == make_bundle().sha256
    tensor = np.fromfile(tmp_path / "out" / "golden" / "tensor.raw", np.float32)
    logits = np.fromfile(tmp_path / "out" / "golden" / "logits.raw", np.float32)
    session = converter().open(tmp_path / "out")
    given = session.predict(tensor.reshape(1, 1, 64, 64))
    np.testing.assert_allclose(given.ravel(), logits, rtol=0, atol=1e-3 * abs(logits).max())
    assert "find_package(OpenVINO" in (tmp_path / "out" / "sample" / "CMakeLists.txt").read_text()

    told = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert told["passed"] is True
    assert told["bundle"]["sha256"] == make_bundle().sha256
    assert set(told["files"]) == {"model.xml", "model.bin"}
    spec = json.loads((tmp_path / "out" / "spec.json").read_text())
    assert spec["input"]["shape"] == [1, 1, 64, 64]
    assert spec["output"]["shape"] == [1, 3, 32, 32]
    assert next(step["step"] for step in spec["deployment"]["preprocess"]) == "grey"


def test_an_export_takes_the_place_of_an_earlier_one_and_of_nothing_else(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="is no export"):
        export_certified(make_material(), OPENVINO, converter(), output)
    (output / "certificate.json").write_text("{}")
    export_certified(make_material(), OPENVINO, converter(), output)
    assert not (output / "thesis.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("spoil", "layer"),
    [
        (lambda program: scale_weights(program, FAULTY, 2.0), FAULTY),
        (scale_image, "stem.0.0"),
    ],
    ids=["statistics of a batch norm", "scale of the image"],
)
def test_a_wrong_normalisation_is_refused_and_its_layer_named(tmp_path, spoil, layer):
    with pytest.raises(ExportError, match=f'diverges at "{layer}"') as caught:
        export_certified(
            make_material(), OPENVINO, converter(spoil=spoil), tmp_path / "made" / "out"
        )
    assert "is not written" in str(caught.value)
    assert not (tmp_path / "made").exists()


@NEEDS_INT8
def test_eight_bits_stay_within_their_bound(tmp_path):
    material = make_material("int8", bound=RAGGED, quantized=make_quantized())
    certificate = export_certified(material, OPENVINO, converter("int8"), tmp_path / "out")
    assert certificate.layers_in_f32 == ()
    assert certificate.comparison.worst_logit_part > 0.01


@NEEDS_INT8
def test_a_clipped_range_that_nothing_corrects_is_refused_and_its_layer_named(tmp_path):
    clipped = clip_range(make_quantized(), FAULTY)
    material = make_material("int8", bound=Bound(-1.0), quantized=clipped)
    with pytest.raises(ExportError, match=f"Leaving {FAULTY}, .* in f32 did not correct it"):
        export_certified(material, OPENVINO, converter("int8"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["openvino", "onnx"])
@pytest.mark.parametrize("saturates", [True, False])
def test_a_refused_8_bit_export_says_where_sums_saturate(tmp_path, monkeypatch, name, saturates):
    monkeypatch.setattr(execution_modes, "has_int8_products", lambda: not saturates)
    material = make_material(
        "int8", bound=Bound(-1.0), quantized=make_quantized(), repairable=False
    )
    target = find_format(name)
    with pytest.raises(ExportError, match="is not written") as caught:
        export_certified(material, target, target.make_converter(Options("int8")), tmp_path / "out")
    assert ("sums of products of 8 bits saturate" in str(caught.value)) == saturates


@NEEDS_INT8
def test_a_clipped_range_is_corrected_by_leaving_its_layer_in_f32_and_said(tmp_path):
    material = make_material("int8", bound=RAGGED, quantized=clip_range(make_quantized(), FAULTY))
    certificate = export_certified(material, OPENVINO, converter("int8"), tmp_path / "out")
    assert certificate.layers_in_f32 == (FAULTY,)
    first = certificate.attempts[0]
    assert first.faulty_layer.layer == FAULTY
    assert "loses" in first.fault
    told = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert told["attempts"][1]["layers_in_f32"] == [FAULTY]
    assert any(FAULTY in line for line in certificate.lines())


def test_a_layer_left_in_f32_is_rounded_no_more():
    plain = GraphProgram(make_graph())
    last = list(plain.layers)[-1]
    quantized = GraphProgram(make_quantized(), names=plain.names)
    everything = leave_in_f32(make_quantized(), plain, list(plain.layers))
    tensor = noise()
    wanted = open_graph(plain.content).predict(tensor)
    off = [
        np.abs(open_graph(content).predict(tensor) - wanted).max()
        for content in (quantized.content, everything)
    ]
    # Sums beside convolutions are still rounded.
    assert off[1] < off[0] / 2
    assert last in GraphProgram(everything, names=plain.names).layers


def test_a_faulty_layer_is_found_by_bisection():
    material = make_material()
    counted = []

    def run(program, tensor):
        counted.append(program)
        return scale_weights(program, FAULTY, 2.0).predict(tensor)

    found = find_faulty_layer(material.reference, material.reference, run, noise(), precision="f32")
    assert found.layer == FAULTY
    assert found.error > 0.5 > found.error_before
    assert len(counted) <= 2 + np.ceil(np.log2(len(material.reference.layers)))
    sound = find_faulty_layer(
        material.reference, material.reference, lambda p, x: p.predict(x), noise(), precision="f32"
    )
    assert sound is None


def test_what_an_export_may_lose_depends_on_its_precision():
    assert bound_of("f32", max_drop=0.5).dice == bound_of("bf16", max_drop=0.5).dice == 0.002
    assert bound_of("int8", max_drop=0.004) == Bound(0.004)


def test_bf16_that_a_runtime_computes_in_f32_is_not_certified(tmp_path):
    certificate = export_certified(
        make_material("bf16"), OPENVINO, converter("f32"), tmp_path / "out"
    )
    assert (certificate.passed, certificate.comparison, certificate.ran_in) == (None, None, "")
    (line,) = certificate.lines()
    assert "the runtime computes in f32 although bf16 was asked for" in line
    assert json.loads((tmp_path / "out" / "certificate.json").read_text())["passed"] is None
