"""A server with more to do than it can: refusals cost nothing, and every mask is its own."""

import contextlib
import io
import socket
import threading

import numpy as np
import pytest
from PIL import Image

import bedside
from bedside.service.admission import Lane
from servers_for_tests import PATIENCE_S, make_picture, make_png, open_engine, open_server


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_engine(tmp_path_factory.mktemp("models")) as engine:
        yield engine


@contextlib.contextmanager
def filled(engine):
    """All places for images are taken."""
    places = [engine.admission.reserve(Lane.IMAGE, "other work") for _ in range(3)]
    try:
        yield
    finally:
        for place in places:
            place.leave()


def read_head(connection):
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(4096)
    return answer


@pytest.mark.parametrize("path", ["/segment?model=plane", "/infer/plane", "/v2/models/plane/infer"])
def test_who_has_no_place_is_refused_by_the_head_of_the_request(engine, path):
    with open_server(engine) as client, filled(engine):
        place = client.base_url.host, client.base_url.port
        with socket.create_connection(place, PATIENCE_S) as connection:
            connection.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
                               "Content-Length: 90000\r\n\r\n".encode())  # fmt: skip
            head = read_head(connection).lower()  # nothing of the body was sent
    assert head.startswith(b"http/1.1 503")
    assert int(head.split(b"retry-after: ")[1].split(b"\r\n")[0]) >= 1


def test_a_client_that_was_refused_may_ask_again_on_the_same_connection(engine):
    with open_server(engine) as client:
        with filled(engine):
            assert client.post("/segment?model=plane", content=make_png(1)).status_code == 503
        assert client.post("/segment?model=plane", content=make_png(1)).status_code == 200
        metrics = client.get("/metrics").text
        assert 'bedside_requests_total{method="POST",route="/segment",status="503"} 1.0' in metrics


def test_a_small_image_is_never_on_disk_before_its_turn_and_a_large_one_is(engine, tmp_path):
    from bedside.http_api.server import HttpServer
    from bedside.http_api.settings import HttpSettings

    server = HttpServer(engine, HttpSettings(port=0), folder=tmp_path)
    host, port = server.address.removeprefix("http://").split(":")
    try:
        for n_bytes, n_folders in ((1000, 0), (2**21, 1)):
            with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
                connection.sendall(
                    b"POST /segment?model=plane HTTP/1.1\r\nHost: localhost\r\n"
                    b"Content-Length: 9999999\r\n\r\n" + bytes(n_bytes)
                )
                if n_folders:
                    while not list(tmp_path.iterdir()):
                        pass
                assert len(list(tmp_path.iterdir())) == n_folders
    finally:
        server.close(patience_s=1)
    assert list(tmp_path.iterdir()) == []


def test_two_threads_get_the_masks_of_their_own_images(engine):
    count, errors = 60, []
    with bedside.load(engine.bundle("plane").path, precision="default", threads=1) as model:
        expected = [model.segment(make_picture(seed)).labels for seed in range(count)]
    assert len({mask.tobytes() for mask in expected}) == count

    def send(client, seeds):
        for seed in seeds:
            answer = client.post("/segment?model=plane&format=png", content=make_png(seed))
            mask = np.asarray(Image.open(io.BytesIO(answer.content)))
            if not np.array_equal(mask, expected[seed]):
                errors.append(seed)

    with open_server(engine) as client:
        threads = [
            threading.Thread(target=send, args=(client, range(start, count, 2)))
            for start in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert errors == []
