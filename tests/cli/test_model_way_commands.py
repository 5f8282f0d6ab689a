import importlib.util

import pytest

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
    "command", [["train", "r.toml", "-o", "run"], ["build", "run", "-o", "x.bedside"]]
)
def test_without_torch_the_model_way_names_what_to_install(command, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(command) == 4
    assert 'pip install "bedside[train]"' in capsys.readouterr().err
