"""Nothing of a patient reaches logs, metrics or the audit log by the encrypted DICOM port, nor by
the listener for health and metrics.
"""

import contextlib
import re
import socket
import ssl

import httpx
import pytest

from canaries_for_tests import CANARIES, ID, NAME, UID, WORD, logged_server
from certificates_for_tests import write_certificate
from dicom_node_for_tests import wait_for
from makers import make_dicom, make_fan
from raw_dicom_for_tests import RawPeer, encode_dataset, make_store
from servers_for_tests import PATIENCE_S

pytest.importorskip("cryptography")

# Of the series that is segmented, of the one that is refused, and of one that is cut off.
UIDS = [f"{UID}.{number}" for number in range(3)]
CONFIG = """
audit = "audit.jsonl"
state = "state"
[[model]]
name = "heart"
bundle = "camus-4ch"
[http]
port = 0
health_port = 0
[dicom]
port = 0
settle_s = 0.1
output = "output"
[dicom.limits]
free_mb = 1
[[dicom.route]]
model = "heart"
[dicom.tls]
certificate = "server.pem"
private_key = "server.key"
client_ca = "known.pem"
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What a server has told after all that peers may send."""
    folder = tmp_path_factory.mktemp(WORD)
    for name, subject in (("server", "localhost"), ("known", NAME), ("unknown", f"{ID} {WORD}")):
        certificate, key = write_certificate(folder, subject)
        certificate.rename(folder / f"{name}.pem")
        key.rename(folder / f"{name}.key")
    with logged_server(folder, CONFIG) as (process, read):
        found = wait_for(
            lambda: process.poll() or re.search(r"Receiving DICOM.*port (\d+)", read())
        )
        address = "127.0.0.1", int(found[1])
        _, health = re.findall(r"http://[\d.:]+\d", read())
        answers = _send_series(address, folder)
        _shake_no_hands(address, folder)
        statuses = _ask_for_metrics(health)
        wait_for(lambda: "segmented" in read() and "failed" in read())
        metrics = httpx.get(f"{health}/metrics", timeout=PATIENCE_S).text
    return {
        "answers": answers, "statuses": statuses, "metrics": metrics, "log": read(),
        "audit": (folder / "audit.jsonl").read_text(), "folder": folder,
    }  # fmt: skip


def _open_context(folder, name=None):
    context = ssl.create_default_context(cafile=folder / "server.pem")
    context.check_hostname = False
    if name is not None:
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


def _send_series(address, folder):
    """Series by a known peer: one that is segmented, one that is refused, and broken ones."""
    answers = []
    for number, modality in enumerate(("US", WORD.upper(), "US")):
        dataset = make_dicom(make_fan(2), tags={
            "PatientName": NAME, "PatientID": ID, "StudyInstanceUID": UIDS[number],
            "SeriesInstanceUID": f"{UIDS[number]}.1", "SOPInstanceUID": f"{UIDS[number]}.1.1",
            "SeriesDescription": WORD, "StationName": WORD, "Modality": modality,
        })  # fmt: skip
        data = encode_dataset(dataset)
        is_broken = number == 2
        with RawPeer(address, tls=_open_context(folder, "known"), name=f"{WORD}.example") as peer:
            peer.associate()
            begin, pieces = make_store(
                data[:300] if is_broken else data, uid=dataset.SOPInstanceUID
            )
            peer.send(begin + b"".join(pieces))
            answers.append(peer.read()[0])
            peer.send(f"{NAME} {ID}".encode())  # no PDU at all
            peer.is_cut()
    return answers


def _shake_no_hands(address, folder):
    """Connections that come to nothing: another certificate, none, no TLS, and half of it."""
    for name in ("unknown", None):
        with (
            contextlib.suppress(OSError),
            RawPeer(address, tls=_open_context(folder, name), name=f"{WORD}.{ID}") as peer,
        ):
            peer.send(NAME.encode())
            peer.is_cut()
    for first in (f"{NAME} {UIDS[0]}".encode(), b"\x16\x03\x01\x02\x00" + WORD.encode() * 60):
        with RawPeer(address) as peer:
            peer.send(first)
            peer.is_cut()


def _ask_for_metrics(health):
    """Requests to the listener for health with canaries wherever a client may put them."""
    headers = {WORD: NAME, "Authorization": f"Bearer {WORD}", "User-Agent": ID}
    with httpx.Client(base_url=health, timeout=PATIENCE_S, headers=headers) as client:
        requests = [
            client.build_request("GET", f"/metrics?{NAME}={ID}"),
            client.build_request("GET", f"/{WORD}/{UIDS[0]}"),
            client.build_request("GET", "/health", headers={"Host": f"{WORD}.example"}),
            client.build_request("POST", "/metrics", content=NAME.encode()),
            client.build_request("POST", "/segment?model=heart", files={"file": (NAME, b"x")}),
            client.build_request(WORD.upper(), "/metrics"),
        ]
        statuses = [client.send(request).status_code for request in requests]
    host, port = health.removeprefix("http://").split(":")
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + WORD.encode() * 60
    for first in (f"{WORD} {NAME}\r\n{ID}\r\n\r\n".encode(), hello):
        with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
            connection.sendall(first)
            connection.recv(4096)
    return statuses


def test_the_connections_ended_in_many_ways(told):
    assert told["answers"][:2] == [4, 4]  # answers to C-STORE
    assert list((told["folder"] / "output").rglob("*.dcm"))
    assert "no TLS connection comes about: peer did not return a certificate" in told["log"]
    assert "no TLS connection comes about: certificate verify failed" in told["log"]
    assert "no TLS connection comes about: wrong version number" in told["log"]
    assert told["statuses"] == [200, 404, 421, 405, 404, 405]


@pytest.mark.parametrize("where", ["log", "metrics", "audit"])
def test_no_canary_is_told(told, where):
    assert len(told[where]) > 100
    assert not CANARIES.search(told[where]), CANARIES.search(told[where])
