"""Who may come in, and who cannot keep others out: keys, hosts, origins, slow clients."""

import base64
import hashlib
import io
import socket
import time
import zipfile

import httpx
import pytest

from bedside.http_api.server import HealthServer, HttpServer
from bedside.http_api.settings import HttpSettings
from bedside.service.keys import Key
from igtl_makers import wait_until
from servers_for_tests import PATIENCE_S, make_png, open_engine, open_server

SECRET = "A-secret_of-43-characters-that-nobody-guesses"
KEY = Key("gateway", hashlib.sha256(SECRET.encode()).hexdigest())


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_engine(tmp_path_factory.mktemp("models")) as engine:
        yield engine


@pytest.fixture(scope="module")
def locked(engine):
    with open_server(engine, keys=(KEY,)) as client:
        yield client


@pytest.fixture
def narrow(engine):
    """A server with little patience and little room."""
    server = HttpServer(
        engine, HttpSettings(port=0, header_s=1.5, half_open=8, connections=16, kb_per_s=1e6)
    )
    yield server
    server.close()


def connect(server, sent=b""):
    host, port = server.address.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), PATIENCE_S)
    connection.sendall(sent)
    return connection


def read_answer(connection):
    """The next answer; its body is JSON, or it is the last one."""
    answer = b""
    while not answer.endswith(b"}") and (piece := connection.recv(4096)):
        answer += piece
    return answer


@pytest.mark.parametrize(
    "header",
    [
        "Bearer " + SECRET,
        "bearer  " + SECRET,
        "Basic " + base64.b64encode(f"anyone:{SECRET}".encode()).decode(),
    ],
)
def test_a_key_opens(locked, header):
    assert locked.get("/models", headers={"Authorization": header}).status_code == 200


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer " + SECRET[:-1], "Bearer " + KEY.sha256, "Basic !", "Basic /w=="],
)
def test_nothing_else_opens(locked, header):
    answer = locked.post(
        "/segment?model=plane", content=make_png(), headers={"Authorization": header}
    )
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Basic realm="bedside"'
    assert "Bearer KEY" in answer.json()["error"]["message"]


def test_a_page_that_resolves_its_name_to_this_machine_is_refused(engine):
    with open_server(engine) as client:
        assert client.get("/models", headers={"Host": "evil.example"}).status_code == 421
        assert client.get("/models", headers={"Host": "localhost:1"}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_a_page_of_another_site_cannot_send(engine, origin):
    with open_server(engine, origins=("https://viewer.example",)) as client:

        def post(headers):
            return client.post("/segment?model=plane", content=make_png(), headers=headers)

        assert post({"Origin": origin}).status_code == 403
        assert post({"Origin": str(client.base_url).rstrip("/")}).status_code == 200
        allowed = post({"Origin": "https://viewer.example"})
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "https://viewer.example"


def test_many_connections_without_a_request_keep_nobody_out(narrow):
    slow = [connect(narrow, b"GET /health HTTP/1.1\r\nX-Slow: ") for _ in range(40)]
    begun = time.monotonic()
    assert httpx.get(narrow.address + "/health", timeout=PATIENCE_S).status_code == 200
    assert time.monotonic() - begun < 30
    # All are cut off at the deadline, whatever they still send.
    wait_until(lambda: not narrow.connections.half_open)
    assert narrow.connections.cut_off == 40
    for connection in slow:
        connection.close()


def test_many_connections_that_send_slowly_keep_nobody_out(narrow):
    head = b"POST /segment?model=plane HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1"
    slow = [connect(narrow, head) for _ in range(20)]
    assert httpx.get(narrow.address + "/health", timeout=PATIENCE_S).status_code == 200
    for connection in slow:
        connection.close()
    wait_until(lambda: not narrow.connections.at_work)


def test_an_idle_connection_may_ask_again_but_not_slowly(narrow):
    with connect(narrow) as connection:
        for _ in range(2):
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert read_answer(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /hea")
        assert connection.recv(4096) == b""


def test_a_connection_may_rest_between_requests_for_longer_than_a_head_may_take(narrow):
    with connect(narrow) as connection:
        for wait_s in (2.0, 0.0):  # a head has 1.5 s
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert read_answer(connection).startswith(b"HTTP/1.1 200")
            time.sleep(wait_s)


def test_a_body_that_trickles_is_cut_off_and_told_why(narrow):
    with connect(narrow, b"POST /segment?model=plane HTTP/1.1\r\nHost: localhost\r\n"
                         b"Content-Length: 1000000\r\n\r\nx") as connection:  # fmt: skip
        answer = read_answer(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"too slowly: 1 bytes" in answer


@pytest.mark.parametrize("length", ["4294967296", "9" * 400])
def test_a_claim_of_4_gib_is_refused_before_a_byte_of_it(engine, length):
    with open_server(engine) as client:
        server = client.base_url
        with socket.create_connection((server.host, server.port), PATIENCE_S) as connection:
            connection.sendall(b"POST /segment?model=plane HTTP/1.1\r\nHost: localhost\r\n"
                               b"Content-Length: %s\r\n\r\n" % length.encode())  # fmt: skip
            answer = read_answer(connection)
    # h11 refuses numbers of more than 20 digits itself.
    assert answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))


def test_a_client_that_sends_on_still_sees_why_it_is_refused(engine):
    with open_server(engine, upload_mb=1) as client:
        answer = client.post("/segment?model=plane", content=(bytes(2**16) for _ in range(100)))
        assert answer.status_code == 413


def test_the_disk_of_all_requests_is_limited_also_for_what_a_zip_unpacks_to(engine):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(2**21))
    with open_server(engine, upload_mb=4, spool_mb=1) as client:
        for body in (bytes(2**21), bomb.getvalue()):
            answer = client.post("/segment?model=plane", content=body)
            assert (answer.status_code, "disk" in answer.text) == (503, True)
        assert client.post("/segment?model=plane", content=make_png()).status_code == 200


def test_what_is_no_http_does_not_stop_the_server(narrow):
    for sent in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 70_000):
        with connect(narrow, sent) as connection:
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    assert httpx.get(narrow.address + "/health", timeout=PATIENCE_S).status_code == 200


def test_health_has_a_listener_that_needs_no_key_and_knows_nothing_else(engine):
    server = HealthServer(engine, HttpSettings(health_port=0, keys=(KEY,)))
    try:
        with httpx.Client(base_url=server.address, timeout=PATIENCE_S) as client:
            assert client.get("/health").json()["status"] == "ready"
            assert client.post("/segment?model=plane").status_code == 404
    finally:
        server.close()


def test_the_schema_names_nothing_from_elsewhere(engine):
    with open_server(engine) as client:
        schema = client.get("/openapi.json").json()
        assert (
            "multipart/form-data" in schema["paths"]["/segment"]["post"]["requestBody"]["content"]
        )
        assert client.get("/docs").status_code == 404
