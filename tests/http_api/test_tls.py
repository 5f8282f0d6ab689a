"""TLS by file: the door answers over it, wants certificates of clients if told to, and says no."""

import ssl

import httpx
import pytest

from bedside.errors import UsageError
from bedside.http_api.server import HttpServer
from bedside.http_api.settings import HttpSettings, TlsSettings
from certificates_for_tests import write_certificate
from servers_for_tests import PATIENCE_S, open_engine

pytest.importorskip("cryptography")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_engine(tmp_path_factory.mktemp("models")) as engine:
        yield engine


def ask(server, context):
    address = server.address.replace("127.0.0.1", "localhost")
    with httpx.Client(verify=context, timeout=PATIENCE_S) as client:
        return client.get(f"{address}/health/live").json()["status"]


def test_the_door_answers_over_tls_to_clients_that_it_knows(engine, tmp_path):
    certificate, key = write_certificate(tmp_path, "server")
    client_certificate, client_key = write_certificate(tmp_path, "client")
    tls = TlsSettings(certificate, key, client_ca=client_certificate)
    server = HttpServer(engine, HttpSettings(port=0, tls=tls))
    try:
        assert server.address.startswith("https://")
        context = ssl.create_default_context(cafile=certificate)
        with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
            ask(server, context)
        context.load_cert_chain(client_certificate, client_key)
        assert ask(server, context) == "live"
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            httpx.get(server.address.replace("https", "http"), timeout=PATIENCE_S)
    finally:
        server.close()


def test_a_certificate_that_cannot_be_used_is_refused_at_the_start(engine, tmp_path):
    certificate, _ = write_certificate(tmp_path, "one")
    _, other_key = write_certificate(tmp_path, "two")
    for tls in (TlsSettings(certificate, tmp_path / "gone"), TlsSettings(certificate, other_key)):
        with pytest.raises(UsageError, match=r"certificate cannot be used.*http\.tls"):
            HttpServer(engine, HttpSettings(port=0, tls=tls))
