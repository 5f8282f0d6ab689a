import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bedside.training import parallel
from bedside.training.run import train
from runs_for_tests import make_recipe, to_toml
from together_for_tests import take_step

pytest_plugins = ["training_fixtures"]

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def launched(camus, tmp_path_factory):
    """A folder in which two processes trained together, and what they said."""
    output = tmp_path_factory.mktemp("together")
    recipe = output / "recipe.toml"
    recipe.write_text(to_toml(make_recipe(camus, epochs=2)))
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent / "src", TESTS))),
        "OMP_NUM_THREADS": "1",
    }
    # --standalone takes a port that is free.
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launch, TESTS / "together_for_tests.py", camus, output, recipe]
    done = subprocess.run(
        list(map(str, command)),
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    return output, done.stdout


@pytest.fixture
def together(launched):
    return launched[0]


def test_a_step_of_two_processes_is_the_step_of_one(together):
    shared = load_file(together / "step.safetensors")
    alone = take_step()
    assert set(shared) == set(alone)
    for name, expected in alone.items():
        assert torch.allclose(shared[name], expected, rtol=1e-4, atol=1e-7), name


def test_two_processes_train_to_the_end_and_one_of_them_writes(together):
    log = [
        json.loads(line) for line in (together / "unbroken" / "log.jsonl").read_text().splitlines()
    ]
    assert [record["epoch"] for record in log] == [1, 2]
    assert "dice" in log[-1]
    files = {path.name for path in (together / "unbroken").iterdir()}
    assert files == {"run.json", "log.jsonl", "curves.svg", "weights.safetensors", "validation"}


def test_two_processes_go_on_where_they_were_stopped(together):
    weights = [load_file(together / run / "weights.safetensors") for run in ("unbroken", "broken")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_two_processes_take_the_steps_of_one_in_another_rounding(together, camus, tmp_path):
    # Batch norms see half of each batch, so that losses are near and not the same.
    train(make_recipe(camus, epochs=2), tmp_path, threads=1)
    losses = [
        [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]
        for run in (together / "unbroken", tmp_path)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


def test_the_command_trains_together_too_and_one_process_speaks(launched):
    output, said = launched
    weights = [load_file(output / run / "weights.safetensors") for run in ("unbroken", "command")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    assert said.count("Trained:") == 1


def test_alone_nothing_is_shared_or_waited_for():
    tensor = torch.ones(2)
    with parallel.together(torch.device("cpu")):
        parallel.wait_for_all()
        assert parallel.sum_over_ranks(tensor) is tensor
        parallel.average_over_ranks([tensor])
    assert tensor.tolist() == [1, 1]
    assert (parallel.rank(), parallel.world_size()) == (0, 1)
