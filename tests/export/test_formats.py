"""Every format x one small network: exported, run in its own runtime, certified."""

import os
import re
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from export_fixtures import make_bundle, noise

from bedside.chips import find_chip
from bedside.cli.main import main
from bedside.errors import BackendError, ExportError, InputError, UsageError
from bedside.export.bundle import ValidationData, _of_torch, export_bundle
from bedside.export.chip import check_bundle, prepare_graph
from bedside.export.error_localization import find_faulty_layer
from bedside.export.formats import rknn
from bedside.export.formats.format import Format, Options
from bedside.export.formats.litert import PYTHON_VARIABLE
from bedside.export.formats.table import FORMATS, find_format
from bedside.export.parity import make_inputs
from bedside.export.programs import GraphProgram, TorchProgram, in_bf16, to_inference
from bedside.runtime import table
from models_for_tests import INPUT_SHAPE, make_graph, make_model, make_noise, run_torch
from threads_for_tests import count_foreign
from tolerances import BF16_RTOL, INT8_MEAN_RTOL, STORED_WEIGHTS_RTOL

VARIABLES = {
    "litert": PYTHON_VARIABLE,
    "rknn": rknn.PYTHON_VARIABLE,
    "vela": PYTHON_VARIABLE,
}
BACKENDS = {row.name for row in table.BACKENDS}
OPTIONS = {"rknn": Options("f16", chip="rk3588"), "vela": Options("int8")}
"""Of formats that have no f32."""


def skip_unless_here(name):
    package = find_format(name).package
    here = os.environ.get(VARIABLES[name]) if package is None else find_spec(package)
    if not here:
        pytest.skip(f"NOT TESTED: {name} is not installed: {find_format(name).install}")


@pytest.mark.parametrize("name", [each.name for each in FORMATS if each.name != "vela"])
def test_every_format_does_in_its_own_runtime_what_the_bundle_does(tmp_path, name):
    skip_unless_here(name)
    options = OPTIONS.get(name, Options())
    tolerance = STORED_WEIGHTS_RTOL if options.precision == "f32" else BF16_RTOL
    chip = options.chip and check_bundle(
        make_bundle(), find_chip(options.chip), to=name, precision=options.precision
    )
    certificate = export_bundle(
        make_bundle(),
        tmp_path / "out",
        to=name,
        options=options,
        validation=ValidationData(),
        chip=chip,
    )
    assert certificate.format == name
    if certificate.ran_in:
        assert certificate.passed
        assert certificate.comparison.worst_logit_part < tolerance
        converter = find_format(name).make_converter(options)
        session = converter.open(tmp_path / "out")
        # By it an export knows whether sums of 8 bits saturate.
        assert converter.backend == (session.backend if session.backend in BACKENDS else "")
        wanted = run_torch(noise())
        allowed = tolerance * np.abs(wanted).max()
        np.testing.assert_allclose(session.predict(noise()), wanted, rtol=0, atol=allowed)
    else:
        assert certificate.passed is None
        assert certificate.lines()[0].startswith("NOT RUN")


def open_exported(name, folder):
    """The small network in a format's own runtime, not compared with anything."""
    skip_unless_here(name)
    found = find_format(name)
    converter = found.make_converter(OPTIONS.get(name, Options()))
    if converter.open is None:
        pytest.skip(f"NOT TESTED: {converter.not_here}")
    chip = find_chip("rk3588")
    graph = (
        prepare_graph(make_graph(), chip, precision="f16")[0] if name == "rknn" else make_graph()
    )
    program = (
        GraphProgram(graph)
        if found.kind == "graph"
        else TorchProgram.trace(
            to_inference(make_model()),
            make_tensor(),
            calibration=make_inputs(INPUT_SHAPE, count=16) if name == "vela" else (),
        )
    )
    converter.convert(program, folder)
    return converter.open(folder)


@pytest.mark.parametrize("name", [each.name for each in FORMATS])
def test_every_format_keeps_the_contract_of_sessions(tmp_path, name):
    session = open_exported(name, tmp_path)
    images = [make_noise(seed=seed) for seed in range(8)]
    assert count_foreign(session.predict, images, rounds=1) == 0
    odd = np.asfortranarray(images[0].astype(np.float64))
    odd.flags.writeable = False
    assert np.array_equal(session.predict(odd), session.predict(images[0]))
    shape = (1, 1, 32, INPUT_SHAPE[-1])
    with pytest.raises(InputError, match=re.escape(f"the tensor has shape {shape}")):
        session.predict(np.zeros(shape, np.float32))
    with pytest.raises(InputError, match="the tensor has 4096 of 4096 values that are NaN"):
        session.predict(np.full(INPUT_SHAPE, np.nan, np.float32))
    with pytest.raises(InputError, match="of complex64; the network takes an array of real"):
        session.predict(np.zeros(INPUT_SHAPE, np.complex64))


@pytest.mark.parametrize("name", ["litert", "executorch", "coreml", "rknn", "vela"])
def test_three_axes_are_refused_before_anything_is_converted(name):
    with pytest.raises(UsageError, match=r"cannot hold a network of 3 axes: .* Export it to"):
        find_format(name).check(spatial_dims=3, precision=find_format(name).precisions[0])


def test_a_precision_that_a_format_does_not_have_is_refused():
    with pytest.raises(
        UsageError, match=r'onnx is not exported in "bf16"; choose one of f32, int8'
    ):
        find_format("onnx").check(spatial_dims=2, precision="bf16")
    with pytest.raises(UsageError, match='no format "tflite"; choose one of openvino'):
        find_format("tflite")


def test_a_missing_converter_says_how_to_install_it():
    missing = Format("x", "torch", "no_such_package", "nowhere")
    with pytest.raises(
        BackendError, match=r'not installed. Install it with: pip install "no_such_package"'
    ):
        missing.check(spatial_dims=2, precision="f32")


def test_litert_says_which_environment_it_needs(tmp_path, monkeypatch):
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    litert = find_format("litert")
    with pytest.raises(BackendError, match=r"none was named.*--litert-python.*litert-torch"):
        litert.make_converter(Options())
    with pytest.raises(BackendError, match="there is no Python at"):
        litert.make_converter(Options(litert_python=tmp_path / "python"))
    barren = tmp_path / "python"
    barren.write_text("#!/bin/sh\necho 'No package metadata was found' >&2\nexit 1\n")
    barren.chmod(0o755)
    with pytest.raises(BackendError, match="has no converter to litert"):
        litert.make_converter(Options(litert_python=barren))


def test_eight_bits_are_compiled_for_an_ethos_and_computed_as_integers(tmp_path):
    session = open_exported("vela", tmp_path)
    wanted = run_torch(noise())
    given = session.predict(noise())
    assert np.abs(given - wanted).mean() < INT8_MEAN_RTOL * np.abs(wanted).max()
    assert (tmp_path / "model_vela.tflite").stat().st_size > 0
    assert "CPU operators = 0 " in (tmp_path / "vela.txt").read_text()
    assert str(tmp_path) not in (tmp_path / "vela.txt").read_text()


def test_eight_bits_of_torch_formats_need_images_of_training(tmp_path):
    bundle, data = make_bundle(), ValidationData()
    with pytest.raises(UsageError, match="images that training has seen; name the data set"):
        _of_torch(bundle, "int8", data.data)


def test_rknn_asks_for_a_chip_before_anything_else():
    with pytest.raises(UsageError, match="name it, as in --chip rk3588"):
        find_format("rknn").make_converter(Options("f16"))


def test_a_torch_program_is_cut_behind_any_layer():
    module = to_inference(make_model())
    program = TorchProgram.trace(module, make_tensor())
    layer = "levels.1.0.expand.0"
    seen = []
    handle = module.get_submodule(layer).register_forward_hook(lambda m, a, out: seen.append(out))
    module(make_tensor())
    handle.remove()
    np.testing.assert_allclose(
        program.cut(layer).predict(noise()), seen[0].detach().numpy(), rtol=0, atol=1e-5
    )
    assert list(program.layers)[:2] == ["stem.0.0", "stem.1.0"]


def test_a_fault_in_a_torch_program_is_named():
    module = to_inference(make_model())
    reference = TorchProgram.trace(module, make_tensor())
    layer = "levels.1.0.expand.0"

    def run(program, tensor):
        """Run what a converter gives that gets the weights of one layer wrong."""
        spoiled = program.exported.module()
        held = dict(spoiled.named_parameters()).get(f"{layer}.weight")
        with torch.no_grad():
            if held is not None:
                held.mul_(2)
            result = spoiled(torch.from_numpy(tensor)).numpy()
            if held is not None:
                held.div_(2)
        return result

    found = find_faulty_layer(reference, reference, run, noise(), precision="f32")
    assert found.layer == layer


def test_bf16_keeps_layers_in_f32_and_their_names():
    module = to_inference(make_model())
    wanted = run_torch(noise())
    plain = TorchProgram.trace(module, make_tensor())
    half = TorchProgram.trace(in_bf16(module, kept=("stem.0.0",)), make_tensor())
    assert list(half.layers) == list(plain.layers)
    allowed = BF16_RTOL * np.abs(wanted).max()
    found = half.predict(noise())
    np.testing.assert_allclose(found, wanted, rtol=0, atol=allowed)
    assert (found != plain.predict(noise())).any()


def test_what_torch_cannot_export_is_an_export_error():
    class Undecided(torch.nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(ExportError, match="torch cannot export the network"):
        TorchProgram.trace(Undecided(), make_tensor())


def make_tensor():
    return torch.from_numpy(noise())


def test_the_verb_refuses_what_cannot_be_meant(tmp_path, capsys):
    assert main(["export", "camus-4ch", "--to", "onnx", "--cases", "0"]) == 2
    assert main(["export", "hippocampus", "--to", "executorch", "-o", str(tmp_path / "x")]) == 2
    assert "cannot hold a network of 3 axes" in capsys.readouterr().err
    assert main(["export", "camus-4ch", "--to", "onnx", "--precision", "int8"]) == 2
    assert "name the data set with --data" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
