"""TLS of the DICOM port, with dcmtk's storescu and certificates made by openssl."""

import shutil
import socket
import subprocess

import pytest

from bedside.dicom_node.config import DicomSettings, DicomTls
from bedside.errors import SpecError
from dicom_node_for_tests import need_dcmtk, run_peer, wait_for, write_cine
from raw_dicom_for_tests import RawPeer, make_request


def make_certificate(folder, name):
    """Make a certificate that signs itself; return its file and that of its key."""
    if shutil.which("openssl") is None:
        pytest.skip("NOT TESTED: openssl is not installed")
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("ours"), "node")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("theirs"), "modality")


def send(server, path, *options):
    need_dcmtk("storescu")
    host, port = server.address
    return run_peer("storescu", *options, "-aec", "BEDSIDE", host, port, path)


def test_without_a_certificate_of_its_own_a_peer_sends_encrypted(receive, ours, tmp_path):
    server = receive(tls=DicomTls(*ours))
    path = write_cine(tmp_path / "cine.dcm")
    code, text = send(server, path, "+tla", "+cf", ours[0])
    assert code == 0, text
    assert len(server.store.list()) == 1

    code, text = send(server, path)  # without TLS
    assert code != 0


def test_certificates_of_peers_are_asked_for(receive, ours, theirs, tmp_path, caplog):
    server = receive(tls=DicomTls(*ours, client_ca=theirs[0]), host="127.0.0.1")
    path = write_cine(tmp_path / "cine.dcm")
    code, text = send(server, path, "+tls", theirs[1], theirs[0], "+cf", ours[0])
    assert code == 0, text
    code, text = send(server, path, "+tla", "+cf", ours[0])
    assert code != 0
    assert len(server.store.list()) == 1
    told = wait_for(lambda: [each.getMessage() for each in caplog.records])
    assert any("no TLS connection comes about: peer did not return" in each for each in told), told


def test_whoever_speaks_no_tls_or_stops_halfway_is_cut_off_and_keeps_nobody_out(
    receive, ours, caplog
):
    server = receive({"half_open": 5, "association_s": 0.5}, tls=DicomTls(*ours))
    peers = [RawPeer(server.address) for _ in range(20)]
    for number, peer in enumerate(peers):
        peer.send(make_request() if number % 2 else b"\x16\x03\x01\x00")
    assert all(peer.is_cut() for peer in peers)
    for peer in peers:
        peer.socket.close()
    assert any("no TLS connection comes about" in each.getMessage() for each in caplog.records)
    wait_for(lambda: server.half_open == 0)


def test_old_versions_of_tls_are_refused(receive, ours):
    import ssl

    server = receive(tls=DicomTls(*ours))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("AES128-SHA256")  # without forward secrecy
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(server.address) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain)


def test_files_that_are_no_certificates_are_refused(tmp_path, ours, theirs):
    with pytest.raises(SpecError, match=r"dicom\.tls"):
        DicomTls(ours[0], theirs[1]).open_context()  # a key of somebody else
    with pytest.raises(SpecError, match=r"dicom\.tls"):
        DicomTls(tmp_path / "none", tmp_path / "none").open_context()


def test_certificates_of_peers_take_the_place_of_a_list_of_titles(ours):
    with pytest.raises(SpecError, match="calling_ae_titles"):
        DicomSettings(host="0.0.0.0", tls=DicomTls(*ours))
    assert DicomSettings(host="0.0.0.0", tls=DicomTls(*ours, client_ca=ours[0]))
