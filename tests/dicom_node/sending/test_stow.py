"""STOW-RS and QIDO-RS: what each answer means, and a server that breaks every rule."""

import gzip
import json
import socketserver
import threading
import time
from contextlib import contextmanager

import httpx
import pytest

from bedside.dicom_node.sending.delivery import Answer, Presence, State
from bedside.dicom_node.sending.destination import RetryPolicy, WebDestination
from bedside.dicom_node.sending.exchange import Exchange, HttpReply, HttpRequest
from bedside.dicom_node.sending.instance import read_instance
from bedside.dicom_node.sending.sender import Sender
from bedside.dicom_node.sending.stow import (
    WebTransport,
    make_qido_request,
    make_stow_request,
    read_qido_reply,
    read_stow_reply,
)
from bedside.errors import LimitError, PeerError, UnansweredError

QUICK = RetryPolicy(first_s=0.01, longest_s=0.02, max_attempts=3)
STORED, LATER, RETRY = Answer.STORED, Answer.LATER, Answer.RETRY
UNKNOWN, REFUSED = Answer.UNKNOWN, Answer.REFUSED


@pytest.fixture(scope="session")
def instances(results):
    return [read_instance(path) for path in results]


def reply(status, body=b""):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpReply(status, httpx.Headers(), data)


def item(uid, tag=None, code=None):
    entry = {"00081155": {"vr": "UI", "Value": [uid]}}
    if tag is not None:
        entry[tag] = {"vr": "US", "Value": [code]}
    return entry


@pytest.mark.parametrize(
    ("status", "answers"),
    [
        (200, STORED), (202, UNKNOWN), (400, REFUSED), (401, LATER), (403, LATER), (404, LATER),
        (409, RETRY), (413, REFUSED), (415, REFUSED), (429, LATER), (500, RETRY), (503, LATER),
        (302, REFUSED),
    ],
)  # fmt: skip
def test_an_answer_that_names_no_file_means_its_status(instances, status, answers):
    for body in (b"", b"<xml/>", b"[[[", b"[]", b"{}", b'{"00081199": 7}', b"[" * 100_000):
        found = read_stow_reply(reply(status, body), instances)
        assert [file.answer for file in found] == [answers, answers]
        assert [file.sop_instance_uid for file in found] == [
            instance.sop_instance_uid for instance in instances
        ]


@pytest.mark.parametrize("wrap", [lambda report: report, lambda report: [report]])
def test_each_file_has_the_answer_that_names_it(instances, wrap):
    first, second = (instance.sop_instance_uid for instance in instances)
    report = {
        "00081199": {"vr": "SQ", "Value": [item(first, "00081196", 0xB000)]},
        "00081198": {"vr": "SQ", "Value": [item(second, "00081197", 0xA700)]},
    }
    found = read_stow_reply(reply(202, wrap(report)), instances)
    assert [file.answer for file in found] == [STORED, RETRY]
    assert [file.why for file in found] == [
        "it changed some of its elements (B000)", "out of resources (A700)",
    ]  # fmt: skip
    report = {"00081199": {"vr": "SQ", "Value": [item(first)]}}
    found = read_stow_reply(reply(202, wrap(report)), instances)
    assert [file.answer for file in found] == [STORED, UNKNOWN]
    report = {"00081198": {"vr": "SQ", "Value": [item(first)]}}
    assert read_stow_reply(reply(200, wrap(report)), instances)[0].answer is RETRY


def test_a_file_is_there_if_it_is_named(instances):
    instance = instances[0]
    match = {"00080018": {"vr": "UI", "Value": [instance.sop_instance_uid]}}
    other = {"00080018": {"vr": "UI", "Value": ["1.2.3"]}}
    assert read_qido_reply(reply(200, [other, match]), instance) is Presence.PRESENT
    for answer in (reply(200, [other]), reply(200, []), reply(204), reply(404)):
        assert read_qido_reply(answer, instance) is Presence.ABSENT
    for answer in (reply(500), reply(200, b"<xml/>"), reply(401, [match]), reply(200, {})):
        assert read_qido_reply(answer, instance) is Presence.UNKNOWN


def test_a_request_holds_the_files_as_they_are(instances):
    request = make_stow_request("https://pacs/dicom-web/", instances)
    assert request.url == "https://pacs/dicom-web/studies"
    body = b"".join(request.content())
    assert len(body) == request.length
    boundary = request.headers["Content-Type"].rpartition("=")[2].encode()
    parts = body.split(b"--" + boundary)
    assert [part.partition(b"\r\n\r\n")[2][:-2] for part in parts[1:-1]] == [
        instance.path.read_bytes() for instance in instances
    ]
    assert b"".join(request.content()) == body
    assert make_qido_request("https://pacs/dicom-web", instances[0]).url.startswith(
        "https://pacs/dicom-web/studies/"
    )


@contextmanager
def serving(*answers):
    """A server on sockets that handles each connection by the next of some functions."""
    waiting = list(answers)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.settimeout(60)
            waiting.pop(0)(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def take(connection):
    """Read a request with its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if b"ength:" in line), 0
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head


def give(status, body=b"", headers=b""):
    def answer(connection):
        take(connection)
        length = b"Content-Length: %d\r\n" % len(body)
        connection.sendall(b"HTTP/1.1 %d X\r\n%s%s\r\n%s" % (status, length, headers, body))

    return answer


def break_off(connection):
    take(connection)


def drip(connection):
    take(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    try:
        for _ in range(1000):
            connection.sendall(b"x")
            time.sleep(0.02)
    except OSError:
        pass


def exchange_with(url, *, deadline_s=30.0, max_bytes=1000, **settings):
    exchange = Exchange(connect_s=5, **settings)
    try:
        return exchange.send(HttpRequest("GET", url), deadline_s=deadline_s, max_bytes=max_bytes)
    finally:
        exchange.close()


def test_an_answer_that_never_ends_breaks_off_or_is_too_long_is_no_answer(tmp_path):
    with serving(drip) as url, pytest.raises(UnansweredError, match=r"within 0\.3 s"):
        exchange_with(url, deadline_s=0.3)
    with serving(break_off) as url, pytest.raises(UnansweredError, match="broke"):
        exchange_with(url)
    with serving(give(200, b"x" * 1001)) as url, pytest.raises(LimitError):
        exchange_with(url)
    bomb = give(200, gzip.compress(bytes(10_000)), b"Content-Encoding: gzip\r\n")
    with serving(bomb) as url, pytest.raises(UnansweredError, match="compressed"):
        exchange_with(url)
    with serving() as url:
        pass
    with pytest.raises(PeerError, match="cannot connect"):
        exchange_with(url)


def test_redirects_are_not_followed_and_a_token_is_sent(tmp_path):
    token, seen = tmp_path / "token", []
    token.write_text("secret\n")

    def answer(connection):
        seen.append(take(connection))
        connection.sendall(b"HTTP/1.1 302 X\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n")

    with serving(answer) as url:
        assert exchange_with(url, token_file=token).status == 302
    assert b"Authorization: Bearer secret" in seen[0]
    with serving() as url, pytest.raises(PeerError, match="token file"):
        exchange_with(url, token_file=tmp_path / "none")


def test_a_lost_answer_is_asked_for_before_anything_is_sent_again(results, store, instances):
    here = json.dumps(
        [{"00080018": {"vr": "UI", "Value": [instance.sop_instance_uid]}} for instance in instances]
    ).encode()
    with serving(break_off, give(200, here), give(200, here)) as url:
        sender = Sender(store, [WebDestination("web", url, retry=QUICK)])
        sender.order("job", results, "web")
        first, second = sender.step("web", wait_s=30), sender.step("web", wait_s=30)
        sender.close()
    assert (first.state, second.state) == (State.SENDING, State.CONFIRMED)


def test_a_service_without_room_is_tried_again(results, store):
    with serving(give(503), give(409), give(400)) as url:
        sender = Sender(store, [WebDestination("web", url, confirm="none", retry=QUICK)])
        sender.order("job", results, "web")
        steps = [sender.step("web", wait_s=30) for _ in range(3)]
        sender.close()
    assert [step.state for step in steps] == [State.WAITING, State.WAITING, State.FAILED]
    assert [step.attempts for step in steps] == [0, 1, 1]
    assert steps[-1].why == "STOW-RS: HTTP 400"


def test_a_transport_closes_once_and_twice():
    transport = WebTransport(WebDestination("web", "http://127.0.0.1:9", confirm="none"))
    assert not transport.can_ask
    transport.close()
    transport.close()
