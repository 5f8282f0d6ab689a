import importlib.util
from pathlib import Path

import pytest

from bedside.cli.main import main


@pytest.mark.parametrize(
    ("source", "options", "code", "said"),
    [
        ("camus-4ch", ["--target-ms", "0"], 2, "the target is 0 ms"),
        ("camus-4ch", [], 2, "there is no budget"),
        ("camus-4ch", ["--max-size", "small"], 2, "no amount of memory"),
        ("camus-4ch", ["--max-size", "100kB", "--max-drop", "2"], 2, "max_drop is 2"),
        ("camus-4ch", ["--max-size", "100kB", "--step-fraction", "1.5"], 2, "step_fraction is 1.5"),
        ("camus-4ch", ["--max-size", "100kB"], 3, "Name them with --data"),
        ("no-such-bundle", ["--max-size", "100kB"], 3, 'no bundle "no-such-bundle"'),
        ("no.bedside", ["--max-size", "100kB"], 3, "no.bedside"),
        (".", ["--max-size", "100kB"], 3, "is no run"),
    ],
)
def test_what_cannot_be_compressed_is_one_line_and_a_code(
    source, options, code, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["compress", source, "-o", "out", *options]) == code
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


def test_without_torch_compress_names_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["compress", "camus-4ch", "-o", "out", "--max-size", "1kB"]) == 4
    assert 'pip install "torch==2.13.0"' in capsys.readouterr().err


def test_optional_steps_are_asked_for_by_flags():
    pytest.importorskip("torch")
    from bedside.autopilot.compress.steps import list_stages
    from bedside.cli.compress import Settings, read_effort

    places = {"source": Path("run"), "output": Path("out")}
    assert read_effort(Settings(**places)).also == ()
    effort = read_effort(Settings(**places, qat=True, sparsity=True))
    assert list_stages(effort)[-2:] == ("qat", "sparsity")
