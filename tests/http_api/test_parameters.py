"""Parameters of a request: in the query or the form, and named so in errors."""

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import bedside
from bedside.service.engine import Engine
from bedside.service.settings import EngineSettings, ServedModel
from bedside.service.wanted import in_service_words
from dicom_makers import make_slices, write_series
from makers import make_dicom, write_dicom
from servers_for_tests import make_png, open_engine, open_server
from threads_for_tests import make_clouds


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with open_engine(tmp_path_factory.mktemp("models")) as engine, open_server(engine) as client:
        yield client


def post(client, data, fields=None, **parameters):
    return client.post("/segment", params=parameters, files={"file": ("a", data)}, data=fields)


def said(answer):
    return answer.status_code, answer.json()["error"]["message"]


def test_all_parameters_may_be_fields_of_the_form(client):
    answer = post(client, make_png(1), {"model": "plane", "format": "json", "deadline_s": "60"})
    assert answer.json()["bundle"]["name"] == "random"
    assert answer.json()["gate"] is None  # the model has none


@pytest.mark.parametrize(
    ("fields", "parameters", "told"),
    [
        ({}, {}, "no model is named"),
        ({}, {"model": "plane", "treshold": 1}, "query.treshold: Extra inputs"),
        ({"treshold": "1"}, {"model": "plane"}, "the form is refused: treshold: Extra inputs"),
        ({"gaps": "fill"}, {"model": "plane"}, "gaps: Input should be 'refuse' or 'interpolate'"),
        ({"model": "scan"}, {"model": "plane"}, "model is one thing in the query and another"),
        ({}, {"model": "plane", "select": "time"}, 'select has "time"; expected time=N, channel=N'),
        ({}, {"model": "plane", "pixel_spacing": "1"}, "pixel_spacing is not ROW,COLUMN"),
        ({}, {"model": "plane", "pixel_spacing": "0,1"}, "expected mm above 0"),
    ],
)
def test_what_has_no_meaning_is_refused_by_its_name(client, fields, parameters, told):
    status, message = said(post(client, make_png(1), fields, **parameters))
    assert status == 400
    assert told in message
    assert "--" not in message


def test_a_foreign_image_is_told_or_refused_as_the_request_wants(client):
    settings = EngineSettings((ServedModel("camus-4ch"),), threads=1)
    with Engine(settings) as engine, open_server(engine) as gated:
        told, refused, forced = (
            post(gated, make_png(1), model="camus-4ch", format="json", **wanted)
            for wanted in ({}, {"gate": "refuse"}, {"gate": "refuse", "force": True})
        )
    assert told.json()["gate"]["is_foreign"]
    assert told.json()["gate"]["distance"] > told.json()["gate"]["threshold"]
    assert refused.status_code == 422
    assert "unlike those" in refused.json()["error"]["message"]
    assert forced.status_code == 200


def test_a_spacing_that_is_stated_gives_measurements_in_mm(client):
    report = post(client, make_png(1), model="plane", format="json").json()
    stated = post(client, make_png(1), model="plane", format="json", pixel_spacing="0.5,0.25")
    assert report["spacing_mm"] is None
    assert stated.json()["spacing_mm"] == [0.5, 0.25]


def test_one_of_several_images_in_a_file_is_selected(client, tmp_path):
    scan = np.stack([make_clouds(6, 32, 32, seed=seed).T for seed in range(2)], axis=-1)
    nib.save(nib.Nifti1Image(scan.astype(np.int16), np.diag([1.5, 1.5, 2.0, 1.0])),
             tmp_path / "a.nii")  # fmt: skip
    data = (tmp_path / "a.nii").read_bytes()
    asked = {"model": "scan", "format": "nifti", "force": True, "third_axis": "space"}
    status, message = said(post(client, data, **asked))
    assert status == 422
    assert "name one: select=time=N" in message
    masks = [post(client, data, {"select": f"time={n}"}, **asked) for n in (1, 2)]
    assert [mask.status_code for mask in masks] == [200, 200], masks[0].text
    assert masks[0].content != masks[1].content


def test_a_refused_series_names_the_parameter_that_would_take_it(client, tmp_path):
    scan = np.random.default_rng(0).integers(900, 1200, (6, 32, 32)).astype(np.uint16)
    paths = write_series(make_slices(scan), tmp_path / "ct")
    del paths[2]
    parts = [("file", (path.name, path.read_bytes())) for path in paths]
    asked = {"model": "scan", "force": True, "format": "dicom-seg"}
    status, message = said(client.post("/segment", params=asked, files=parts))
    assert status == 422
    assert "gaps=interpolate" in message
    taken = client.post("/segment", params=asked, files=parts, data={"gaps": "interpolate"})
    assert taken.status_code == 200, taken.text


def test_another_modality_is_refused_with_the_parameter_that_takes_it(client, tmp_path):
    dataset = make_dicom(make_clouds(1, 48, 64))
    dataset.Modality = "OT"
    data = write_dicom(dataset, tmp_path / "image.dcm").read_bytes()
    status, message = said(post(client, data, model="plane"))
    assert status == 422
    assert message.endswith("force=true.")


def test_openapi_describes_each_parameter_in_the_query_and_the_form(client):
    schema = client.get("/openapi.json").json()
    for path, more in (("/segment", {"deadline_s"}), ("/jobs", set())):
        operation = schema["paths"][path]["post"]
        query = {each["name"]: each for each in operation["parameters"] if each["in"] == "query"}
        names = {"model", "format", "select", "third_axis", "pixel_spacing", "gaps",
                 "values_are_hu", "gate", "channels", "force"} | more  # fmt: skip
        assert set(query) == names
        assert all(each.get("description") for each in query.values())
        form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert set(form["properties"]) == {"file", *names}


def test_no_message_of_the_library_names_an_option_of_the_command_to_a_client():
    root = Path(bedside.__file__).parent
    folders = ("io", "pipeline", "volume", "bundle", "runtime", "report", "service", "http_api")
    texts = [text for folder in folders for path in (root / folder).rglob("*.py")
             for text in re.findall(r'"[^"\n]*--[a-z][^"\n]*"', path.read_text())]  # fmt: skip
    assert len(texts) > 15
    translated = [in_service_words(text.strip('"')) for text in texts]
    assert [text for text in translated if re.search(r"--[a-z]", text)] == []
    assert in_service_words("a -- b") == "a -- b"
    assert json.loads(json.dumps(translated)) == translated


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("name one: --select time=N channel=N, N from 1.",
         "name one: select=time=N,channel=N, N from 1."),
        ("Pass --gate warn to segment it.", "Pass gate=warn to segment it."),
        ("leave --third-axis space out.", "leave third_axis=space out."),
        ("Pass --values-are-hu if", "Pass values_are_hu=true if"),
        ("decoding takes more than 60 s. If you trust it, raise --untrusted-s, or leave "
         "--untrusted out.", "decoding takes more than 60 s. Send a smaller image, or raise "
         "decode_s of the server."),
    ],
)  # fmt: skip
def test_options_become_parameters(said, meant):
    assert in_service_words(said) == meant
