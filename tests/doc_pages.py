"""README.md and docs/*.md as programs: their blocks of commands and of Python, read and run.

A block marked `<!-- not run: REASON -->` is left out; one marked `<!-- file: NAME -->`, or whose
first line is `# NAME.toml`, is written as that file. In Python, what a line prints must be the
comment behind it; behind a command, `# exit code N` is what it must return.
"""

import contextlib
import io
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from bedside.cli.main import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = ("sh", "bash", "console")
_BLOCK = re.compile(
    r"(?:<!-- (?P<mark>not run|file): (?P<text>[^>]+?) -->\n)?"
    r"^```(?P<kind>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_EXIT_CODE = re.compile(r"# exit code (\d+)")
_PRINTED = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page.

    Attributes:
        page: Path of the page from the root of the repository.
        line: Line of its first fence.
        kind: Language behind the fence.
        code: What is between the fences.
        mark: "not run", "file", or None.
        text: The reason or the name behind the mark.
    """

    page: str
    line: int
    kind: str
    code: str
    mark: str | None
    text: str | None

    def __str__(self) -> str:
        """Name the place, for the id of a test."""
        return f"{self.page}:{self.line}"

    @property
    def lines(self) -> list[str]:
        """Commands, each on one line; of a console only what follows the prompt."""
        joined = re.sub(r"\\\n\s*", " ", self.code).splitlines()
        if self.kind == "console":
            joined = [line[2:] for line in joined if line.startswith("$ ")]
        return [line for line in joined if line.strip() and not line.startswith("#")]

    @property
    def bedside_calls(self) -> list[list[str]]:
        """Arguments of every call of `bedside`."""
        return [shlex.split(x, comments=True)[1:] for x in self.lines if x.startswith("bedside ")]


def read_blocks(path: Path) -> list[Block]:
    """Read the fenced blocks of a page, in order."""
    page, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    parts = ("kind", "code", "mark", "text")
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, *found.group(*parts))
        for found in _BLOCK.finditer(text)
    ]


def run_page(path: Path, folder: Path) -> None:
    """Run a page's blocks in order, in a folder that holds what they name.

    Raises:
        AssertionError: If a command fails or prints something else; it names the line.
    """
    names: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in read_blocks(path):
            if block.mark == "not run":
                continue
            name = block.text or (re.match(r"# (\S+\.toml)\n", block.code) or [None, None])[1]
            if name:
                Path(name).write_text(block.code, encoding="utf-8")
            elif block.kind == "python":
                _run_python(block, names)
            elif block.kind in COMMANDS:
                _run_commands(block, patch)


def _run_python(block: Block, names: dict[str, object]) -> None:
    """Run Python in the names of the page, and compare what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * block.line + block.code, block.page, "exec"), names)
    for expected in _PRINTED.findall(block.code):
        assert expected in printed.getvalue(), f"{block} does not print {expected}"


def _options(words: list[str]) -> list[str]:
    """What a command of a page needs here: made-up images are none of a shipped bundle's."""
    return ["--gate", "off"] if words[1:3] == ["evaluate", "camus-4ch"] else []


def _run_commands(block: Block, patch: pytest.MonkeyPatch) -> None:
    """Run commands: those of bedside in this process, others by bash."""
    printed = io.StringIO()
    for line in block.lines:
        words = shlex.split(line, comments=True)
        expected = int((_EXIT_CODE.search(line) or [0, 0])[1])
        if words[0] == "export":
            patch.setenv(*words[1].split("=", 1))
        elif words[0] == "bedside":
            with contextlib.redirect_stdout(printed):
                code = main([*words[1:], *_options(words)])
            assert code == expected, f"{block}: `{line}` returned {code}"
        else:
            done = subprocess.run(
                ["bash", "-ec", line], capture_output=True, text=True, check=False
            )
            assert done.returncode == expected, f"{block}: `{line}`: {done.stderr}"
            printed.write(done.stdout)
    if block.kind == "console":
        said = " ".join(printed.getvalue().split())
        for line in re.sub(r"\\\n\s*", " ", block.code).splitlines():
            if line.strip() and not line.startswith("$ "):
                assert " ".join(line.split()) in said, f"{block} does not print: {line}"
