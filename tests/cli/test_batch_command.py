import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest

import makers
from batches_for_tests import (
    find_workers,
    harass,
    hash_tree,
    read_lines,
    start,
    write_cases,
)
from bedside.cli.main import main
from bedside.report.record import COST_KEYS
from dicom_makers import make_slices, write_series

COUNT = 12


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return write_cases(tmp_path_factory.mktemp("cases"), COUNT)


@pytest.fixture(scope="module")
def plain(cases, bundle, tmp_path_factory):
    """One run, nobody in its way: what it gave, and its list."""
    manifest, _ = cases
    out = tmp_path_factory.mktemp("plain") / "out"
    command = ["segment", "--manifest", str(manifest), "-m", str(bundle), "-o", str(out)]
    assert main(command) == 3
    return out


def test_every_case_has_its_folder_and_its_line(cases, plain):
    _, bad = cases
    lines = read_lines(plain / "results.jsonl")
    assert [line["id"] for line in lines] == [f"case-{number:03d}" for number in range(COUNT)]
    assert {line["id"] for line in lines if line["status"] == "refused"} == bad == {"case-011"}
    assert {path.name for path in plain.iterdir()} == {
        ".batch", "results.jsonl", *(line["id"] for line in lines if line["id"] not in bad),
    }  # fmt: skip
    found = hash_tree(plain)
    for line in lines:
        listed = {f"{line['id']}/{file['name']}": file["sha256"] for file in line["files"]}
        here = {name: sha for name, sha in found.items() if name.startswith(f"{line['id']}/")}
        assert listed == here
    assert lines[11]["error"]["type"] == "FormatError"
    assert "case-011.png" in lines[11]["error"]["message"]
    assert lines[0]["cost"]["frames"] == 2


def test_a_report_of_a_batch_tells_no_cost_and_all_else(cases, plain, bundle, tmp_path):
    source = cases[0].parent / "data" / "case-000.dcm"
    assert main(["segment", str(source), "-m", str(bundle), "-o", str(tmp_path / "one")]) == 0
    alone = json.loads((tmp_path / "one" / "report.json").read_text())
    batch = json.loads((plain / "case-000" / "report.json").read_text())
    assert batch == {key: value for key, value in alone.items() if key not in COST_KEYS}
    assert set(COST_KEYS) - {"startup_ms"} <= set(read_lines(plain / "results.jsonl")[0]["cost"])
    page = (plain / "case-000" / "report.html").read_text()
    assert "Latency" not in page
    assert "threads" not in page
    for name in ("overlay.gif", "contact_sheet.png"):
        same = [(place / name).read_bytes() for place in (tmp_path / "one", plain / "case-000")]
        assert same[0] == same[1]


def test_a_seg_of_a_batch_has_the_date_of_its_image_and_claims_no_other(plain):
    seg = pydicom.dcmread(plain / "case-000" / "segmentation.dcm")
    assert seg.ContentDate == seg.SeriesDate == "20200102"
    assert "InstanceCreationDate" not in seg


def test_source_date_epoch_is_the_date_where_it_is_set(
    cases, bundle, tmp_path, monkeypatch, capsys
):
    manifest = tmp_path / "one.jsonl"
    source = cases[0].parent / "data" / "case-000.dcm"
    manifest.write_text(json.dumps({"id": "a", "source": str(source), "model": str(bundle)}))
    command = ["segment", "--manifest", str(manifest), "-o", str(tmp_path / "out")]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    assert main(command) == 2
    assert "SOURCE_DATE_EPOCH" in capsys.readouterr().err
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    assert main(command) == 0
    seg = pydicom.dcmread(tmp_path / "out" / "a" / "segmentation.dcm")
    assert (seg.ContentDate, seg.InstanceCreationTime) == ("20010909", "014640")


@pytest.mark.skipif(not Path("/proc").exists(), reason="workers are found in /proc")
def test_shards_killed_at_random_and_resumed_give_the_bytes_of_one_plain_run(
    cases, plain, bundle, tmp_path
):
    manifest, bad = cases
    out = tmp_path / "out"
    expected = hash_tree(plain)

    def check():
        """Whatever has a place is whole, at any moment."""
        folders = [path for path in out.iterdir() if path.is_dir() and path.name[0] != "."]
        for folder in folders:
            here = {f"{folder.name}/{path.name}" for path in folder.iterdir()}
            assert here == {name for name in expected if name.startswith(f"{folder.name}/")}

    chance = random.Random(4)
    batches = [
        start(manifest, bundle, out, "--jobs", jobs, "--shard", f"{number}/2")
        for number, jobs in ((1, "1"), (2, "2"))
    ]
    while sum(path.name.startswith("case") for path in out.glob("*")) < 2:
        time.sleep(0.05)
    killed = harass(batches, chance, kills=3, pause_s=0.3, check=check)
    batches[0].kill()  # the one who hands out the cases of a shard
    orphans = find_workers(batches[0].pid)
    batches[1].communicate(timeout=120)
    batches[0].communicate(timeout=120)
    assert killed >= 1
    # One that was still importing when its parent was killed sees that when it is done.
    deadline = time.monotonic() + 60
    while left := [pid for pid in orphans if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    check()
    for number in (1, 2):
        words = ("--shard", f"{number}/2", "--resume")
        done = start(manifest, bundle, out, *words)
        told = done.communicate(timeout=120)
        assert done.returncode == (3 if number == 2 else 0), told
    assert hash_tree(out) == expected
    lists = [out / f"results-{number}-of-2.jsonl" for number in (1, 2)]
    lines = read_lines(*lists)
    assert sorted(line["id"] for line in lines) == [f"case-{n:03d}" for n in range(COUNT)]
    assert {line["id"] for line in lines if line["status"] != "done"} == bad


def test_a_batch_in_a_runtime_without_a_certificate_warns_in_every_case(bundle, tmp_path):
    manifest, _ = write_cases(tmp_path / "cases", 2)
    out = tmp_path / "out"
    words = ["-m", str(bundle), "-o", str(out), "--backend", "onnxruntime", "--jobs", "2"]
    main(["segment", "--manifest", str(manifest), *words])
    reports = [json.loads(path.read_text()) for path in out.glob("*/report.json")]
    assert reports
    for report in reports:
        assert report["backend"] == "onnxruntime"
        assert any("not certified for onnxruntime in f32" in text for text in report["warnings"])


def test_done_cases_are_not_done_again(cases, plain, bundle, capsys):
    before = {path: path.stat().st_mtime_ns for path in plain.glob("case-*")}
    command = ["segment", "--manifest", str(cases[0]), "-m", str(bundle), "-o", str(plain)]
    assert main([*command, "--resume", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"done": 11, "refused": 1, "failed": 0}
    assert {path: path.stat().st_mtime_ns for path in plain.glob("case-*")} == before
    assert main(command) == 2
    assert "--resume" in capsys.readouterr().err


def test_a_folder_by_workers_is_laid_out_as_without(bundle, tmp_path, capsys):
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.png"):
        makers.write_picture(makers.make_fan(1)[0], data / name)
    (data / "notes.txt").write_text("no image")
    for jobs in ("1", "2"):
        out = tmp_path / jobs
        command = ["segment", str(data), "-m", str(bundle), "-o", str(out), "--jobs", jobs]
        assert main(command) == 0
        assert "notes.txt" in capsys.readouterr().out
    one, two = (hash_tree(tmp_path / jobs) for jobs in ("1", "2"))
    assert set(one) == set(two)
    assert {name for name in one if one[name] != two[name]} == {
        f"{folder}/report.{kind}" for folder in ("a", "deep/b") for kind in ("json", "html")
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--jobs", "2"], "go with a folder or a --manifest"),
        (["data", "--manifest", "m"], "not both"),
        (["data/a.png", "--jobs", "2"], "go with a folder or a --manifest"),
        (["data/a.png", "--resume"], "go with a folder or a --manifest"),
        (["data", "--jobs", "0"], "at least 1"),
        (["data", "--jobs", "2", "--threads", "0"], "at least 1"),
        (["data", "--timeout", "0"], "above 0"),
        (["data", "--timeout", "nan"], "above 0"),
        (["data", "--shard", "3/2"], "1/4"),
        (["data", "--jobs", "2", "--channels", "b.png"], "one scan"),
        ([], "name an image"),
    ],
)
def test_options_that_mean_nothing_are_refused(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    makers.write_picture(makers.make_fan(1)[0], Path("data/a.png"))
    assert main(["segment", *words, "-o", "out"]) == 2
    assert said in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_bad_line_or_bundle_stops_the_batch_before_it_starts(tmp_path, bundle, capsys):
    makers.write_picture(makers.make_fan(1)[0], tmp_path / "a.png")
    manifest, out = tmp_path / "m.jsonl", tmp_path / "out"
    for last, said in (
        ('{"id": "../b", "source": "a.png"}', "line 2"),
        ('{"id": "b", "source": "a.png", "model": "no-such"}', '"no-such"'),
    ):
        manifest.write_text('{"id": "a", "source": "a.png"}\n' + last)
        command = ["segment", "--manifest", str(manifest), "-m", str(bundle), "-o", str(out)]
        assert main(command) == 3
        assert said in capsys.readouterr().err
        assert not out.exists()


def test_a_shard_without_cases_is_an_empty_list(cases, bundle, tmp_path):
    out = tmp_path / "out"
    command = ["segment", "--manifest", str(cases[0]), "-m", str(bundle), "-o", str(out)]
    assert main([*command, "--shard", "13/13"]) == 0
    assert (out / "results-13-of-13.jsonl").read_text() == ""


@pytest.mark.skipif(not Path("/proc").exists(), reason="workers are found in /proc")
def test_an_interrupt_ends_workers_too_and_leaves_a_list(bundle, tmp_path):
    manifest, _ = write_cases(tmp_path / "cases", 20 * COUNT)  # so many that it comes amidst
    out = tmp_path / "out"
    batch = start(manifest, bundle, out, "--jobs", "2")
    while not list(out.glob("case-*")):
        time.sleep(0.05)
    workers = find_workers(batch.pid)
    os.kill(batch.pid, signal.SIGINT)
    _, told = batch.communicate(timeout=60)
    assert batch.returncode == 130
    assert told == "bedside: interrupted.\n"
    assert workers
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    listed = {line["id"] for line in read_lines(out / "results.jsonl")}
    assert {path.name for path in out.glob("case-*")} >= listed
    assert len(listed) >= 1


def test_a_terminal_sees_a_bar_of_cases(cases, bundle, tmp_path):
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    manifest = tmp_path / "m.jsonl"
    lines = cases[0].read_text().splitlines(keepends=True)[3:5]
    manifest.write_text("".join(lines).replace("data/", f"{cases[0].parent}/data/"))
    batch = subprocess.Popen(
        [sys.executable, "-m", "bedside", "segment", "--manifest", str(manifest),
         "-m", str(bundle), "-o", str(tmp_path / "out")],
        stderr=follower, stdout=subprocess.DEVNULL, env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(follower)
    seen = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while piece := os.read(leader, 65536):
            seen += piece
    os.close(leader)
    assert batch.wait(60) == 0
    assert b"cases" in seen
    assert b"2/2" in seen


def test_two_series_of_one_folder_are_two_cases_and_a_changed_slice_is_done_again(bundle, tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    files = {}
    for seed, name in enumerate(("one", "two")):
        array = np.random.default_rng(seed).integers(0, 99, (3, 24, 24)).astype(np.int16)
        slices = make_slices(array, series=name)
        files[name] = write_series(slices, data / name)
        for path in files[name]:
            path.rename(data / f"{name}-{path.name}")
        (data / name).rmdir()
    command = ["segment", str(data), "-m", str(bundle), "-o", str(out), "--force"]
    command += ["--max-ram", "4GB"]
    assert main(command) == 0
    plain = hash_tree(out)
    command[5] = str(tmp_path / "batch")
    assert main([*command, "--jobs", "2"]) == 0
    batch = hash_tree(tmp_path / "batch")
    assert set(batch) == set(plain)
    assert len({name.split("/")[0] for name in batch}) == 2
    read = [
        {name: pydicom.dcmread(place / name) for name in plain if name.endswith(".dcm")}
        for place in (out, tmp_path / "batch")
    ]
    for name, seg in read[0].items():
        report = json.loads((tmp_path / "batch" / name).with_name("report.json").read_text())
        assert report["frames"] == 3
        assert seg.PixelData == read[1][name].PixelData
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "batch").glob("*/*.dcm")}
    os.utime(data / "one-IM0001", ns=(1, 2**61))
    assert main([*command, "--jobs", "2", "--resume"]) == 0
    after = {path: path.stat().st_mtime_ns for path in before}
    assert [path.parent.name[:3] for path in before if before[path] != after[path]] == ["one"]
    assert hash_tree(tmp_path / "batch") == batch
