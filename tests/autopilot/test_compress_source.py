import json
from dataclasses import replace

import numpy as np
import pytest

from bedside.autopilot.compress.compress import _with_statistics
from bedside.autopilot.source import open_source
from bedside.build import build_bundle, build_untrained, open_finished
from bedside.errors import BundleError, DataError, FormatError, SpecError
from bedside.training.dataset import load_cases
from runs_for_tests import to_toml

pytest_plugins = ["autopilot_fixtures"]


@pytest.fixture(scope="module")
def bundle(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("built") / "tiny.bedside"
    return build_bundle(trained, path, int8=False)


def test_a_run_is_opened_with_its_weights(trained):
    source = open_source(trained)
    assert source.about.startswith("the run run, sha256 ")
    assert source.network.create()
    assert not source.from_bundle


def test_a_bundle_gives_its_network_and_split_back(bundle, trained, many_patients):
    import torch

    source, run = open_source(bundle, many_patients), open_source(trained)
    assert source.about.startswith("the bundle tiny.bedside, sha256 ")
    assert source.finished.split == run.finished.split
    assert source.finished.recipe.deployment == run.finished.recipe.deployment
    x = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        expected, given = (each.network.create()(x) for each in (run, source))
    assert float((given - expected).abs().max() / expected.abs().max()) < 0.02


def test_norms_out_of_a_bundle_learn_statistics_and_change_nothing(bundle, many_patients):
    import torch

    source = open_source(bundle, many_patients)
    examples = load_cases(source.finished.part("val"), source.finished.recipe.deployment)
    ready = _with_statistics(source, examples)
    image = torch.from_numpy(np.ascontiguousarray(examples[0].image[None], np.float32))
    with torch.inference_mode():
        before, after = (each.network.create()(image) for each in (source, ready))
    assert torch.allclose(before, after, atol=1e-3)
    name = "stem.0.1.running_var"
    assert not torch.equal(source.network.weights[name], ready.network.weights[name])


def test_a_bundle_without_its_data_is_refused(bundle):
    with pytest.raises(SpecError, match="--data"):
        open_source(bundle)


def test_random_weights_are_not_compressed(trained, many_patients, tmp_path):
    path = build_untrained(open_finished(trained).recipe, tmp_path / "a.bedside")
    with pytest.raises(SpecError, match="random weights"):
        open_source(path, many_patients)


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"it has no run\.json"):
        open_source(tmp_path)
    with pytest.raises(BundleError, match="no-bundle"):
        open_source(tmp_path / "no-bundle.bedside", tmp_path)


def test_an_unfinished_run_is_refused(trained, tmp_path):
    (tmp_path / "run.json").write_text((trained / "run.json").read_text())
    with pytest.raises(FormatError, match="not finished"):
        open_source(tmp_path)


def test_a_network_that_no_spec_rebuilds_is_refused(trained, tmp_path):
    record = json.loads((trained / "run.json").read_text()) | {"network": "plain"}
    (tmp_path / "run.json").write_text(json.dumps(record))
    (tmp_path / "weights.safetensors").write_bytes((trained / "weights.safetensors").read_bytes())
    with pytest.raises(SpecError, match="a plain, which no spec can rebuild"):
        open_source(tmp_path)


def test_data_of_other_patients_are_refused(trained, tmp_path):
    from runs_for_tests import make_camus

    folder = make_camus(tmp_path, patients=1)
    (folder / "patient0001").rename(folder / "patient9999")
    for file in (folder / "patient9999").iterdir():
        file.rename(file.with_name(file.name.replace("0001", "9999")))
    with pytest.raises(DataError, match='none of the "train" patients'):
        open_source(trained, folder)


def test_a_recipe_says_how_a_bundle_is_trained_on(bundle, trained, tmp_path):
    recipe = replace(open_source(trained).finished.recipe, distill=None)
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(recipe))
    assert open_source(bundle, recipe=path).finished.recipe == recipe
    with pytest.raises(SpecError, match="has its own recipe"):
        open_source(trained, recipe=path)


def test_a_recipe_of_another_task_is_refused(bundle, trained, tmp_path):
    recipe = open_source(trained).finished.recipe
    other = replace(recipe.deployment.labels[0], name="something else")
    labels = (other, *recipe.deployment.labels[1:])
    recipe = replace(recipe, deployment=replace(recipe.deployment, labels=labels))
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(recipe))
    with pytest.raises(SpecError, match="other labels"):
        open_source(bundle, recipe=path)
