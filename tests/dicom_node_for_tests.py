"""Peers of the node in tests: dcmtk's programs where they are, series to send, and waiting."""

import shutil
import socket
import subprocess
import time

import numpy as np
import pytest

from dicom_makers import make_slices, write_series
from makers import make_dicom, make_fan, write_dicom


def need_dcmtk(name):
    """Return the path of a program of dcmtk; skip the test loudly if it is not there."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"NOT TESTED: {name} is not installed: apt-get install dcmtk")
    return path


def run_peer(name, *arguments, timeout_s=60):
    """Run a program of dcmtk; return its exit code and all that it says."""
    done = subprocess.run(
        [need_dcmtk(name), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return done.returncode, done.stdout


def send(address, *files, title="BEDSIDE", sender="STORESCU", options=()):
    """Send files with storescu; return whether it ended well, and what it says."""
    host, port = address
    code, text = run_peer("storescu", "-aet", sender, "-aec", title, *options, host, port, *files)
    return code == 0, text


def write_cine(path, *, frames=4, seed=0, edit=None):
    """Write an ultrasound film."""
    dataset = make_dicom(make_fan(frames, 48, 64, seed=seed))
    if edit is not None:
        edit(dataset)
    return write_dicom(dataset, path)


def write_scan(folder, *, slices=5, series="series", edit=None, seed=0):
    """Write a scan of single slices."""
    values = np.random.default_rng(seed).integers(0, 1000, (slices, 16, 16)).astype(np.uint16)
    return sorted(write_series(make_slices(values, series=series, edit=edit), folder))


def is_listening(address):
    """Whether anybody listens there."""
    try:
        socket.create_connection(address, timeout=60).close()
    except ConnectionError:
        return False
    return True


def wait_for(condition, *, timeout_s=60.0):
    """Wait until a condition holds, and return its value."""
    until = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)
    return value
