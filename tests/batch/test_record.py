import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from bedside.batch.record import (
    Basis,
    FileFact,
    InputFact,
    Record,
    append_line,
    begin_part,
    clear_parts,
    commit_record,
    input_fact,
    is_whole,
    list_files,
    read_record,
    write_lines,
)
from bedside.errors import FormatError

BASIS = Basis((InputFact(3, 4),), "ab" * 32, {"format": "auto"}, "0.1.0")
RECORD = Record("deep/a", "/x/a.png", "done", None, 0.5, 1, (), BASIS, {"fps": 1.5}, "2026-01-01")


def make_results(output, text="new"):
    folder = begin_part(output, RECORD.id) / "results"
    (folder / "segmentation").mkdir(parents=True)
    (folder / "segmentation" / "0001.png").write_text(text)
    (folder / "report.json").write_text(text)
    return folder


def commit_done(output, text="new"):
    folder = make_results(output, text)
    record = replace(RECORD, files=list_files(folder))
    commit_record(record, output, folder)
    return record


def test_a_record_comes_back_as_it_was(tmp_path):
    record = commit_done(tmp_path)
    assert read_record(tmp_path, RECORD.id) == record
    assert [file.name for file in record.files] == ["report.json", "segmentation/0001.png"]
    # Of "new", by sha256sum.
    digest = "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"
    assert record.files[0] == FileFact("report.json", 3, digest)
    assert is_whole(record, tmp_path)


def test_results_are_as_readable_as_any_folder(tmp_path):
    commit_done(tmp_path)
    (tmp_path / "plain").mkdir()
    assert (tmp_path / RECORD.id).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_second_settling_leaves_nothing_of_the_first(tmp_path):
    commit_done(tmp_path, "old")
    (tmp_path / RECORD.id / "more.txt").write_text("of the first")
    record = commit_done(tmp_path)
    assert is_whole(record, tmp_path)
    assert not (tmp_path / RECORD.id / "more.txt").exists()


def test_a_case_that_fails_the_second_time_has_no_results_any_more(tmp_path):
    commit_done(tmp_path)
    commit_record(replace(RECORD, status="failed"), tmp_path)
    assert not (tmp_path / RECORD.id).exists()
    assert read_record(tmp_path, RECORD.id).status == "failed"


@pytest.mark.parametrize("damage", ["folder", "file", "size"])
def test_a_record_without_all_its_files_is_not_done(damage, tmp_path):
    record = commit_done(tmp_path)
    folder = tmp_path / RECORD.id
    if damage == "folder":
        folder.rename(tmp_path / "elsewhere")
    elif damage == "file":
        (folder / "segmentation" / "0001.png").unlink()
    else:
        (folder / "report.json").write_text("ne")
    assert not is_whole(record, tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": "a"}'])
def test_a_record_that_is_none_counts_as_none(text, tmp_path):
    commit_done(tmp_path)
    (tmp_path / ".batch" / "records" / "deep" / "a.json").write_text(text)
    assert read_record(tmp_path, RECORD.id) is None


def test_only_what_is_left_of_these_cases_is_cleared(tmp_path):
    mine, other = begin_part(tmp_path, "a"), begin_part(tmp_path, "b")
    clear_parts(tmp_path, ["a"])
    assert not mine.exists()
    assert other.exists()


def test_lines_are_records_and_a_torn_one_is_repaired(tmp_path):
    target = tmp_path / "results.jsonl"
    append_line(RECORD, target)
    append_line(replace(RECORD, id="b"), target)
    whole = target.read_bytes()
    assert [json.loads(line)["id"] for line in whole.splitlines()] == ["deep/a", "b"]
    target.write_bytes(whole[:-10])
    write_lines([RECORD, replace(RECORD, id="b")], target)
    assert target.read_bytes() == whole


def test_a_file_is_told_by_size_and_time_and_a_folder_by_all_in_it(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    before = input_fact(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"1234")
    assert input_fact(tmp_path / "a") != before
    (tmp_path / "b").write_bytes(b"1")
    found = input_fact(tmp_path)
    assert (found.bytes, found.files) == (5, 2)
    with pytest.raises(FormatError, match="nowhere"):
        input_fact(tmp_path / "nowhere")


SETTLE_FOR_EVER = """
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from test_record import RECORD
from bedside.batch.record import append_line, begin_part, list_files, commit_record, write_lines

output = Path(sys.argv[1])
for turn in count():
    folder = begin_part(output, RECORD.id) / "results"
    folder.mkdir()
    for name in range(8):
        (folder / str(name)).write_text(f"{turn} " * 5000)
    record = replace(RECORD, files=list_files(folder), attempts=turn + 1)
    commit_record(record, output, folder)
    write_lines([record] * 50, output / "results.jsonl")
    append_line(record, output / "results.jsonl")
    print(turn, flush=True)
"""


def test_killed_at_any_moment_a_case_is_whole_or_not_there(tmp_path):
    chance = random.Random(0)
    output = tmp_path / "out"
    done = 0
    for _ in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", SETTLE_FOR_EVER, str(output)], stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        writer.stdout.readline()
        time.sleep(chance.uniform(0, 0.1))
        writer.kill()
        writer.communicate()
        folder = output / RECORD.id
        if folder.exists():
            contents = {path.read_text() for path in folder.iterdir()}
            assert len(contents) == 1
            assert len(list(folder.iterdir())) == 8
        record = read_record(output, RECORD.id)
        if is_whole(record, output):
            assert list_files(folder) == record.files
            done += 1
        lines = (output / "results.jsonl").read_text().splitlines()
        assert len(lines) in (50, 51)
        assert len({json.loads(line)["attempts"] for line in lines}) == 1
        clear_parts(output, [RECORD.id, "results.jsonl"])
        assert sorted(path.name for path in output.rglob("*") if path.name[0] == ".") == [".batch"]
        assert not list((output / ".batch" / "parts").iterdir())
    assert done
