"""`kill -9` at random moments of writing leaves the old file or the new one, never a part.

20 kills a format; BEDSIDE_KILLS=200 runs as many as the figure in the documents is of.
"""

import multiprocessing
import os
import random
import signal
import sys
import time

import pytest

from bedside.io.source import SUFFIXES, Algorithm, open_source, write_labels
from bedside.report.areas import measure_areas
from bedside.report.dicom_sr import write_sr
from bedside.report.page import write_report_html
from bedside.report.record import write_report_json
from bedside.system.signals import end_with_parent
from bedside.volume import Box, LabelMap
from makers import LABELS, make_dicom, make_fan, make_labels, make_region, write_dicom
from report_makers import PICTURE, sample_report

KILLS = int(os.environ.get("BEDSIDE_KILLS", "20"))
# Where writing is fast and the machine busy, more kills are needed until one falls into it.
MOST = 10
ALGORITHM = Algorithm("a", "1", "0", "source")
FRAMES = {"sr": 2}
SPAN_S = {"sr": 0.4, "dicom-seg": 0.2}


def _labels(format_, turn):
    """Labels that differ from one writing to the next."""
    array = make_labels(FRAMES.get(format_, 24))
    array[turn][:10] = 0
    array[turn][array[turn] == 1] = 2
    return LabelMap(array, (0.5, 0.5))


def _write(format_, source, folder, turn):
    """Write one file of a format; each turn another content."""
    labels = _labels(format_, turn)
    if format_ in SUFFIXES:
        write_labels(
            labels, source, folder / f"segmentation{SUFFIXES[format_]}", labels_spec=LABELS,
            algorithm=ALGORITHM, format=format_,
        )  # fmt: skip
        return
    if format_ == "sr":
        structures = measure_areas(labels, LABELS, region=Box(0, 0, 48, 64))
        seg = folder.parent / "segmentation.dcm"
        write_sr(
            structures, source, seg, folder / "measurements.dcm", labels_spec=LABELS,
            algorithm=ALGORITHM, slices=False,
        )  # fmt: skip
        return
    report = sample_report(50, 20, 40, warnings=(f"turn {turn}",) * 50_000)
    if format_ == "json":
        write_report_json(report, folder / "report.json")
    else:
        write_report_html(report, folder / "report.html", picture=PICTURE)


def _write_on(format_, path, folder, started):
    """Write again and again until killed, or until those who would kill it are gone."""
    end_with_parent()
    source = open_source(path)
    _write(format_, source, folder, 0)
    started.set()
    turn = 1
    while True:
        _write(format_, source, folder, turn % 2)
        turn += 1


def _contents(folder):
    """Read all that is there under a name that is not hidden."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(
            part.startswith(".") for part in path.relative_to(folder).parts
        )
    }  # fmt: skip


@pytest.fixture(scope="module")
def pool():
    """Processes that are forked from one that has everything loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_killed"])
    with pytest.MonkeyPatch.context() as patch:
        # Before Python 3.13 the one that is forked does not know where the tests lie.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        yield context


@pytest.mark.parametrize("format_", [*SUFFIXES, "sr", "json", "html"])
def test_a_killed_writer_leaves_the_old_or_the_new_file(tmp_path, pool, format_):
    region = make_region((0, 0, 63, 47))
    path = write_dicom(
        make_dicom(make_fan(FRAMES.get(format_, 24)), regions=[region]), tmp_path / "source.dcm"
    )
    source = open_source(path)
    write_labels(
        _labels(format_, 0), source, tmp_path / "segmentation.dcm", labels_spec=LABELS,
        algorithm=ALGORITHM, format="dicom-seg",
    )  # fmt: skip
    whole = []
    for turn in (0, 1):
        (tmp_path / f"whole{turn}").mkdir()
        _write(format_, source, tmp_path / f"whole{turn}", turn)
        whole.append(_contents(tmp_path / f"whole{turn}"))
    assert whole[0] != whole[1]
    rng = random.Random(0)
    folder = tmp_path / "out"
    folder.mkdir()
    parts = 0
    for turn in range(MOST * KILLS):
        if turn >= KILLS and parts:
            break
        started = pool.Event()
        child = pool.Process(target=_write_on, args=(format_, path, folder, started))
        child.start()
        assert started.wait(60)
        # Every other kill waits for a file to be begun, as writing is a small part of the time.
        until = time.monotonic() + 10
        while turn % 2 and not any(folder.rglob(".part-*")) and time.monotonic() < until:
            time.sleep(0.0002)
        # Of these, every other comes at once: small files are whole within a millisecond.
        longest = (0.003 if turn % 4 == 1 else 0) if turn % 2 else SPAN_S.get(format_, 0.1)
        time.sleep(rng.uniform(0, longest))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        # Several PNGs are several files: each is whole, the old one or the new one.
        for name, content in _contents(folder).items():
            assert content in [contents[name] for contents in whole], name
        hidden = list(folder.rglob(".part-*"))
        parts += len(hidden)
        for place in hidden:
            _remove(place)
    # Some kills must have fallen into the writing, or the test tells nothing.
    assert parts > 0


def _remove(place):
    if place.is_dir():
        for each in place.iterdir():
            _remove(each)
        place.rmdir()
    else:
        place.unlink()
