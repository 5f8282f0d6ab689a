"""Equal masks certify nothing where no mask has anything in it."""

import dataclasses

import numpy as np
import pytest
from export_fixtures import STEPS, make_deployment, make_material

from bedside.bundle import read_bundle, write_bundle
from bedside.cli.main import main
from bedside.datasets import list_cases
from bedside.errors import ExportError
from bedside.evaluation.comparison import read_samples
from bedside.export.certified import export_certified
from bedside.export.formats.format import Options
from bedside.export.formats.table import find_format
from bedside.export.programs import GraphProgram
from bedside.runtime.execution_modes import certificate_warnings
from models_for_tests import make_card, make_plain_graph
from runs_for_tests import make_camus

SPLIT = {"train": ("patient0001",), "val": ("patient0002",), "test": ("patient0003",)}
# The background's logit is a sum of grey values, and those of the labels are its negative.
SILENT = np.array([1, -1, -1], np.float32).reshape(3, 1, 1, 1) * np.ones((1, 1, 2, 2), np.float32)


@pytest.fixture
def data(tmp_path):
    return make_camus(tmp_path / "data", patients=3)


@pytest.fixture
def silent(tmp_path):
    """A bundle whose network draws nothing, and whose certificates say that this is well."""
    path = tmp_path / "silent.bedside"
    write_bundle(
        path,
        spec=dataclasses.replace(make_deployment(), preprocess=STEPS),
        card=make_card(untrained=False),
        graphs={"f32": make_plain_graph(weight=SILENT).SerializeToString()},
        split=SPLIT,
    )
    return read_bundle(path)


@pytest.fixture
def material(silent):
    program = GraphProgram(silent.read_graph("f32"))
    return dataclasses.replace(
        make_material(), bundle=silent, reference=program, make=lambda kept: program
    )


def export(material, folder):
    target = find_format("openvino")
    return export_certified(material, target, target.make_converter(Options("f32")), folder)


def test_a_network_that_draws_nothing_is_certified_nowhere(silent, data, tmp_path, capsys):
    output = tmp_path / "new.bedside"
    command = ["certify", str(silent.path), "--data", str(data), "-o", str(output)]
    assert main([*command, "--threads", "1"]) == 0
    told = capsys.readouterr()
    assert "not certified: nothing was drawn in any of 2 validation images" in told.err
    written = read_bundle(output)
    assert len(written.card.precisions) > 1
    assert not any(result.passed for result in written.card.precisions)
    (warning,) = certificate_warnings(written, "openvino", "f32")
    assert warning.endswith("nothing was drawn in any of 2 validation images.")


def test_no_export_is_certified_where_experts_drew_and_the_network_did_not(
    material, data, tmp_path
):
    spec, cases = material.bundle.spec, list_cases(data)
    material = dataclasses.replace(material, samples=lambda: read_samples(cases, spec))
    with pytest.raises(ExportError, match=r"drew nothing in any of 6 images, where experts have"):
        export(material, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_says_so_where_generated_images_have_empty_masks(material, tmp_path):
    certificate = export(material, tmp_path / "out")
    assert any("nothing was drawn in any of 2 images" in line for line in certificate.lines())
    drawn = export(make_material(), tmp_path / "other")
    assert not any("nothing was drawn" in line for line in drawn.lines())
