"""A command that fails leaves no folder behind that it made, and nothing half-written."""

import dataclasses
import errno
import os
import shutil
import subprocess

import pytest

from bedside.bundle import find_bundle, write_bundle
from bedside.cli.main import main
from bedside.errors import OutputError
from bedside.service.audit import AuditLog, verify_audit
from bedside.spec import Fit, Grey, ScalePercentile
from bedside.system.atomic import append_bytes, files_together, made_folder, output_folder
from models_for_tests import make_bundle
from runs_for_tests import make_camus, make_recipe, to_toml

resource = pytest.importorskip("resource", reason="limits are of POSIX")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_camus(tmp_path_factory.mktemp("data"), patients=12)


@pytest.fixture
def full(tmp_path):
    """A disk without any room; where none may be mounted, the test is skipped."""
    if shutil.which("mount") is None or os.getuid() != 0:
        pytest.skip("no right to mount a small disk")
    folder = tmp_path / "full"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("mounting a small disk is refused")
    (folder / "filler").write_bytes(bytes(65536))
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def limited():
    """Let no file grow beyond a size, from when it is called."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def commands(data, folder):
    """Commands that write, by what they are called here, and the place that each writes to."""
    recipe = folder / "made.toml"
    recipe.write_text(to_toml(make_recipe(data)))
    table = folder / "fleet.csv"
    table.write_text("bundle,to\ncamus-4ch,onnx\n")
    camus = str(find_bundle("camus-4ch"))
    at_data = ["--data", data]
    return {
        "evaluate": ["evaluate", camus, data, "--gate", "off"],
        "robustness": ["evaluate", camus, data, "--gate", "off", "--robustness"],
        "ablation": ["evaluate", camus, data, "--gate", "off", "--ablate-pipeline"],
        "certify": ["certify", camus, *at_data],
        "calibrate": ["calibrate", camus, *at_data],
        "gate": ["gate", camus, data],
        "recipe": ["recipe", data],
        "train": ["train", recipe],
        "search": ["search", recipe, "--target-ms", "50"],
        "compress": ["compress", camus, "--recipe", recipe, "--target-ms", "50"],
        "build": ["build", recipe, "--untrained"],
        "export": ["export", camus, "--to", "onnx"],
        "golden": ["export", camus, "--golden"],
        "web": ["export", camus, "--to", "web"],
        "fleet": ["export", "--fleet", table],
        "evidence": ["evidence", camus],
        "segment": ["segment", data / "patient0001" / "patient0001_4CH_ED.nii.gz", "--force"],
        "several": ["segment", data / "patient0001", "--force"],
        "batch": ["segment", data / "patient0001", "--force", "--jobs", "2"],
        "bench": ["bench", "attention", "--quick"],
        "bench bundles": ["bench", camus],
    }


SUFFIX = {
    "certify": ".bedside", "calibrate": ".bedside", "gate": ".bedside", "build": ".bedside",
    "recipe": ".toml",
}  # fmt: skip


@pytest.mark.parametrize("name", ["evaluate", "robustness", "ablation", "recipe", "train", "search",
                                  "build", "golden", "fleet", "evidence", "segment", "several",
                                  "batch", "bench", "bench bundles"])  # fmt: skip
def test_on_a_full_disk_nothing_is_left(name, full, data, tmp_path, capsys):
    words = [str(word) for word in commands(data, tmp_path)[name]]
    output = full / "runs" / f"out{SUFFIX.get(name, '')}"
    assert main([*words, "-o", str(output)]) == 2
    told = capsys.readouterr().err
    assert f"cannot write {full}" in told
    assert os.strerror(errno.ENOSPC) in told
    assert list(full.iterdir()) == [full / "filler"]


@pytest.mark.parametrize(
    "name",
    ["evaluate", "robustness", "ablation", "certify", "calibrate", "gate", "recipe", "train",
     "search", "compress", "segment", "several", "batch"],
)  # fmt: skip
def test_refused_images_leave_no_folder(name, data, tmp_path, capsys):
    (tmp_path / "test_looks.jsonl").touch()  # where looks are recorded, also of what fails then
    spoilt = shutil.copytree(data, tmp_path / "spoilt")
    for image in spoilt.rglob("*.nii.gz"):
        if name == "train":  # whose run is recorded before images are read
            image.unlink()
        else:
            image.write_bytes(b"no image")
    words = [str(word) for word in commands(spoilt, tmp_path)[name]]
    output = tmp_path / "runs" / f"out{SUFFIX.get(name, '')}"
    assert main([*words, "-o", str(output)]) in (2, 3, 4)
    assert "bedside: error: " in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


FILES = {
    "evaluate": {"evaluation.json", "evaluation.csv", "evaluation.md", "worst_cases.png"},
    "robustness": {"robustness.json", "robustness.md", "robustness.svg", "robustness_worst.png"},
    "ablation": {"pipeline_steps.json", "pipeline_steps.md"},
}


@pytest.mark.parametrize("name", FILES)
def test_scores_appear_together_or_stay_what_they_were(name, data, tmp_path, limited, capsys):
    bundle = make_bundle(tmp_path)
    spec = dataclasses.replace(bundle.spec, preprocess=(Grey(), Fit(), ScalePercentile()))
    graphs = {"f32": bundle.read_graph("f32")}
    write_bundle(bundle.path, spec=spec, card=bundle.card, graphs=graphs, split=bundle.split)
    few = tmp_path / "few"
    shutil.copytree(data / "patient0001", few / "patient0001")
    words = [str(word) for word in commands(few, tmp_path)[name]]
    words[1] = str(bundle.path)
    output = tmp_path / "runs" / "out"
    limited(5000)  # room for the trial, and for the smallest files alone
    assert main([*words, "-o", str(output)]) == 2
    assert f"cannot write {output}" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    limited(resource.RLIM_INFINITY)
    assert main([*words, "-o", str(output)]) == 0
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    assert set(before) == FILES[name]
    limited(5000)
    shutil.copytree(data / "patient0002", few / "patient0002")
    assert main([*words, "-o", str(output)]) == 2
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def test_folders_that_were_made_go_and_others_stay(tmp_path):
    (tmp_path / "old").mkdir()
    for place in ("old/a/b", "new/a"):
        with pytest.raises(KeyError), output_folder(tmp_path / place):
            raise KeyError((tmp_path / place).is_dir())
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]
    assert list((tmp_path / "old").iterdir()) == []
    with pytest.raises(KeyError), made_folder(tmp_path / "new" / "a"):
        raise KeyError((tmp_path / "new" / "of_somebody_else").write_text("kept"))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["of_somebody_else"]
    with pytest.raises(KeyError), files_together(tmp_path / "old") as folder:
        raise KeyError((folder / "a.txt").write_text("a"))
    assert list((tmp_path / "old").iterdir()) == []


def test_a_line_is_appended_whole_or_not_at_all(tmp_path, limited):
    ledger = tmp_path / "deep" / "looks.jsonl"
    limited(10)
    with pytest.raises(OutputError, match="cannot write"):
        append_bytes(ledger, b"x" * 20)
    assert not ledger.parent.exists()
    append_bytes(ledger, b"first\n")
    with pytest.raises(OutputError, match="cannot write"):
        append_bytes(ledger, b"x" * 20)
    assert ledger.read_bytes() == b"first\n"
    limited(resource.RLIM_INFINITY)
    append_bytes(ledger, b"second\n", durable=True)
    assert ledger.read_bytes() == b"first\nsecond\n"


def test_a_line_of_an_audit_that_has_no_room_is_no_part_of_it(tmp_path, limited):
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path)
    log.add("started")
    limited(path.stat().st_size + 20)
    with pytest.raises(OutputError, match="cannot write"):
        log.add("segmented")
    limited(resource.RLIM_INFINITY)
    log.add("stopped")
    log.close()
    assert verify_audit(path).lines == 2
