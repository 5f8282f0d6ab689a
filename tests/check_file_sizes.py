"""Fail where a source file outgrows what one person reads at a sitting; part of `make check`."""

import sys
from pathlib import Path

LONGEST = 600
LARGEST_BYTES = 2 * 2**20


def main() -> int:
    root = Path(__file__).parents[1]
    faults = []
    for path in sorted((root / "src").rglob("*")):
        if path.suffix == ".py" and len(path.read_text().splitlines()) > LONGEST:
            faults.append(f"{path.relative_to(root)}: over {LONGEST} lines")
        if path.is_file() and path.stat().st_size > LARGEST_BYTES:
            faults.append(f"{path.relative_to(root)}: over {LARGEST_BYTES} bytes")
    sys.stderr.write("".join(f"{fault}\n" for fault in faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
