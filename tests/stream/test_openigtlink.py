import json
import math
import queue
import threading

import numpy as np
import pytest

from bedside.errors import FormatError, UsageError
from bedside.igtl import Fault, IgtlClient, IgtlServer, Message, Sensor, Status, String, Transform
from bedside.stream.event import Event, Measurement
from bedside.stream.openigtlink import IgtlFrames, IgtlSink, open_igtl, place_frames
from igtl_makers import check_equal, make_image, wait_until
from ports_for_tests import find_port


def test_the_latest_image_is_the_next_frame_and_those_before_are_counted():
    frames = IgtlFrames()
    images = [make_image(seed=seed) for seed in range(4)]
    for number, image in enumerate(images[:3]):
        frames.take(Message(image, "probe", 10.0 + number))
    coming = iter(frames)
    frame, time_s = next(coming)
    np.testing.assert_array_equal(frame(), images[2].pixels[:, 0])
    assert (time_s, frames.dropped) == (12.0, 2)
    frames.take(Message(images[3], "probe", 13.0))
    assert next(coming)[1] == 13.0
    assert [frames.find(number) for number in range(3)] == [images[2], images[3], None]
    frames.close()
    assert list(coming) == []


def test_other_devices_are_no_frames_and_transforms_and_statuses_are_kept():
    frames = IgtlFrames("probe")
    frames.take(Message(make_image(), "other", 1.0))
    frames.take(Message(Transform(np.eye(4)), "tool", 1.0))
    frames.take(Message(Status(13, text="no signal"), "other", 1.0))
    frames.close()
    assert list(frames) == []
    np.testing.assert_array_equal(frames.transforms["tool"].content.matrix, np.eye(4))
    assert frames.statuses["other"].content.text == "no signal"


def test_frames_have_the_order_of_bytes_of_this_machine():
    frames, image = IgtlFrames(), make_image(dtype=">i2")
    frames.take(Message(image, "probe", 1.0))
    frame, _ = next(iter(frames))
    assert frame().dtype == np.dtype(np.int16)
    np.testing.assert_array_equal(frame(), image.pixels[:, 0])


def test_images_without_a_time_have_that_of_their_arrival():
    frames = IgtlFrames()
    frames.take(Message(make_image(), "probe", 0.0))
    assert next(iter(frames))[1] > 1.7e9


def test_frames_bring_the_distance_of_their_pixels_where_the_sender_knows_it():
    frames, unknown = IgtlFrames(), make_image(affine=np.eye(4))
    frames.take(Message(make_image(), "probe", 1.0))
    coming = iter(frames)
    assert next(coming)[0].spacing_mm == (0.25, 0.5)
    frames.take(Message(unknown, "probe", 2.0))
    assert next(coming)[0].spacing_mm is None


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (Fault("crc", "the checksum is wrong."), "checksum"),
        (Message(make_image((1, 2, 4, 5))), "one whole slice"),
    ],
)
def test_what_is_no_frame_is_an_error_in_its_place(item, reason):
    frames = IgtlFrames()
    frames.take(item)
    frame, _ = next(iter(frames))
    assert isinstance(frame, FormatError)
    assert reason in str(frame)


def make_event(number, **changes):
    labels = np.zeros((48, 64), np.uint8)
    labels[3:9, 5:11] = 1
    measured = {"left ventricular cavity": Measurement(36, None, 7.0, None)}
    values = {"labels": labels, "measurements": measured, **changes}
    return Event(number, 5.0, **{"state": "live", **values})


def test_a_mask_has_the_place_of_its_frame_and_measurements_beside_it():
    sent, image = [], make_image(space="RAS")
    sink = IgtlSink(lambda *batch: sent.extend(batch), lambda number: image)
    sink.write(make_event(0))
    mask, frame, sensor, event = sent
    assert [each.device for each in sent] == [
        "bedside mask", "bedside", "left ventricular cav", "bedside event",
    ]  # fmt: skip
    assert {each.time_s for each in sent} == {5.0}
    assert json.loads(event.content.text)["state"] == "live"
    check_equal(frame.content, image)
    assert mask.content.geometry is image.geometry
    assert (mask.content.space, int(mask.content.pixels.sum())) == ("RAS", 36)
    assert sensor.content.values[0::2] == (36.0, 7.0)
    assert all(math.isnan(each) for each in sensor.content.values[1::2])


def test_an_old_mask_is_not_sent_again():
    sent = []
    sink = IgtlSink(lambda *batch: sent.append(batch), lambda number: make_image())
    sink.write(make_event(0))
    sink.write(make_event(0, state="stale", reason="nothing came"))
    assert [len(batch) for batch in sent] == [4, 1]
    assert json.loads(sent[1][0].content.text)["state"] == "stale"


def test_matrices_and_new_statuses_of_the_source_are_sent_with_each_mask():
    frames, sent = IgtlFrames(), []
    sink = IgtlSink(
        lambda *batch: sent.append(batch), lambda number: make_image(), others=frames.pass_on
    )
    tool, status = Message(Transform(np.eye(4)), "tool", 1.0), Message(Status(1), "probe", 1.0)
    for item in (tool, status):
        frames.take(item)
    sink.write(make_event(0))
    sink.write(make_event(1))
    again = Message(Status(1), "probe", 2.0)
    frames.take(again)
    sink.write(make_event(2))
    assert [batch[4:] for batch in sent] == [(tool, status), (tool,), (tool, again)]


def test_frames_of_other_sources_have_their_spacing():
    find = place_frames(lambda number: np.zeros((3, 4, 5), np.uint8), (0.5, 0.25))
    image = find(0)
    assert image.geometry.spacing_mm == (1.0, 0.5, 0.25)
    assert image.pixels.shape == (3, 1, 4, 5)
    assert place_frames(lambda number: None, None)(0) is None


def test_frames_go_in_and_masks_out_by_the_wire():
    frames, received = open_igtl("igtl://:0"), queue.Queue()
    with (
        IgtlClient(frames.peer.port) as scanner,
        IgtlServer(0) as outlet,
        IgtlClient(outlet.port, on_item=received.put),
    ):
        assert scanner.wait_connected(20)
        assert outlet.wait_client(20)
        sink = IgtlSink(outlet.send, frames.find)

        def segment():
            for number, (frame, _) in enumerate(frames):
                sink.write(make_event(number, labels=(frame()[0] > 60).astype(np.uint8)))

        worker = threading.Thread(target=segment)
        worker.start()
        image = make_image()
        scanner.send(Message(image, "probe", 3.0))
        found = [received.get(timeout=20) for _ in range(4)]
        frames.close()
        worker.join()
    assert [type(each.content) for each in found][2:] == [Sensor, String]
    check_equal(found[1].content, image)
    np.testing.assert_array_equal(found[0].content.pixels, (image.pixels > 60).astype(np.uint8))


def test_a_server_is_found_by_its_address():
    port = find_port()
    frames = open_igtl(f"igtl://localhost:{port}")
    with IgtlServer(port) as server:
        wait_until(lambda: server.clients == 1)
        server.send(Message(make_image(), "probe", 3.0))
        assert next(iter(frames))[1] == 3.0
        frames.close()


def test_a_source_listens_where_it_is_told_to():
    frames = open_igtl("igtl://:0", listen="127.0.0.2")
    with IgtlClient(frames.peer.port, host="127.0.0.2") as scanner:
        assert scanner.wait_connected(20)
        scanner.send(Message(make_image(), "probe", 3.0))
        assert next(iter(frames))[1] == 3.0
        frames.close()
    with pytest.raises(UsageError, match=r"cannot listen at 203\.0\.113\.1:0"):
        open_igtl("igtl://:0", listen="203.0.113.1")


@pytest.mark.parametrize(
    "address", ["http://a:1", "igtl://a:b", "igtl://a:70000", "igtl://a:1/path", "0"]
)
def test_other_addresses_are_refused(address):
    with pytest.raises(UsageError, match="is no address"):
        open_igtl(address)
