"""The client class of the monailabel package, as Slicer's and OHIF's plug-ins use it.

It needs an environment of its own: see docs/protocols.md.
"""

import contextlib
import functools
import io
import json
import os
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK

from bedside.segment import load
from bedside.service.keys import make_key
from dicom_makers import make_affine, make_slices, write_series
from protocols_for_tests import open_placing_engine
from servers_for_tests import open_server
from threads_for_tests import make_clouds

PYTHON = os.environ.get("BEDSIDE_MONAILABEL_PYTHON", "")
CALLS = Path(__file__).with_name("monai_label_calls.py")
OBLIQUE = make_affine((0.8, 0.6, 0, -0.48, 0.64, 0.6), spacing=(2.5, 0.8, 0.7))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_placing_engine(tmp_path_factory.mktemp("models")) as engine:
        yield engine


@pytest.fixture(scope="module")
def server(engine, tmp_path_factory):
    with open_server(engine, image_store=str(tmp_path_factory.mktemp("store"))) as server:
        yield server


class Client:
    """MONAI Label's client, in a process of its own."""

    def __init__(self, process):
        self._process = process

    def __call__(self, method, **arguments):
        self._process.stdin.write(json.dumps([method, arguments]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise LookupError(answer["error"])
        return answer["value"]


@contextlib.contextmanager
def open_client(server, folder):
    if not PYTHON:
        pytest.skip("NOT TESTED: BEDSIDE_MONAILABEL_PYTHON is not set; see docs/protocols.md")
    with subprocess.Popen(
        [PYTHON, str(CALLS), str(server.base_url), str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        yield Client(process)
        process.stdin.close()


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    with open_client(server, tmp_path_factory.mktemp("client")) as client:
        yield client


@pytest.fixture(scope="module")
def scan():
    return make_clouds(9, 20, 24, seed=4).astype(np.int16) - 100


@pytest.fixture(scope="module")
def nifti(scan, tmp_path_factory):
    """An oblique scan, as Slicer uploads it."""
    path = tmp_path_factory.mktemp("images") / "brain of a canary.nii.gz"
    affine = np.diag([-1, -1, 1, 1]) @ OBLIQUE[:, [2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(scan.T, affine), path)
    return path


@pytest.fixture(scope="module")
def series(scan, tmp_path_factory):
    """The same scan as a DICOM series."""
    folder = tmp_path_factory.mktemp("series")
    datasets = make_slices((scan + 1024).astype(np.uint16), OBLIQUE, modality="MR", slope=None)
    return write_series(datasets, folder)


@functools.cache
def segment(engine, image):
    with load(engine.bundle("scan").path, precision="default", threads=1) as model:
        labels = model.segment(image).labels
    assert labels.any()
    return labels


def check_place(path, labels):
    """Compare the mask in a file with labels in the place of the scan."""
    mask = SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(mask), labels)
    for index in ((0, 0, 0), (8, 0, 0), (8, 19, 23), (3, 7, 5)):
        point = mask.TransformIndexToPhysicalPoint(tuple(int(each) for each in index[::-1]))
        np.testing.assert_allclose(point, OBLIQUE[:3] @ [*index, 1], atol=1e-3)


def test_the_models_have_names_and_numbers_of_labels(engine, client):
    info = client("info")
    assert {name: model["type"] for name, model in info["models"].items()} == {
        "plane": "segmentation", "scan": "segmentation",
    }  # fmt: skip
    labels = {label.name: label.value for label in engine.bundle("scan").spec.labels}
    assert info["models"]["scan"]["labels"] == labels
    assert info["models"]["scan"]["dimension"] == 3
    assert set(info["labels"]) == set(labels)
    assert "config" not in info  # which Slicer takes for an old server
    assert client("auth_enabled") is False
    assert client("train_status", check_if_running=True) is False


def test_slicer_sends_a_session_and_gets_masks_in_their_place(engine, client, nifti):
    session = client("create_session", image_in=str(nifti))
    session_id = session["session_id"]
    assert client("get_session", session_id=session_id)["name"] == session_id
    assert str(nifti) not in json.dumps(session)
    for extension in (".nrrd", ".seg.nrrd", ".nii.gz", ".nii"):
        mask, params = client(
            "infer", model="scan", image_id="volume", session_id=session_id,
            params={"result_extension": extension, "result_dtype": "uint8"},
        )  # fmt: skip
        assert mask.endswith(extension)
        check_place(mask, segment(engine, nifti))
        # Slicer numbers segments in the order of these values, from 1.
        assert sorted(params["label_names"].values()) == list(
            range(1, len(params["label_names"]) + 1)
        )
    client("remove_session", session_id=session_id)
    with pytest.raises(LookupError, match="404"):
        client("get_session", session_id=session_id)


def test_a_file_may_come_with_the_request(engine, client, nifti):
    mask, _ = client("infer", model="scan", image_id="x", params={}, file=str(nifti))
    check_place(mask, segment(engine, nifti))


def test_images_and_labels_are_kept(engine, client, nifti):
    assert client("upload_image", image_in=str(nifti), image_id="case 7/ä") == {"image": "case 7/ä"}
    mask, _ = client("infer", model="scan", image_id="case 7/ä", params={})
    check_place(mask, segment(engine, nifti))
    before = client("info")["datastore"]
    client(
        "save_label", image_id="case 7/ä", label_in=mask, tag="", params={"label_names": {"a": 1}}
    )
    after = client("info")["datastore"]
    assert (before["total"], before["completed"], after["completed"]) == (1, 0, 1)
    label = client("datastore")["objects"]["case 7/ä"]["labels"]["final"]
    assert label["ext"] == ".nrrd"
    assert label["info"]["params"]["label_names"] == {"a": 1}
    again = client("download_label", label_id="case 7/ä", tag="final")
    assert again.endswith(".nrrd")
    assert Path(again).read_bytes() == Path(mask).read_bytes()


def test_what_is_not_there_is_said(client, nifti):
    for arguments in (
        {"model": "none", "image_id": "x", "file": str(nifti)},
        {"model": "scan", "image_id": "none"},
        {"model": "scan", "image_id": "", "session_id": "none"},
    ):
        with pytest.raises(LookupError, match="404"):
            client("infer", params={}, **arguments)
    with pytest.raises(LookupError, match="expected one of"):
        client(
            "infer", model="scan", image_id="x", file=str(nifti),
            params={"result_extension": ".exe"},
        )  # fmt: skip
    with pytest.raises(LookupError, match="404"):
        client("save_label", image_id="none", label_in=str(nifti))


def test_slices_of_a_series_come_as_ohif_orders_them(engine, server, series, tmp_path):
    """OHIF takes the numbers of the mask as they lie: rows, then slices along their normal."""
    files = [("files", ("name", path.read_bytes())) for path in series]
    session = server.put("/session/", files=files).json()["session_id"]
    answer = server.post(
        "/infer/scan", params={"session_id": session, "output": "image", "image": "1.2.3"},
        files={"params": (None, json.dumps(
            {"result_extension": ".nrrd", "result_dtype": "uint16", "result_compress": False}
        ))},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    head, _, raw = answer.content.partition(b"\n\n")
    assert b"encoding: raw" in head
    assert b"sizes: 24 20 9" in head
    labels = np.frombuffer(raw, "<u2").reshape(9, 20, 24)
    np.testing.assert_array_equal(labels, segment(engine, series[0].parent))
    (tmp_path / "mask.nrrd").write_bytes(answer.content)
    check_place(tmp_path / "mask.nrrd", labels)
    # Slices run along the normal of their rows and columns, as OHIF sorts them.
    directions = SimpleITK.ReadImage(str(tmp_path / "mask.nrrd")).GetDirection()
    assert np.linalg.det(np.reshape(directions, (3, 3))) > 0


def test_a_dicom_seg_can_be_had_of_dicom(server, series, nifti):
    files = [("file", ("name", path.read_bytes())) for path in series]
    answer = server.post("/infer/scan", params={"output": "dicom_seg"}, files=files)
    assert answer.headers["Content-Type"] == "application/dicom"
    assert pydicom.dcmread(io.BytesIO(answer.content)).Modality == "SEG"
    files = {"file": ("name", nifti.read_bytes())}
    answer = server.post("/infer/scan", params={"output": "dicom_seg"}, files=files)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "params", ["[]", "{", "3", "[" * 9000, '{"result_dtype": ["x"]}', '{"result_extension": 7}']
)
def test_false_parameters_are_refused(server, nifti, params):
    answer = server.post(
        "/infer/scan", files={"params": (None, params), "file": ("x", nifti.read_bytes())}
    )
    assert answer.status_code in (400, 422)


def test_a_server_without_a_store_says_how_to_have_one(engine):
    with open_server(engine) as server:
        assert server.get("/datastore/").json()["total"] == 0
        answer = server.put("/datastore/label", params={"image": "x"}, files={"label": b"x"})
    assert answer.status_code == 409
    assert "image_store" in answer.text


def test_slicer_gets_in_with_a_key_as_its_password(engine, tmp_path):
    secret, key = make_key("slicer")
    with open_server(engine, keys=(key,)) as server, open_client(server, tmp_path) as client:
        assert client("auth_enabled") is True
        with pytest.raises(LookupError, match="401"):
            client("info")
        with pytest.raises(LookupError, match="no key"):
            client("auth_token", username="somebody", password="wrong")
        client("update_auth", token=client("auth_token", username="somebody", password=secret))
        assert client("auth_valid_token") is True
        assert "scan" in client("info")["models"]


def test_a_form_that_is_no_form_gets_no_token(engine):
    _, key = make_key("slicer")
    with open_server(engine, keys=(key,)) as server:
        for content in (b"", b"password=", b"\xff" * 100, b"password=" + b"x" * 3000, b"&" * 4000):
            assert server.post("/auth/token", content=content).status_code in (400, 401)
        assert server.post("/auth/token", content=b"x" * 5000).status_code == 413
        assert server.get("/auth/token/valid").status_code == 401
