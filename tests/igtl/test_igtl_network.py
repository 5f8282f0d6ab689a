import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from bedside.errors import MessageError, UsageError
from bedside.igtl import Fault, IgtlClient, IgtlServer, Message, String, encode_message
from igtl_makers import WAIT_S, check_equal, fixed_messages, make_image, wait_until
from ports_for_tests import find_port


class Box:
    """What has come, and a wait for it."""

    def __init__(self):
        self.items, self._changed = [], threading.Condition()

    def __call__(self, *item):
        with self._changed:
            self.items.append(item[-1])
            self._changed.notify_all()

    def wait(self, done):
        with self._changed:
            assert self._changed.wait_for(lambda: done(self.items), WAIT_S)
            return list(self.items)


def balanced(counts):
    return counts.offered == counts.sent + counts.dropped + counts.waiting


def message(text, device="server"):
    return Message(String(text), device, 1.5)


def test_messages_pass_in_both_directions():
    at_server, at_client = Box(), Box()
    with (
        IgtlServer(0, on_item=at_server) as server,
        IgtlClient(server.port, on_item=at_client) as client,
    ):
        wait_until(lambda: server.clients == 1 and client.wait_connected(WAIT_S))
        image = make_image((3, 1, 48, 64))
        assert server.send(Message(image, "probe"), message("area")) == 1
        assert client.send(message("hello"))
        first, second = at_client.wait(lambda items: len(items) == 2)
        check_equal(first.content, image)
        assert second.content == String("area")
        assert at_server.wait(bool)[0].content == String("hello")
        wait_until(lambda: server.counts[0].sent == 2 and client.counts.sent == 1)
        assert (client.counts.received, server.counts[0].received) == (2, 1)


def test_three_clients_at_once_each_have_exact_counts():
    boxes = [Box() for _ in range(3)]
    with IgtlServer(0) as server:
        clients = [IgtlClient(server.port, on_item=box) for box in boxes]
        wait_until(lambda: server.clients == 3)
        for number in range(200):
            server.send(message(str(number)))
        for box in boxes:
            box.wait(lambda items: items and items[-1].content == String("199"))
        wait_until(lambda: all(each.waiting == 0 for each in server.counts.values()))
        for counts in server.counts.values():
            assert counts.offered == 200 == counts.sent + counts.dropped
        received = sorted(client.counts.received for client in clients)
        assert received == sorted(each.sent for each in server.counts.values())
        for box in boxes:
            numbers = [int(each.content.text) for each in box.items]
            assert numbers == sorted(set(numbers))
        for client in clients:
            client.close()


def test_a_client_that_does_not_read_gets_the_latest_and_holds_up_no_other():
    box = Box()
    with IgtlServer(0) as server:
        slow = socket.create_connection(("127.0.0.1", server.port))
        wait_until(lambda: server.clients == 1)
        with IgtlClient(server.port, on_item=box) as client:
            wait_until(lambda: server.clients == 2)
            image = make_image((1, 1, 480, 640))
            for number in range(60):
                server.send(Message(image, str(number)))
                box.wait(lambda items, number=number: items and items[-1].device == str(number))
                assert all(balanced(each) for each in server.counts.values())
            counts = server.counts
            assert counts[0].dropped > 0
            assert counts[0].offered == 60 == sum((
                counts[0].sent, counts[0].dropped, counts[0].waiting,
            ))  # fmt: skip
            assert counts[1].dropped == 0
            assert client.counts.received == 60
            slow.close()
            wait_until(lambda: server.clients == 1)
            assert server.counts[0].waiting == 0
            assert server.counts[0].sent + server.counts[0].dropped == 60


CLIENT = """
import sys, time
from bedside.igtl import IgtlClient
client = IgtlClient(int(sys.argv[1]))
assert client.wait_connected(20)
print("ready", flush=True)
time.sleep(60)
"""

SERVER = """
import sys, time
from bedside.igtl import IgtlServer
server = IgtlServer(int(sys.argv[1]))
print("ready", flush=True)
time.sleep(60)
"""


def start(code, port):
    process = subprocess.Popen([sys.executable, "-c", code, str(port)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_a_killed_client_is_counted_and_the_server_goes_on():
    box = Box()
    with IgtlServer(0) as server, IgtlClient(server.port, on_item=box):
        wait_until(lambda: server.clients == 1)
        process = start(CLIENT, server.port)
        wait_until(lambda: server.clients == 2)
        image = make_image((1, 1, 480, 640))
        for number in range(20):
            server.send(Message(image, str(number)))
            if number == 10:
                kill(process)
            box.wait(lambda items, number=number: items and items[-1].device == str(number))
        wait_until(lambda: server.clients == 1 and server.counts[0].waiting == 0)
        first, second = server.counts.values()
        assert (first.offered, first.sent, first.dropped) == (20, 20, 0)
        assert balanced(second)
        assert second.waiting == 0


def test_a_killed_server_is_found_again_and_what_was_sent_meanwhile_is_counted():
    port = find_port()
    process = start(SERVER, port)
    with IgtlClient(port) as client:
        assert client.wait_connected(WAIT_S)
        assert client.connects == 1
        kill(process)
        wait_until(lambda: not client.connected)
        assert client.send(message("lost")) is False
        assert (client.counts.offered, client.counts.dropped) == (1, 1)
        box = Box()
        with IgtlServer(port, on_item=box) as server:
            assert client.wait_connected(WAIT_S)
            assert client.connects == 2
            wait_until(lambda: server.clients == 1)
            assert client.send(message("found"))
            assert box.wait(bool)[0].content == String("found")
            wait_until(lambda: client.counts.sent == 1)
            assert balanced(client.counts)


def drip(peer, data):
    """Send bytes one after the other until the connection is closed."""
    for byte in data:
        peer.send(bytes([byte]))
        time.sleep(0.02)


def test_a_half_message_closes_the_connection_at_its_deadline_however_slowly_it_goes_on():
    box = Box()
    with IgtlServer(0, on_item=box, deadline_s=0.3) as server:
        peer = socket.create_connection(("127.0.0.1", server.port))
        with pytest.raises(ConnectionError):
            drip(peer, encode_message(message("slow" * 100)))
        peer.close()
        assert [each.kind for each in box.wait(bool)] == ["deadline"]
        wait_until(lambda: server.clients == 0)
        assert server.counts[0].faults == 1


def test_a_quiet_client_that_has_sent_whole_messages_stays_connected():
    box = Box()
    with (
        IgtlServer(0, on_item=box, deadline_s=0.1) as server,
        IgtlClient(server.port) as client,
    ):
        assert client.wait_connected(WAIT_S)
        client.send(message("one"))
        box.wait(bool)
        time.sleep(0.3)
        assert server.clients == 1
        client.send(message("two"))
        assert box.wait(lambda items: len(items) == 2)[1].content == String("two")


def test_damaged_bytes_are_told_and_later_messages_of_the_client_are_read():
    box = Box()
    with IgtlServer(0, on_item=box) as server:
        peer = socket.create_connection(("127.0.0.1", server.port))
        rng = np.random.default_rng(0)
        peer.sendall(rng.integers(1, 256, 3000, np.uint8).tobytes())
        peer.sendall(b"".join(fixed_messages()))
        items = box.wait(lambda items: len(items) == 1 + len(fixed_messages()))
        assert [type(each) for each in items] == [Fault] + [Message] * len(fixed_messages())
        assert (server.counts[0].received, server.counts[0].faults) == (len(fixed_messages()), 1)
        peer.close()


def test_what_a_receiver_raises_is_raised_by_the_next_call_and_ends_no_connection():
    box = Box()

    def take(number, item):
        box(item)
        if item.content == String("odd"):
            raise ValueError("not expected")

    with IgtlServer(0, on_item=take) as server, IgtlClient(server.port) as client:
        assert client.wait_connected(WAIT_S)
        for number, text in enumerate(["odd", "next"], 1):
            client.send(message(text))
            box.wait(lambda items, number=number: len(items) == number)
        wait_until(lambda: server.counts[0].received == 2)
        with pytest.raises(ValueError, match="not expected"):
            server.send(message("hello"))
        assert server.send(message("hello")) == 1
        client.send(message("odd"))
        box.wait(lambda items: len(items) == 3)
        with pytest.raises(ValueError, match="not expected"):
            server.close()


FULL = """
import resource, socket, sys
from bedside.igtl import IgtlServer
server = IgtlServer(0)
peers = [socket.socket() for _ in range(2)]
most = max(each.fileno() for each in peers) + 1
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
for each in peers:
    each.connect(("127.0.0.1", server.port))
while not server.refused:
    pass
before = server.refused
assert not server.wait_client(1.0)
assert server.refused - before < 20, server.refused  # it would be tens of thousands
peers.pop().close()
sys.exit(0 if server.wait_client(20) else 1)
"""


def test_a_server_without_room_for_connections_waits_and_accepts_them_later():
    subprocess.run([sys.executable, "-c", FULL], check=True, timeout=60)


def test_clients_beyond_the_most_are_refused():
    with IgtlServer(0, max_clients=1) as server:
        first = socket.create_connection(("127.0.0.1", server.port))
        wait_until(lambda: server.clients == 1)
        second = socket.create_connection(("127.0.0.1", server.port))
        assert second.recv(1) == b""
        assert list(server.counts) == [0]
        first.close()
        second.close()


def test_wrong_use_is_refused():
    with IgtlServer(0) as server:
        with pytest.raises(UsageError, match=f"cannot listen at 127.0.0.1:{server.port}"):
            IgtlServer(server.port)
        with pytest.raises(MessageError, match="at most 20"):
            server.send(message("a", device="d" * 21))
    assert server.send(message("late")) == 0
