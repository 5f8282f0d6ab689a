"""The wheel holds what an installation needs, and no tests; `make wheel` installs it."""

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Names of the files of a wheel that was built from a copy of the sources."""
    if int(version("setuptools").partition(".")[0]) < 77:
        pytest.skip("NOT TESTED: setuptools >= 77 is not installed, so no wheel can be built")
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", folder / "src", ignore=left_out)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=folder, capture_output=True, text=True, check=True
    )
    wheel = folder / done.stdout.splitlines()[-1]
    return zipfile.ZipFile(wheel).namelist()


@pytest.mark.parametrize("kind", ["*.py", "recipes/*.toml", "bundles/*.bedside", "py.typed"])
def test_every_file_of_the_package_is_in_the_wheel(names, kind):
    package = ROOT / "src" / "bedside"
    files = [path.relative_to(package.parent).as_posix() for path in package.rglob(kind)]
    assert files
    assert [name for name in files if name not in names] == []


def test_nothing_else_is_in_the_wheel(names):
    assert {name.partition("/")[0] for name in names} == {
        "bedside", f"bedside-{version('bedside')}.dist-info",
    }  # fmt: skip
    assert [name for name in names if "/test" in name or "__pycache__" in name] == []
