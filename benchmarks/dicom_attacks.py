"""Attacks on a DICOM node; each goes on until it is told to stop, or has done its number."""

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable

from raw_dicom_for_tests import RawPeer, make_data, make_echo, make_request, make_store

Address = tuple[str, int]
_CLOSE_AT_ONCE = struct.pack("ii", 1, 0)  # without it, 100,000 connections leave no free port


def do_nothing(address: Address, stop: threading.Event) -> None:
    """What a row without an attack is like."""
    stop.wait(11)


def hold_half_open(address: Address, stop: threading.Event) -> None:
    """200 connections, some with a part of a request, opened again when they are cut."""
    with contextlib.ExitStack() as stack:
        for number in range(200):
            peer = stack.enter_context(RawPeer(address))
            peer.send(make_request()[: number % 60])
        stop.wait(11)


def send_malformed(address: Address, stop: threading.Event) -> None:
    """10,000 PDUs, each damaged, half of them within an association."""
    chance, request, echo = random.Random(0), make_request(), make_echo()
    for number in range(10_000):
        with contextlib.suppress(OSError, AssertionError), RawPeer(address) as peer:
            if number % 20 == 0:
                peer.associate()
                peer.send(_damage(echo, chance))
            else:
                peer.send(_damage(request, chance, since=0))


def claim_4_gib(address: Address, stop: threading.Event) -> None:
    """PDUs that claim 4 GiB, with 300 MB sent, as the first PDU and within an association."""
    for is_associated in (False, True):
        with contextlib.suppress(OSError), RawPeer(address) as peer:
            if is_associated:
                peer.associate()
            peer.send(struct.pack(">BBI", 4 if is_associated else 1, 0, 0xFFFFFFFF))
            for _ in range(300):
                peer.send(bytes(2**20))
    with contextlib.suppress(OSError), RawPeer(address) as peer:  # an object without an end
        peer.associate()
        peer.send(make_store(b"")[0])
        while not stop.is_set():
            peer.send(make_data(bytes(16000)))


def send_slowly(address: Address, stop: threading.Event) -> None:
    """20 connections that send a byte a second: a request, a PDU, and whole PDUs of one byte."""
    begin, (piece, *_) = make_store(bytes(10_000))
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(RawPeer(address)) for _ in range(20)]
        for number, peer in enumerate(peers):
            if number % 3:
                peer.associate()
                peer.send(begin)
        for second in range(10):
            for number, peer in enumerate(peers):
                whole = number % 3 == 2
                data = make_data(b"x") if whole else (piece if number % 3 else make_request())
                with contextlib.suppress(OSError):
                    peer.send(data if whole else data[second : second + 1])
            if stop.wait(1):
                break
        stop.wait(1)


def connect_only(address: Address, stop: threading.Event) -> None:
    """100,000 connections that are closed at once."""
    for _ in range(100_000):
        with contextlib.suppress(OSError), socket.create_connection(address) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CLOSE_AT_ONCE)


def _damage(data: bytes, chance: random.Random, *, since: int = 6) -> bytes:
    damaged = bytearray(data)
    for _ in range(chance.randrange(1, 8)):
        damaged[chance.randrange(since, len(data))] = chance.randrange(256)
    return bytes(damaged)


ATTACKS: dict[str, Callable[[Address, threading.Event], None]] = {
    "none": do_nothing,
    "200 half-open connections": hold_half_open,
    "10,000 malformed PDUs": send_malformed,
    "claims of 4 GiB, 300 MB sent; an object without an end": claim_4_gib,
    "1 byte a second, 20 connections": send_slowly,
    "100,000 bare connections": connect_only,
}
