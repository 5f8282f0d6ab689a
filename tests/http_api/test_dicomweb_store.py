"""Instances are stored by dicomweb-client, and each that is not is named in the answer."""

import io
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client import DICOMwebClient
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, generate_uid

from bedside.http_api.dicomweb.instances import read_ids
from bedside.http_api.image_store import ImageStore
from bedside.io.dicom.bare import find_dataset
from bedside.io.source import open_source
from dicom_makers import make_slices
from protocols_for_tests import open_placing_engine
from servers_for_tests import open_server

BOUNDARY = "a.b'c"
RELATED = f'multipart/related; type="application/dicom"; boundary="{BOUNDARY}"'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stored")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_placing_engine(tmp_path_factory.mktemp("models")) as engine:
        yield engine


@pytest.fixture(scope="module")
def server(engine, folder):
    with open_server(engine, image_store=str(folder), upload_mb=8) as server:
        yield server


@pytest.fixture
def client(server):
    return DICOMwebClient(f"{server.base_url}/dicom-web")


def make_series(count=3):
    series = make_slices(np.zeros((count, 6, 7), np.uint16), series=generate_uid())
    for dataset in series:
        dataset.preamble = bytes(128)
    return series


def encode(dataset):
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def pack(*parts, kind="application/dicom"):
    body = b"".join(
        b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (BOUNDARY.encode(), kind.encode(), part)
        for part in parts
    )
    return body + b"--%s--" % BOUNDARY.encode()


def send(server, content, *, content_type=RELATED, path="/studies", **headers):
    return server.post(
        f"/dicom-web{path}", content=content, headers={"Content-Type": content_type, **headers}
    )


def list_uids(module, sequence):
    return [str(item.ReferencedSOPInstanceUID) for item in module.get(sequence, [])]


def list_stored(folder, dataset):
    image = ImageStore(folder).find(dataset.SeriesInstanceUID)
    return {str(read_ids(path).sop_instance_uid) for path in image.path.iterdir()}


def test_a_series_is_stored_and_can_be_opened(client, folder):
    series = make_series(5)
    module = client.store_instances(series, study_instance_uid=series[0].StudyInstanceUID)
    uids = [dataset.SOPInstanceUID for dataset in series]
    assert list_uids(module, "ReferencedSOPSequence") == uids
    assert not {"FailedSOPSequence", "OtherFailuresSequence"} & set(module.dir())
    assert list_stored(folder, series[0]) == set(uids)
    image = ImageStore(folder).find(series[0].SeriesInstanceUID)
    assert len(open_source(image.path, files=sorted(image.path.iterdir())).sequence) == 5


def test_an_instance_that_comes_twice_is_there_once(client, folder):
    series = make_series(2)
    for _ in range(2):
        client.store_instances(series)
    assert len(list_stored(folder, series[0])) == 2


def test_bad_instances_are_named_and_no_good_one_is_lost(server, folder):
    good, other = make_series(4), make_series(1)[0]
    study = good[0].StudyInstanceUID
    other.StudyInstanceUID = generate_uid()
    bare = encode(good[0])
    parts = [
        encode(good[0]), b"", encode(good[1]), b"junk", encode(other), encode(good[2])[:200],
        encode(good[2]), bare[find_dataset(bare) :], encode(good[3]),
    ]  # fmt: skip
    answer = send(server, pack(*parts), path=f"/studies/{study}")
    assert answer.status_code == 202
    assert "5 of 9 instances" in answer.headers["Warning"]
    module = pydicom.Dataset.from_json(answer.json())
    assert list_uids(module, "ReferencedSOPSequence") == [each.SOPInstanceUID for each in good]
    assert list_uids(module, "FailedSOPSequence") == [other.SOPInstanceUID]
    assert [hex(item.FailureReason) for item in module.FailedSOPSequence] == ["0xa900"]
    assert [hex(item.FailureReason) for item in module.OtherFailuresSequence] == ["0xc000"] * 4
    assert list_stored(folder, good[0]) == {each.SOPInstanceUID for each in good}
    assert ImageStore(folder).find(other.SeriesInstanceUID) is None


def test_the_real_client_reads_what_was_not_stored(client):
    good, other = make_series(1)[0], make_series(1)[0]
    other.StudyInstanceUID = generate_uid()
    module = client.store_instances([good, other], study_instance_uid=good.StudyInstanceUID)
    assert list_uids(module, "ReferencedSOPSequence") == [good.SOPInstanceUID]
    assert list_uids(module, "FailedSOPSequence") == [other.SOPInstanceUID]


def test_nothing_stored_is_a_conflict(client):
    dataset = make_series(1)[0]
    with pytest.raises(requests.HTTPError, match="409"):
        client.store_instances([dataset], study_instance_uid=generate_uid())


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/dicom+xml", "application/dicom+xml"),
        ("application/dicom+xml;q=0.1, application/dicom+json", "application/dicom+json"),
        ("*/*", "application/dicom+json"),
    ],
)
def test_answers_come_as_json_or_xml(server, client, accept, kind):
    good, other = make_series(1)[0], make_series(1)[0]
    other.StudyInstanceUID = generate_uid()
    client._session.headers["Accept"] = accept
    module = client.store_instances([good, other], study_instance_uid=good.StudyInstanceUID)
    assert list_uids(module, "ReferencedSOPSequence") == [good.SOPInstanceUID]
    assert module.FailedSOPSequence[0].FailureReason == 0xA900
    answer = send(server, pack(encode(good)), Accept=accept)
    assert answer.headers["Content-Type"] == kind


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_transfer_syntaxes_are_stored_as_they_came(server, folder, syntax):
    dataset = make_series(1)[0]
    dataset.PixelData = bytes(len(dataset.PixelData))
    file = io.BytesIO()
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(
        file, dataset, implicit_vr=False, little_endian=syntax != ExplicitVRBigEndian,
        force_encoding=True,
    )  # fmt: skip
    assert send(server, pack(file.getvalue())).status_code == 200
    image = ImageStore(folder).find(dataset.SeriesInstanceUID)
    assert [path.read_bytes() for path in image.path.iterdir()] == [file.getvalue()]


def test_one_instance_may_be_the_body(server, folder):
    dataset = make_series(1)[0]
    answer = send(server, encode(dataset), content_type="application/dicom")
    assert answer.status_code == 200
    assert list_stored(folder, dataset) == {dataset.SOPInstanceUID}


def test_parts_of_another_type_are_failures(server):
    answer = send(server, pack(encode(make_series(1)[0]), kind="text/plain"))
    assert answer.status_code == 409
    assert len(answer.json()["0008119A"]["Value"]) == 1


@pytest.mark.parametrize(
    ("content", "content_type", "path", "status"),
    [
        (b"{}", "application/dicom+json", "/studies", 415),
        (b"{}", 'multipart/related; type="application/dicom+json"; boundary=b', "/studies", 415),
        (b"{}", "multipart/form-data; boundary=b", "/studies", 415),
        (b"x", "multipart/related", "/studies", 400),
        (b"x", f'multipart/related; boundary="{"b" * 3000}"', "/studies", 400),
        (b"", RELATED, "/studies", 400),
        (b"junk" * 1000, RELATED, "/studies", 400),
        (pack(), RELATED, "/studies", 400),
        (pack(b"x")[:-9], RELATED, "/studies", 400),
        (pack(*[b"x"] * 10_000), RELATED, "/studies", 413),
        (pack(bytes(9 * 2**20)), RELATED, "/studies", 413),
        (pack(pack(b"x")), RELATED, "/studies", 409),
        (pack(pack(b"x"), kind="multipart/related; boundary=x"), RELATED, "/studies", 409),
        (pack(b"x"), RELATED, "/studies/..%2F..", 404),
        (pack(b"x"), RELATED, "/studies/" + "1." * 40 + "1", 400),
    ],
)
def test_hostile_requests_are_refused(server, content, content_type, path, status):
    answer = send(server, content, content_type=content_type, path=path)
    assert answer.status_code == status, answer.text
    assert json.loads(answer.text)


def test_an_answer_that_cannot_be_sent_is_not_begun(server):
    assert send(server, pack(b"x"), Accept="text/html").status_code == 406


def test_nothing_of_an_instance_is_in_names_or_errors(server, folder):
    dataset = make_series(1)[0]
    dataset.PatientName, dataset.PatientID = "Canary^Bird", "CANARY77"
    dataset.StudyInstanceUID = "1.2.77777"
    answer = send(server, pack(encode(dataset), b"CANARY junk"), path="/studies/1.2.8")
    assert answer.status_code == 409
    assert "anary" not in (answer.text + str(answer.headers)).lower()
    names = [str(path) for path in Path(folder).rglob("*")]
    assert not [name for name in names if dataset.SeriesInstanceUID in name or "anary" in name]


def test_a_server_without_a_place_for_instances_says_so(engine):
    with open_server(engine) as server:
        answer = send(server, pack(b"x"))
    assert answer.status_code == 501
    assert "image_store" in answer.json()["error"]["message"]
