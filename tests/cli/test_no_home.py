"""Without a home, with one that cannot be used, and as a user whom the system does not know."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bedside.cli.demo import find_cine
from bedside.system.cache import cache_folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="homes and users of POSIX")

UNKNOWN = ("unshare", "--user", "--map-user=12345", "--map-group=12345")
# Variables that stand for a user: what `docker run -u 12345` does not set.
_USER = ("HOME", "USER", "LOGNAME", "USERNAME", "LNAME", "XDG_CACHE_HOME", "TMPDIR")


def run(*arguments, before=(), cwd=None, **environment):
    kept = {key: value for key, value in os.environ.items() if key not in _USER}
    done = subprocess.run(
        [*before, sys.executable, "-m", "bedside", *map(str, arguments)],
        env={**kept, **environment}, cwd=cwd, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    return done


def need_unknown_user():
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not here: not tried as an unknown user")
    if subprocess.run([*UNKNOWN, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a user namespace is not allowed here: not tried as an unknown user")


@pytest.mark.parametrize(
    ("home", "backend"),
    [
        ({}, "openvino"), ({"HOME": "/"}, "openvino"), ({"HOME": ""}, "openvino"),
        ({}, "onnxruntime"),
    ],
    ids=["none-openvino", "root-openvino", "empty-openvino", "none-onnxruntime"],
)  # fmt: skip
def test_an_unknown_user_can_do_all(home, backend, tmp_path):
    need_unknown_user()
    if backend == "onnxruntime":
        pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    run(
        "segment", find_cine(), "-m", "camus-4ch", "-o", out, "--backend", backend,
        before=UNKNOWN, cwd=tmp_path, **home,
    )  # fmt: skip
    assert (out / "segmentation.dcm").exists()
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": "/nonexistent"},
        {"HOME": "/proc"},  # cannot be written to, not even by root
        {"HOME": "/dev/null"},
        {"XDG_CACHE_HOME": "/proc/nothing"},
        {"XDG_CACHE_HOME": "not/absolute", "HOME": "not/absolute"},
        {"HOME": "/proc", "TMPDIR": "/proc"},
    ],
    ids=str,
)
def test_a_home_that_cannot_be_used_is_no_fault(environment, sequence, bundle, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    run("segment", sequence, "-m", bundle, "-o", tmp_path / "out", cwd=work, **environment)
    assert (tmp_path / "out" / "segmentation.dcm").exists()
    assert list(work.iterdir()) == []


def test_an_unknown_user_trains_and_builds(tmp_path):
    need_unknown_user()
    pytest.importorskip("torch")
    from runs_for_tests import make_camus, make_recipe, to_toml

    (tmp_path / "data").mkdir()
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(make_recipe(make_camus(tmp_path / "data"), epochs=1)))
    run_folder = tmp_path / "run"
    run("train", recipe, "-o", run_folder, "--threads", "1", before=UNKNOWN, cwd=tmp_path)
    run("build", run_folder, "-o", tmp_path / "a.bedside", before=UNKNOWN, cwd=tmp_path)
    assert (tmp_path / "a.bedside").exists()


def test_workers_of_an_unknown_user_work(sequence, bundle, tmp_path):
    need_unknown_user()
    data = tmp_path / "data"
    data.mkdir()
    for name in ("a.dcm", "b.dcm"):
        shutil.copy(sequence, data / name)
    out = tmp_path / "out"
    run(
        "segment", data, "-m", bundle, "-o", out, "--jobs", "2", "--untrusted",
        before=UNKNOWN, cwd=tmp_path,
    )  # fmt: skip
    assert len(list(out.glob("*/segmentation.dcm"))) == 2


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/bedside"),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/bedside"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/bedside"),
        ({"HOME": "relative"}, None),
    ],
)
def test_the_cache_folder_is_where_xdg_has_it(environment, expected, monkeypatch):
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == (None if expected is None else Path(expected))
