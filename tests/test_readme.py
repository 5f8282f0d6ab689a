"""What the README tells people to type is understood, and its Python runs."""

import re
import shlex
from pathlib import Path

import pytest

from bedside.bundle import read_bundle, shipped_bundles
from bedside.cli.main import VERBS, _parser
from bedside.spec.card import count_units

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.splitlines()
    if line.startswith("bedside ")
]


def test_the_readme_shows_the_verbs():
    assert {command[0] for command in COMMANDS} <= set(VERBS)
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_of_the_readme_is_understood(command):
    _parser(command).parse_args(command)


@pytest.mark.parametrize("code", [block for kind, block in BLOCKS if kind == "python"])
def test_the_python_of_the_readme_prints_what_it_says(code, capsys):
    exec(compile(code, str(README), "exec"), {})
    said = re.findall(r"# (\(.*?\)) ", code)
    assert [line in capsys.readouterr().out for line in said] == [True] * len(said)


def test_every_file_that_the_readme_links_is_there():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert [link for link in links if not (README.parent / link).exists()] == []


@pytest.mark.parametrize("path", shipped_bundles(), ids=lambda path: path.stem)
def test_the_readme_s_figures_of_a_bundle_are_those_of_its_card(path):
    bundle = read_bundle(path)
    card = bundle.card
    text = README.read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith(f"| `{bundle.spec.name}` |")]
    means = [structure.dice.mean for structure in card.structures]
    assert " / ".join("none" if mean is None else f"{mean:.3f}" for mean in means) in row
    assert f"{card.parameters / 1e6:.2f} M, {bundle.size_bytes / 1e3:.0f} kB" in row
    assert f"| {card.test_cases} of {count_units(card.patients[2], card.split_unit)} |" in row
    assert card.license.split(",")[0] in row
