"""Sources and sinks: films at their rate, videos, pipes; JSON lines and pictures of masks."""

import io
import json

import cv2
import numpy as np
import pytest

from bedside.cli.demo import find_cine
from bedside.errors import FormatError, InputError, OutputError, UsageError
from bedside.io.source import open_source
from bedside.stream import Event
from bedside.stream.record import EventFile
from bedside.stream.sinks import KeptFrames, VideoFile
from bedside.stream.sources import open_frames, read_pipe
from makers import LABELS, make_dicom, make_fan, write_dicom

FILM = make_fan(6, 48, 64)


@pytest.fixture
def film(tmp_path):
    return str(write_dicom(make_dicom(FILM, tags={"FrameTime": "20"}), tmp_path / "film.dcm"))


def test_a_film_comes_at_its_own_rate_with_its_frames_and_scale(film):
    opened = open_frames(film, loops=2)
    assert opened.frames_per_s == pytest.approx(50)
    assert len(opened.film) == 6
    found = list(opened.frames)
    assert [time_s for _, time_s in found] == pytest.approx(np.arange(12) / 50)
    wanted = list(open_source(film).sequence)
    for index, (frame, _) in enumerate(found):
        assert np.array_equal(frame(), wanted[index % 6])
    assert sum(1 for _ in opened.unpaced) == 12


def test_the_rate_of_a_film_can_be_chosen():
    opened = open_frames(str(find_cine()), frames_per_s=500)
    assert [time_s for _, time_s in opened.frames][:3] == pytest.approx([0, 0.002, 0.004])


def test_a_video_is_read_as_rgb(tmp_path):
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for _ in range(5):
        writer.write(np.full((48, 64, 3), (0, 0, 250), np.uint8))
    writer.release()
    opened = open_frames(str(path), frames_per_s=500)
    frames = [frame for frame, _ in opened.frames]
    assert len(frames) == 5
    assert frames[0].shape == (48, 64, 3)
    assert frames[0][..., 0].mean() > 200 > 50 > frames[0][..., 2].mean()
    assert open_frames(str(path)).frames_per_s == 25


@pytest.mark.parametrize("name", ["gone.mp4", "gone.dcm"])
def test_a_source_that_is_not_there_is_refused(tmp_path, name):
    with pytest.raises((InputError, UsageError, FormatError), match="gone"):
        list(open_frames(str(tmp_path / name)).frames)


def test_a_video_that_is_none_is_refused(tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("no video")
    with pytest.raises(FormatError, match="no video or camera"):
        open_frames(str(path))


@pytest.mark.parametrize(
    "settings", [{"frames_per_s": 0}, {"frames_per_s": float("nan")}, {"loops": 0}]
)
def test_settings_without_a_meaning_are_refused_for_films(film, settings):
    with pytest.raises(UsageError):
        open_frames(film, **settings)


def test_raw_frames_are_cut_from_a_pipe_and_a_rest_is_an_error():
    frames = np.random.default_rng(0).integers(0, 255, (3, 4, 5, 3), np.uint8)
    found = [frame for frame, _ in read_pipe(io.BytesIO(frames.tobytes() + b"12345"), (4, 5, 3))]
    assert np.array_equal(found[:3], frames)
    assert "5 of 60 bytes" in str(found[3])
    for shape in ((4,), (4, 5, 2), (0, 5)):
        with pytest.raises(UsageError):
            list(read_pipe(io.BytesIO(), shape))
    with pytest.raises(UsageError, match="--size"):
        open_frames("-")


def make_event(number, labels=None, state="live"):
    return Event(number, number / 30, state, labels=labels)


def test_a_video_of_masks_keeps_the_time_of_frames_that_were_dropped(tmp_path):
    kept = KeptFrames((frame, 0.0) for frame in FILM)
    path = tmp_path / "masks.avi"
    video = VideoFile(path, kept.find, LABELS, frames_per_s=25)
    labels = np.ones((48, 64), np.uint8)
    for number, _ in enumerate(kept):
        if number in (0, 4):
            video.write(make_event(number, labels))
            video.write(make_event(number, labels, "stale"))
        else:
            video.write(make_event(number))
    video.close()
    shown = [frame for frame, _ in open_frames(str(path), frames_per_s=1000).frames]
    assert len(shown) == 5
    colour = shown[0].reshape(-1, 3).mean(axis=0)
    assert colour[0] > colour[1] + 20  # the cavity is red


def test_a_kept_frame_is_found_by_its_number_for_a_while():
    kept = KeptFrames((frame, 0.0) for frame in [*FILM, ValueError("lost")])
    for _ in kept:
        pass
    assert kept.find(0) is None
    assert kept.find(6) is None
    assert np.array_equal(kept.find(5)[0], FILM[5])


@pytest.mark.parametrize("name", ["no/masks.mp4", "masks.txt"])
def test_a_video_that_cannot_be_written_is_an_error(tmp_path, name):
    def write():
        video = VideoFile(tmp_path / name, lambda number: FILM[:1], LABELS, frames_per_s=25)
        video.write(make_event(0, np.zeros((48, 64), np.uint8)))

    with pytest.raises(OutputError, match="masks"):
        write()


def test_events_are_written_as_json_at_once(tmp_path):
    path = tmp_path / "run.jsonl"
    with EventFile(path) as file:
        file.write(make_event(3, np.ones((2, 2), np.uint8)))
        line = json.loads(path.read_text())
    assert (line["frame"], line["time_s"], line["labels"]["shape"]) == (3, 0.1, [2, 2])
