"""`POST /segment`: every form of an image in, its own mask out, and refusals that say why."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

import bedside
from dicom_makers import make_slices, write_series
from makers import make_dicom, write_dicom
from servers_for_tests import make_picture, make_png, open_engine, open_server
from threads_for_tests import make_clouds


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_engine(tmp_path_factory.mktemp("models")) as engine:
        yield engine


@pytest.fixture(scope="module")
def client(engine):
    with open_server(engine, upload_mb=1, unpacked_mb=2) as client:
        yield client


def post(client, data, *, model="plane", accept="*/*", **parameters):
    return client.post(
        "/segment", params={"model": model, **parameters}, files={"file": ("Doe^John.png", data)},
        headers={"Accept": accept},
    )  # fmt: skip


def test_the_mask_is_that_of_the_library(engine, client):
    answer = post(client, make_png(1))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    mask = np.asarray(Image.open(io.BytesIO(answer.content)))
    bundle = engine.bundle("plane").path
    with bedside.load(bundle, precision="default", threads=1) as model:
        assert np.array_equal(mask, model.segment(make_picture(1)).labels)
    assert mask.any()


def test_a_body_that_is_the_image_itself_is_taken_too(client):
    answer = client.post("/segment?model=plane", content=make_png(1))
    assert answer.content == post(client, make_png(1)).content


def test_the_report_names_no_file_of_the_client(client):
    answer = post(client, make_png(), accept="application/json")
    report = answer.json()
    assert report["source"] == "image"
    assert report["bundle"]["name"] == "random"
    assert "Doe" not in answer.text
    assert json.loads(answer.headers["bedside-warnings"]) == report["warnings"]


def test_dicom_comes_back_as_a_seg(client, tmp_path):
    from pydicom import dcmread

    dataset = make_dicom(make_clouds(1, 48, 64))
    data = write_dicom(dataset, tmp_path / "image.dcm").read_bytes()
    answer = post(client, data, accept="application/dicom")
    assert answer.headers["content-type"] == "application/dicom", answer.text
    seg = dcmread(io.BytesIO(answer.content))
    assert seg.Modality == "SEG"
    assert seg.StudyInstanceUID == dataset.StudyInstanceUID


def test_a_series_comes_in_a_zip_or_in_several_parts(client, tmp_path):
    from pydicom import dcmread

    scan = np.random.default_rng(0).integers(900, 1200, (6, 32, 32)).astype(np.uint16)
    paths = write_series(make_slices(scan), tmp_path / "ct")
    packed = make_zip(*((f"Doe^John/{path.name}.dcm", path.read_bytes()) for path in paths))
    asked = {"model": "scan", "force": True, "format": "dicom-seg"}
    parts = [("file", (path.name, path.read_bytes())) for path in paths]
    answers = [
        client.post("/segment", params=asked, files={"file": ("Doe.zip", packed)}),
        client.post("/segment", params=asked, files=parts),
    ]
    assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
    segs = [dcmread(io.BytesIO(answer.content)) for answer in answers]
    assert segs[0].SOPInstanceUID == segs[1].SOPInstanceUID
    assert segs[0].PixelData == segs[1].PixelData
    assert len(segs[0].ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 6
    # One slice less is a scan with a gap, and is not guessed at.
    gap = client.post("/segment", params=asked, files=parts[:2] + parts[3:])
    assert (gap.status_code, gap.json()["error"]["type"]) == (422, "GeometryError")


def test_a_picture_has_no_seg(client):
    answer = post(client, make_png(), accept="application/dicom")
    assert answer.status_code == 406
    assert "NIfTI" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("model", "body", "status", "said"),
    [
        ("nix", b"?", 404, "Choose one of plane, scan"),
        ("plane", b"", 400, 'in the field "file"'),
        ("plane", b"hello", 422, "image is no image: it begins with b'hello'"),
        ("plane", b"PK\x03\x04 broken", 422, "the zip is damaged"),
        ("plane", bytes(2**20 + 1), 413, "larger than 1 MiB"),
    ],
)
def test_refusals_have_a_status_and_say_why(client, model, body, status, said):
    answer = client.post(f"/segment?model={model}", content=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["status"]) == (status, status)
    assert said in error["message"]
    assert "/tmp" not in answer.text


@pytest.mark.parametrize("n_bytes", [10, 2**17])
def test_an_image_in_another_field_is_told_where_it_belongs(client, n_bytes):
    answer = client.post("/segment?model=plane", files={"image": ("a.png", bytes(n_bytes))})
    assert answer.status_code in (400, 413)
    assert 'in the field "file"' in answer.json()["error"]["message"]


def test_a_missing_parameter_is_named_and_the_form_of_the_error_is_the_same(client):
    error = client.post("/segment", content=make_png()).json()["error"]
    assert (error["status"], error["type"]) == (400, "RequestError")
    assert "model" in error["message"]
    assert client.get("/nowhere").json()["error"]["status"] == 404


def make_zip(*members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("members", "status", "said"),
    [
        ([("../../up.png", make_png())], 422, "outside of itself"),
        ([("/etc/up.png", make_png())], 422, "outside of itself"),
        ([("bomb", bytes(2**22))], 413, "more than 2 MiB"),
        ([("a.png", make_png(1)), ("b.png", make_png(2))], 422, "2 images were sent together"),
        ([], 422, "the zip is empty"),
    ],
)
def test_bad_zips_are_refused(client, members, status, said):
    answer = post(client, make_zip(*members))
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]["message"]


def test_a_zip_of_one_image_is_the_image(client):
    packed = post(client, make_zip(("folder/a.png", make_png(3)), ("__MACOSX/._a.png", b"?")))
    assert packed.content == post(client, make_png(3)).content


def test_what_is_encoded_or_longer_than_allowed_is_refused_by_its_head_alone(client):

    encoded = client.post(
        "/segment?model=plane", content=make_png(), headers={"Content-Encoding": "gzip"}
    )
    assert encoded.status_code == 415


def test_the_models_are_described(client):
    models = {each["name"]: each for each in client.get("/models").json()["models"]}
    assert set(models) == {"plane", "scan"}
    assert models["scan"]["dimensions"] == 3
    assert client.get("/models/plane").json() == models["plane"]
    assert client.get("/models/nix").status_code == 404
    assert client.get("/health").json()["status"] == "ready"
