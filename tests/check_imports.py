"""Fail where modules of bedside import each other in a circle; part of `make check`.

Imports count wherever they stand: at the top, in a function, under TYPE_CHECKING, and as text in a
table, "bedside.module" or "bedside.module:function".
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
_NAMED = re.compile(r"(bedside(?:\.\w+)+)(?::\w+)?")


def find_modules(source: Path) -> dict[str, Path]:
    """Files of all modules, by name."""
    found = {}
    for path in source.rglob("*.py"):
        name = ".".join(path.relative_to(source).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def list_imports(name: str, path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    """Modules that a module names."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            parts = [*(above if node.level else ()), *([node.module] if node.module else ())]
            base = ".".join(parts)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in modules else base
        elif isinstance(node, ast.Constant) and (named := _NAMED.fullmatch(str(node.value))):
            yield named[1]


def find_cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """Names along one circle, first and last the same; none if there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])[::-1]
    return []


def main(source: Path = SOURCE) -> int:
    modules = find_modules(source)
    graph = {
        name: {each for each in list_imports(name, path, modules) if each in modules} - {name}
        for name, path in modules.items()
    }
    if cycle := find_cycle(graph):
        sys.stderr.write(f"modules import each other: {' -> '.join(cycle)}\n")
    return 1 if cycle else 0


if __name__ == "__main__":
    sys.exit(main())
