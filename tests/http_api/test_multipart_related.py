"""Messages are taken apart whatever their chunks are; damaged and oversized ones are refused."""

import contextlib
import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedside.errors import LimitError, MessageError
from bedside.http_api.dicomweb.multipart import (
    MultipartLimits,
    MultipartReader,
    read_related_type,
)

BOUNDARY = b"0f3cf5c0"


class Kept:
    """Parts as they came."""

    def __init__(self) -> None:
        self.parts = []

    def begin(self, headers):
        self.parts.append((dict(headers), bytearray(), []))

    def write(self, content):
        self.parts[-1][1].extend(content)

    def end(self):
        self.parts[-1][2].append("end")

    @property
    def contents(self):
        return [bytes(content) for _, content, ends in self.parts if ends == ["end"]]


def pack(*parts, boundary=BOUNDARY):
    lines = [
        b"\r\n--" + boundary + b"\r\nContent-Type: application/dicom\r\n\r\n" + part
        for part in parts
    ]
    return b"".join(lines) + b"\r\n--" + boundary + b"--\r\n"


def read(body, *, cuts=(), limits=None):
    kept = Kept()
    reader = MultipartReader(BOUNDARY, kept, limits)
    places = [0, *sorted(cuts), len(body)]
    for begin, end in itertools.pairwise(places):
        reader.feed(body[begin:end])
    reader.close()
    return kept


@given(
    st.lists(st.binary(max_size=60) | st.sampled_from([b"\r\n--0f3c", b"--0f3cf5c0", b"\r\n"])),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_parts_are_the_same_however_the_message_is_cut(parts, cuts):
    parts = [part for part in parts if b"\r\n--" + BOUNDARY not in b"\r\n" + part]
    body = pack(*parts)
    assert read(body, cuts=[cut for cut in cuts if cut < len(body)]).contents == parts


def test_headers_of_a_part_come_by_their_names_in_lower_case():
    kept = read(pack(b"x"), cuts=range(1, 40))
    assert kept.parts[0][0] == {"content-type": "application/dicom"}


@given(st.binary(max_size=300))
def test_junk_is_refused_in_words(body):
    with pytest.raises(MessageError):
        read(body)


@given(st.data())
def test_a_mutated_message_is_read_or_refused_and_nothing_else(data):
    body = bytearray(pack(b"a" * 50, b"\r\n" * 20, b"--" * 9))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(body) - 1))
        if data.draw(st.booleans()):
            body[place] = data.draw(st.integers(0, 255))
        else:
            del body[place : place + data.draw(st.integers(1, 30))]
        body = body or bytearray(b"-")
    with contextlib.suppress(MessageError):
        read(bytes(body), cuts=(len(body) // 2,))


@pytest.mark.parametrize("kept", [0, 3, 30, -1])
def test_a_truncated_message_is_refused(kept):
    body = pack(b"x" * 100).rstrip(b"-\r\n")
    with pytest.raises(MessageError):
        read(body[:kept])


def test_more_parts_than_allowed_are_refused_before_they_are_read():
    with pytest.raises(LimitError, match="more than 5000 parts"):
        read(pack(*[b"x"] * 10_000))


@pytest.mark.parametrize("limits", [{"part_bytes": 50}, {"total_bytes": 90}])
def test_sizes_have_limits(limits):
    assert len(read(pack(b"x" * 45, b"x" * 45), limits=MultipartLimits(**limits)).contents) == 2
    with pytest.raises(LimitError):
        read(pack(b"x" * 51, b"x" * 45), limits=MultipartLimits(**limits))


def test_headers_have_limits():
    for header in (b"X: " + b"y" * 10_000, b"\r\n".join(b"X%d: 1" % n for n in range(99))):
        body = b"--" + BOUNDARY + b"\r\n" + header + b"\r\n\r\nx\r\n--" + BOUNDARY + b"--"
        with pytest.raises(MessageError):
            read(body)


def test_a_nested_message_is_content_and_nothing_more():
    inner = pack(pack(b"deep", boundary=b"two"), boundary=b"one")
    assert read(pack(inner)).contents == [inner]


def test_memory_does_not_grow_with_a_message():
    class Nothing(Kept):
        def write(self, content):
            pass

    reader = MultipartReader(BOUNDARY, Nothing())
    reader.feed(b"--" + BOUNDARY + b"\r\n\r\n")
    tracemalloc.start()
    try:
        for _ in range(200):
            reader.feed(b"\r\n--0f3c" * 10_000)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content_type", "found"),
    [
        (
            'multipart/related; type="application/dicom"; boundary="a b"',
            (b"a b", "application/dicom"),
        ),
        ("Multipart/Related;boundary=x;type=APPLICATION/DICOM", (b"x", "application/dicom")),
        ("multipart/related; boundary=x", (b"x", "")),
    ],
)
def test_a_content_type_is_read(content_type, found):
    read_type = read_related_type(content_type)
    assert (read_type.boundary, read_type.type) == found


def test_other_content_types_are_none_of_these():
    assert read_related_type("multipart/form-data; boundary=x") is None
    assert read_related_type("") is None


def test_a_boundary_must_be_there_and_not_be_absurd():
    with pytest.raises(MessageError, match="no boundary"):
        read_related_type('multipart/related; type="application/dicom"')
    with pytest.raises(MessageError):
        MultipartReader(b"x" * 10_000, Kept())
