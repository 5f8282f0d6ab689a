"""Encrypted associations and requests: with the right certificate, and never with another."""

import shutil
import ssl
import subprocess

import pytest
from pydicom import dcmread

from archive_for_tests import Archive
from bedside.dicom_node.sending.delivery import Answer
from bedside.dicom_node.sending.destination import DicomDestination, Tls, WebDestination
from bedside.dicom_node.sending.instance import read_instance
from bedside.dicom_node.sending.sender import open_transport
from bedside.errors import SpecError


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Two certificates of "localhost", each with its key, that know nothing of each other."""
    if shutil.which("openssl") is None:
        pytest.skip("NOT TESTED: openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("one", "two"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost",
             "-addext", "basicConstraints=critical,CA:TRUE",
             "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
    return folder


@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <:pytest.PytestUnraisableExceptionWarning"
)
def test_files_go_to_an_archive_with_the_right_certificate_only(certificates, results):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "one.pem", certificates / "one.key")
    instances = [read_instance(path) for path in results]
    with Archive(tls=context) as archive:
        answers = {}
        for name in ("two", "one"):
            peer = DicomDestination(
                "pacs", "localhost", archive.port, "ARCHIVE", connect_s=5,
                tls=Tls(ca_file=certificates / f"{name}.pem"),
            )  # fmt: skip
            answers[name] = open_transport(peer).send(instances)
        assert {reply.answer for reply in answers["two"]} == {Answer.LATER}
        assert "cannot be reached" in answers["two"][0].why
        assert {reply.answer for reply in answers["one"]} == {Answer.STORED}
        assert set(archive.received) == {dcmread(path).SOPInstanceUID for path in results}


def test_certificates_that_cannot_be_read_are_refused(tmp_path):
    (bad := tmp_path / "bad.pem").write_text("no certificate")
    for tls in (Tls(ca_file=tmp_path / "none.pem"), Tls(certificate=bad), Tls(ca_file=bad)):
        with pytest.raises(SpecError, match="certificates"):
            open_transport(WebDestination("web", "https://pacs/dicom-web", tls=tls))
