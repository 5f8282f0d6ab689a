"""The page as a server sends it: headers, versions, models that run in the browser or do not."""

import json
import re

import pytest

from bedside.web.site import HEADERS, MEDIA_TYPES, STATIC
from page_makers import has_runtime
from servers_for_tests import open_engine, open_server


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_engine(tmp_path_factory.mktemp("models")) as engine:
        yield engine


@pytest.fixture(scope="module")
def client(engine):
    with open_server(engine) as client:
        yield client


def test_the_address_of_the_server_leads_to_the_page(client):
    answer = client.get("/", follow_redirects=True)
    assert answer.url.path == "/page/"
    assert answer.content == (STATIC / "index.html").read_bytes()


def test_each_file_has_its_kind_and_the_headers(client):
    for path in STATIC.rglob("*.*"):
        name = path.relative_to(STATIC).as_posix()
        answer = client.get(f"/page/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["content-type"] == MEDIA_TYPES[path.suffix]
        assert {key: answer.headers[key] for key in HEADERS} == dict(HEADERS)
        assert name == "sw.js" or answer.content == path.read_bytes()


def test_a_file_that_the_browser_has_is_not_sent_again(client):
    first = client.get("/page/app.js")
    again = client.get("/page/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_page_knows_the_models_and_where_each_can_run(client):
    site = client.get("/page/site.json").json()
    assert site["server"] == "../"
    runs = {model["name"]: model["on_device"] for model in site["models"]}
    assert runs == {"plane": has_runtime(), "scan": False}


def test_the_worker_keeps_the_page_and_no_model(client):
    worker = client.get("/page/sw.js").text
    kept = json.loads(re.findall(r"const FILES = (.*);", worker)[0])
    assert {"index.html", "site.json", "worker.js"} <= set(kept)
    assert not any(name.startswith("models/") or name == "sw.js" for name in kept)


def test_files_of_a_model_are_those_of_its_bundle(client, engine):
    assert client.get("/page/models/plane/graph.onnx").content == engine.bundle("plane").read_graph(
        "f32"
    )
    about = client.get("/page/models/plane/model.json").json()
    assert about["bundle"]["sha256"] == engine.bundle("plane").sha256
    labels = client.get("/page/models/plane/check-labels.bin").content
    assert len(labels) == about["check"]["height"] * about["check"]["width"]


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("models/scan/model.json", 400, "takes whole scans"),
        ("models/nix/model.json", 404, "no model"),
        ("models/plane/nix.bin", 404, "Not Found"),
        ("nix.js", 404, "Not Found"),
        ("%2e%2e/app.py", 404, "Not Found"),
        ("..%2fsite.py", 404, "Not Found"),
    ],
)
def test_what_is_not_there_is_refused(client, path, status, said):
    answer = client.get(f"/page/{path}")
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]
