"""Ids and paths may be names of patients: they stay out of logs that others read."""

import json

import pytest

import makers
from bedside.cli.main import main

pytest_plugins = ["batch_fixtures"]


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    makers.write_picture(makers.make_fan(1)[0], folder / "miller-anna.png")
    (folder / "doe-jane.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(9))
    lines = [{"id": name, "source": f"{name}.png"} for name in ("miller-anna", "doe-jane")]
    (folder / "cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def segment(study, bundle, *words):
    manifest, output = study / "cases.jsonl", study.parent / "out"
    command = ["segment", "--manifest", str(manifest), "-m", str(bundle), "-o", str(output)]
    return main([*command, *words])


def test_only_counts_are_printed(study, bundle, capsys):
    assert segment(study, bundle, "--no-names") == 3
    told = "".join(capsys.readouterr())
    assert "2 cases" in told
    assert "refused" in told
    assert not {name for name in ("miller", "anna", "doe", "jane") if name in told.lower()}
    assert segment(study, bundle, "--no-names") == 2
    told = "".join(capsys.readouterr())
    assert "case 1 holds results of an earlier run" in told
    assert "miller" not in told


def test_a_line_of_the_manifest_is_named_by_its_number(study, bundle, capsys):
    with (study / "cases.jsonl").open("a") as file:
        file.write('{"id": "Müller, Anna", "source": "a.png"}\n')
    assert segment(study, bundle, "--no-names") == 3
    told = "".join(capsys.readouterr())
    assert "line 3" in told
    assert "ller" not in told


def test_the_json_of_every_case_does_not_go_with_it(study, bundle, capsys):
    assert segment(study, bundle, "--no-names", "--json") == 2
    assert "--json" in capsys.readouterr().err
