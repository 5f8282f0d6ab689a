"""Every command and every line of Python in README.md and docs/ is run, or says why it is not."""

import re
import shutil
import tomllib
from urllib.parse import unquote

import pytest

from bedside.cli import main as program
from doc_pages import COMMANDS, PAGES, ROOT, read_blocks, run_page

GUIDE = ROOT / "docs" / "train-your-own.md"
BLOCKS = [block for page in PAGES for block in read_blocks(page)]
RUN = [b for b in BLOCKS if b.kind in (*COMMANDS, "python") and b.mark != "not run"]
HAVE_RUN = {block.page for block in RUN}
LEFT_OUT = [block for block in BLOCKS if block.mark == "not run"]
CALLS = [(b, words) for b in BLOCKS if b.kind in COMMANDS for words in b.bedside_calls]
WRITTEN = [
    *PAGES,
    *(ROOT / name for name in ("ARCHITECTURE.md", "CHANGELOG.md", "benchmarks/README.md")),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with every input that the pages name."""
    pytest.importorskip("torch")
    from doc_scratch import make_scratch

    return make_scratch(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def scratch(inputs, tmp_path, monkeypatch):
    """A copy of the inputs; shipped recipes are small ones there."""
    folder = shutil.copytree(inputs, tmp_path / "page")
    monkeypatch.setattr("bedside.spec.shipped._FOLDER", folder / "recipes")
    return folder


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page != GUIDE and str(page.relative_to(ROOT)) in HAVE_RUN],
    ids=lambda page: page.name,
)
def test_what_a_page_tells_to_type_works_in_its_order(page, scratch):
    run_page(page, scratch)


@pytest.mark.parametrize("block", LEFT_OUT, ids=str)
def test_a_block_that_is_not_run_says_why(block):
    assert len(block.text) > 10
    pytest.skip(block.text)


def test_more_blocks_are_run_than_left_out():
    assert len(RUN) > len(LEFT_OUT)


@pytest.mark.parametrize(("block", "words"), CALLS, ids=[f"{b} {' '.join(w)}" for b, w in CALLS])
def test_every_command_is_understood(block, words):
    assert words[0] in program.COMMANDS
    program._parser(words).parse_args([re.sub(r"\$\w+|\$\{\w+\}", "1", word) for word in words])


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.kind == "toml"], ids=str)
def test_every_table_of_a_recipe_is_toml(block):
    text = block.code
    tomllib.loads(f"levels = [{text}]" if text.startswith("{") else text)


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, anchor = unquote(link).partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links {link}"
        assert not anchor or anchor in list_anchors(target), f"{page.name} links {link}"


def list_anchors(page):
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings]


# The guide, docs/train-your-own.md.
GUIDE_BLOCKS = read_blocks(GUIDE)
GUIDE_CALLS = [words for block in GUIDE_BLOCKS for words in block.bedside_calls]
# Paths in the running text that the commands make.
NAMED = sorted(set(re.findall(r"`((?:runs|out|evaluation)/[\w./-]+)`", GUIDE.read_text("utf-8"))))


@pytest.fixture(scope="module")
def followed(inputs, tmp_path_factory):
    """A folder in which every command of the guide has been run."""
    folder = shutil.copytree(inputs, tmp_path_factory.mktemp("guide") / "own")
    (folder / "my.bedside").unlink()
    run_page(GUIDE, folder)
    return folder


def test_the_guide_goes_from_a_folder_to_an_evaluated_bundle():
    asides = ("teacher.toml", "student.toml", "begun.toml")
    called = [words for words in GUIDE_CALLS if words[0] != "pretrain"]
    assert [words[0] for words in called if words[1] not in asides] == [
        "recipe", "train", "build", "inspect", "segment", "evaluate", "recipe",
    ]  # fmt: skip


def test_every_command_of_the_guide_succeeds(followed):
    assert (followed / "my.bedside").is_file()
    assert (followed / "scans.toml").is_file()


def test_every_file_that_the_guide_tells_to_look_at_is_there(followed):
    assert len(NAMED) >= 6
    assert [name for name in NAMED if not (followed / name).exists()] == []


def test_the_test_patients_of_the_guide_are_none_that_were_trained_on(followed):
    from bedside.bundle import read_bundle

    split = read_bundle(followed / "my.bedside").split
    assert [len(split[part]) for part in ("train", "val", "test")] == [8, 2, 2]
    assert not set(split["train"]) & set(split["test"])


def test_the_install_lines_are_those_of_the_readme_and_the_makefile():
    readme, makefile = (ROOT / name for name in ("README.md", "Makefile"))
    install = [
        line for block in GUIDE_BLOCKS if block.kind in COMMANDS
        for line in block.lines if line.startswith("pip ")
    ]  # fmt: skip
    assert len(install) == 2
    assert all(line in readme.read_text("utf-8") for line in install)
    assert install[0].startswith("pip install -c constraints.txt torch")
    assert "-c constraints.txt torch\n" in makefile.read_text("utf-8")
    assert re.search(r"^torch==", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
