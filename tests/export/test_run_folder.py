"""Bundles as finished runs, to be trained further."""

import dataclasses
import errno
import json
import os

import numpy as np
import pytest
import torch

from bedside.build import build_bundle
from bedside.bundle import read_bundle
from bedside.cli.main import main
from bedside.errors import OutputError, SpecError
from bedside.export import run_folder
from bedside.export.rebuild import rebuild_network
from bedside.export.run_folder import unpack_bundle
from bedside.models import create
from bedside.training.checkpoint import load_tensors
from bedside.training.run import train
from runs_for_tests import make_camus, make_recipe, to_toml


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return make_recipe(make_camus(tmp_path_factory.mktemp("camus")), epochs=1)


@pytest.fixture(scope="module")
def bundle(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    train(recipe, folder / "run", threads=1)
    return read_bundle(build_bundle(folder / "run", folder / "tiny.bedside", int8=False))


def test_a_bundle_becomes_a_run_that_computes_the_same_and_trains_on(
    recipe, bundle, tmp_path, capsys
):
    file = tmp_path / "recipe.toml"
    file.write_text(to_toml(recipe))
    run = tmp_path / "run"
    command = ["unpack", str(bundle.path), "--recipe", str(file), "-o", str(run)]
    assert main(command) == 0
    assert "Unpacked" in capsys.readouterr().out
    model = create(bundle.spec.model)
    model.load_state_dict(load_tensors(run / "weights.safetensors")[0], strict=True)
    tensor = torch.rand(1, 1, *bundle.spec.input.size_px, generator=torch.manual_seed(0))
    with torch.inference_mode():
        expected = rebuild_network(bundle).create()(tensor).numpy()
        np.testing.assert_allclose(model.eval()(tensor).numpy(), expected, atol=1e-4)
    training = dataclasses.replace(recipe.training, start=str(run))
    train(dataclasses.replace(recipe, training=training), tmp_path / "further", threads=1)
    start = json.loads((tmp_path / "further" / "run.json").read_text())["start"]
    assert start["bundle"] == f"tiny {bundle.spec.version}, sha256 {bundle.sha256}"
    assert start["patients"] == sorted(bundle.split["train"])


def test_another_recipe_and_a_folder_that_is_there_are_refused(recipe, bundle, tmp_path):
    other = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, name="other"))
    with pytest.raises(SpecError, match="other labels or data"):
        unpack_bundle(bundle, other, tmp_path / "run")
    with pytest.raises(OutputError, match="is there already"):
        unpack_bundle(bundle, recipe, tmp_path)


def test_it_is_written_whole_or_not_at_all(recipe, bundle, tmp_path, monkeypatch):
    def fail(path, tensors):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_folder, "save_tensors", fail)  # the record is written before
    with pytest.raises(OutputError, match=r"cannot write .*runs.out: No space left"):
        unpack_bundle(bundle, recipe, tmp_path / "runs" / "out")
    assert not (tmp_path / "runs").exists()
