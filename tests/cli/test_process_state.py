"""Whole segmentations by several threads at once, and what of the process they leave alone."""

import contextlib
import locale
import logging
import os
import random
import signal
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest

import makers
from bedside.bundle import read_bundle
from bedside.errors import FormatError
from bedside.io.source import open_source
from bedside.options import OutputOptions, RunOptions
from bedside.segment import Model, segment_file
from dicom_makers import make_slices, write_series

AT_ONCE, ROUNDS = 4, 2


def read_state():
    """What a process has one of, as far as libraries of ours are tempted to change it."""
    status = Path("/proc/self/status")
    umask = [line for line in status.read_text().splitlines() if line.startswith("Umask")]
    settings = pydicom.config.settings
    return {
        "umask": umask,
        "warnings": (list(warnings.filters), warnings.showwarning, warnings._showwarnmsg_impl),
        "pydicom": (vars(settings).copy(), settings.reading_validation_mode,
                    settings.writing_validation_mode, pydicom.config.convert_wrong_length_to_UN),
        "threads of OpenCV": cv2.getNumThreads(),
        "streams": (sys.stdout, sys.stderr, sys.stdin),
        "logging": (logging.root.manager.disable, logging.root.level, list(logging.root.handlers)),
        "environment": {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"},
        "locale": locale.setlocale(locale.LC_ALL, None),
        "recursion": sys.getrecursionlimit(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "random": (random.getstate(), np.random.get_state()[1].tobytes()),  # noqa: NPY002
        "folder": Path.cwd(),
    }  # fmt: skip


@pytest.fixture
def sources(tmp_path):
    """Images of every kind by name, some with headers that pydicom has much to warn of."""
    folder = tmp_path / "in"
    folder.mkdir()
    region = makers.make_region((0, 0, 63, 47))
    sequence = makers.make_dicom(makers.make_fan(3), regions=[region])
    makers.write_dicom(sequence, folder / "cine.dcm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odd = makers.make_dicom(makers.make_fan(2, seed=1), regions=[region], tags={
            "AccessionNumber": "longer than the sixteen letters that DICOM allows",
            "StudyDate": "yesterday", "PatientBirthDate": "unknown", "StudyID": "x" * 40,
        })  # fmt: skip
        makers.write_dicom(odd, folder / "odd.dcm")
    jpeg = makers.compress_jpeg(makers.make_dicom(makers.make_fan(3, seed=2), regions=[region]))
    makers.write_dicom(jpeg, folder / "jpeg.dcm")
    makers.write_picture(makers.make_fan(1, seed=3)[0], folder / "still.png")
    makers.write_nifti(makers.make_fan(3, seed=4).T, folder / "scan.nii.gz")
    rng = np.random.default_rng(5)
    slices = make_slices(rng.integers(0, 2000, (4, 32, 40)).astype(np.uint16), modality="MR")
    write_series(slices, folder / "series")
    return {path.name: path for path in sorted(folder.iterdir())}


@contextlib.contextmanager
def process_left_alone():
    """Read the state again and again, beside the block; each part must have one value only."""
    before, found, done = read_state(), set(), threading.Event()

    def sample():
        while not done.wait(0.0005):
            now = read_state()
            found.update(name for name in now if now[name] != before[name])

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    now = read_state()
    assert found | {name for name in now if now[name] != before[name]} == set()


@pytest.fixture
def loaded(bundle):
    read = read_bundle(bundle)
    return Model.open(read, RunOptions(precision="f32", threads=1, force=True))


def open_path(path):
    return open_source(path, files=tuple(sorted(path.iterdir())) if path.is_dir() else ())


def segment(loaded, path, folder):
    """Segment an image into a folder, with an SR where there is a SEG; give its files."""
    with_sr = path.suffix == ".dcm" and path.name != "odd.dcm"
    options = OutputOptions(with_sr=with_sr, with_cost=False, moment="source")
    segment_file(loaded, open_path(path), folder, options)
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}


def test_threads_at_once_write_the_very_files_that_one_writes(loaded, sources, tmp_path):
    paths = list(sources.values())
    alone = {path: segment(loaded, path, tmp_path / "alone" / path.name) for path in paths}
    assert {"segmentation.dcm", "measurements.dcm"} <= set(alone[sources["cine.dcm"]])
    work = [(path, tmp_path / f"at once {n}" / path.name) for n in range(ROUNDS) for path in paths]
    with process_left_alone(), ThreadPoolExecutor(AT_ONCE) as pool:
        together = list(pool.map(lambda item: segment(loaded, *item), work))
    for (path, _), found in zip(work, together, strict=True):
        assert found == alone[path], path.name


def test_what_a_file_is_warned_of_is_said_of_that_file(sources):
    odd, sound = sources["odd.dcm"], sources["cine.dcm"]
    cut = odd.with_name("cut.dcm")
    cut.write_bytes(odd.read_bytes()[:-900])

    def look(path):
        if path == cut:
            with pytest.raises(FormatError) as caught:
                open_source(path)
            return str(caught.value)
        return open_source(path).sequence.warnings

    alone = {path: look(path) for path in (odd, sound, cut)}
    assert "ends in the middle" in alone[cut] or "truncated" in alone[cut]
    work = [path for _ in range(20) for path in (odd, sound, cut)]
    with process_left_alone(), ThreadPoolExecutor(AT_ONCE) as pool:
        for path, found in zip(work, pool.map(look, work), strict=True):
            assert found == alone[path]


def test_what_pydicom_warns_of_elsewhere_is_still_warned_of(sources):
    open_source(sources["odd.dcm"])
    with pytest.warns(UserWarning, match="maximum length of 16"):
        pydicom.dcmread(sources["odd.dcm"]).AccessionNumber  # noqa: B018


def test_nothing_of_the_patients_is_logged_or_printed(sources, loaded, tmp_path, caplog, capfd):
    segment(loaded, sources["odd.dcm"], tmp_path / "out")
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")
