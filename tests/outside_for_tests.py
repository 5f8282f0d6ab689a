"""Runs bedside as a user with an empty home, and sees what it touches beyond its output."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Loaded by every Python below the run, workers too: it writes down what would leave the process.
_GUARD = """
import json, os, sys
_log = os.open(os.environ["BEDSIDE_TEST_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_SOCKETS = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
_CHANGES = {"os.mkdir", "os.rename", "os.link", "os.symlink"}
def _write(kind, what):
    os.write(_log, (json.dumps([kind, what]) + "\\n").encode())
def _guard(event, arguments):
    if event in _SOCKETS:
        sends = event in ("socket.connect", "socket.sendto")
        # Sockets between processes of this machine have a path and no address.
        if not (sends and isinstance(arguments[1], (str, bytes))):
            _write("network", f"{event} {arguments[sends]}")
            raise OSError("no network in this test")
    elif event in _CHANGES:
        for path in arguments[: 1 if event == "os.mkdir" else 2]:
            _write("file", os.path.abspath(os.fsdecode(path)))
    elif event == "open" and isinstance(arguments[0], (str, bytes)):
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            _write("file", os.path.abspath(os.fsdecode(arguments[0])))
sys.addaudithook(_guard)
"""
# What would make a library believe that it is tested, and keep quiet; and where torch keeps what
# it compiles, which it writes into the environment of the process that runs the tests.
_HUSHED = re.compile(
    r"CI$|GITHUB|GITLAB|JENKINS|TF_BUILD|BUILD_|PYTEST|ORT_|NNCF_|RAY_|XDG_|HOME$|TMPDIR$|"
    r"OPENVINO|DO_NOT_TRACK|TRAVIS|TEAMCITY|BUILDKITE|CIRCLECI|APPVEYOR|AGENT_|"
    r"TORCHINDUCTOR_|TRITON_"
)
_STRACE = (
    "strace", "-f", "-qq", "-s", "256", "-e",
    "trace=openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,link,symlink,"
    "socket,connect,sendto,sendmsg,sendmmsg",
)  # fmt: skip
_PATHS = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Outside:
    """A place for one run: `home`, `work` (where it stands), `tmp`, and `out` for its output."""

    root: Path

    @classmethod
    def make(cls, root):
        for name in ("home", "work", "tmp", "guard"):
            (root / name).mkdir(parents=True)
        (root / "guard" / "sitecustomize.py").write_text(_GUARD)
        return cls(root)

    @property
    def out(self):
        return self.root / "out"

    @property
    def log(self):
        return self.root / "log"

    def environment(self, **more):
        kept = {key: value for key, value in os.environ.items() if not _HUSHED.search(key)}
        return {
            **kept,
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            "PYTHONPATH": str(self.root / "guard"),
            "BEDSIDE_TEST_LOG": str(self.log),
            # What is compiled on the way belongs to the installation.
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            **more,
        }

    def run(self, *arguments, before=(), expect=0, **more):
        """Run `bedside`, and give what it printed."""
        done = subprocess.run(
            [*before, sys.executable, "-m", "bedside", *map(str, arguments)],
            env=self.environment(**more), cwd=self.root / "work", capture_output=True, timeout=300,
            check=False,
        )  # fmt: skip
        assert done.returncode == expect, done.stderr.decode(errors="replace")
        return done.stdout.decode(errors="replace")

    def check(self, *outputs):
        """Hold against each other what has been written and what may be written.

        `outputs` are further places beside `out` that the run was told to write to.
        """
        allowed = [self.out, *outputs, self.root / "home/.cache/bedside", self.root / "tmp"]
        events = [json.loads(line) for line in self.log.read_text().splitlines()]
        assert events, "the guard was not loaded"
        assert [what for kind, what in events if kind == "network"] == []
        strange = {what for kind, what in events if kind == "file"}
        outside = sorted(path for path in strange if not self._may(path, allowed))
        assert not outside, f"written to: {outside}"
        cache = [self.root / "home/.cache", self.root / "home/.cache/bedside"]
        left = [
            path
            for name in ("home", "work", "tmp")
            for path in (self.root / name).rglob("*")
            if path not in cache and cache[-1] not in path.parents
        ]
        assert left == []
        assert not list(self.out.rglob(".part-*"))

    def trace(self, *arguments, **more):
        """Run under strace, and give what it wrote to and whom it called, by any library."""
        record = self.root / "strace"
        self.run(*arguments, before=(*_STRACE, "-o", str(record)), **more)
        lines = record.read_text(errors="replace").splitlines()
        calls = [line for line in lines if re.search(r"AF_INET|AF_NETLINK|AF_PACKET", line)]
        allowed = [self.out, self.root / "home/.cache", self.root / "tmp", self.log]
        written = [
            path
            for line in lines
            if re.search(r"O_WRONLY|O_RDWR|O_CREAT|\b(creat|mkdir|rename|link|symlink)", line)
            and not re.search(r"= -1 E(NOENT|EXIST|ROFS|ACCES)", line)
            for path in _PATHS.findall(line)
        ]
        assert any(str(self.out) in path for path in written), "strace saw nothing"
        strange = [path for path in written if not self._may(path, allowed)]
        return calls, strange

    def _may(self, path, allowed):
        """Whether a path lies where this run may write, or is no file at all."""
        if path == str(self.log) or path.startswith(("/dev/", "/proc/")):
            return True
        places = [Path(path), *Path(path).parents]
        # Folders on the way to what may be written are made if need be.
        return any(place in places or Path(path) in place.parents for place in allowed)


def can_trace():
    """Whether strace is here and may follow a process."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], check=False).returncode == 0


def can_unshare():
    """Whether a process may be given a network of its own, which is empty."""
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False)
    return done.returncode == 0
