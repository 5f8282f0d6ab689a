"""Builds the wheel, installs it into empty environments, and runs the README's first lines there.

python tests/check_wheel.py python3.11 python3.12 python3.13
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
_PREPARE = "import shutil, bedside.cli.demo as d; shutil.copy(d.find_cine(), 'image.dcm')"
_AFTER = "\nassert result.labels.shape == (30, 240, 320) and result.labels.any()\n"


def main(pythons: list[str]) -> int:
    """Check the wheel with each Python.

    Args:
        pythons: Interpreters, by name or path; this one if empty.

    Returns:
        0; a step that fails raises.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, *_PIP, "wheel", "--no-deps", "--wheel-dir", folder, ROOT, at=ROOT)
        (wheel,) = folder.glob("*.whl")
        for number, python in enumerate(pythons or [sys.executable]):
            check(python, wheel, folder / str(number))
    return 0


def check(python: str, wheel: Path, folder: Path) -> None:
    """Install a wheel and use it as the README does: from Python, typed, and as a command."""
    run(python, "-m", "venv", folder, at=wheel.parent)
    own = folder / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    run(own, *_PIP, "install", "--constraint", constraints, wheel, "mypy", at=folder)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (folder / "first.py").write_text(
        re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1] + _AFTER
    )
    run(own, "-c", _PREPARE, at=folder)
    run(own, "first.py", at=folder)
    run(own, "-m", "mypy", "--strict", "first.py", at=folder)
    run(folder / "bin" / "bedside", "inspect", "camus-4ch", at=folder)
    run(folder / "bin" / "bedside", "recipe", "--list", at=folder)
    files = sorted(path.name for path in (folder / "out").iterdir())
    version = subprocess.run([own, "--version"], capture_output=True, text=True, check=True)
    sys.stdout.write(f"{version.stdout.strip()}: the README's lines work, typed: {files}\n")


def run(*command: str | Path, at: Path) -> None:
    """Run a command in a folder, with nothing of this environment's packages.

    Raises:
        SystemExit: If it fails; with what it has printed.
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(command, cwd=at, env=clean, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
