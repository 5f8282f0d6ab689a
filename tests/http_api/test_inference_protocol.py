"""Triton's client, as it is published, talks to a server of bedside."""

import json

import httpx
import numpy as np
import pytest

from bedside.export.golden import export_golden
from bedside.segment import load
from protocols_for_tests import open_placing_engine
from servers_for_tests import make_picture, open_server
from threads_for_tests import make_clouds

tritonclient = pytest.importorskip("tritonclient.http", reason="pip install tritonclient[http]")
from tritonclient.utils import InferenceServerException  # noqa: E402

PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_placing_engine(tmp_path_factory.mktemp("models")) as engine:
        yield engine


@pytest.fixture(scope="module")
def server(engine):
    with open_server(engine) as client:
        yield client


@pytest.fixture(scope="module")
def client(server):
    client = tritonclient.InferenceServerClient(
        f"{server.base_url.host}:{server.base_url.port}",
        network_timeout=PATIENCE_S,
        connection_timeout=PATIENCE_S,
    )
    yield client
    client.close()


def give(name, array, *, datatype=None, binary=True):
    datatype = (
        datatype or {"uint8": "UINT8", "float32": "FP32", "float64": "FP64"}[array.dtype.name]
    )
    tensor = tritonclient.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def open_model(engine, name):
    return load(engine.bundle(name).path, precision="default", threads=1)


def test_the_server_and_its_models_are_there(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata()["name"] == "bedside"
    index = {row["name"]: row["version"] for row in client.get_model_repository_index()}
    assert set(index) == {"plane", "plane.network", "scan", "scan.network"}
    for name, version in index.items():
        assert client.is_model_ready(name)
        assert client.is_model_ready(name, version)
        assert client.get_model_metadata(name, version)["name"] == name
        assert client.get_model_config(name)["name"] == name
    assert not client.is_model_ready("plane", "77")
    assert not client.is_model_ready("no-such-model")


def test_metadata_say_what_goes_in_and_out(engine, client):
    spec = engine.bundle("plane").spec
    network = client.get_model_metadata("plane.network")
    assert network["inputs"] == [
        {
            "name": "tensor",
            "datatype": "FP32",
            "shape": [-1, spec.input.channels, *spec.input.size_px],
        }
    ]
    image = client.get_model_metadata("plane")
    assert image["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, -1, -1]}]
    assert image["outputs"] == [{"name": "labels", "datatype": "UINT8", "shape": [-1, -1, -1]}]
    optional = [
        row["name"] for row in client.get_model_config("plane")["input"] if row.get("optional")
    ]
    assert optional == ["spacing_mm", "affine_lps"]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_labels_are_those_of_the_model(engine, client, binary, compression):
    picture = make_picture(3)
    with open_model(engine, "plane") as model:
        expected = model.segment(picture).labels
    answered = client.infer(
        "plane", [give("image", picture, binary=binary)], request_id="one",
        outputs=[tritonclient.InferRequestedOutput("labels", binary_data=binary)],
        request_compression_algorithm=compression,
    )  # fmt: skip
    assert expected.any()
    np.testing.assert_array_equal(answered.as_numpy("labels"), expected[None])
    response = answered.get_response()
    assert (response["id"], response["model_name"]) == ("one", "plane")
    assert isinstance(response["parameters"]["warnings"], str)


@pytest.mark.parametrize("name", ["plane", "scan"])
@pytest.mark.parametrize("binary", [True, False])
def test_logits_are_those_of_the_network(engine, client, name, binary):
    spec = engine.bundle(name).spec
    shape = (3, spec.input.channels, *spec.input.size_px)
    tensor = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    with open_model(engine, name) as model:
        expected = model.segmenter.session.predict(tensor)
    answered = client.infer(f"{name}.network", [give("tensor", tensor, binary=binary)])
    np.testing.assert_allclose(answered.as_numpy("logits"), expected, atol=1e-6)
    declared = client.get_model_metadata(f"{name}.network")["outputs"][0]["shape"]
    assert list(expected.shape[1:]) == declared[1:]


def test_tensors_are_those_that_export_writes(engine, client, tmp_path):
    tensors = export_golden(engine.bundle("plane"), tmp_path / "golden")["tensors"]

    def read(name):
        content = (tmp_path / "golden" / tensors[name]["file"]).read_bytes()
        return np.frombuffer(content, tensors[name]["dtype"]).reshape(tensors[name]["shape"])

    logits = client.infer("plane.network", [give("tensor", read("tensor"))]).as_numpy("logits")
    np.testing.assert_allclose(logits, read("logits"), atol=1e-6)


def test_a_scan_is_segmented_in_its_place(engine, client):
    scan = make_clouds(9, 20, 24, seed=4).astype(np.float32)
    affine = np.array([[0, 0, 0.7, 5], [0, 0.6, 0, 6], [2.5, 0, 0, 7], [0, 0, 0, 1.0]])
    with open_model(engine, "scan") as model:
        expected = model.segment(scan, affine=affine, space="LPS").labels
        assert not np.array_equal(expected, model.segment(scan, spacing_mm=(9.0, 0.6, 0.7)).labels)
    answered = client.infer("scan", [give("image", scan), give("affine_lps", affine)])
    np.testing.assert_array_equal(answered.as_numpy("labels"), expected)
    spaced = client.infer(
        "scan", [give("image", scan), give("spacing_mm", np.array([2.5, 0.6, 0.7]))]
    )
    assert spaced.as_numpy("labels").shape == scan.shape


@pytest.mark.parametrize(
    ("name", "inputs", "words"),
    [
        ("plane", {"picture": np.zeros((4, 4), np.float32)}, "no input"),
        ("plane", {"spacing_mm": np.ones(2)}, 'no input "image"'),
        ("plane", {"image": np.zeros((2, 3, 4, 5), np.float32)}, "expected"),
        ("plane", {"image": np.zeros(5, np.float32)}, "expected"),
        ("plane", {"image": np.zeros((9, 9), np.uint8), "affine_lps": np.ones((3, 3))}, "4, 4"),
        ("plane", {"image": np.zeros((9, 9), np.uint8), "affine_lps": np.zeros((4, 4))}, "affine"),
        ("plane", {"image": np.zeros((9, 9), np.uint8), "spacing_mm": np.zeros(2)}, "spacing"),
        ("plane", {"image": np.full((9, 9), np.nan, np.float32)}, "numbers|NaN|finite"),
        ("plane.network", {"tensor": np.zeros((1, 1, 2, 2), np.float32)}, "expected"),
        ("plane.network", {"image": np.zeros((9, 9), np.float32)}, "no input"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(client, name, inputs, words):
    with pytest.raises(InferenceServerException, match=words) as caught:
        client.infer(name, [give(key, array) for key, array in inputs.items()])
    assert caught.value.status() == "400"
    assert len(caught.value.message()) > 20


def test_a_tensor_that_is_not_finite_is_refused(engine, client):
    spec = engine.bundle("plane").spec
    tensor = np.full((1, spec.input.channels, *spec.input.size_px), np.inf, np.float32)
    with pytest.raises(InferenceServerException) as caught:
        client.infer("plane.network", [give("tensor", tensor)])
    assert caught.value.status() == "400"


@pytest.mark.parametrize(
    ("name", "version"), [("none", ""), ("plane.none", ""), ("plane", "77"), ("..", ""), (".", "")]
)
def test_models_that_are_not_there_are_404(client, name, version):
    with pytest.raises(InferenceServerException) as caught:
        client.infer(name, [give("image", make_picture())], model_version=version)
    assert caught.value.status() == "404"


def test_an_answer_that_comes_too_late_is_not_worked_for(client):
    with pytest.raises(InferenceServerException, match="time") as caught:
        client.infer("plane", [give("image", make_picture())], timeout=1)
    assert caught.value.status() == "504"


def test_an_output_that_is_not_there_is_refused(client):
    asked = [tritonclient.InferRequestedOutput("logits")]
    with pytest.raises(InferenceServerException, match="only labels"):
        client.infer("plane", [give("image", make_picture())], outputs=asked)


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"Inference-Header-Content-Length": "10"}, b"{}", 400),
        ({"Inference-Header-Content-Length": "-1"}, b"{}", 400),
        ({"Inference-Header-Content-Length": "9" * 500}, b"{}", 400),
        ({"Content-Encoding": "gzip"}, b"{}", 400),
        ({"Content-Encoding": "br"}, b"{}", 415),
        ({}, b"", 400),
        ({}, b"[" * 10_000, 400),
        ({"Content-Type": "text/html"}, b"<html>", 400),
    ],
)
def test_what_is_no_request_is_refused(server, headers, content, status):
    answer = server.post("/v2/models/plane/infer", headers=headers, content=content)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


def test_a_body_that_inflates_without_end_is_cut(engine):
    import gzip

    bomb = gzip.compress(bytes(3 * 2**20))
    with open_server(engine, upload_mb=2) as server:
        answer = server.post(
            "/v2/models/plane/infer", content=bomb, headers={"Content-Encoding": "gzip"}
        )
        assert answer.status_code == 413
        answer = server.post("/v2/models/plane/infer", content=bytes(3 * 2**20))
        assert answer.status_code == 413


def test_an_error_has_the_form_of_the_protocol(server: httpx.Client):
    answer = server.get("/v2/models/none")
    assert answer.status_code == 404
    assert json.loads(answer.text)["error"].startswith("no model")
