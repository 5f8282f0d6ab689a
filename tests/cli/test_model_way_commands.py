import importlib.util
import json

import pytest

from bedside.bundle import read_bundle
from bedside.cli.main import main


def test_a_faulty_recipe_is_named(tmp_path, capsys):
    pytest.importorskip("torch")
    recipe = tmp_path / "r.toml"
    recipe.write_text("schema_version = 1\nsurprise = 2\n")
    assert main(["train", str(recipe), "-o", str(tmp_path / "run")]) == 3
    error = capsys.readouterr().err
    assert "r.toml" in error
    assert "surprise" in error
    assert not (tmp_path / "run").exists()


def test_building_from_no_run_is_bad_input(tmp_path, capsys):
    pytest.importorskip("torch")
    command = ["build", str(tmp_path / "no-run"), "-o", str(tmp_path / "x.bedside")]
    assert main(command) == 3
    assert "no-run" in capsys.readouterr().err
    assert not (tmp_path / "x.bedside").exists()


def test_a_bundle_must_be_named_as_one(tmp_path, capsys):
    assert main(["build", str(tmp_path), "-o", str(tmp_path / "x.zip")]) == 2
    assert ".bedside" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["train", "r.toml", "-o", "run"],
        ["pretrain", "r.toml", "-o", "run"],
        ["build", "run", "-o", "x.bedside"],
    ],
)
def test_without_torch_the_model_way_names_what_to_install(command, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(command) == 4
    assert 'pip install "torch==2.13.0"' in capsys.readouterr().err


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The file of a recipe of one epoch."""
    pytest.importorskip("torch")
    from runs_for_tests import make_camus, make_recipe, to_toml

    folder = tmp_path_factory.mktemp("training")
    (folder / "data").mkdir()
    file = folder / "recipe.toml"
    file.write_text(to_toml(make_recipe(make_camus(folder / "data"), epochs=1)))
    return file


def test_pretraining_says_what_was_left_out_and_what_to_do_next(recipe, tmp_path, capsys):
    run, scan = tmp_path / "run", recipe.parent / "data/patient0001/patient0001_4CH_ED.nii.gz"
    (tmp_path / "more").mkdir()
    (tmp_path / "more/copy.nii.gz").write_bytes(scan.read_bytes())
    words = ["pretrain", str(recipe), "-o", str(run), "--threads", "1", "--epochs", "1"]
    assert main([*words, "--images", str(tmp_path / "more")]) == 0
    said = capsys.readouterr()
    assert f'Next: set start = "{run}" in [training]' in said.out
    assert "copy.nii.gz is left out" in said.err
    assert main(["build", str(run), "-o", str(tmp_path / "x.bedside")]) == 3
    assert "draws nothing" in capsys.readouterr().err
    assert main([*words[:-1], "0"]) == 3
    assert "epochs is 0" in capsys.readouterr().err


def test_training_says_what_to_do_next(recipe, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", str(recipe), "-o", str(run), "--threads", "1"]) == 0
    assert f"Next: bedside build {run} -o tiny.bedside" in capsys.readouterr().out
    assert (run / "weights.safetensors").exists()


def test_several_seeds_are_trained_and_summed_up_in_a_table(recipe, tmp_path, capsys):
    runs = tmp_path / "runs"
    command = ["train", str(recipe), "-o", str(runs), "--threads", "1", "--seeds", "0", "1"]
    assert main([*command, "--cache", str(tmp_path / "cache")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Trained: 2 runs in {runs}"
    assert lines[1].split() == ["validation", "Dice", "mean", "lowest", "highest"]
    assert [line.split()[0] for line in lines[2:5]] == ["inner", "outer", "mean"]
    told = json.loads((runs / "summary.json").read_text())
    assert set(told["validation_dice"]) == {"seed-0", "seed-1"}
    assert f"{told['structures']['inner']['mean']:.4f}" in lines[2]
    assert len(list((tmp_path / "cache").glob("*.json"))) == 16


def test_a_teacher_of_the_command_line_teaches(recipe, tmp_path, capsys):
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    for run, more in ((teacher, []), (student, ["--teacher", str(teacher)])):
        assert main(["train", str(recipe), "-o", str(run), "--threads", "1", *more]) == 0
    told = json.loads((student / "run.json").read_text())
    assert told["recipe"]["distill"]["teacher"] == [str(teacher)]
    assert told["teachers"][0]["name"] == "tiny"
    command = ["train", str(recipe), "-o", str(student), "--threads", "1"]
    assert main(command) == 3
    assert "another recipe" in capsys.readouterr().err


def test_a_recipe_gives_a_bundle_with_random_weights_that_says_so(recipe, tmp_path, capsys):
    bundle = tmp_path / "a.bedside"
    assert main(["build", str(recipe), "--untrained", "-o", str(bundle)]) == 0
    assert "RANDOM WEIGHTS" in capsys.readouterr().out
    assert read_bundle(bundle).card.untrained
    assert main(["inspect", str(bundle)]) == 0
    assert "UNTRAINED" in capsys.readouterr().out


def test_an_untrained_bundle_has_nothing_to_be_measured_on(recipe, tmp_path, capsys):
    command = ["build", str(recipe), "--untrained", "-o", str(tmp_path / "a.bedside")]
    assert main([*command, "--no-int8"]) == 2
    assert "--untrained" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
