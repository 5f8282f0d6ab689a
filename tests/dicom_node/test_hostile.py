"""What a hostile or broken peer sends costs its own connection, and nobody else's."""

import contextlib
import logging
import random
import struct
import time

import pytest
from pydicom.uid import UltrasoundMultiFrameImageStorage

from dicom_node_for_tests import send, wait_for, write_cine
from makers import make_dicom, make_fan
from raw_dicom_for_tests import (
    ABORTED,
    DATA,
    REJECTED,
    RawPeer,
    encode_dataset,
    make_data,
    make_echo,
    make_request,
    make_store,
)

UID, SEG = "1.2.3.4", "1.2.840.10008.5.1.4.1.1.66.4"


def echo(server):
    """Associate and echo; return whether it was answered."""
    with RawPeer(server.address) as peer:
        peer.associate()
        peer.send(make_echo())
        return peer.read()[0] == DATA


def make_image(**tags):
    return make_dicom(make_fan(2, 8, 8), tags={"SOPInstanceUID": UID, **tags})


def store(server, data, **command):
    """C-STORE a data set; return the status, or None if the connection was ended."""
    begin, pieces = make_store(data, **{"uid": UID, **command})
    with RawPeer(server.address) as peer:
        peer.associate()
        try:
            peer.send(begin + b"".join(pieces))
            kind, content = peer.read()
        except ConnectionError:
            return None
        at = content.find(b"\x00\x00\x00\x09\x02\x00\x00\x00")
        return struct.unpack("<H", content[at + 8 : at + 10])[0] if kind == DATA else None


def test_half_open_connections_keep_nobody_out_and_end(receive):
    server = receive({"half_open": 20, "association_s": 2.0, "associations": 2})
    with contextlib.ExitStack() as stack:
        for number in range(60):
            peer = stack.enter_context(RawPeer(server.address))
            if number % 2:
                peer.send(make_request()[: number % 7])
            last = peer
        assert echo(server)
        assert server.half_open <= 20
        assert server.associations <= 1
        assert last.is_cut()
    wait_for(lambda: server.half_open == 0)


def test_one_association_too_many_is_rejected_for_now(receive):
    server = receive({"associations": 2})
    with RawPeer(server.address) as first, RawPeer(server.address) as second:
        first.associate()
        second.associate()
        with RawPeer(server.address) as third:
            third.send(make_request())
            kind, content = third.read()
            assert (kind, content[1:]) == (REJECTED, bytes([2, 3, 2]))  # local limit exceeded
    wait_for(lambda: server.associations == 0)
    assert echo(server)


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">BBI", 1, 0, 0xFFFFFFFF),
        struct.pack(">BBI", 1, 0, 3) + b"abc",
        struct.pack(">BBI", 5, 0, 4) + bytes(4),
        struct.pack(">BBI", 4, 0, 2**31),
    ],
)
def test_what_is_no_request_for_an_association_is_cut_off_at_once(receive, first):
    server = receive({"association_s": 600.0})
    with RawPeer(server.address) as peer:
        peer.send(first)
        assert peer.is_cut()
    assert echo(server)


def test_damaged_requests_end_and_leave_no_thread(receive):
    server = receive({"associations": 4})
    chance = random.Random(1)
    whole = make_request()
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(6, len(whole))] = chance.randrange(256)
        with RawPeer(server.address) as peer, contextlib.suppress(OSError):
            peer.send(bytes(damaged))
    wait_for(lambda: server.associations == 0 and server.half_open == 0)
    assert echo(server)


def test_a_pdu_longer_than_allowed_is_not_read(receive):
    server = receive()
    with RawPeer(server.address) as peer:
        peer.associate()
        peer.send(struct.pack(">BBI", DATA, 0, 0xFFFFFFFF))
        assert peer.is_cut()


def test_a_pdu_has_a_deadline_however_its_bytes_come(receive):
    server = receive({"pdu_s": 0.5})
    begin, (piece, *_) = make_store(bytes(1000))
    with RawPeer(server.address) as peer:
        peer.associate()
        peer.send(begin)
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            for value in piece:
                peer.send(bytes([value]))
                time.sleep(0.05)
        assert peer.is_cut()
        assert time.monotonic() - begun < 30
    wait_for(lambda: server.associations == 0)


def test_an_object_that_drips_in_whole_pdus_is_cut_off(receive):
    server = receive({"pdu_s": 0.5})
    begin, _ = make_store(b"")
    with RawPeer(server.address) as peer:
        peer.associate()
        peer.send(begin)
        with contextlib.suppress(OSError):
            for _ in range(600):
                peer.send(make_data(b"x"))
                time.sleep(0.05)
        assert peer.is_cut()
    wait_for(lambda: server.associations == 0)


def test_an_object_that_does_not_go_on_is_cut_off(receive):
    server = receive({"pdu_s": 0.2})
    with RawPeer(server.address) as peer:
        peer.associate()
        peer.send(make_store(b"")[0])
        assert peer.is_cut()


def test_silence_ends_an_association(receive):
    server = receive({"idle_s": 0.3})
    with RawPeer(server.address) as peer:
        peer.associate()
        assert peer.is_cut()


def test_an_object_larger_than_allowed_is_cut_off_and_leaves_no_file(receive):
    server = receive({"object_mb": 1})
    with RawPeer(server.address) as peer:
        peer.associate()
        peer.send(make_store(b"")[0])
        with contextlib.suppress(OSError):
            for _ in range(200):
                peer.send(make_data(bytes(16000)))
        assert peer.is_cut()
    wait_for(lambda: server.associations == 0)
    assert not list((server.store.path / "spool").rglob("*.dcm"))


def test_messages_that_do_not_wait_for_answers_are_answered_in_turn(receive):
    with RawPeer(receive().address) as peer:
        peer.associate()
        peer.send(make_echo() * 50)
        assert [peer.read()[0] for _ in range(50)] == [DATA] * 50


def test_a_peer_that_reads_no_answers_is_cut_off(receive):
    server = receive({"pdu_s": 0.3})
    with RawPeer(server.address) as peer:
        peer.associate()
        with contextlib.suppress(ConnectionError):
            while True:
                peer.send(make_echo() * 500)
    wait_for(lambda: server.associations == 0)


def test_one_address_keeps_no_other_out(receive):
    server = receive({"associations_per_address": 2, "half_open_per_address": 4})
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(RawPeer(server.address)).associate()
        third = stack.enter_context(RawPeer(server.address))
        third.send(make_request())
        assert third.read() == (REJECTED, bytes([0, 2, 3, 2]))
        waiting = [stack.enter_context(RawPeer(server.address)) for _ in range(9)]
        assert waiting[0].is_cut()
        wait_for(lambda: server.half_open <= 4)
        other = stack.enter_context(RawPeer(server.address, source="127.0.0.2"))
        other.associate()


def test_what_goes_wrong_is_told_by_address_and_reason_and_not_again_and_again(receive, caplog):
    server = receive(calling_ae_titles=("CT1",))
    for _ in range(5):
        with RawPeer(server.address) as peer:
            peer.send(make_request())
            assert peer.read()[0] == REJECTED
        with RawPeer(server.address) as peer:
            peer.send(b"\x16\x03\x01\x02\x00\x01")  # a TLS handshake
            assert peer.is_cut()
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        '127.0.0.1: an association was rejected: "RAW" is not listed in calling_ae_titles',
        "127.0.0.1: it speaks TLS, and this port does not: set [dicom.tls], or turn TLS off there",
    ]


@pytest.mark.parametrize(
    ("tags", "command", "status"),
    [
        ({"SOPInstanceUID": "1.2.3.5"}, {}, 0xA900),
        ({}, {"sop_class": SEG}, 0xA900),
        ({"SOPClassUID": SEG}, {"sop_class": SEG}, 0xA900),  # on a context for films
        ({"StudyInstanceUID": ""}, {}, 0xC000),
    ],
)
def test_an_image_that_is_not_what_it_says_is_refused(receive, tags, command, status):
    server = receive()
    assert store(server, encode_dataset(make_image(**tags)), **command) == status
    assert server.store.list() == []


def test_a_uid_that_is_none_is_refused(receive):
    data = encode_dataset(make_image(SeriesInstanceUID="1.2.3.4.5.6.7"))
    server = receive()
    assert store(server, data.replace(b"1.2.3.4.5.6.7", b"../../etc/pwd")) == 0xC000
    assert server.store.list() == []


@pytest.mark.parametrize("data", [b"\xff" * 5000, b"\x08\x00\x05\x00CS\xff\xff", bytes(9999)])
def test_a_data_set_that_is_none_is_refused(receive, data):
    server = receive()
    assert store(server, data) in (0xC000, None)
    assert server.store.list() == []
    assert echo(server)


def test_meta_information_in_a_data_set_is_not_taken_for_that_of_the_file(receive):
    deflated = b"\x02\x00\x10\x00UI\x16\x001.2.840.10008.1.2.1.99"
    assert store(receive(), deflated + encode_dataset(make_image())) == 0xC000


def test_a_sequence_nested_without_end_is_refused(receive):
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    deep = (b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + item) * 3000
    assert store(receive(), deep) == 0xC000


def test_an_image_on_a_context_that_was_not_accepted_is_not_taken(receive):
    server = receive()
    begin, _ = make_store(b"")
    with RawPeer(server.address) as peer:
        peer.associate()
        peer.send(begin + make_data(b"x", context=99))
        assert peer.read()[0] == ABORTED


def test_nothing_of_a_patient_is_logged(receive, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("pynetdicom").addHandler(caplog.handler)
    canaries = {"PatientName": "Canary^Name", "PatientID": "CANARY-ID", "StationName": "CANARYST"}
    server = receive(settle_s=0.1)
    assert store(server, encode_dataset(make_image(**canaries))) == 0
    store(server, encode_dataset(make_image(**canaries))[:300])
    store(server, encode_dataset(make_image(**canaries, SOPInstanceUID="1.2.77")))
    logging.getLogger("pynetdicom").removeHandler(caplog.handler)

    said = caplog.text
    for word in (*canaries.values(), UID, str(UltrasoundMultiFrameImageStorage), "1.2.77"):
        assert word not in said
    assert "status A900: its SOP class or instance UID is not that of the command" in said


def test_a_disk_without_room_refuses_images_and_not_echo(receive, tmp_path):
    server = receive({"free_mb": 10**9})
    assert store(server, encode_dataset(make_image())) == 0xA700
    is_sent, text = send(server.address, write_cine(tmp_path / "cine.dcm"))
    assert not is_sent, text
    assert echo(server)
