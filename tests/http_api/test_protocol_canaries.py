"""Other programs' requests leave nothing of a patient in logs, metrics, audit lines or answers."""

import json
import logging
import re

import httpx
import pytest

from bedside.http_api.server import HttpServer
from bedside.http_api.settings import HttpSettings
from bedside.service.audit import AuditLog
from bedside.service.observer import Observer
from canaries_for_tests import CANARIES, NAME, UID, WORD
from makers import make_dicom, make_fan, write_dicom
from protocols_for_tests import open_placing_engine
from servers_for_tests import PATIENCE_S


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    dataset = make_dicom(make_fan(1))
    dataset.PatientName = dataset.PatientID = NAME
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = dataset.SOPInstanceUID = UID
    return write_dicom(dataset, tmp_path_factory.mktemp(WORD) / "image.dcm").read_bytes()


def send_all(client, sound):
    """Requests with canaries wherever a client may put them; their answers."""
    store = {"Content-Type": "application/dicom"}
    params = {"params": (None, json.dumps({"result_extension": f".{WORD}"}))}
    named = {"file": (f"{NAME}.dcm", sound)}
    tensor = {"name": WORD, "shape": [1], "datatype": WORD, "data": [1]}
    calls = [
        ("POST", "/dicom-web/studies", {"content": sound, "headers": store}),
        ("POST", f"/dicom-web/studies/{UID}.1", {"content": sound, "headers": store}),
        ("POST", f"/dicom-web/studies/{WORD}", {"content": sound, "headers": store}),
        ("POST", "/dicom-web/studies", {"content": sound[:300], "headers": store}),
        ("POST", "/infer/plane", {"files": named}),
        ("POST", "/infer/plane", {"files": {**named, **params}}),
        ("POST", f"/infer/plane?image={NAME}&session_id={WORD}", {"files": {WORD: WORD}}),
        ("POST", f"/infer/{WORD}?image={UID}", {"files": named}),
        ("POST", "/infer/plane", {"files": {"file": (NAME, sound[:2000])}}),
        ("GET", f"/session/{WORD}", {}),
        ("PUT", f"/datastore/image?image={NAME}", {"files": named}),
        ("GET", f"/datastore/image?image={UID}.9", {}),
        ("PUT", f"/datastore/label?image={WORD}", {"files": {"label": (NAME, sound)}}),
        ("POST", f"/v2/models/{WORD}/infer", {"json": {"id": WORD, "inputs": [tensor]}}),
        ("POST", "/auth/token", {"data": {"username": NAME, "password": WORD}}),
    ]
    return [client.request(method, address, **rest) for method, address, rest in calls]


@pytest.fixture(scope="module")
def told(tmp_path_factory, sound):
    """What a server has told after all, and its answers."""
    records = []
    handler = logging.Handler(logging.DEBUG)
    handler.emit = lambda record: records.append(f"{record.name}: {record.getMessage()}")
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    folder = tmp_path_factory.mktemp("server")
    try:
        with (
            open_placing_engine(tmp_path_factory.mktemp("models")) as engine,
            AuditLog(folder / "audit.jsonl") as audit,
        ):
            observer = Observer(engine, audit=audit)
            settings = HttpSettings(port=0, image_store=str(folder / "store"))
            server = HttpServer(engine, settings, observer=observer)
            with httpx.Client(base_url=server.address, timeout=PATIENCE_S) as client:
                answers = send_all(client, sound)
            server.close()
            metrics = observer.text().decode()
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    # The client of this test tells what it asks for.
    client_names = ("httpx", "httpcore")
    return {
        "log": "\n".join(line for line in records if not line.startswith(client_names)),
        "metrics": metrics,
        "audit": (folder / "audit.jsonl").read_text(),
        "names": "\n".join(str(path) for path in (folder / "store").rglob("*")),
        "answers": answers,
    }


def test_the_requests_ended_in_many_ways(told):
    statuses = [answer.status_code for answer in told["answers"]]
    assert statuses == [200, 409, 400, 409, 200, 400, 404, 404, 422, 404, 200, 404, 404, 404, 200]


@pytest.mark.parametrize("where", ["log", "metrics", "audit", "names"])
def test_no_canary_is_told(told, where):
    assert len(told[where]) > 100
    assert not CANARIES.search(told[where]), CANARIES.search(told[where])


def test_errors_name_nothing_of_the_image_or_the_disk(told):
    for answer in told["answers"]:
        if answer.status_code >= 400 and "FailedSOP" not in answer.text:
            said = answer.text.replace(UID, "") if answer.status_code == 409 else answer.text
            assert not re.search(r"yellow|scratch|/tmp", said, re.IGNORECASE), answer.text
