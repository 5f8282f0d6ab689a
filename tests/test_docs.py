"""The guides are followed word for word: each command in order, on made-up data."""

import re
import shlex
from pathlib import Path

import pytest

from bedside.cli.main import main
from folder_makers import make_folder, make_scans

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "train-your-own.md"
TEXT = GUIDE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
LINES = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines() if line]
COMMANDS = [shlex.split(line)[1:] for line in LINES if line.startswith("bedside ")]
STUDENT = ("teacher.toml", "student.toml")
INSTALL = [line for line in LINES if line.startswith("pip ")]

# Paths in the running text that the commands make.
NAMED = sorted(set(re.findall(r"`((?:runs|out|evaluation)/[\w./-]+)`", TEXT)))


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A folder in which every command of the guide has been run, and what each returned."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("own")
    make_folder(folder / "my-data")
    make_scans(folder / "my-scans")
    for kind, block in BLOCKS:
        if kind == "toml":
            name = re.match(r"# (\S+)\n", block)[1]
            (folder / name).write_text(block, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        codes = [main(command) for command in COMMANDS]
    return folder, codes


def test_the_guide_goes_from_a_folder_to_an_evaluated_bundle():
    verbs = [command[0] for command in COMMANDS if command[1] not in STUDENT]
    assert verbs == [
        "recipe", "train", "build", "inspect", "segment", "evaluate", "recipe",
    ]  # fmt: skip


def test_every_command_of_the_guide_succeeds(followed):
    folder, codes = followed
    assert codes == [0] * len(COMMANDS)
    assert (folder / "my.bedside").is_file()
    assert (folder / "scans.toml").is_file()


def test_every_file_that_the_guide_tells_to_look_at_is_there(followed):
    assert len(NAMED) >= 6
    assert [name for name in NAMED if not (followed[0] / name).exists()] == []


def test_the_test_patients_of_the_guide_are_none_that_were_trained_on(followed):
    from bedside.bundle import read_bundle

    split = read_bundle(followed[0] / "my.bedside").split
    assert [len(split[part]) for part in ("train", "val", "test")] == [8, 2, 2]
    assert not set(split["train"]) & set(split["test"])


def test_the_install_lines_are_those_of_the_readme_and_the_makefile():
    readme, makefile = (ROOT / name for name in ("README.md", "Makefile"))
    assert len(INSTALL) == 2
    assert all(line in readme.read_text("utf-8") for line in INSTALL)
    assert INSTALL[0].startswith("pip install -c constraints.txt torch")
    assert "-c constraints.txt torch\n" in makefile.read_text("utf-8")
    assert re.search(r"^torch==", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)


def test_every_file_that_the_guide_links_is_there():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", TEXT)
    assert [link for link in links if not (GUIDE.parent / link).exists()] == []
