"""Names that are no UTF-8, streams that take no such characters, and streams nobody reads."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux")

ODD = os.fsdecode(b"caf\xe9 \xf0\x9f\xab\x80.dcm")
PLACES = {
    "utf-8": {},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "C": {"LC_ALL": "C", "LANG": "C"},
    "C without UTF-8": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "code page": {"PYTHONIOENCODING": "cp1252"},
}


def run(arguments, *, shell="", **environment):
    """Run `bedside` through a shell, which closes streams."""
    words = [sys.executable, "-m", "bedside", *map(os.fsencode, map(str, arguments))]
    return subprocess.run(
        ["bash", "-c", f'"$@" {shell}', "bash", *words], capture_output=True, check=False,
        timeout=120, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def data(sequence, tmp_path):
    folder = tmp_path / os.fsdecode(b"d\xff")
    folder.mkdir()
    shutil.copy(sequence, folder / ODD)
    shutil.copy(sequence, folder / "plain.dcm")
    (folder / os.fsdecode(b"\xfe.txt")).write_text("no image")
    return folder


@pytest.mark.parametrize(
    ("place", "more"),
    [
        *((place, []) for place in PLACES),
        *(("ascii", more) for more in (["--json"], ["--jobs", "2"], ["--untrusted", "--sr"])),
        ("C without UTF-8", ["--json"]),
    ],
)
def test_any_name_goes_through_any_stream(place, more, data, bundle, tmp_path):
    out = tmp_path / os.fsdecode(b"out\xff")
    done = run(["segment", data, "-m", bundle, "-o", out, *more], **PLACES[place])
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stdout
    if more == ["--json"]:
        told = json.loads(done.stdout.decode("utf-8"))
        json.dumps(told, ensure_ascii=False).encode("utf-8")  # whole characters only
        assert "caf\\xe9 🫀.dcm" in {case["source"] for case in told["cases"]}
    reports = list(out.glob("*/report.json"))
    assert len(reports) == 2
    for report in reports:
        json.dumps(json.loads(report.read_bytes()), ensure_ascii=False).encode("utf-8")
        report.with_name("report.html").read_bytes().decode("utf-8")
        pydicom.dcmread(report.with_name("segmentation.dcm"))


def test_what_cannot_be_printed_is_escaped_in_an_error_too(tmp_path):
    done = run(["segment", tmp_path / ODD, "-o", tmp_path / "out"], PYTHONIOENCODING="ascii")
    assert done.returncode == 3
    assert done.stderr.count(b"\n") == 1
    assert rb"caf\udce9 \U0001fac0.dcm" in done.stderr


CLOSED = {
    "no stdout": ">&-",
    "no stderr": "2>&-",
    "neither": ">&- 2>&-",
    "no stream at all": "<&- >&- 2>&-",
    "a reader of nothing": "| true; exit ${PIPESTATUS[0]}",
    "a reader of one line": "| head -1; exit ${PIPESTATUS[0]}",
    "a listener who has gone": "2> >(exec 0<&-; exit); exit $?",
}


@pytest.mark.parametrize(
    ("closed", "more"),
    [*((closed, []) for closed in CLOSED), ("no stdout", ["--json"]),
     ("a reader of nothing", ["--json"])],
)  # fmt: skip
def test_results_and_exit_code_do_not_depend_on_who_reads(closed, more, data, bundle, tmp_path):
    plain = tmp_path / "plain"
    shutil.copytree(data, plain)
    (plain / "broken.dcm").write_bytes((plain / "plain.dcm").read_bytes()[:400])
    out = tmp_path / "out"
    done = run(["segment", plain, "-m", bundle, "-o", out, *more], shell=CLOSED[closed])
    # One of three was refused, which a script must know whoever reads.
    assert done.returncode == 3, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr
    assert len(list(out.glob("*/segmentation.dcm"))) == 2
    for seg in out.glob("*/segmentation.dcm"):
        assert seg.read_bytes()[128:132] == b"DICM"
        pydicom.dcmread(seg)


@pytest.mark.parametrize("verb", [["--help"], ["models"], ["models", "--json"]])
def test_other_commands_do_not_mind_either(verb):
    for shell in CLOSED.values():
        done = run(verb, shell=shell)
        assert done.returncode == 0, (shell, done.stderr)
        assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_a_stdout_that_is_full_is_an_error_of_the_output(sequence, bundle, tmp_path):
    out = tmp_path / "out"
    done = run(["segment", sequence, "-m", bundle, "-o", out, "--json"], shell="> /dev/full")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last == b"bedside: error: cannot write to stdout: No space left on device."
    assert (out / "segmentation.dcm").exists()
    quiet = run(["segment", sequence, "-m", bundle, "-o", out], shell="2> /dev/full")
    assert quiet.returncode == 0
