"""Orthanc as the archive of OHIF, and as a sender; run by `test_monai_label_archive.py`."""

import json

import httpx
import numpy as np
import pytest
from dicomweb_client import DICOMwebClient

from bedside.http_api.image_store import ImageStore
from bedside.segment import load
from dicom_makers import make_affine, make_slices
from orthanc_for_tests import URL, Orthanc, is_inside
from protocols_for_tests import open_placing_engine
from servers_for_tests import open_server
from threads_for_tests import make_clouds

pytestmark = pytest.mark.skipif(not is_inside(), reason="test_monai_label_archive.py runs these")


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_placing_engine(tmp_path_factory.mktemp("models")) as engine:
        yield engine


def make_series():
    scan = make_clouds(9, 20, 24, seed=4).astype(np.uint16)
    affine = make_affine((0.8, 0.6, 0, -0.48, 0.64, 0.6), spacing=(2.5, 0.8, 0.7))
    series = make_slices(scan, affine, modality="MR", slope=None)
    for number, dataset in enumerate(series):
        dataset.StudyDate, dataset.StudyTime, dataset.InstanceNumber = "", "", 50 - number
        dataset.preamble = bytes(128)
    return series


def test_orthanc_stores_a_series_by_stow(orthanc, engine, tmp_path):
    series = make_series()
    DICOMwebClient(URL).store_instances(series)
    (known,) = orthanc.get("series")
    root = URL.removesuffix("/dicom-web")
    with open_server(engine, image_store=str(tmp_path / "store")) as server:
        peer = {"Url": f"{server.base_url}/dicom-web/"}
        httpx.put(f"{root}/dicom-web/servers/bedside", json=peer).raise_for_status()
        job = {"Resources": [known], "Synchronous": True}
        sent = httpx.post(f"{root}/dicom-web/servers/bedside/stow", json=job, timeout=60)
        assert sent.status_code == 200, sent.text
    image = ImageStore(tmp_path / "store").find(series[0].SeriesInstanceUID)
    assert len(list(image.path.iterdir())) == len(series)
    assert all(not job["ErrorCode"] for job in orthanc.get("jobs?expand"))


def test_a_series_is_fetched_by_its_uid_and_segmented(orthanc, engine):
    series = make_series()
    DICOMwebClient(URL).store_instances(series)
    with load(engine.bundle("scan").path, precision="default", threads=1) as model:
        expected = model.segment(series).labels
    assert expected.any()
    params = {"result_extension": ".nrrd", "result_dtype": "uint8"}
    with open_server(engine, archive_url=URL) as server:
        for _ in range(2):
            answer = server.post(
                "/infer/scan", files={"params": (None, json.dumps(params))},
                params={"image": series[0].SeriesInstanceUID, "output": "image"},
            )  # fmt: skip
            assert answer.status_code == 200, answer.text
            raw = answer.content.partition(b"\n\n")[2]
            np.testing.assert_array_equal(
                np.frombuffer(raw, np.uint8).reshape(expected.shape), expected
            )
        missing = server.post(
            "/infer/scan", params={"image": "1.2.3.4"}, files={"params": (None, "{}")}
        )
        assert missing.status_code == 404
        assert "archive" in missing.text


def test_what_is_no_archive_is_said(orthanc, engine):
    root = URL.rpartition("/")[0]
    for url in (f"{root}/system", "http://127.0.0.1:9"):
        with open_server(engine, archive_url=url) as server:
            answer = server.post(
                "/infer/scan", params={"image": "1.2.3.4"}, files={"params": (None, "{}")}
            )
        assert answer.status_code == 502
        assert "archive_url" in answer.text
