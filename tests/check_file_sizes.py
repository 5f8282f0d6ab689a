"""Fail where a file or function outgrows what one person reads at a time; part of `make check`."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST_FILE = {"src": 400, "tests": 600}
LONGEST_FUNCTION = 60
LARGEST_BYTES = 2 * 2**20


def list_faults(path: Path, *, longest: int) -> Iterator[str]:
    """What is too long in a Python file."""
    text = path.read_text(encoding="utf-8")
    if len(text.splitlines()) > longest:
        yield f"over {longest} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                yield f"{node.name} has {lines} lines, over {LONGEST_FUNCTION}"


def main(root: Path = ROOT) -> int:
    faults = []
    for name, longest in LONGEST_FILE.items():
        for path in sorted((root / name).rglob("*")):
            if path.suffix == ".py":
                faults += [
                    f"{path.relative_to(root)}: {f}" for f in list_faults(path, longest=longest)
                ]
            elif path.is_file() and path.stat().st_size > LARGEST_BYTES:
                faults.append(f"{path.relative_to(root)}: over {LARGEST_BYTES} bytes")
    sys.stderr.write("".join(f"{fault}\n" for fault in faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
