"""No room, no permission, no such name: one clear line, exit code 2, and nothing half-written."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from bedside.batch.record import Basis, Record, append_line, write_lines
from bedside.cli.main import main
from bedside.errors import OutputError
from bedside.io.source import SUFFIXES, Algorithm, open_source, write_labels
from bedside.system.atomic import output_errors, write_text
from bedside.volume import LabelMap
from makers import LABELS, make_labels, write_nifti

resource = pytest.importorskip("resource", reason="limits are of POSIX")


@contextlib.contextmanager
def limited(size):
    """Let no file grow beyond a size: what a full disk is, without filling one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def check_clear(error, out, name):
    text = str(error.value)
    assert text.count("\n") == 0
    assert "Traceback" not in text
    assert ".part-" not in text
    assert f"cannot write {out / name}" in text
    assert os.strerror(errno.EFBIG) in text
    assert [path for path in out.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("format_", SUFFIXES)
def test_every_kind_of_mask_is_whole_or_not_there(format_, sequence, tmp_path):
    out = tmp_path / "out"
    source = open_source(sequence)
    target = out / f"segmentation{SUFFIXES[format_]}"
    with limited(64), pytest.raises(OutputError) as error:
        write_labels(
            LabelMap(make_labels(12), (0.5, 0.5)), source, target, labels_spec=LABELS,
            algorithm=Algorithm("a", "1", "0", "source"), format=format_,
        )  # fmt: skip
    check_clear(error, out, "segmentation" if format_ == "png" else target.name)


def write_pictures(sequence, out):
    from bedside.report import overlay

    labels = LabelMap(make_labels(12), (0.5, 0.5))
    plan = overlay.plan_overlay(open_source(sequence).sequence, labels, LABELS)
    overlay.write_overlay(plan, out)


def write_checkpoint(sequence, out):
    torch = pytest.importorskip("torch")
    from bedside.training.checkpoint import save_tensors

    save_tensors(out / "weights.safetensors", {"weight": torch.zeros(1000)})


def write_cached(sequence, out):
    pytest.importorskip("torch")
    from bedside.training.cache import _write

    _write(out / "a.npy", np.zeros(1000))


WRITERS = {
    "overlay.gif": write_pictures,
    "weights.safetensors": write_checkpoint,
    "a.npy": write_cached,
    "page.html": lambda sequence, out: write_text(out / "page.html", "<p>" * 100),
}


@pytest.mark.parametrize("name", WRITERS)
def test_pictures_weights_and_texts_are_whole_or_not_there(name, sequence, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with limited(64), pytest.raises(OutputError) as error:
        WRITERS[name](sequence, out)
    check_clear(error, out, name)


def test_a_list_of_records_stays_what_it_was(tmp_path):
    def make_record(name):
        basis = Basis((), "0", {}, "1")
        return Record(name, "a.png", "refused", None, 1.0, 1, (), basis, None, "2026-01-01")

    listing = tmp_path / "results.jsonl"
    write_lines([make_record("a")], listing)
    before = listing.read_bytes()
    with limited(64), pytest.raises(OutputError, match="cannot write"):
        write_lines([make_record("a"), make_record("b")], listing)
    assert listing.read_bytes() == before
    with limited(64), pytest.raises(OutputError, match=r"results\.jsonl"):
        append_line(make_record("b"), listing)
    assert listing.read_bytes() == before


@pytest.mark.parametrize("more", [[], ["--jobs", "2"], ["--format", "nifti"], ["--format", "png"]])
@pytest.mark.parametrize("limit", [100, 20000])
def test_a_run_that_has_no_room_is_one_line(more, limit, sequence, bundle, tmp_path):
    out = tmp_path / "out"
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(sequence, data / "a.dcm")
    code = (
        "import resource, sys; from bedside.cli.program import run_program;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); run_program()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "segment", data, "-m", bundle, "-o", out, *more],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"bedside: error: cannot write {out}")
    assert "Traceback" not in done.stderr
    assert "fault" not in done.stderr
    left = [path for path in out.rglob("*") if path.is_file() and ".batch" not in path.parts]
    assert [path for path in left if path.name != "results.jsonl"] == []
    assert not list(out.rglob(".part-*"))


def mount(folder, size):
    """Mount a small disk, or skip."""
    if shutil.which("mount") is None or os.name != "posix" or os.getuid() != 0:
        pytest.skip("no right to mount a small disk: a full disk is tried by limits only")
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
        capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("mounting a small disk is refused: a full disk is tried by limits only")


@pytest.fixture
def disk(tmp_path):
    """A disk of 64 kB."""
    folder = tmp_path / "disk"
    mount(folder, "64k")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("kept", [4096, 30000, 60000])
def test_a_full_disk_is_one_line_and_holds_nothing_of_ours(kept, disk, sequence, bundle, capsys):
    (disk / "filler").write_bytes(bytes(61440 - kept if kept < 61440 else 0))
    code = main(["segment", str(sequence), "-m", str(bundle), "-o", str(disk / "out")])
    told = capsys.readouterr().err
    assert code == 2, told
    assert told.splitlines()[-1].startswith(f"bedside: error: cannot write {disk / 'out'}")
    assert os.strerror(errno.ENOSPC) in told
    assert list(disk.iterdir()) == [disk / "filler"]


def test_a_full_cache_changes_nothing(disk, sequence, bundle, tmp_path, monkeypatch):
    (disk / "filler").write_bytes(bytes(65536))
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
    out = tmp_path / "out"
    assert main(["segment", str(sequence), "-m", str(bundle), "-o", str(out)]) == 0
    assert not list(disk.rglob(".part-*"))


def test_a_place_for_temporary_files_that_is_full_is_named(disk, bundle, tmp_path):
    (disk / "filler").write_bytes(bytes(60000))
    scan = np.random.default_rng(0).integers(0, 99, (220, 220, 200)).astype(np.int32)
    write_nifti(scan, tmp_path / "scan.nii.gz")
    done = subprocess.run(
        [sys.executable, "-m", "bedside", "segment", tmp_path / "scan.nii.gz", "-m", bundle,
         "-o", tmp_path / "out", "--force"],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "TMPDIR": str(disk)},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "TMPDIR" in done.stderr
    assert "scan.nii.gz" in done.stderr
    assert list(disk.iterdir()) == [disk / "filler"]


@pytest.mark.parametrize(
    ("output", "said"),
    [("file", "A file is in the way"), ("file/out", "A file is in the way"),
     ("x" * 300, "shorter name"), ("loop/out", "cannot write")],
)  # fmt: skip
@pytest.mark.parametrize("more", [[], ["--jobs", "2"]])
def test_a_place_that_cannot_be_is_one_line(output, said, more, sequence, bundle, tmp_path, capsys):
    (tmp_path / "file").write_text("here first")
    (tmp_path / "loop").symlink_to("loop")
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(sequence, data / "a.dcm")
    before = sorted(tmp_path.iterdir())
    out = tmp_path / output
    assert main(["segment", str(data), "-m", str(bundle), "-o", str(out), *more]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert said in told
    assert sorted(tmp_path.iterdir()) == before


def test_a_long_name_of_an_image_is_no_obstacle(bundle, tmp_path):
    picture = tmp_path / ("x" * 245 + ".png")
    Image.fromarray(np.full((40, 40), 99, np.uint8)).save(picture)
    assert main(["segment", str(picture), "-m", str(bundle), "-o", str(tmp_path / "out")]) == 0
    write_text(tmp_path / ("y" * 250 + ".json"), "{}")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_what_the_system_says_is_told_with_what_to_do(number, tmp_path):
    def fail():
        raise OSError(number, os.strerror(number))

    with pytest.raises(OutputError, match=os.strerror(number)) as error, output_errors(tmp_path):
        fail()
    assert "-o" in str(error.value)


def test_what_a_library_says_of_the_system_is_understood(tmp_path):
    with pytest.raises(OutputError, match="No space left"), output_errors(tmp_path):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    with pytest.raises(KeyError), output_errors(tmp_path):
        raise KeyError("a fault of ours")
