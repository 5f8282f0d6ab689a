"""No run contacts anything, or writes outside its output and bedside's own cache.

Three ways to look: a guard in every Python process and a look at all folders after the run,
which work everywhere; strace, which sees libraries in C++ too; and a network with nobody in it.
"""

import shutil

import pytest

from bedside.cli.demo import find_cine
from bedside.runtime import BACKENDS as TABLE
from bedside.runtime.table import installed_backends
from outside_for_tests import Outside, can_trace, can_unshare

BACKENDS = [backend.name for backend in TABLE]


@pytest.fixture
def outside(tmp_path):
    return Outside.make(tmp_path / "outside")


def need(backend):
    if backend not in installed_backends():
        pytest.skip(f"{backend} is not installed: nobody looks at what it sends")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_leaves_nothing_but_its_output_and_its_cache(outside, backend):
    need(backend)
    outside.run("segment", find_cine(), "-m", "camus-4ch", "-o", outside.out, "--backend", backend)
    assert (outside.out / "segmentation.dcm").exists()
    outside.check()


def test_workers_and_decoders_in_processes_of_their_own_leave_nothing_else(
    outside, sequence, bundle, tmp_path
):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("a.dcm", "b.dcm"):
        shutil.copy(sequence, data / name)
    common = ("segment", data, "-m", bundle, "-o", outside.out)
    outside.run(*common, "--jobs", "2", "--untrusted", "--sr")
    assert len(list(outside.out.glob("*/measurements.dcm"))) == 2
    outside.check()


def test_the_demo_and_commands_that_only_tell_leave_nothing_else(outside, bundle):
    outside.run("demo", "-o", outside.out)
    outside.run("models")
    outside.run("inspect", bundle)
    outside.check()


def test_the_model_way_leaves_nothing_else(outside, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("nncf")
    from runs_for_tests import make_camus, make_recipe, to_toml

    (tmp_path / "data").mkdir()
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(make_recipe(make_camus(tmp_path / "data"), epochs=1)))
    run, bundle = outside.out / "run", outside.out / "tiny.bedside"
    outside.run("train", recipe, "-o", run, "--threads", "1")
    outside.run("build", run, "-o", bundle)
    outside.run("evaluate", bundle, tmp_path / "data", "--split", "test", "-o", outside.out / "ev")
    outside.run("export", bundle, "--to", "onnx", "-o", outside.out / "onnx")
    outside.run("bench", bundle, "--seconds", "0.1")
    outside.check()


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_library_calls_or_writes_behind_our_back(outside, backend):
    need(backend)
    if not can_trace():
        pytest.skip("strace is not here or not allowed: calls of libraries in C++ are not seen")
    calls, strange = outside.trace(
        "segment", find_cine(), "-m", "camus-4ch", "-o", outside.out, "--backend", backend
    )
    assert calls == []
    assert strange == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_needs_no_network(outside, backend):
    need(backend)
    if not can_unshare():
        pytest.skip("unshare -rn is not allowed here: not tried without a network")
    outside.run(
        "segment", find_cine(), "-m", "camus-4ch", "-o", outside.out, "--backend", backend,
        before=("unshare", "-rn"),
    )  # fmt: skip
    outside.check()
