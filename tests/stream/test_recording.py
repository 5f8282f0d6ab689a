"""What is recorded can be played again, with labels equal to the bit."""

import numpy as np
import pytest

import bedside
from bedside.errors import FormatError, OutputError
from bedside.stream import run_stream
from bedside.stream.protocol import paced
from bedside.stream.record import EventFile, read_events, replay
from makers import make_fan

FRAMES = list(make_fan(40, 96, 128))
FRAMES[7] = ValueError("lost")
FRAMES[20:] = [frame[:, :100] for frame in FRAMES[20:]]


@pytest.fixture(scope="module")
def model():
    with bedside.load("camus-4ch", precision="f32", threads=1) as loaded:
        yield loaded


def test_a_replay_has_the_same_masks_whatever_was_dropped(model, tmp_path):
    path = tmp_path / "run.jsonl"
    with EventFile(path) as file, model.stream(deadline_ms=5, on_event=file.write) as live:
        for event in run_stream(live, paced(FRAMES, 200)):
            assert event.frame < 40
        first = live.counts
    assert first.sent == 40 == first.processed + first.dropped
    recorded = read_events(path)
    assert all("labels" not in each or each["labels"]["crc32"] >= 0 for each in recorded)
    with model.stream(deadline_ms=5) as again:
        found = list(replay(recorded, FRAMES, again))
        assert all(each.is_same for each in found)
        assert sum(each.event.labels is not None for each in found) == first.processed
        assert again.counts == first


def test_another_film_is_noticed(model, tmp_path):
    path = tmp_path / "run.jsonl"
    with EventFile(path) as file, model.stream(on_event=file.write) as live:
        for index in range(3):
            live.push(FRAMES[index], index / 30)
    with model.stream() as again:
        found = list(replay(read_events(path), [frame[::-1] for frame in FRAMES[:3]], again))
    assert not any(each.is_same for each in found)


def test_fewer_frames_than_were_recorded_are_refused(model, tmp_path):
    path = tmp_path / "run.jsonl"
    with EventFile(path) as file, model.stream(on_event=file.write) as live:
        for index in range(3):
            live.push(FRAMES[index], index / 30)
    with model.stream() as again, pytest.raises(FormatError, match="2 frames; 3"):
        list(replay(read_events(path), FRAMES[:2], again))


@pytest.mark.parametrize("text", ["{", "[1]\n", '{"frame": "a"}\n', "\xff"])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    path = tmp_path / "run.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError):
        read_events(path)


def test_a_recording_that_cannot_be_written_is_an_error_with_its_name(tmp_path):
    with pytest.raises(OutputError, match="run"):
        EventFile(tmp_path / "no" / "run.jsonl")


def test_an_error_of_a_source_is_raised_where_events_are_read(model):
    def source():
        yield FRAMES[0], 0.0
        raise OSError("unplugged")

    with model.stream() as live, pytest.raises(OSError, match="unplugged"):
        list(run_stream(live, source()))


def test_paced_frames_come_at_their_rate():
    slept = []
    times = [time_s for _, time_s in paced(np.zeros((4, 2, 2)), 10, sleep=slept.append)]
    assert times == [0.0, 0.1, 0.2, 0.3]
    assert [round(each, 1) for each in slept] == times[1:]
