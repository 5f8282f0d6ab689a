"""Nothing of a patient reaches logs, metrics or the audit log, however a request ends."""

import os
import re
import signal
import subprocess
import sys

import httpx
import pytest

from bedside.service.audit import verify_audit
from makers import make_dicom, make_fan, write_dicom
from servers_for_tests import PATIENCE_S, make_png

NAME, ID, UID, WORD = "Canary^Yellow", "CANARY-0815", "1.2.826.0.1.471147114711", "canary4711"
CANARIES = re.compile(rf"canary|0815|471147114711|{WORD}", re.IGNORECASE)
CONFIG = """
audit = "audit.jsonl"
[[model]]
name = "heart"
bundle = "camus-4ch"
[http]
port = 0
health_port = 0
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What a server has told after requests of every kind, and how each was answered."""
    folder = tmp_path_factory.mktemp(WORD)
    (folder / "serve.toml").write_text(CONFIG)
    log = (folder / "log.txt").open("w+")
    command = [sys.executable, "-m", "bedside", "serve", "--config", "serve.toml"]
    process = subprocess.Popen(command, cwd=folder, stderr=log, env={**os.environ, "HOME": "/"})
    try:
        address, health = _await_addresses(process, folder / "log.txt")
        with httpx.Client(base_url=address, timeout=PATIENCE_S) as client:
            statuses = _send_all(client, folder)
        metrics = httpx.get(health + "/metrics", timeout=PATIENCE_S).text
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        log.close()
    return {
        "statuses": statuses, "metrics": metrics, "log": (folder / "log.txt").read_text(),
        "audit": (folder / "audit.jsonl").read_text(), "folder": folder,
    }  # fmt: skip


def _await_addresses(process, log):
    while len(found := re.findall(r"http://[\d.:]+", log.read_text())) < 2:
        assert process.poll() is None, log.read_text()
    return found[:2]


def _send_all(client, folder):
    dataset = make_dicom(make_fan(1))
    dataset.PatientName, dataset.PatientID, dataset.StudyInstanceUID = NAME, ID, UID
    dataset.SeriesDescription = WORD
    sound = write_dicom(dataset, folder / "a.dcm").read_bytes()
    dataset.Modality = WORD.upper()
    other = write_dicom(dataset, folder / "b.dcm").read_bytes()
    named = {"file": (f"{NAME}.dcm", sound)}
    requests = [
        client.build_request("POST", "/segment?model=heart", files=named),
        client.build_request("POST", f"/segment?model={WORD}", files=named),
        client.build_request("POST", f"/segment?model=heart&format={WORD}", files=named),
        client.build_request("POST", f"/segment?model=heart&deadline_s={WORD}", files=named),
        client.build_request("POST", "/segment?model=heart", content=other),
        client.build_request("POST", "/segment?model=heart", content=sound[:2000]),
        client.build_request("POST", "/segment?model=heart", content=WORD.encode()),
        client.build_request("POST", "/segment?model=heart", files={WORD: (WORD, sound)}),
        client.build_request("POST", f"/{WORD}/{UID}?{NAME}", content=make_png()),
        client.build_request("GET", f"/models/{WORD}"),
        client.build_request("GET", f"/v2/models/{WORD}"),
        client.build_request("GET", "/models", headers={"Host": f"{WORD}.example", WORD: NAME}),
        client.build_request("GET", "/models", headers={"Authorization": f"Bearer {WORD}"}),
    ]
    return [client.send(request).status_code for request in requests]


def test_the_requests_ended_in_many_ways(told):
    assert told["statuses"] == [200, 404, 400, 400, 422, 422, 422, 400, 404, 404, 404, 421, 200]


@pytest.mark.parametrize("where", ["log", "metrics", "audit"])
def test_no_canary_is_told(told, where):
    assert len(told[where]) > 100
    assert not CANARIES.search(told[where]), CANARIES.search(told[where])


def test_what_is_told_is_of_use(told):
    assert re.search(r"bedside.serve: POST /segment 200 in \d+ ms, model heart\n", told["log"])
    counted = 'bedside_requests_total{method="POST",route="/segment",status="422"} 3.0'
    assert counted in told["metrics"]
    assert 'bedside_finished_total{lane="image"}' in told["metrics"]
    assert verify_audit(told["folder"] / "audit.jsonl").lines == 11
