"""WebSocket `/stream`: each frame gets its own mask, and what is no frame ends the stream."""

import json
import struct
import time
import zlib

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from bedside.service.admission import Lane
from igtl_makers import wait_until
from servers_for_tests import PATIENCE_S, make_picture, open_engine, open_server


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_engine(tmp_path_factory.mktemp("models")) as engine:
        yield engine


@pytest.fixture(scope="module")
def address(engine):
    with open_server(engine) as client:
        yield str(client.base_url).replace("http", "ws")


def open_stream(address, model="plane", **options):
    return connect(
        f"{address}/stream?model={model}&deadline_ms=5000", open_timeout=PATIENCE_S, **options
    )


def receive(socket):
    """The next event, and its labels."""
    event = json.loads(socket.recv(PATIENCE_S))
    labels = None
    if event.get("labels"):
        data = zlib.decompress(socket.recv(PATIENCE_S))
        labels = np.frombuffer(data, np.uint8).reshape(event["labels"]["shape"])
    return event, labels


def test_a_frame_comes_back_as_its_mask(engine, address):
    with open_stream(address) as socket:
        assert receive(socket)[0] == {"state": "ready"}
        socket.send(json.dumps({"shape": [48, 64]}))
        socket.send(struct.pack("<d", 12.5) + make_picture(1).tobytes())
        event, labels = receive(socket)
        while labels is None or event["state"] == "stale":
            event, labels = receive(socket)
    assert (event["frame"], event["time_s"]) == (0, 12.5)
    with engine.model("plane") as model, model.stream(deadline_ms=5000) as live:
        assert np.array_equal(labels, live.push(make_picture(1), 0.0).labels)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (["hello"], "is no shape"),
        ([json.dumps({"shape": [4, 4, 4]})], "expected height and width"),
        ([json.dumps({"shape": [100000, 100000]})], "at most"),
        ([json.dumps({"shape": [-1, 5]})], "expected height and width"),
        ([b"12345"], "has 5 bytes"),
        ([json.dumps({"shape": [4, 4]}), bytes(15)], "needs 16"),
    ],
)
def test_what_is_no_frame_is_told_and_ends_the_stream(engine, address, sent, said):
    with open_stream(address) as socket:
        for each in sent:
            socket.send(each)
        event, _ = receive(socket)
        while "error" not in event:
            event, _ = receive(socket)
        assert said in event["error"]["message"]
        with pytest.raises(ConnectionClosed):
            socket.recv(PATIENCE_S)
    wait_until(lambda: not engine.admission.counts[Lane.FRAME].running)


def test_models_of_scans_and_unknown_ones_have_no_stream(address):
    for model, kind in (("scan", "UsageError"), ("nix", "NoModelError")):
        with open_stream(address, model) as socket:
            event, _ = receive(socket)
            assert event["error"]["type"] == kind


def test_more_streams_than_the_machine_carries_are_refused(engine, address):
    with open_stream(address) as first, open_stream(address) as second:
        assert receive(first)[0] == receive(second)[0] == {"state": "ready"}
        with open_stream(address) as third:
            assert receive(third)[0]["error"]["type"] == "BusyError"
    wait_until(lambda: not engine.admission.counts[Lane.FRAME].running)


def test_a_page_of_another_site_has_no_stream(address):
    with pytest.raises(InvalidStatus) as refused:
        open_stream(address, additional_headers={"Origin": "https://evil.example"})
    assert refused.value.response.status_code == 403


def test_a_stream_outlives_the_deadline_for_the_head_of_a_request(engine):
    with (
        open_server(engine, header_s=3) as client,  # on a busy machine a head takes half a second
        open_stream(str(client.base_url).replace("http", "ws")) as socket,
    ):
        assert receive(socket)[0] == {"state": "ready"}
        socket.send(json.dumps({"shape": [48, 64]}))
        begin = time.monotonic()
        while time.monotonic() - begin < 4:
            socket.send(make_picture(1).tobytes())
            receive(socket)
            time.sleep(0.05)
