"""A file for each channel, by name: the mask of the library, and nothing mistaken for another."""

import gzip
import io
import zipfile

import nibabel
import numpy as np
import pytest

import makers
from bedside.service.engine import Engine
from bedside.service.jobs import JobStore
from bedside.service.segment_jobs import SegmentJobs
from bedside.service.settings import EngineSettings, ServedModel
from bright_network import SQUARE_MM, write_two_channels
from servers_for_tests import open_server, write_models


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("channels")
    plane, _ = write_models(folder)
    two = write_two_channels(folder / "two.bedside", like=plane.bundle)
    models = (ServedModel("two", str(two)), plane)
    with (
        Engine(EngineSettings(models, threads=1)) as engine,
        JobStore(folder / "state") as store,
        SegmentJobs(store, engine) as jobs,
        open_server(engine, jobs=jobs) as client,
    ):
        engine.start()
        jobs.start()
        yield client


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """T1 is brighter than FLAIR everywhere but in a square of 20 x 20."""
    folder = tmp_path_factory.mktemp("files")
    flair = np.zeros((64, 64), np.uint8)
    flair[10:40, 10:40] = 200
    t1 = np.where(flair, 220, 0).astype(np.uint8)
    t1[10:30, 10:30] = 100
    pixels = {"flair": flair, "t1": t1, "small": t1[:32]}
    return {
        name: makers.write_nifti(
            array, folder / f"{name}.nii.gz", spacing_mm=SQUARE_MM
        ).read_bytes()
        for name, array in pixels.items()
    }


def post(client, path, sent, **parameters):
    parts = [("file", (f"{place}.nii.gz", data)) for place, data in enumerate(sent)]
    return client.post(path, params={"model": "two", "format": "nifti", **parameters}, files=parts)


def area(content):
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(content))
    return np.asarray(image.dataobj).sum()


@pytest.mark.parametrize("order", [("flair", "t1"), ("t1", "flair")])
def test_each_file_is_the_channel_that_is_named_in_its_place(client, files, order):
    sent = [files[name] for name in order]
    answer = post(client, "/segment", sent, channels=",".join(order))
    assert answer.status_code == 200, answer.text
    assert area(answer.content) == 20 * 20
    job = post(client, "/jobs", sent, channels=", ".join(order)).headers["location"]
    assert client.get(job, params={"wait_s": 60}).json()["state"] == "done"
    assert client.get(f"{job}/result").content == answer.content
    assert client.get(f"{job}/report").json()["source"] == "image"


def test_a_channel_that_may_be_missing_is_named_in_the_warnings(client, files):
    answer = post(client, "/segment", [files["flair"]], channels="flair")
    assert area(answer.content) == 30 * 30
    assert "channel t1 was not given" in answer.headers["bedside-warnings"]


@pytest.mark.parametrize("path", ["/segment", "/jobs"])
@pytest.mark.parametrize(
    ("names", "channels", "told"),
    [
        (["flair", "t1"], "flair", "channels names 1, and 2 files were sent"),
        (["flair"], "flair,t1", "channels names 2, and 1 files were sent"),
        (["flair", "t1"], "flair,flair", "each once"),
        (["flair", "t1"], "flair,", "each once"),
    ],
)
def test_names_that_do_not_fit_the_files_are_refused(client, files, path, names, channels, told):
    answer = post(client, path, [files[name] for name in names], channels=channels)
    assert (answer.status_code, told in answer.text) == (400, True), answer.text


def test_names_that_do_not_fit_the_model_are_refused(client, files):
    for names, channels, status, told in (
        (["flair", "t1"], "flare,t1", 400, 'Did you mean'),
        (["t1"], "t1", 422, "no channel flair was given"),
        (["flair", "small"], "flair,t1", 422, "Resample the channel"),
    ):  # fmt: skip
        answer = post(client, "/segment", [files[name] for name in names], channels=channels)
        assert (answer.status_code, told in answer.text) == (status, True), answer.text
        assert "image_0" not in answer.text
    answer = post(client, "/segment", [files["flair"]], channels="flair", model="plane")
    assert (answer.status_code, "have no names" in answer.text) == (400, True)


def test_a_zip_is_refused_as_its_order_means_nothing(client, files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("flair", "t1"):
            archive.writestr(f"{name}.nii.gz", files[name])
    answer = post(client, "/segment", [packed.getvalue()], channels="flair,t1")
    assert (answer.status_code, "no zip" in answer.text) == (400, True)


def test_models_list_the_names(client):
    two = client.get("/models/two").json()
    assert two["channel_names"] == ["t1", "flair"]
    assert two["optional_channels"] == ["t1"]
