"""The README's figures are those of the model cards and of the tables that it links."""

import re

import pytest

from bedside import errors
from bedside.bundle import find_bundle, read_bundle, shipped_bundles
from bedside.cli.demo import find_cine
from bedside.io.source import open_source
from bedside.spec.card import Card, count_units
from doc_pages import ROOT, read_blocks

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
# What is run, and what links to, is no figure; nor are names with a number in them.
PLAIN = re.sub(r"<!--.*?-->|```.*?```", "", TEXT, flags=re.DOTALL)
NAMES = re.compile(r"`[^`]*`|\]\([^)]*\)|[23]D\b|Apache-2\.0|\bCC BY[-\w ]* \d\.0")
PARAGRAPHS = [
    (paragraph, re.findall(r"\]\((benchmarks/\w+\.md)\)", paragraph))
    for paragraph in re.split(r"\n\n|\n(?=[|*] )", PLAIN)
]


def list_numbers(paragraph: str) -> list[str]:
    """Numbers of a paragraph, as they are written."""
    return re.findall(r"(?<![\w.])\d+(?:\.\d+)?", NAMES.sub(" ", paragraph))


def test_the_readme_is_short_and_begins_with_python():
    assert TEXT.count("\n") < 150
    assert read_blocks(README)[0].kind == "python"
    assert len([words for block in read_blocks(README) for words in block.bedside_calls]) >= 5


@pytest.mark.parametrize("path", shipped_bundles(), ids=lambda path: path.stem)
def test_the_readme_s_figures_of_a_bundle_are_those_of_its_card(path):
    bundle = read_bundle(path)
    card = bundle.card
    (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| `{bundle.spec.name}` |")]
    means = [structure.dice.mean for structure in card.structures]
    assert " / ".join("none" if mean is None else f"{mean:.3f}" for mean in means) in row
    assert f"{card.parameters / 1e6:.2f} M, {bundle.size_bytes / 1e3:.0f} kB" in row
    assert f"| {card.test_cases} of {count_units(card.patients[2], card.split_unit)} |" in row
    assert card.license.split(",")[0] in row

    stated = [f"{mean:.3f}" for mean in means if mean is not None]
    known = [*stated, *map(str, (card.test_cases, card.patients[2], card.units)), "30"]
    known += [f"{card.parameters / 1e6:.2f}", f"{bundle.size_bytes / 1e3:.0f}"]
    assert set(list_numbers(row)) <= set(known)


@pytest.mark.parametrize("number", range(len(PARAGRAPHS)))
def test_a_figure_is_in_a_table_that_is_linked_beside_it(number):
    paragraph, links = PARAGRAPHS[number]
    if not links:
        pytest.skip("nothing is linked: see the figures of other origin")
    tables = " ".join((ROOT / link).read_text(encoding="utf-8") for link in links).replace(",", "")
    values = [float(text) for text in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", tables)]
    for figure in list_numbers(paragraph):
        if figure in OTHERS.get(opening(paragraph), ()):
            continue
        digits = len(figure.partition(".")[2])
        found = {f"{value / unit:.{digits}f}" for value in values for unit in (1, 1000, 1e6)}
        assert figure in found, f"{figure} is not in {links}"


def opening(paragraph: str) -> str:
    """First words of a paragraph."""
    return " ".join(paragraph.split()[:3])


OTHERS = {
    "Python 3.11 or": ("3.11", "3.11", "3.13"),
    "The cine comes": ("30", "30"),
    "The mask has": ("0", "2", "3", "4", "5", "1"),
    "* `hippocampus`: the": ("30",),
    "* `hc18-head`: the": ("644", "551"),
}
"""Figures that no table holds, by how their paragraph begins; the next test has their origins."""


def test_figures_without_a_table_have_another_origin():
    for paragraph, links in PARAGRAPHS:
        if not links and not paragraph.startswith("| `"):
            found = tuple(list_numbers(paragraph))
            assert found == OTHERS.get(opening(paragraph), ()), opening(paragraph)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">=3.11"' in project
    assert "3.13" in (ROOT / "Makefile").read_text(encoding="utf-8")
    codes = {each.exit_code for each in vars(errors).values() if hasattr(each, "exit_code")}
    assert codes == {int(code) for code in OTHERS["The mask has"]} - {0}
    cine = open_source(find_cine()).sequence
    assert (len(cine), round(1000 / cine.frame_time_ms)) == (30, 30)
    assert read_card("hippocampus").split_unit == "blocks of 30 volumes"
    assert sum(read_card("hc18-head").patients) == 644
    assert any("551 women" in limit for limit in read_card("hc18-head").limits)


def read_card(name: str) -> Card:
    """The card of a shipped bundle."""
    return read_bundle(find_bundle(name)).card
