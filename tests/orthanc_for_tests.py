"""Debian's Orthanc with its DICOMweb plug-in, as a peer of tests.

Whatever its settings say, it listens on every address of the machine. So it runs in a network
namespace of its own, and so do the tests that talk to it: `run_inside` starts pytest there.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

AE_TITLE, DICOM_PORT, HTTP_PORT, NODE_PORT = "ORTHANC", 4242, 8042, 11112
URL = f"http://127.0.0.1:{HTTP_PORT}/dicom-web"
_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_INSIDE = "BEDSIDE_TESTS_IN_A_NAMESPACE"


def is_inside() -> bool:
    """Whether this process is in a namespace that `run_inside` made."""
    return os.environ.get(_INSIDE) == "1"


def find_program(name: str) -> str:
    """The path of a program of the system; skips the test without one.

    An environment of Python has programs of pynetdicom with the names of dcmtk's.
    """
    found = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"NOT TESTED: {name} is not installed; see docs/sending.md")
    return found


def run_inside(file: Path) -> None:
    """Run a file of tests in a network namespace with nothing but its loopback."""
    find_program("Orthanc")
    if not _PLUGIN.exists():
        pytest.skip("NOT TESTED: the package orthanc-dicomweb is not installed")
    enter = [find_program("unshare"), "-rn", "sh", "-c"]
    if subprocess.run([*enter, "ip link set lo up"], capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: this system lets nobody make a network namespace (unshare -rn)")
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header"]
    command = [sys.executable, "-m", "pytest", *options, str(file)]
    done = subprocess.run(
        [*enter, 'ip link set lo up && exec "$@"', "sh", *command],
        env=os.environ | {_INSIDE: "1"}, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


class Orthanc:
    """An Orthanc with an empty storage, up and answering.

    Args:
        folder: For its files.
        more: Further settings.
    """

    def __init__(self, folder: Path, **more: object) -> None:
        settings = {
            "Name": "bedside-tests",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "DicomAet": AE_TITLE,
            "DicomPort": DICOM_PORT,
            "HttpPort": HTTP_PORT,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "OverwriteInstances": False,
            "Plugins": [str(_PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "DicomModalities": {
                "bedside": {
                    "AET": "BEDSIDE", "Host": "127.0.0.1", "Port": NODE_PORT,
                    "AllowStorageCommitment": True,
                },
            },
        } | more  # fmt: skip
        path = folder / "orthanc.json"
        path.write_text(json.dumps(settings))
        self._log = open(folder / "orthanc.log", "wb")  # noqa: SIM115 closed with it
        self._process = subprocess.Popen(
            [find_program("Orthanc"), str(path)], stdout=self._log, stderr=self._log
        )
        end = time.monotonic() + 120
        while not self._is_up():
            assert self._process.poll() is None, (folder / "orthanc.log").read_text()
            assert time.monotonic() < end, (folder / "orthanc.log").read_text()
            time.sleep(0.05)

    def get(self, path: str):
        """The JSON of one of its own pages."""
        with urllib.request.urlopen(f"http://127.0.0.1:{HTTP_PORT}/{path}", timeout=60) as page:
            return json.load(page)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(60)
        self._log.close()

    def _is_up(self) -> bool:
        try:
            return self.get("system")["DicomAet"] == AE_TITLE
        except (urllib.error.URLError, ConnectionError):
            return False
