import dataclasses
import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from bedside.errors import FormatError, SpecError, SplitError
from bedside.spec import DistillSpec
from bedside.training.run import train
from runs_for_tests import StoppedError, stop_after_first

pytest_plugins = ["training_fixtures"]


def make_teacher(recipe, folder):
    levels = tuple(
        dataclasses.replace(level, channels=24) for level in recipe.deployment.model.levels
    )
    model = dataclasses.replace(recipe.deployment.model, levels=levels)
    larger = dataclasses.replace(
        recipe,
        deployment=dataclasses.replace(recipe.deployment, name="teacher", model=model),
        training=dataclasses.replace(recipe.training, epochs=1),
    )
    train(larger, folder, threads=1)
    return folder


def taught_by(recipe, *teachers, **changes):
    spec = DistillSpec(tuple(str(teacher) for teacher in teachers), **changes)
    training = dataclasses.replace(recipe.training, epochs=2)
    return dataclasses.replace(recipe, distill=spec, training=training)


def read_run(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_distilled_run_says_who_taught_it_and_goes_on_exactly(recipe, tmp_path):
    teacher = make_teacher(recipe, tmp_path / "teacher")
    student = taught_by(recipe, teacher, channel_weight=1.0, channel_on="features")
    unbroken = load_file(train(student, tmp_path / "unbroken", threads=1))
    with pytest.raises(StoppedError):
        train(student, tmp_path / "broken", threads=1, on_progress=stop_after_first)
    continued = load_file(train(student, tmp_path / "broken", threads=1))
    assert all((continued[name] == unbroken[name]).all() for name in unbroken)
    assert not [name for name in unbroken if "adapter" in name]
    about = read_run(tmp_path / "unbroken")["teachers"]
    assert [record["name"] for record in about] == ["teacher"]
    assert about[0]["patients"] == read_run(teacher)["split"]["train"]
    assert len(about[0]["weights_sha256"]) == 64
    log = [
        json.loads(line)
        for line in (tmp_path / "unbroken" / "log.jsonl").read_text().split("\n")[:-1]
    ]
    assert set(log[0]["parts"]) == {"dice", "ce", "soft", "channel"}


def test_a_teacher_that_has_seen_a_test_patient_is_refused_even_at_second_hand(recipe, tmp_path):
    teacher = make_teacher(recipe, tmp_path / "teacher")
    student = taught_by(recipe, teacher)
    other = dataclasses.replace(student, data=dataclasses.replace(recipe.data, split_seed=3))
    with pytest.raises(
        SplitError, match=r'patient "patient\d+" is in the student\'s part "(val|test)"'
    ):
        train(other, tmp_path / "leaks", threads=1)
    assert not (tmp_path / "leaks" / "run.json").exists()
    run = read_run(teacher)
    run["teachers"] = [{"patients": run["split"]["test"][:1], "weights_sha256": ""}]
    (teacher / "run.json").write_text(json.dumps(run))
    with pytest.raises(SplitError, match='"test", but the teacher'):
        train(student, tmp_path / "leaks", threads=1)


def test_a_teacher_of_another_trade_is_refused(recipe, tmp_path):
    teacher = make_teacher(recipe, tmp_path / "teacher")
    student = taught_by(recipe, teacher)
    steps = dataclasses.replace(recipe.deployment, preprocess=recipe.deployment.preprocess[2:])
    with pytest.raises(SpecError, match=r"another deployment\.preprocess"):
        train(dataclasses.replace(student, deployment=steps), tmp_path / "run", threads=1)
    data = dataclasses.replace(recipe.data, name="other patients")
    with pytest.raises(SplitError, match="cannot be known"):
        train(dataclasses.replace(student, data=data), tmp_path / "run", threads=1)
    run = read_run(teacher)
    (teacher / "run.json").write_text(json.dumps(run | {"network": "unet"}))
    with pytest.raises(SpecError, match="is a unet"):
        train(student, tmp_path / "run", threads=1)
    (teacher / "run.json").write_text(json.dumps(run))
    (teacher / "weights.safetensors").unlink()
    with pytest.raises(FormatError, match="not finished"):
        train(student, tmp_path / "run", threads=1)
    with pytest.raises(FormatError, match=r"nowhere is not there\. Train the teacher first"):
        train(taught_by(recipe, Path("nowhere")), tmp_path / "run", threads=1)


def test_a_teacher_that_changed_since_the_run_began_is_refused(recipe, tmp_path):
    teacher = make_teacher(recipe, tmp_path / "teacher")
    student = taught_by(recipe, teacher)
    with pytest.raises(StoppedError):
        train(student, tmp_path / "run", threads=1, on_progress=stop_after_first)
    train(recipe, tmp_path / "other", threads=1)
    for name in ("weights.safetensors", "run.json"):
        (tmp_path / "other" / name).replace(teacher / name)
    with pytest.raises(SpecError, match="other weights of its teacher"):
        train(student, tmp_path / "run", threads=1)
