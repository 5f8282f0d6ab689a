"""Messages of OpenIGTLink for tests, drawn and fixed, and how they compare."""

import time
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from bedside.igtl import (
    Content,
    Image,
    Message,
    Opaque,
    Sensor,
    Status,
    String,
    Transform,
    Video,
    encode_message,
)  # fmt: skip
from bedside.volume import Geometry

WAIT_S = 20.0
DTYPES = [
    f"{order}{kind}" for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8") for order in "<>"
]
single = st.floats(-1e3, 1e3, width=32)
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


def make_image(shape=(1, 1, 48, 64), *, dtype="u1", seed=0, space="LPS", affine=None):
    """An image of noise with sides of another length each."""
    pixels = np.random.default_rng(seed).integers(0, 120, shape).astype(dtype)
    if affine is None:
        affine = np.array([[0, 0, 0.5, 3], [0, 0.25, 0, -4], [2.0, 0, 0, 5], [0, 0, 0, 1]])
    return Image(pixels, Geometry(shape[1:], affine, space="LPS"), space=space)


@st.composite
def images(draw):
    """Images of every type, order of bytes, and place; whole grids and parts."""
    shape = draw(st.tuples(st.sampled_from([1, 3]), *[st.integers(1, 5)] * 3))
    offset = draw(st.tuples(*[st.integers(0, 4)] * 3))
    beyond = draw(st.tuples(*[st.integers(0, 3)] * 3))
    grid = tuple(np.add(np.add(shape[1:], offset), beyond).tolist())
    size = 8 * int(np.prod(shape))
    data = draw(st.binary(min_size=size, max_size=size))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    pixels = np.frombuffer(data[: dtype.itemsize * int(np.prod(shape))], dtype).reshape(shape)
    affine = np.eye(4)
    affine[:3] = np.reshape(draw(st.lists(single, min_size=12, max_size=12)), (3, 4))
    affine[:3, :3] += np.diag([4000.0] * 3)
    space = draw(st.sampled_from(["LPS", "RAS"]))
    return Image(pixels, Geometry(grid, affine, space="LPS"), offset, space)


@st.composite
def videos(draw):
    """Videos with a place and without."""
    image = draw(images())
    shape = image.geometry.shape[1:]
    affine = image.geometry.affine
    geometry = draw(st.sampled_from([None, Geometry((1, *shape), affine, space="LPS")]))
    is_grey = draw(st.booleans())
    return Video(
        draw(st.binary(max_size=40)), shape, draw(st.sampled_from(["I420", "H264", "X"])),
        geometry, draw(st.integers(is_grey, 255)), is_grey, image.space if geometry else "LPS",
    )  # fmt: skip


@st.composite
def transforms(draw):
    matrix = np.eye(4)
    matrix[:3] = np.reshape(draw(st.lists(single, min_size=12, max_size=12)), (3, 4))
    return Transform(matrix)


def contents():
    """Contents of every type."""
    statuses = st.builds(
        Status, st.integers(0, 2**16 - 1), st.integers(-(2**63), 2**63 - 1),
        text.filter(lambda name: len(name.encode()) <= 20), text,
    )  # fmt: skip
    values = st.lists(st.floats(allow_nan=False), max_size=255).map(tuple)
    sensors = st.builds(Sensor, values, st.integers(0, 2**64 - 1), st.integers(0, 255))
    names = ["GET_IMAGE", "STT_TDATA", "STP_TDATA", "POLYDATA", "X"]
    opaques = st.builds(Opaque, st.sampled_from(names), st.binary(max_size=40))
    texts = st.builds(String, text)
    return st.one_of(images(), videos(), statuses, transforms(), texts, sensors, opaques)


@st.composite
def messages(draw):
    """Messages of both versions."""
    time_s = draw(st.floats(0, 2**32, exclude_max=True))
    device = draw(text.filter(lambda name: len(name.encode()) <= 20))
    if draw(st.booleans()):
        return Message(draw(contents()), device, time_s)
    metadata = draw(st.dictionaries(text, text, max_size=3))
    return Message(draw(contents()), device, time_s, 2, draw(st.integers(0, 2**32 - 1)), metadata)


def check_equal(found: Content, expected: Content) -> None:
    """Contents are equal, the place of an image to the rounding of float32."""
    assert type(found) is type(expected)
    if isinstance(expected, Image):
        assert found.pixels.dtype == expected.pixels.dtype
        assert found.pixels.tobytes() == expected.pixels.tobytes()
        assert found.pixels.shape == expected.pixels.shape
        assert (found.offset, found.space) == (expected.offset, expected.space)
        check_place(found.geometry, expected.geometry)
    elif isinstance(expected, Video):
        assert replace(found, geometry=None) == replace(expected, geometry=None)
        assert (found.geometry is None) == (expected.geometry is None)
        if expected.geometry is not None:
            check_place(found.geometry, expected.geometry)
    elif isinstance(expected, Transform):
        np.testing.assert_array_equal(found.matrix, expected.matrix)
    else:
        assert found == expected


def check_place(found: Geometry, expected: Geometry) -> None:
    """Grids are in the same place, to the rounding of float32."""
    assert found.shape == expected.shape
    size = np.abs(expected.affine).max() * max(expected.shape)
    assert np.abs(found.affine - expected.affine).max() <= 1e-6 * size


def fixed_messages() -> list[bytes]:
    """One message of each type, encoded."""
    values = [
        make_image(), make_image((3, 1, 20, 30), dtype=">i2", space="RAS"),
        Status(1, 5, "none", "ready"), Transform(np.eye(4)), String("area 12.5 cm2"),
        Sensor((1.0, 2.5)), Opaque("GET_IMAGE"),
        Video(bytes(range(96)), (8, 8), geometry=make_image((1, 1, 8, 8)).geometry),
    ]  # fmt: skip
    plain = [encode_message(Message(each, "probe", 1.7e9)) for each in values]
    named = [encode_message(Message(each, "probe", 1.7e9, 2, 7, {"a": "b"})) for each in values]
    return plain + named


def wait_until(done) -> None:
    """Wait for what another thread does."""
    until = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.002)
