"""`bedside stream` and `bedside bench stream`, as a person or a program calls them."""

import contextlib
import json
import threading
import time
import zlib

import numpy as np
import pytest

import bedside
from bedside.cli.main import main
from bedside.igtl import IgtlClient, IgtlServer, Image, Message
from bedside.stream.event import checksum
from bedside.volume import Geometry
from igtl_makers import wait_until
from makers import make_dicom, make_fan, write_dicom
from ports_for_tests import find_port


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.dcm"
    return str(write_dicom(make_dicom(make_fan(8, 96, 128), tags={"FrameTime": "20"}), path))


OPTIONS = ("-m", "camus-4ch", "--precision", "f32", "--threads", "1")


def test_events_are_json_lines_and_counts_add_up(film, capsys):
    assert main(["stream", film, *OPTIONS, "--json", "--loops", "2"]) == 0
    found = capsys.readouterr()
    events = [json.loads(line) for line in found.out.splitlines()]
    own = [each for each in events if each["state"] != "stale" or "no new" not in each["reason"]]
    with_mask = [each for each in own if "labels" in each]
    assert len(with_mask) + events[-1]["dropped"] == 16
    assert {tuple(each["labels"]["shape"]) for each in with_mask} == {(96, 128)}
    assert "16 frames" in found.err
    with bedside.load("camus-4ch", precision="f32", threads=1) as model:
        offline = [checksum(labels) for labels in model.segment(film).labels]
    for each in with_mask:
        if each["step"] == "openvino f32":
            assert each["labels"]["crc32"] == offline[each["frame"] % 8]


def test_a_recording_is_played_again_with_the_same_masks(film, tmp_path, capsys):
    record, video = tmp_path / "run.jsonl", tmp_path / "masks.mp4"
    run = ["stream", film, *OPTIONS]
    assert main([*run, "--record", str(record), "--video", str(video)]) == 0
    assert video.stat().st_size > 1000
    assert main([*run, "--replay", str(record)]) == 0
    assert "0 otherwise" in capsys.readouterr().out
    text = record.read_text().replace('"crc32": ', '"crc32": 1')
    record.write_text(text)
    assert main([*run, "--replay", str(record)]) == 3


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["-m", "acdc-sax"], "before and after"),
        (["-m", "camus-4ch", "--deadline", "0"], "deadline_ms"),
        (["-m", "camus-4ch", "--fps", "-1"], "fps"),
    ],
)
def test_what_cannot_mean_anything_is_refused(film, capsys, arguments, word):
    assert main(["stream", film, "--precision", "f32", *arguments]) == 2
    assert word in capsys.readouterr().err


def test_a_stream_stops_after_its_time(film, capsys):
    assert main(["stream", film, *OPTIONS, "--loops", "1000", "--seconds", "0.5"]) == 0
    assert "in all" in capsys.readouterr().out


def test_a_film_is_sent_with_its_masks_over_openigtlink(film, capsys):
    port, received = find_port(), []
    with IgtlClient(port, on_item=received.append):
        assert main(["stream", film, *OPTIONS, "--loops", "30", "--igtl", str(port)]) == 0
        wait_until(lambda: sum(isinstance(each.content, Image) for each in received) >= 2)
    images = [each for each in received if isinstance(each.content, Image)]
    mask, frame = images[:2]
    assert (mask.device, frame.device) == ("bedside mask", "bedside")
    assert frame.content.pixels.shape == mask.content.pixels.shape == (1, 1, 96, 128)
    assert frame.content.geometry.spacing_mm == mask.content.geometry.spacing_mm
    with bedside.load("camus-4ch", precision="f32", threads=1) as model:
        offline = [checksum(labels) for labels in model.segment(film).labels]
    assert checksum(mask.content.pixels[0, 0]) in offline
    capsys.readouterr()


class Pipe:
    """Standard input: frames that come until somebody has seen enough."""

    def __init__(self, enough):
        self.buffer, self._enough = self, enough

    def read(self, size):
        frame = make_fan(8, 96, 128)[3].tobytes()
        return b"" if self._enough.wait(0.03) else frame[:size]


def test_viewers_see_a_stream_over_websocket(capsys, monkeypatch):
    client = pytest.importorskip("websockets.sync.client")
    port, found, enough = find_port(), [], threading.Event()
    monkeypatch.setattr("sys.stdin", Pipe(enough))

    def view():
        until = time.monotonic() + 60
        while not found and time.monotonic() < until:
            time.sleep(0.02)
            with contextlib.suppress(OSError), client.connect(f"ws://127.0.0.1:{port}") as viewer:
                event = json.loads(viewer.recv(60))
                found.append((event, viewer.recv(60)))
        enough.set()

    viewer = threading.Thread(target=view)
    viewer.start()
    source = ["-", "--size", "96", "128"]
    assert main(["stream", *source, *OPTIONS, "--websocket", str(port)]) == 0
    viewer.join()
    ((event, labels),) = found
    assert zlib.crc32(zlib.decompress(labels)) == event["labels"]["crc32"]
    assert event["labels"]["shape"] == [96, 128]
    capsys.readouterr()


def test_frames_from_openigtlink_are_segmented(capsys):
    def send(server, stop):
        number = 0
        while not stop.wait(0.03):
            pixels = make_fan(8, 96, 128)[number % 8][None, None]
            geometry = Geometry((1, 96, 128), np.eye(4), space="LPS")
            server.send(Message(Image(pixels, geometry), "probe", 100 + number / 30))
            number += 1

    stop = threading.Event()
    with IgtlServer(0) as server:
        thread = threading.Thread(target=send, args=(server, stop))
        thread.start()
        address = f"igtl://127.0.0.1:{server.port}"
        try:
            assert main(["stream", address, *OPTIONS, "--json", "--seconds", "2"]) == 0
        finally:
            stop.set()
            thread.join()
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    masks = [each for each in events if "labels" in each]
    assert {tuple(each["labels"]["shape"]) for each in masks} == {(96, 128)}
    assert all(each["time_s"] >= 100 for each in masks)


def test_a_bench_of_streams_states_what_a_program_reads(tmp_path, capsys):
    assert main(["bench", "stream", "--minutes", "0.01", "--json", "-o", str(tmp_path / "b")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(run["fps"], run["competing"], run["wire"]) for run in report["runs"]] == [
        (30, False, ""), (60, False, ""), (30, True, ""), (60, True, ""), (30, False, "igtl"),
    ]  # fmt: skip
    for run in report["runs"]:
        assert run["frames"] == run["processed"] + run["dropped"] == round(0.6 * run["fps"])
        assert set(run["latency_ms"]) == {"p50", "p95", "p99", "p999", "max"}
        assert run["latency_ms"]["p50"] <= run["latency_ms"]["max"]
        assert run["age_ms"]["max"] >= run["latency_ms"]["p50"] > 0
        assert 0 <= run["misses"] <= run["processed"]
        assert "rss_drift_mb" in run
    wire = report["runs"][-1]
    assert wire["dropped"] == sum(wire["lost"].values())
    assert wire["processed"] > 0
    assert 0 <= wire["age_frames"]["p50"] <= wire["age_frames"]["max"] < 18
    assert (tmp_path / "b" / "stream.svg").read_text().startswith("<svg")
    assert main(["bench", "stream", "--minutes", "0"]) == 2
    assert main(["bench", "stream", "--wire", "smoke"]) == 2
