import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given

from bedside.errors import MessageError
from bedside.igtl import (
    Image,
    Message,
    MessageReader,
    Opaque,
    Sensor,
    Status,
    String,
    Transform,
    Video,
    encode_message,
)  # fmt: skip
from bedside.igtl.codec import HEADER_BYTES, decode_body, decode_header, encode_parts
from bedside.igtl.contents import decode_content
from bedside.igtl.crc import crc64, fold_crc64
from bedside.volume import Geometry
from igtl_makers import DTYPES, check_equal, make_image, messages

# Checksums and values of the messages that the protocol's own library is tested with.
TIME_S = 0x499602D4 / 2**32
MATRIX = np.eye(4)
MATRIX[:3] = np.array(
    [
        [-0.954892, -0.196632, 0.222525, 46.0531],
        [0.196632, 0.142857, 0.970014, 19.4709],
        [-0.222525, 0.970014, -0.0977491, 46.0531],
    ],
    np.float32,
)
SENSORS = (
    "40fe240c7ae147ae 40c81cd6c8b43958 40934a456d5cfaad "
    "405edd3be22e5de1 4028b0fcb4f1e4b4 3ff3c0ca2a5b1d5d"
)
KNOWN = [
    (String("Welcome to OpenIGTLink"), {}, 0xCEF1B42A701104D4),
    (
        Sensor(tuple(np.frombuffer(bytes.fromhex(SENSORS), ">f8").tolist()), 0x443E0000000000),
        {},
        0x637B8008662020E7,
    ),
    (Status(15, 10, "ACTUATOR_DISABLED", "Actuator A is disabled."), {}, 0x98EE43EED8E431CF),
    (Transform(MATRIX), {}, 0xF6DD2B8EB4DF6DD2),
    (
        Transform(MATRIX),
        {
            "version": 2,
            "number": 1,
            "metadata": {"First patient age": "22", "Second patient age": "25"},
        },
        0xF698F64FDAE266DD,
    ),
]


def decode(data):
    (found,) = MessageReader().feed(data)
    return found


@pytest.mark.parametrize(("content", "extended", "checksum"), KNOWN)
def test_messages_have_the_checksums_of_the_protocols_own_library(content, extended, checksum):
    data = encode_message(Message(content, "DeviceName", TIME_S, **extended))
    assert data[34:42].hex() == "00000000499602d4"
    assert int.from_bytes(data[50:58], "big") == checksum
    found = decode(data)
    check_equal(found.content, content)
    assert (found.device, found.time_s) == ("DeviceName", TIME_S)
    assert dict(found.metadata) == extended.get("metadata", {})


@pytest.mark.parametrize("checksum", [crc64, fold_crc64])
def test_checksums_of_whole_bodies_are_those_of_single_bytes(checksum):
    data = np.random.default_rng(0).integers(0, 256, 150_001, np.uint8).tobytes()
    value = 0
    for byte in data:  # by definition, bit by bit
        value ^= byte << 56
        for _ in range(8):
            value = (value << 1) ^ (0x142F0E1EBA9EA3693 if value >> 63 else 0)
    assert checksum(data) == value
    for size in (511, 512, 513, 4097, 65_535, 65_536, 65_537):  # zeros in front change nothing
        tail = data[-size:]
        assert checksum(tail) == checksum(bytes(70_000) + tail)


def test_messages_are_read_without_fastcrc():
    code = "import sys; sys.modules['fastcrc'] = None; from bedside.igtl.crc import crc64; "
    code += "assert crc64(b'123456789') == 0x6C40DF5F0B497347"
    subprocess.run([sys.executable, "-c", code], check=True)


@given(messages())
def test_every_message_comes_back(message):
    found = decode(encode_message(message))
    check_equal(found.content, message.content)
    assert (found.device, found.version, found.number) == (
        message.device, message.version, message.number,
    )  # fmt: skip
    assert dict(found.metadata) == dict(message.metadata)
    assert abs(found.time_s - message.time_s) <= 2**-33 + message.time_s * 2**-53


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("space", ["LPS", "RAS"])
def test_images_of_every_type_keep_values_and_places(dtype, components, space):
    image = make_image((components, 2, 3, 4), dtype=dtype, space=space)
    check_equal(decode(encode_message(Message(image))).content, image)


def test_the_twelve_numbers_of_an_image_are_its_sides_and_its_centre():
    image = make_image((1, 2, 3, 5))  # columns 0.5 mm to the left, rows 0.25 mm to the back
    place = np.frombuffer(encode_message(Message(image))[58 + 12 : 58 + 60], ">f4")
    np.testing.assert_array_equal(place, [0.5, 0, 0, 0, 0.25, 0, 0, 0, 2, 4, -3.75, 6])
    turned = Image(image.pixels, image.geometry, space="RAS")
    place = np.frombuffer(encode_message(Message(turned))[58 + 12 : 58 + 60], ">f4")
    np.testing.assert_array_equal(place, [-0.5, 0, 0, 0, -0.25, 0, 0, 0, 2, -4, 3.75, 6])


def test_the_body_of_a_video_is_that_of_the_protocols_own_library():
    image = make_image((1, 1, 2, 4))
    video = Video(b"pixels", (2, 4), "VP90", image.geometry, 1, is_grey=True)
    body = encode_message(Message(video))[58:]
    assert body[:2].hex() == "0001"  # version
    assert body[3:10].hex() == b"VP90".hex() + "0100" + "02"  # a grey key frame, LPS
    assert np.frombuffer(body[10:16], ">u2").tolist() == [4, 2, 1]
    np.testing.assert_array_equal(
        np.frombuffer(body[16:64], ">f4"), [0.5, 0, 0, 0, 0.25, 0, 0, 0, 2, 3.75, -3.875, 5]
    )
    assert np.frombuffer(body[64:76], ">u2").tolist() == [0, 0, 0, 4, 2, 1]
    assert body[76:] == b"pixels"


def test_a_video_that_is_no_whole_frame_is_refused():
    data = bytearray(encode_message(Message(Video(b"", (2, 4))))[58:])
    for place, value in ((1, 2), (15, 2), (3, 0x80), (65, 1), (71, 1)):
        damaged = bytearray(data)
        damaged[place] = value
        with pytest.raises(MessageError, match="the video"):
            decode_content("VIDEO", memoryview(bytes(damaged)))


def test_a_part_of_a_grid_keeps_its_offset():
    grid = make_image((1, 4, 5, 6)).geometry
    part = Image(np.ones((1, 1, 2, 3), "<u2"), grid, (3, 2, 1))
    check_equal(decode(encode_message(Message(part))).content, part)
    with pytest.raises(MessageError, match="leaves the grid"):
        encode_message(Message(Image(part.pixels, grid, (4, 2, 1))))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message(String("a" * 65_536)), "out of range"),
        (Message(String("a"), device="d" * 21), "21 bytes; expected at most 20"),
        (Message(String("a"), time_s=-1.0), "seconds since 1970"),
        (Message(String("a"), time_s=float("nan")), "seconds since 1970"),
        (Message(String("a"), metadata={"a": "b"}), "need version=2"),
        (Message(String("a"), version=3), "expected 1 or 2"),
        (Message(Sensor((0.0,) * 256)), "out of range"),
        (Message(Status(70_000)), "out of range"),
        (Message(Transform(np.ones((4, 4)))), "last row 0, 0, 0, 1"),
        (Message(Opaque("A_NAME_OF_13_")), "expected at most 12"),
        (Message(Video(b"", (2, 4), "H.264")), "four letters"),
        (Message(Video(b"", (2, 4), frame_type=256)), "0 to 255"),
        (Message(Video(b"", (4, 2), geometry=make_image((1, 1, 2, 4)).geometry)), "the grid is"),
        (Message(make_image((2, 1, 4, 4))), "expected \\(1, D, H, W\\)"),
        (Message(make_image(dtype="f2")), "float16"),
        (Message(make_image(space="XYZ")), "'XYZ'"),
        (
            Message(Image(np.ones((1, 1, 1, 70_000), "u1"), Geometry((1, 1, 70_000), np.eye(4),
                    space="LPS"))),
            "out of range",
        ),
    ],
)  # fmt: skip
def test_what_the_protocol_cannot_hold_is_refused(message, reason):
    with pytest.raises(MessageError, match=reason):
        encode_message(message)


def test_a_frame_that_is_sent_on_is_not_copied_and_one_that_may_change_is():
    first = encode_message(Message(make_image((3, 1, 40, 50)), "probe"))
    received = decode_body(decode_header(first[:HEADER_BYTES]), first[HEADER_BYTES:]).content
    *_, passed = encode_parts(Message(received, "bedside"))
    assert np.shares_memory(np.frombuffer(passed, np.uint8), received.pixels)
    own = np.zeros((1, 1, 40, 50), np.uint8)
    *_, sent = encode_parts(Message(Image(own, received.geometry)))
    read_only = own.view()
    read_only.flags.writeable = False
    *_, other = encode_parts(Message(Image(read_only, received.geometry)))
    own[:] = 1
    assert not any(bytes(sent))
    assert not any(bytes(other))
