"""The same batch by Ray's workers, on this machine alone."""

import importlib.util
import json
import subprocess
import sys

import pytest

import makers
from batches_for_tests import hash_tree, read_lines
from bedside.cli.main import main

pytest_plugins = ["batch_fixtures"]

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason='RAY IS NOT INSTALLED, SO ITS ADAPTER IS NOT TESTED: pip install "ray>=2.60"',
)

# A process of its own: Ray leaves threads and warnings behind in the one that calls it.
KILLER = """
import sys
from pathlib import Path
from bedside.batch.manifest import read_manifest
from bedside.batch.ray import RayPool, connect
from bedside.batch.run import plan_batch, run_batch
from bedside.options import Options, OutputOptions, RunOptions

manifest, bundle, output = map(Path, sys.argv[1:])
connect("local")

class Killing(RayPool):
    def start(self, first):
        worker = super().start(first)
        submit = worker.submit
        def submit_and_kill(job):
            submit(job)
            if job.case.id == "b":
                worker.stop()
        worker.submit = submit_and_kill
        return worker

import ray
plan = plan_batch(
    read_manifest(manifest), output, model=bundle,
    options=Options(run=RunOptions("auto", "f32", 1),
                    output=OutputOptions(with_cost=False, moment="source")),
    resume=False,
)
run_batch(plan, Killing(ray), size=1)
"""


@pytest.fixture
def manifest(tmp_path):
    lines = []
    for seed, name in enumerate("abc"):
        makers.write_picture(makers.make_fan(1, seed=seed)[0], tmp_path / f"{name}.png")
        lines.append(json.dumps({"id": name, "source": f"{name}.png"}) + "\n")
    path = tmp_path / "cases.jsonl"
    path.write_text("".join(lines))
    return path


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_error_says_how_to_install_it(manifest, bundle, tmp_path, capsys):
    command = ["segment", "--manifest", str(manifest), "-m", str(bundle)]
    assert main([*command, "-o", str(tmp_path / "out"), "--ray", "local"]) == 4
    assert 'pip install "ray>=2.60"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@needs_ray
def test_ray_gives_the_bytes_that_processes_give(manifest, bundle, tmp_path):
    command = ["segment", "--manifest", str(manifest), "-m", str(bundle)]
    assert main([*command, "-o", str(tmp_path / "plain")]) == 0
    command = [sys.executable, "-m", "bedside", *command]
    command += ["-o", str(tmp_path / "ray"), "--ray", "local", "--jobs", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert json.loads(done.stdout)["counts"]["done"] == 3
    assert hash_tree(tmp_path / "ray") == hash_tree(tmp_path / "plain")


@needs_ray
def test_an_actor_that_dies_twice_is_an_error_line(manifest, bundle, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLER, str(manifest), str(bundle), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = read_lines(out / "results.jsonl")
    assert [line["status"] for line in lines] == ["done", "failed", "done"]
    assert lines[1]["attempts"] == 2
    assert "Ray says" in lines[1]["error"]["message"]
