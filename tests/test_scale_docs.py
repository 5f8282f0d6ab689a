"""The templates of docs/scale.md are run, with a stand-in for what hands the jobs out."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import makers
from bedside.batch.manifest import read_manifest, read_shard
from bedside.cli import segment
from bedside.cli.arguments import Parser, add_command, settings_from
from bedside.system.store_url import store_url

TEXT = (Path(__file__).parents[1] / "docs" / "scale.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)


def block(kind):
    return next(text for found, text in BLOCKS if found == kind)


def fill_nextflow():
    """The script of the Nextflow process as its shell gets it: filled in, escapes undone."""
    script = re.search(r'script:\n\s+"""\n(.*?)"""', block("nextflow"), re.DOTALL)[1]
    values = {
        "file(params.manifest)": "study/cases.jsonl", "file(params.output)": "study/out",
        "shard": "2", "params.shards": "2", "params.model": "camus-4ch", "task.cpus": "2",
    }  # fmt: skip
    filled = re.sub(r"(?<!\\)\$\{([^}]*)\}", lambda found: values[found[1]], script)
    # Nextflow's shell stops at the first error.
    return "set -ue\n" + filled.replace("\\$", "$")


SCRIPTS = {"slurm": block("bash"), "nextflow": fill_nextflow()}


def list_commands():
    """Every call of bedside."""
    filled = "\n".join([*(text for kind, text in BLOCKS if kind == "sh"), *SCRIPTS.values()])
    filled = filled.replace("\\\n", " ").replace("$i/$n", "2/16")
    filled = filled.replace("${SLURM_CPUS_PER_TASK}", "4")
    lines = re.findall(r"bedside (segment .*?)(?: \|\| code=.*)?$", filled, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def parse(words):
    parser = Parser(prog="bedside")
    add_command(parser.add_subparsers(), "segment", segment.Settings, segment.run)
    return settings_from(parser.parse_args(words))


@pytest.fixture
def run(tmp_path):
    """Run a script; `bedside` is that of this environment, and srun starts what it is given."""
    stand_ins = {"bedside": f'exec "{sys.executable}" -m bedside "$@"', "srun": 'exec "$@"'}
    for name, line in stand_ins.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def run_script(script):
        task = {"ARRAY_TASK_ID": "2", "ARRAY_TASK_COUNT": "2", "CPUS_PER_TASK": "2"}
        return subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={
                **os.environ, **{f"SLURM_{name}": value for name, value in task.items()},
                "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path),
            },
        )  # fmt: skip

    return run_script


def write_study(folder, *, bad):
    folder.mkdir()
    for name in "ab":
        makers.write_picture(makers.make_fan(1)[0], folder / f"{name}.png")
    if bad:
        (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    lines = [{"id": name, "source": f"{name}.png"} for name in "ab"]
    (folder / "cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_shell_reads_the_scripts(script):
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_bad_case_is_in_the_list_and_the_job_has_done_its_work(script, run, tmp_path):
    write_study(tmp_path / "study", bad=True)
    done = run(script)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "study" / "out" / "results-2-of-2.jsonl").read_text()
    assert (json.loads(lines)["id"], json.loads(lines)["status"]) == ("b", "refused")
    if "results.jsonl" in script:
        assert (tmp_path / "results.jsonl").read_text() == lines


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_job_that_cannot_begin_has_failed(script, run, tmp_path):
    done = run(script)
    assert done.returncode != 0
    assert "cases.jsonl" in done.stderr


def test_every_command_means_something_to_bedside():
    shards = []
    for words in list_commands():
        settings = parse(words)
        assert settings.sources or settings.manifest
        shards.append(settings.shard)
    assert shards == [None, None, "1/2", "2/2", None, "2/16", "2/2"]


def test_the_command_of_the_job_means_something_to_bedside(monkeypatch):
    words = re.findall(r"^            - (.+)$", block("yaml"), re.MULTILINE)[:-1]
    assert words[:2] == ["bedside", "segment"]
    settings = parse(words[1:])
    assert store_url(settings.manifest) == "s3://study/cases.jsonl"
    assert store_url(settings.output) == "s3://study/out"
    completions = int(re.search(r"completions: (\d+)", block("yaml"))[1])
    for index in (0, completions - 1):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        assert read_shard(settings.shard) == (index + 1, completions)


def test_the_manifest_of_the_guide_is_one(tmp_path):
    (tmp_path / "cases.jsonl").write_text(block("json"), encoding="utf-8")
    cases = read_manifest(tmp_path / "cases.jsonl")
    assert [case.id for case in cases] == ["p001", "p002", "p003"]
    assert cases[2].channels == (tmp_path / "images/p003_t1.nii.gz",)
