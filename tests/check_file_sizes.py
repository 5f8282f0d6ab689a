"""Fail where a file or function outgrows what one person reads at a time; part of `make check`.

Test files of one name fail too: pytest imports them as one module.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
LARGEST_BYTES = 2 * 2**20


def list_faults(path: Path) -> Iterator[str]:
    """What is too large about a file."""
    if path.stat().st_size > LARGEST_BYTES:
        yield f"over {LARGEST_BYTES} bytes"
    if path.suffix != ".py":
        return
    text = path.read_text(encoding="utf-8")
    if len(text.splitlines()) > LONGEST_FILE:
        yield f"over {LONGEST_FILE} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                yield f"{node.name} has {lines} lines, over {LONGEST_FUNCTION}"


def main(root: Path = ROOT) -> int:
    # What is fetched for the page is third-party, and not in the repository.
    files = sorted(
        path
        for name in ("src", "tests")
        for path in (root / name).rglob("*")
        if path.is_file() and "vendor" not in path.parts
    )
    faults = [f"{path.relative_to(root)}: {fault}" for path in files for fault in list_faults(path)]
    names = [path.name for path in files if path.name.startswith("test_")]
    faults += [
        f"tests: several files {name}" for name in sorted(set(names)) if names.count(name) > 1
    ]
    sys.stderr.write("".join(f"{fault}\n" for fault in faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
