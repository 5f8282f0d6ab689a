"""Pipes, sockets, devices and loops: refused by their name at once, wherever a file is named."""

import contextlib
import os
import signal
import socket
import subprocess
import sys

import pytest

from bedside.batch.manifest import read_manifest
from bedside.bundle import find_bundle, read_bundle
from bedside.cli.build import _read_limits
from bedside.cli.main import main
from bedside.datasets.index import read_index
from bedside.errors import BedsideError, BundleError, DataError, FormatError, SpecError, UsageError
from bedside.io.detect import detect_format
from bedside.io.gzip_stream import read_beginning
from bedside.io.own_results import read_marker
from bedside.io.source import open_source
from bedside.spec import read_recipe
from bedside.system.regular_files import open_regular

pytestmark = pytest.mark.skipif(os.name != "posix", reason="special files of POSIX")


@pytest.fixture(autouse=True)
def _patience():
    """Nobody waits for ever: what hangs here fails."""

    def give_up(*_):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


KINDS = {
    "a named pipe": make_pipe,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
    os.strerror(40): lambda path: path.symlink_to(path.name),
}
DOORS = {
    "a.dcm": (detect_format, FormatError),
    "b.png": (lambda path: open_source(path), FormatError),
    "c.nii.gz": (lambda path: read_beginning(path, 10), OSError),
    "d.bedside": (read_bundle, BundleError),
    "e.toml": (read_recipe, SpecError),
    "f.jsonl": (read_manifest, FormatError),
    "dataset.json": (lambda path: read_index(path.parent), DataError),
    "limits.txt": (_read_limits, UsageError),
}


@pytest.mark.parametrize("name", DOORS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_named_at_once(kind, name, tmp_path):
    read, error = DOORS[name]
    if kind == "a folder" and name == "b.png":
        pytest.skip("a folder may be a series")
    path = tmp_path / name
    KINDS[kind](path)
    with pytest.raises(error, match=kind):
        read(path)


def test_a_marker_that_is_a_pipe_is_no_marker(tmp_path):
    make_pipe(tmp_path / "report.json")
    assert read_marker(tmp_path) == frozenset()


def test_a_pipe_with_a_bundle_s_name_is_not_passed_over(tmp_path):
    make_pipe(tmp_path / "my.bedside")
    with pytest.raises(BundleError, match="named pipe"):
        read_bundle(find_bundle(str(tmp_path / "my.bedside")))


def test_a_file_is_read_as_ever(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"content"
            assert file.seek(3) == 3


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "a folder"])
@pytest.mark.parametrize("more", [[], ["--untrusted"]])
def test_the_command_refuses_it_in_one_line(kind, more, bundle, tmp_path, capsys):
    path = tmp_path / "a.dcm"
    KINDS[kind](path)
    out = tmp_path / "out"
    assert main(["segment", str(path), "-m", str(bundle), "-o", str(out), *more]) == 3
    told = capsys.readouterr().err.splitlines()
    assert kind in told[-1]
    assert told[-1].startswith("bedside: error: ")
    assert not out.exists()


@pytest.mark.parametrize("more", [[], ["--untrusted"], ["--jobs", "2"]])
def test_in_a_folder_it_is_skipped_with_its_reason(more, sequence, bundle, tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    sequence.rename(data / "a.dcm")
    make_pipe(data / "pipe.dcm")
    make_socket(data / "socket.dcm")
    (data / "loop").symlink_to(data)
    (data / "self").symlink_to("self")
    command = ["segment", str(data), "-m", str(bundle), "-o", str(tmp_path / "out"), *more]
    assert main(command) == 0
    told = capsys.readouterr().out
    for name, reason in (("pipe.dcm", "named pipe"), ("socket.dcm", "socket"), ("self", "link")):
        assert any(name in line and reason in line for line in told.splitlines())


def test_a_further_channel_that_is_a_pipe_is_refused(sequence, bundle, tmp_path, capsys):
    make_pipe(tmp_path / "b.dcm")
    command = ["segment", str(sequence), "--channels", str(tmp_path / "b.dcm"), "-m", str(bundle)]
    assert main([*command, "-o", str(tmp_path / "out")]) == 3
    assert "named pipe" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="root reads it all")
def test_a_file_that_may_not_be_read_says_so(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"content")
    path.chmod(0)
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:-2]:
        if parent.stat().st_uid == os.getuid() and parent.name.startswith(("pytest-", "popen-")):
            parent.chmod(0o755)
    code = (
        "import os, sys; from pathlib import Path; from bedside.io.detect import detect_format\n"
        "os.setuid(12345)\n"
        "try: detect_format(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == f"FormatError cannot read {path}: Permission denied.\n"


def test_errors_of_special_files_are_ours(tmp_path):
    make_pipe(tmp_path / "a")
    with pytest.raises(BedsideError) as error:
        detect_format(tmp_path / "a")
    assert error.value.exit_code == 3
