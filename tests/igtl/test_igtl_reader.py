import re
import struct
import tracemalloc

import numpy as np
import pytest

from bedside.igtl import Fault, Message, MessageReader, Opaque, String, encode_message
from bedside.igtl.crc import crc64
from bedside.system.process_memory import resident_bytes
from igtl_makers import check_equal, fixed_messages, make_image

LIMIT = 2**17


def text(value):
    return encode_message(Message(String(value), "mark"))


def change(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def with_body(data, body):
    """The header of a message before another body, with its size and checksum."""
    return data[:42] + struct.pack(">QQ", len(body), crc64(body)) + body


def kinds(found):
    return [each.kind if isinstance(each, Fault) else each.content for each in found]


@pytest.mark.parametrize("size", [1, 7, 57, 58, 59, 4096])
def test_pieces_of_any_size_give_the_same_messages(size):
    data = b"".join(fixed_messages())
    expected = MessageReader().feed(data)
    reader = MessageReader()
    found = [each for at in range(0, len(data), size) for each in reader.feed(data[at : at + size])]
    assert len(found) == len(expected) == len(fixed_messages())
    for one, other in zip(found, expected, strict=True):
        check_equal(one.content, other.content)
    assert reader.pending == 0
    assert reader.finish() == []


def test_a_message_is_returned_with_its_last_byte():
    data, reader = text("now"), MessageReader()
    assert reader.feed(data[:-1]) == []
    assert reader.pending == len(data) - 1
    assert kinds(reader.feed(data[-1:])) == [String("now")]


def test_a_wrong_checksum_is_told_and_the_next_message_is_read():
    bad = change(text("one"), 60, b"\xff")
    reader = MessageReader()
    assert kinds(reader.feed(bad)) == ["crc"]
    assert kinds(reader.feed(text("two") + text("three"))) == [String("two"), String("three")]


@pytest.mark.parametrize("end", [30, 58, 59, 130])
def test_messages_behind_one_that_was_cut_are_all_found(end):
    cut = encode_message(Message(Opaque("X", bytes(range(200))), "probe"))[:end]
    follow = [String(str(number)) for number in range(20)]
    found = kinds(MessageReader().feed(cut + b"".join(text(each.text) for each in follow)))
    assert [each for each in found if isinstance(each, String)] == follow


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, LIMIT + 1])
def test_a_body_over_the_limit_is_refused_without_memory_for_it(size):
    bad = change(text("one"), 42, struct.pack(">Q", size))
    reader = MessageReader(LIMIT)
    tracemalloc.start()
    try:
        found = reader.feed(bad + text("two"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kinds(found) == ["limit", String("two")]
    assert f"{size} bytes; the limit is {LIMIT}" in found[0].reason
    assert peak < 2**20


@pytest.mark.parametrize("size", [0, 3, 200, 1000])
def test_messages_that_a_wrong_size_cuts_or_swallows_are_found_again(size):
    bad = change(text("one"), 42, struct.pack(">Q", size))
    follow = [str(number) for number in range(40)]
    found = kinds(MessageReader().feed(bad + b"".join(map(text, follow))))
    assert found[0] == "crc"
    assert found[1:] == [String(each) for each in follow]


@pytest.mark.parametrize("end", [15, 24, 57])
def test_a_header_cut_short_and_filled_with_zeros_does_not_take_the_next_message(end):
    cut = encode_message(Message(Opaque("GET_IMAGE"), ""))[:end]
    data = cut + text("one") + text("two")
    assert [each for each in kinds(MessageReader().feed(data)) if isinstance(each, String)] == [
        String("one"), String("two"),
    ]  # fmt: skip


def test_junk_before_a_message_is_told_once():
    junk = np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes()
    assert kinds(MessageReader().feed(b"\xff" + junk + text("one"))) == ["header", String("one")]


def test_an_end_in_the_middle_is_told():
    reader = MessageReader()
    assert reader.feed(text("one")[:-2]) == []
    assert kinds(reader.finish()) == ["truncated"]
    reader = MessageReader()
    swallowing = change(text("one"), 42, struct.pack(">Q", 5000))
    assert reader.feed(swallowing + text("two")) == []
    assert kinds(reader.finish()) == ["truncated", String("two")]


IMAGE = encode_message(Message(make_image((1, 1, 4, 6))))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (with_body(IMAGE, IMAGE[58:-1]), "23 bytes of pixels; expected 24"),
        (with_body(IMAGE, IMAGE[58:90]), "too few for its type"),
        (with_body(IMAGE, change(IMAGE[58:], 2, b"\2")), "2 components"),
        (with_body(IMAGE, change(IMAGE[58:], 3, b"\x09")), "type 9"),
        (with_body(IMAGE, change(IMAGE[58:], 4, b"\0")), "endian 0"),
        (with_body(IMAGE, change(IMAGE[58:], 5, b"\3")), "coordinates 3"),
        (with_body(IMAGE, change(IMAGE[58:], 12, b"\x7f\xc0\0\0")), "finite"),
        (with_body(IMAGE, change(IMAGE[58:], 12, bytes(36))), "singular"),
        (with_body(IMAGE, change(IMAGE[58:], 60, b"\0\1")), "leaves the grid"),
        (with_body(text("one"), b"\0\3\0\4abc"), "3 bytes; expected 4"),
        (with_body(text("one"), b"\0\3\0\1\xff"), "encoding 3"),
        (with_body(text("one"), b"\3\0\0\1a"), "encoding 768"),
        (b"\0\2" + with_body(text("one"), b"\0\4\0\0\0\0\0\0\0\0\0\0")[2:], "extended header"),
        (b"\0\2" + with_body(text("one"), b"\0\x0c\0\x0a\0\0\0\0\0\0\0\0" + bytes(8) + b"\0\1"
                             )[2:], "extended header|metadata|too few"),
    ],
)  # fmt: skip
def test_a_body_that_is_not_what_its_type_says_is_told(data, reason):
    found = MessageReader().feed(data + text("next"))
    assert kinds(found)[1:] == [String("next")]
    assert isinstance(found[0], Fault)
    assert found[0].kind == "content"
    assert re.search(reason, found[0].reason)


def mutate(data, random):
    """Bits, bytes, sizes, or a part of a message changed."""
    how = random.integers(0, 5)
    at = int(random.integers(0, len(data)))
    if how == 0:
        return change(data, at, bytes([data[at] ^ 1 << int(random.integers(0, 8))]))
    if how == 1:
        return change(data, 42, random.integers(0, 256, 8, np.uint8).tobytes())
    if how == 2:
        return change(data, 42, struct.pack(">Q", int(random.integers(0, LIMIT))))
    if how == 3:
        return data[:at]
    return change(data, int(random.integers(0, 58)), random.integers(0, 256, 4, np.uint8).tobytes())


def test_10000_mutated_messages_lose_no_good_one_and_keep_memory_bounded():
    random, plain, limit = np.random.default_rng(20), fixed_messages(), 2**14
    reader, found, largest = MessageReader(limit), [], 0
    before = resident_bytes()
    for number in range(10_000):
        bad = mutate(plain[number % len(plain)], random)
        found += reader.feed(bad) + reader.feed(text(f"mark {number}"))
        largest = max(largest, reader.pending)
        found = [each for each in found if isinstance(each, Message) and each.device == "mark"]
    assert resident_bytes() - before <= 16 * 2**20
    found += reader.finish()
    texts = [each.content.text for each in found if isinstance(each, Message)]
    assert [each for each in texts if each.startswith("mark")] == [
        f"mark {number}" for number in range(10_000)
    ]
    assert largest <= limit + 2 * max(map(len, plain))


def test_headers_within_junk_cost_work_in_proportion_to_it(monkeypatch):
    checked = []
    monkeypatch.setattr(
        "bedside.igtl.reader.crc64", lambda body: checked.append(len(body)) or crc64(b"")
    )
    begin = b"\0\1" + b"X".ljust(12, b"\0") + bytes(28) + struct.pack(">QQ", 60_000, 1)
    reader = MessageReader(LIMIT)
    data = b"\xff" * 60 + begin * 5000
    for at in range(0, len(data), 4096):
        reader.feed(data[at : at + 4096])
    assert sum(checked) <= 4 * len(data) + 4 * LIMIT
