"""Frames of VIDEO messages, raw and by codecs, from the wire into a stream."""

from fractions import Fraction

import numpy as np
import pytest

from bedside.errors import FormatError
from bedside.igtl import Fault, Message, MessageReader, Video, encode_message
from bedside.stream.openigtlink import IgtlFrames
from bedside.stream.video_decoder import VideoDecoder
from igtl_makers import make_image

av = pytest.importorskip("av")

HEIGHT, WIDTH = 64, 96
LEVELS = (40, 90, 140, 190)
CODECS = {
    "H264": ("libx264", {"tune": "zerolatency"}),
    "VP90": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}),
    "X265": ("libx265", {"tune": "zerolatency", "x265-params": "log-level=none"}),
}


def encode(codec, **changes):
    """Frames of one grey level each; the first is a key frame."""
    name, options = CODECS[codec]
    context = av.CodecContext.create(name, "w")
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.time_base, context.options = Fraction(1, 30), options
    frames = []
    for number, level in enumerate(LEVELS):
        planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
        planes[:HEIGHT] = level
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts = number
        frames += [bytes(packet) for packet in context.encode(frame)]
    frames += [bytes(packet) for packet in context.encode(None)]
    values = {"codec": codec, "is_grey": True, **changes}
    return [Video(each, (HEIGHT, WIDTH), **values) for each in frames]


@pytest.mark.parametrize("codec", CODECS)
def test_each_frame_of_a_codec_is_decoded_as_it_comes(codec):
    decoder, found = VideoDecoder(), []
    for video in encode(codec):
        (message,) = MessageReader().feed(encode_message(Message(video, "probe", 1.0)))
        found.append(decoder.decode(message.content))
    assert [each.shape for each in found] == [(HEIGHT, WIDTH)] * 4
    assert [each.mean() for each in found] == pytest.approx(LEVELS, abs=2)


def test_a_video_in_colour_is_rgb():
    video = encode("H264", is_grey=False)[0]
    pixels = VideoDecoder().decode(video)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert pixels.mean() == pytest.approx((LEVELS[0] - 16) * 255 / 219, abs=3)


def test_raw_planes_are_grey_or_rgb_pixels():
    planes = np.full((6, 4), 128, np.uint8)
    planes[:4] = np.arange(16).reshape(4, 4) + 100
    raw = Video(planes.tobytes(), (4, 4), is_grey=True)
    np.testing.assert_array_equal(VideoDecoder().decode(raw), planes[:4])
    planes[5] = 240  # much red
    red = VideoDecoder().decode(Video(planes.tobytes(), (4, 4)))
    assert red.shape == (4, 4, 3)
    assert red[..., 0].min() > red[..., 2].max()
    with pytest.raises(FormatError, match="3 bytes for 4 x 4"):
        VideoDecoder().decode(Video(b"abc", (4, 4)))


@pytest.mark.parametrize(
    ("video", "reason"),
    [
        (Video(b"junk" * 30, (HEIGHT, WIDTH), "H264"), "damaged"),
        (Video(b"", (HEIGHT, WIDTH), "VP90"), "no whole frame yet"),
        (Video(b"", (HEIGHT, WIDTH), "MPG2"), "one of I420, H264"),
        (Video(b"", (3, 5)), "even sides"),
    ],
)
def test_what_cannot_be_decoded_is_refused(video, reason):
    with pytest.raises(FormatError, match=reason):
        VideoDecoder().decode(video)


def test_a_frame_of_another_size_than_its_header_says_is_refused():
    data = encode("VP90")[0].data
    for shape in ((HEIGHT, 32), (4096, 4096)):
        with pytest.raises(FormatError, match="header says"):
            VideoDecoder().decode(Video(data, shape, "VP90"))
    with pytest.raises(FormatError):  # as much memory is not taken
        VideoDecoder().decode(Video(encode("X265")[0].data, (16, 16), "X265"))


def take_all(frames, items):
    """What comes of each item."""
    coming = iter(frames)
    found = []
    for item in items:
        frames.take(item)
        found.append(next(coming)[0])
    return found


def test_after_a_damaged_message_a_video_waits_for_its_next_key_frame():
    geometry = make_image((1, 1, HEIGHT, WIDTH)).geometry
    videos = [Message(each, "probe", 1.0) for each in encode("H264", geometry=geometry)]
    first, second, _, fourth = videos
    fault = Fault("crc", "the checksum is wrong.")
    found = take_all(IgtlFrames(), [first, second, fault, fourth, first, second])
    wrong = [isinstance(each, FormatError) for each in found]
    assert wrong == [False, False, True, True, False, False]
    assert [found[index]().mean() for index in (0, 1, 4, 5)] == pytest.approx(
        [LEVELS[0], LEVELS[1]] * 2, abs=2
    )
    assert found[0].spacing_mm == (0.25, 0.5)


def test_a_new_connection_begins_a_video_anew():
    first, second, _, _ = (Message(each, "probe", 1.0) for each in encode("H264"))
    frames = IgtlFrames()
    coming, found = iter(frames), []
    for item, connection in ((first, 1), (second, 2), (second, 1)):
        frames.take(item, connection)
        found.append(isinstance(next(coming)[0], FormatError))
    assert found == [False, True, False]


def test_a_video_without_a_place_has_no_scale():
    raw = Video(bytes(24), (4, 4), is_grey=True)
    assert take_all(IgtlFrames(), [Message(raw, "probe", 1.0)])[0].spacing_mm is None
