"""Builds the documentation site into build/docs: guides, API reference and benchmark tables.

The guides link to files anywhere in the repository, so every linked file is copied into
build/docs-source under its own path, and links work as they do in the repository. Warnings,
missing files and missing anchors are errors.
"""

import ast
import logging
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import griffe
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "build" / "docs-source"
GUIDES = {
    "README.md": "Overview",
    "docs/researcher.md": "For researchers",
    "docs/device-engineer.md": "For device engineers",
    "docs/integrator.md": "For integrators",
}
PROJECT = {"ARCHITECTURE.md": "Architecture", "CHANGELOG.md": "Changelog"}
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)")


class Examples(griffe.Extension):
    """Shows the `Example:` section of our docstrings as code."""

    def on_object(self, *, obj: griffe.Object, **others: Any) -> None:
        """Rename the section to the one that griffe knows."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")


def main() -> int:
    """Build the site.

    Returns:
        0, or 1 if there was a warning or an error, which mkdocs has printed.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    shutil.rmtree(SOURCE, ignore_errors=True)
    topics = [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
    _copy([*GUIDES, *PROJECT, *topics])
    navigation = [
        {"Guides": [{title: path} for path, title in GUIDES.items()]},
        {"Topics": [path for path in topics if path not in GUIDES]},
        {"API reference": _write_reference()},
        {"Project": [{title: path} for path, title in PROJECT.items()]},
    ]
    config = load_config(
        str(ROOT / "docs" / "mkdocs.yml"),
        docs_dir=str(SOURCE),
        site_dir=str(ROOT / "build" / "docs"),
        nav=navigation,
        strict=True,
    )
    config.plugins["mkdocstrings"].config["handlers"]["python"]["paths"] = [str(ROOT / "src")]
    try:
        build(config)
    except Abort:
        return 1
    return 0


def _copy(paths: list[str]) -> None:
    """Copy pages and, from page to page, the files that they link to."""
    waiting, copied = list(paths), set()
    while waiting:
        path = waiting.pop()
        source = ROOT / path
        if path in copied or not source.is_file() or not source.is_relative_to(ROOT):
            continue  # a link to nothing stays a broken link, which mkdocs reports
        copied.add(path)
        target = SOURCE / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix != ".md":
            shutil.copy(source, target)
            continue
        text = source.read_text(encoding="utf-8")
        for link, title, name in ((found[0], *found.groups()) for found in _LINK.finditer(text)):
            linked = (source.parent / name).resolve()
            if linked.is_dir():  # a site has no folders to show
                text = text.replace(link, title)
            elif ROOT in linked.parents:
                waiting.append(str(linked.relative_to(ROOT)))
        target.write_text(text, encoding="utf-8")


def _write_reference() -> list[dict[str, str]]:
    """Write a page for each entry of docs/reference.toml.

    Returns:
        Their titles and paths, for the navigation.
    """
    pages = tomllib.loads((ROOT / "docs" / "reference.toml").read_text(encoding="utf-8"))["page"]
    folder = SOURCE / "reference"
    folder.mkdir(parents=True, exist_ok=True)
    for page in pages:
        parts = [f"# {page['title']}\n"]
        for module in page["modules"]:
            parts.append(f"## `{module}` {{ #{module} }}\n")
            parts += [f"::: {module}.{name}\n" for name in _public_names(module)]
        (folder / f"{page['file']}.md").write_text("\n".join(parts), encoding="utf-8")
    return [{page["title"]: f"reference/{page['file']}.md"} for page in pages]


def _public_names(module: str) -> list[str]:
    """List a module's `__all__`, or its public classes and functions."""
    path = ROOT / "src" / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    body = ast.parse(file.read_text(encoding="utf-8")).body
    for node in body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__":
            names = ast.literal_eval(node.value)
            public = [name for name in names if not name.startswith("_")]
            return sorted(public, key=lambda name: name[0].isupper())  # functions first
    kinds = (ast.ClassDef, ast.FunctionDef)
    return [each.name for each in body if isinstance(each, kinds) and each.name[0] != "_"]


if __name__ == "__main__":
    sys.exit(main())
