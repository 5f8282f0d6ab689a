import os

import pytest

from bedside.atomic import check_writable, write_text, written_atomically
from bedside.errors import OutputError


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
    with pytest.raises(OutputError, match="A file is in the way"):
        check_writable(blocker)
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
