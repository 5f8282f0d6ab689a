"""A sender is asked how many images a series has: dcmtk's dcmqrscp by C-FIND, a server by QIDO."""

import http.server
import json
import subprocess
import threading

import pytest
from pydicom import dcmread

from bedside.dicom_node.config import Sender
from bedside.dicom_node.counting import count_images
from bedside.dicom_node.series import Series
from dicom_node_for_tests import is_listening, need_dcmtk, send, wait_for, write_scan
from ports_for_tests import find_port

# pynetdicom drops the socket of a connection that is refused without closing it.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)
SERIES = Series(study_instance_uid="1.2", series_instance_uid="1.2.3")
FOUND = {"0020000E": {"vr": "UI", "Value": ["1.2.3"]}, "00201209": {"vr": "IS", "Value": [30]}}


def count(sender, series=SERIES):
    return count_images(sender, series, our_ae_title="BEDSIDE")


@pytest.fixture
def archive(tmp_path):
    """The port of a dcmqrscp, which has nothing yet."""
    port, kept = find_port(), tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "dcmqrscp.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nPACS {kept} RW (9, 1024mb) ANY\nAETable END\n"
    )
    command = [need_dcmtk("dcmqrscp"), "-c", str(tmp_path / "dcmqrscp.cfg")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT) as process:
        wait_for(lambda: is_listening(("127.0.0.1", port)))
        yield port
        process.kill()


def test_dcmtk_counts_the_images_that_it_has(archive, tmp_path):
    paths = write_scan(tmp_path / "scan", slices=5)
    is_sent, text = send(("127.0.0.1", archive), *paths, title="PACS")
    assert is_sent, text
    image = dcmread(paths[0])
    series = Series(image.StudyInstanceUID, image.SeriesInstanceUID)
    sender = Sender("MODALITY", host="127.0.0.1", port=archive, ae_title="PACS")

    # dcmqrscp confirms an image before its index has it.
    assert wait_for(lambda: count(sender, series) == 5)
    assert count(sender, Series(image.StudyInstanceUID, "1.2.3")) is None


def test_who_is_not_there_knows_nothing():
    assert count(Sender("MODALITY", host="127.0.0.1", port=find_port())) is None


@pytest.mark.parametrize(
    ("status", "answer", "counted"),
    [
        (200, [FOUND], 30),
        (200, [{**FOUND, "0020000E": {"Value": ["9.9"]}}], None),
        (200, [], None),
        (200, [{**FOUND, "00201209": {"vr": "IS"}}], None),
        (200, {"00201209": 5}, None),
        (404, None, None),
    ],
)
def test_qido_answers_are_believed_if_they_are_about_the_series(status, answer, counted):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    asked = []
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/dicom-web/"
        assert count(Sender("MODALITY", method="qido", url=url)) == counted
        server.shutdown()
        thread.join()
    assert asked == ["/dicom-web/studies/1.2/series?SeriesInstanceUID=1.2.3&includefield=00201209"]
