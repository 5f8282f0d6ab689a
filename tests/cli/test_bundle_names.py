"""A shipped bundle's name is its own: no file in the working folder takes its place unsaid."""

import json
import shutil

import pytest

from bedside.bundle import find_bundle, read_bundle, shipped_bundles
from bedside.cli.main import main
from bedside.errors import BundleError
from makers import make_fan, write_picture

NAME = "camus-4ch"
SHIPPED = next(path for path in shipped_bundles() if path.stem == NAME)


@pytest.fixture(params=[NAME, f"{NAME}.bedside", f"{NAME}/"])
def here(request, bundle, tmp_path, monkeypatch):
    """What has the shipped bundle's name in the working folder: a bundle or a folder."""
    monkeypatch.chdir(tmp_path)
    if request.param.endswith("/"):
        (tmp_path / NAME).mkdir()
    else:
        shutil.copy(bundle, tmp_path / request.param)
    return request.param.rstrip("/")


def test_the_shipped_one_is_found_and_the_other_is_said(here):
    notices = []
    assert find_bundle(NAME, on_notice=notices.append) == SHIPPED
    assert notices == [
        f'"{NAME}" is the shipped bundle; {here} in the working folder is not used. '
        f"Name it as ./{here} if you mean it."
    ]
    assert find_bundle("hippocampus", on_notice=notices.append).stem == "hippocampus"
    assert len(notices) == 1


COMMANDS = {
    "segment": "segment cine.dcm -m camus-4ch -o out --force --json",
    "manifest": "segment --manifest cases.jsonl -o out --force --json",
    "batch": "segment images -m camus-4ch -o out --force --jobs 2 --json",
    "inspect": "inspect camus-4ch --json",
    "models": "models camus-4ch --json",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_it_and_takes_the_shipped_one(here, sequence, capsys, tmp_path, command):
    (tmp_path / "images").mkdir()
    write_picture(make_fan(1)[0], tmp_path / "images" / "a.png")
    line = {"id": "a", "source": "images/a.png", "model": NAME}
    (tmp_path / "cases.jsonl").write_text(json.dumps(line) + "\n")
    assert main(COMMANDS[command].split()) == 0
    streams = capsys.readouterr()
    assert f"{here} in the working folder is not used" in streams.err
    assert read_bundle(SHIPPED).sha256 in streams.out


def test_a_path_is_a_path(bundle, tmp_path, monkeypatch, sequence, capsys):
    monkeypatch.chdir(tmp_path)
    for name in (NAME, f"{NAME}.bedside"):
        shutil.copy(bundle, tmp_path / name)
    for name in (f"./{NAME}", f"{NAME}.bedside", str(tmp_path / NAME)):
        assert read_bundle(find_bundle(name)).sha256 == read_bundle(bundle).sha256
    (tmp_path / "images").mkdir()
    write_picture(make_fan(1)[0], tmp_path / "images" / "a.png")
    for more in ([], ["--jobs", "2"]):
        out = f"out{len(more)}"
        assert main(["segment", "images", "-m", f"./{NAME}", "-o", out, *more]) == 0
        report = json.loads(next((tmp_path / out).rglob("report.json")).read_text())
        assert report["bundle"]["sha256"] == read_bundle(bundle).sha256
    assert "not used" not in capsys.readouterr().err


def test_a_file_without_suffix_or_separator_is_no_name(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, hint in (("mine", "./mine"), ("yours.bedside", "./yours.bedside")):
        shutil.copy(bundle, tmp_path / name)
        with pytest.raises(BundleError, match=f"If you mean the file here, write {hint}"):
            find_bundle(name.removesuffix(".bedside"))
