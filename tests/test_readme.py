"""The README's figures are those of the model cards and of the tables that it links."""

import re

import pytest

from bedside.bundle import read_bundle, shipped_bundles
from bedside.spec.card import count_units
from doc_pages import ROOT, read_blocks

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
PARAGRAPHS = [
    (paragraph, links)
    for paragraph in re.split(r"\n\n|\n(?=[|*] )", TEXT)
    if (links := re.findall(r"\]\((benchmarks/\w+\.md)\)", paragraph))
]


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


@pytest.mark.parametrize(
    ("paragraph", "links"), PARAGRAPHS, ids=[" ".join(p[1]) for p in PARAGRAPHS]
)
def test_a_figure_is_in_the_table_that_is_linked_beside_it(paragraph, links):
    tables = " ".join((ROOT / link).read_text(encoding="utf-8") for link in links).replace(",", "")
    values = [float(text) for text in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", tables)]
    for figure in re.findall(r"(?<![\w.])\d+\.\d+", paragraph):
        digits = len(figure.split(".")[1])
        found = {f"{value / unit:.{digits}f}" for value in values for unit in (1, 1000, 1e6)}
        assert figure in found, f"{figure} is not in {links}"
