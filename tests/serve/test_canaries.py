"""Nothing of a patient reaches logs, metrics or the audit log, however a request ends."""

import contextlib
import json
import re

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from bedside.service.audit import verify_audit
from canaries_for_tests import CANARIES, ID, NAME, UID, WORD, logged_server
from makers import make_dicom, make_fan, write_dicom
from servers_for_tests import PATIENCE_S, make_png

CONFIG = """
audit = "audit.jsonl"
state = "state"
[[model]]
name = "heart"
bundle = "camus-4ch"
[http]
image_store = "images"
port = 0
health_port = 0
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What a server has told after requests of every kind, and how each was answered."""
    folder = tmp_path_factory.mktemp(WORD)
    with logged_server(folder, CONFIG) as (process, read):
        address, health = _await_addresses(process, read)
        with httpx.Client(base_url=address, timeout=PATIENCE_S) as client:
            statuses = _send_all(client, folder)
            _send_to_protocols(client, (folder / "a.dcm").read_bytes())
            _send_jobs(client, folder)
        metrics = httpx.get(health + "/metrics", timeout=PATIENCE_S).text
    return {
        "statuses": statuses, "metrics": metrics, "log": read(),
        "audit": (folder / "audit.jsonl").read_text(), "folder": folder,
    }  # fmt: skip


def _await_addresses(process, read):
    while len(found := re.findall(r"http://[\d.:]+", read())) < 2:
        assert process.poll() is None, read()
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


def _send_to_protocols(client, sound):
    """Requests to the addresses of other programs, most of which cannot be meant."""
    related = f'multipart/related; type="application/dicom"; boundary={WORD}'
    part = f"--{WORD}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    requests = [
        client.build_request("POST", "/v2/models/heart/infer", content=WORD.encode()),
        client.build_request("POST", "/v2/models/heart/infer", json={"id": NAME, "inputs": [WORD]}),
        client.build_request("POST", f"/v2/models/{WORD}/infer", json={"inputs": []}),
        client.build_request("PUT", f"/datastore/?image={ID}", files={"file": (NAME, sound)}),
        client.build_request("GET", "/datastore/image", params={"image": WORD}),
        client.build_request("POST", "/infer/heart", params={"image": ID}),
        client.build_request("POST", f"/infer/{WORD}", params={"image": ID}),
        client.build_request("GET", f"/session/{WORD}"),
        client.build_request("PUT", "/session/", files={"files": (NAME, sound)}),
        client.build_request(
            "POST", f"/dicom-web/studies/{UID}", headers={"Content-Type": related},
            content=part + sound + f"\r\n--{WORD}--".encode(),
        ),
        client.build_request(
            "POST", "/dicom-web/studies", headers={"Content-Type": related}, content=WORD.encode()
        ),
    ]  # fmt: skip
    for request in requests:
        client.send(request)
    address = str(client.base_url).replace("http", "ws")
    for model in ("heart", WORD):
        with (
            contextlib.suppress(ConnectionClosed),
            connect(f"{address}/stream?model={model}", open_timeout=PATIENCE_S) as socket,
        ):
            socket.send(NAME)
            while True:
                socket.recv(PATIENCE_S)


def _send_jobs(client, folder):
    """A job that is done, and one that fails; both are over afterwards."""
    for content in ((folder / "a.dcm").read_bytes(), (folder / "b.dcm").read_bytes()):
        headers = {"Idempotency-Key": f"{ID}{len(content)}"}
        place = client.post("/jobs?model=heart", content=content, headers=headers)
        told = client.get(place.headers["location"], params={"wait_s": 60}).json()
        assert told["state"] in ("done", "failed")
    client.get(f"/jobs/{WORD}")


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
    events = [json.loads(line) for line in told["audit"].splitlines()]
    assert verify_audit(told["folder"] / "audit.jsonl").lines == len(events)
    assert [events[0]["event"], events[-1]["event"]] == ["started", "stopped"]
    routes = {(event.get("method"), event.get("route")) for event in events}
    assert {("POST", "/segment"), ("POST", "/jobs"), ("WEBSOCKET", "/stream")} <= routes
