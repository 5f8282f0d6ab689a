"""`/jobs`: accepted once, done once, cancelled in time, and there again after a restart."""

import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

from bedside.service.admission import Lane
from bedside.service.jobs import JobStore
from bedside.service.keys import Key
from bedside.service.segment_jobs import KIND, QUEUED, SegmentJobs
from bedside.service.wanted import Wanted
from bedside.system.regular_files import MemoryPath
from servers_for_tests import make_png, open_engine, open_server


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_engine(tmp_path_factory.mktemp("models")) as engine:
        yield engine


@pytest.fixture
def store(tmp_path):
    with JobStore(tmp_path / "state") as store:
        yield store


@pytest.fixture
def jobs(store, engine):
    with SegmentJobs(store, engine, most=3) as jobs:
        yield jobs


@pytest.fixture
def client(engine, jobs):
    with open_server(engine, jobs=jobs) as client:
        yield client


def add(client, *, model="plane", seed=1, key=None, **parameters):
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(
        "/jobs", params={"model": model, **parameters}, content=make_png(seed), headers=headers
    )


def test_a_job_has_the_result_of_a_request(client, jobs, store):
    answer = add(client)
    assert answer.status_code == 202
    place, job = answer.headers["location"], answer.json()
    assert (job["state"], job["progress"]) == ("queued", 0.0)
    assert client.get(f"{place}/result").status_code == 409
    jobs.start()
    done = client.get(place, params={"wait_s": 60}).json()
    assert (done["state"], done["progress"], done["format"]) == ("done", 1.0, "png")
    direct = client.post("/segment?model=plane", content=make_png(1))
    result = client.get(f"{place}/result")
    assert result.content == direct.content
    assert result.headers["content-type"] == "image/png"
    assert client.get(f"{place}/report").json()["source"] == "image"
    # The image is not kept for longer than it is needed.
    assert not list(store.folder(store.get(job["id"])).glob("input*"))


def test_a_job_that_is_sent_again_is_done_once(client, store):
    first, again, other = add(client, key="a"), add(client, key="a"), add(client, key="b")
    assert first.json() == again.json()
    assert other.json()["id"] != first.json()["id"]
    assert store.count() == {(KIND, QUEUED): 2}
    clash = add(client, key="a", format="json")
    assert (clash.status_code, "something else" in clash.text) == (400, True)


def test_two_jobs_at_a_time_leave_a_slot_to_images(store, tmp_path, monkeypatch):
    together, images = threading.Barrier(3), []
    with open_engine(tmp_path, slots=3, volumes=2) as engine:
        opened = engine.open

        def wait_for_each_other(source, **options):
            if isinstance(source, MemoryPath):
                images.append(source)
            else:
                together.wait(60)
                together.wait(60)
            return opened(source, **options)

        monkeypatch.setattr(engine, "open", wait_for_each_other)
        with SegmentJobs(store, engine) as jobs, open_server(engine, jobs=jobs) as client:
            places = [add(client, seed=seed).headers["location"] for seed in (1, 2)]
            jobs.start()
            together.wait(60)  # both are at work
            assert engine.admission.counts[Lane.VOLUME].running == 2
            assert client.post("/segment?model=plane", content=make_png(3)).status_code == 200
            assert len(images) == 1
            together.wait(60)
            for place in places:
                assert client.get(place, params={"wait_s": 60}).json()["state"] == "done"


def test_more_jobs_than_may_wait_are_refused(client):
    assert [add(client).status_code for _ in range(4)] == [202, 202, 202, 503]


def test_a_refused_image_fails_its_job_with_the_reason(client, jobs):
    place = client.post("/jobs?model=plane", content=b"hello").headers["location"]
    jobs.step()
    told = client.get(place).json()
    assert told["state"] == "failed"
    assert told["error"]["type"] == "FormatError"
    assert "image is no image: it begins with b'hello'" in told["error"]["message"]


def test_a_job_can_be_cancelled_while_it_waits(client, jobs):
    place = add(client).headers["location"]
    assert client.delete(place).json()["state"] == "cancelled"
    assert jobs.step() is None
    assert client.get(place).json()["state"] == "cancelled"


def test_a_job_that_is_cancelled_at_work_ends_and_writes_nothing(client, jobs, engine, store):
    place = add(client).headers["location"]
    segment = engine.segment

    def cancel_first(*arguments, **options):
        assert client.delete(place).json()["state"] == "cancelled"
        return segment(*arguments, **options)

    engine.segment = cancel_first
    try:
        assert jobs.step().state == "cancelled"
    finally:
        del engine.segment
    assert client.get(f"{place}/result").status_code == 409


def test_jobs_outlive_their_server(tmp_path, engine):
    folder = tmp_path / "state"
    with JobStore(folder) as store, SegmentJobs(store, engine) as jobs:
        job, is_new = jobs.begin(Wanted("plane", "png"), "key")
        image = tmp_path / "image"
        image.write_bytes(make_png(2))
        assert is_new
        jobs.accept(job, image)
        store.claim(KIND, [QUEUED])  # as one that is killed at work has
    with JobStore(folder) as store, SegmentJobs(store, engine) as jobs:
        assert jobs.begin(Wanted("plane", "png"), "key") == (store.get(job.id), False)
        done = jobs.step()
        assert (done.id, done.state) == (job.id, "done")
        assert np.asarray(Image.open(io.BytesIO(jobs.files(done)["mask"].read_bytes()))).any()


def test_a_job_that_ended_the_server_twice_is_not_tried_again(jobs, store, tmp_path):
    job, _ = jobs.begin(Wanted("plane", "png"), None)
    (tmp_path / "image").write_bytes(make_png())
    jobs.accept(job, tmp_path / "image")
    for _ in range(2):
        store.claim(KIND, [QUEUED])
        store._give_back(store._owner.name)
    failed = jobs.step()
    assert failed.state == "failed"
    error = json.loads(jobs.files(failed)["error"].read_bytes())
    assert "ended the server twice" in error["message"]


def test_a_client_sees_its_own_jobs_alone(engine, jobs):
    keys = [Key(name, hash_) for name, hash_ in (("a", HASHES["one"]), ("b", HASHES["two"]))]
    with open_server(engine, jobs=jobs, keys=tuple(keys)) as client:
        one, two = ({"Authorization": f"Bearer {secret}"} for secret in ("one", "two"))
        place = client.post("/jobs?model=plane", content=make_png(), headers=one).headers[
            "location"
        ]
        assert client.get(place, headers=one).status_code == 200
        assert client.get(place, headers=two).status_code == 404
        assert client.delete(place, headers=two).status_code == 404


HASHES = {
    "one": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
    "two": "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3",
}


def test_without_a_folder_there_are_no_jobs(engine):
    with open_server(engine) as client:
        answer = add(client)
        assert answer.status_code == 501
        assert 'state = "..."' in answer.json()["error"]["message"]
