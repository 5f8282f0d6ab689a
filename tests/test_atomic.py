import os
import subprocess
import sys

import pytest

from bedside.errors import OutputError
from bedside.system import unfinished
from bedside.system.atomic import output_folder, write_text, written_atomically


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "result.json"
    write_text(path, "old")
    with pytest.raises(TypeError), written_atomically(path) as temporary:
        temporary.write_bytes("not bytes")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_the_temporary_file_keeps_the_suffixes_that_writers_go_by(tmp_path):
    with written_atomically(tmp_path / "a.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"x")
    assert (tmp_path / "a.nii.gz").read_bytes() == b"x"


def test_results_are_ordinary_files_and_not_private_ones(tmp_path):
    write_text(tmp_path / "a.txt", "x")
    (tmp_path / "plain.txt").write_text("x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


def test_a_folder_that_is_a_file_cannot_be_written(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("here first")
    with pytest.raises(OutputError, match="A file is in the way"), output_folder(blocker):
        pass
    with pytest.raises(OutputError, match="cannot write"):
        write_text(blocker / "below.txt", "x")


def test_the_umask_is_the_kernels_to_apply_and_is_never_set(tmp_path, monkeypatch):
    def refuse(_mask):
        raise AssertionError("a thread that makes a file now gets another mode")

    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", refuse)
        write_text(tmp_path / "a.txt", "x")
        monkeypatch.undo()
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_only_what_nobody_holds_is_tidied_away(tmp_path, monkeypatch):
    monkeypatch.setattr(unfinished, "_tidied", set())
    names = [".part-20261129-notes.csv", ".part-mine", "bedside-training", "bedside-20261129"]
    for name in names:
        (tmp_path / name).write_text("of the user")
    stale = tmp_path / f".part-{'0' * 16}out"
    stale.mkdir()
    (stale / "image.png").write_text("half")
    (tmp_path / f"bedside-scratch-{'0' * 16}").mkdir()
    with unfinished.part_folder(tmp_path) as held:
        code = "import sys; from pathlib import Path; from bedside.system.unfinished import tidy; "
        command = [sys.executable, "-c", f"{code} tidy(Path(sys.argv[1]))", tmp_path]
        subprocess.run(command, check=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, held.name])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_name_that_is_taken_is_left_alone(tmp_path, monkeypatch):
    names = iter(["0" * 16, "1" * 16])
    monkeypatch.setattr(unfinished.secrets, "token_hex", lambda size: next(names))
    theirs = tmp_path / f".part-{'0' * 16}"
    theirs.mkdir()
    (theirs / "image.png").write_text("of another process")
    monkeypatch.setattr(unfinished, "_tidied", {str(tmp_path)})
    with unfinished.part_folder(tmp_path) as folder:
        assert folder != theirs
    assert (theirs / "image.png").exists()
    assert not folder.exists()


def test_a_folder_that_another_process_tidies_away_before_it_is_held_is_made_again(
    tmp_path, monkeypatch
):
    made = []

    def make_and_lose(path, mode):
        made.append(path)
        make(path, mode)
        if len(made) == 1:
            path.rmdir()

    make = os.mkdir
    monkeypatch.setattr(unfinished.os, "mkdir", make_and_lose)
    with unfinished.scratch_folder(tmp_path) as folder:
        assert folder.is_dir()
        assert [folder] == made[1:]
