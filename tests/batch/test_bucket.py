"""A batch whose manifest, images and results are in an S3 server that runs here (moto)."""

import importlib.util
import json
import os
import urllib.request

import numpy as np
import pytest

import makers
from batches_for_tests import hash_tree, read_lines
from bedside.batch.bucket import Bucket
from bedside.batch.record import Basis, FileFact, InputFact, Record
from bedside.cli.main import main
from bedside.errors import OutputError
from dicom_makers import make_slices, write_series

pytest_plugins = ["batch_fixtures"]

MISSING = [name for name in ("s3fs", "moto", "flask") if importlib.util.find_spec(name) is None]
needs_store = pytest.mark.skipif(
    bool(MISSING),
    reason=f'{MISSING} NOT INSTALLED, SO NO STORE IS TESTED: pip install "s3fs" "moto[server]"',
)

# What moto and botocore warn of, and sockets that s3fs leaves to the end of the process.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def server():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def store(server, monkeypatch, tmp_path):
    """An empty store with a bucket "study"; only this address and these keys are known."""
    import fsspec

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    urllib.request.urlopen(
        urllib.request.Request(f"{server}/moto-api/reset", method="POST")
    ).close()
    fsspec.filesystem("s3").clear_instance_cache()
    store = fsspec.filesystem("s3", use_listings_cache=False)
    store.mkdir("study")
    return store


@pytest.fixture
def study(store, tmp_path):
    """Three pictures, the last damaged, and their manifest: here, and in the store."""
    lines = []
    for seed, name in enumerate("abc"):
        path = makers.write_picture(makers.make_fan(1, seed=seed)[0], tmp_path / f"{name}.png")
        if name == "c":
            path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(9))
        store.put_file(str(path), f"study/images/{name}.png")
        lines.append({"id": name, "source": f"{name}.png"})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "cases.jsonl").write_text(text)
    for line in lines:
        line["source"] = f"images/{line['source']}"
    store.pipe_file(
        "study/cases.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode()
    )
    return tmp_path


def segment(bundle, *words, manifest="s3://study/cases.jsonl", output="s3://study/out"):
    return main(
        ["segment", "--manifest", str(manifest), "-m", str(bundle), "-o", str(output), *words]
    )


def copy_tree(store, url, folder):
    """Copy results out of the store, so that they can be compared with those of a folder."""
    for name in store.find(url):
        path = folder / name.removeprefix(f"{url}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        store.get_file(name, str(path))
    return folder


@needs_store
def test_a_store_gets_the_bytes_that_a_folder_gets(bundle, study, store, tmp_path, monkeypatch):
    assert segment(bundle, manifest=study / "cases.jsonl", output=tmp_path / "plain") == 3
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    assert segment(bundle, "--shard", "env:JOB_COMPLETION_INDEX/2") == 3
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    assert segment(bundle, "--shard", "env:JOB_COMPLETION_INDEX/2", "--resume") == 0
    found = copy_tree(store, "study/out", tmp_path / "found")
    assert hash_tree(found) == hash_tree(tmp_path / "plain")
    lines = read_lines(found / "results-1-of-2.jsonl", found / "results-2-of-2.jsonl")
    assert [(line["id"], line["status"]) for line in lines] == [
        ("a", "done"), ("c", "refused"), ("b", "done"),
    ]  # fmt: skip
    assert lines[0]["source"] == "s3://study/images/a.png"
    assert "s3://study/images/c.png" in lines[1]["error"]["message"]


@needs_store
def test_what_is_done_is_not_repeated_and_what_changed_is(bundle, study, store, capsys):
    assert segment(bundle) == 3
    assert segment(bundle) == 2
    assert "--resume" in capsys.readouterr().err
    before = store.info("study/out/a/report.json")["LastModified"]
    makers.write_picture(makers.make_fan(1, seed=7)[0], study / "c.png")
    store.put_file(str(study / "c.png"), "study/images/c.png")
    store.rm_file("study/out/b/report.json")
    capsys.readouterr()
    assert segment(bundle, "--resume") == 0
    assert "3 cases, 1 of them by an earlier run: s3://study/out/results.jsonl" in (
        capsys.readouterr().out
    )
    assert store.info("study/out/a/report.json")["LastModified"] == before
    assert store.exists("study/out/b/report.json")
    assert store.exists("study/out/c/report.json")


@needs_store
def test_a_series_below_a_prefix_is_one_case(bundle, store, tmp_path):
    for path in write_series(make_slices(np.full((3, 16, 16), 900, np.uint16)), tmp_path / "s"):
        store.put_file(str(path), f"study/series/deep/{path.name}")
    store.pipe_file("study/cases.jsonl", b'{"id": "x", "source": "s3://study/series/"}\n')
    assert segment(bundle, "--force") == 0
    assert store.exists("study/out/x/segmentation.dcm")


@needs_store
def test_files_of_others_are_not_replaced(bundle, study, store, capsys):
    store.pipe_file("study/out/a/thesis.txt", b"mine")
    for words in ((), ("--resume",)):
        assert segment(bundle, *words) == 2
        assert "s3://study/out/a is in the way" in capsys.readouterr().err
    assert store.find("study/out") == ["study/out/a/thesis.txt"]


RECORD = Record(
    "a", "s3://study/a.png", "done", None, 0.5, 1, (), Basis((InputFact(3, 4),), "ab", {}, "0"),
    None, "2026-01-01",
)  # fmt: skip


def make_results(folder, names):
    """Files, and a record that lists them."""
    folder.mkdir()
    listed = json.dumps({"bedside_version": "0", "files": names[1:]})
    for name in names:
        (folder / name).write_text(listed if name == names[0] else name)
    files = tuple(FileFact(name, (folder / name).stat().st_size, "") for name in names)
    return Record(**{**vars(RECORD), "files": files})


@needs_store
def test_the_record_is_put_last_and_an_interrupted_case_is_not_done(store, tmp_path, monkeypatch):
    bucket, names = (
        Bucket("s3://study/out"),
        [".bedside-results.json", "overlay.png", "report.json"],
    )
    record = make_results(tmp_path / "new", names)
    order, fails = [], []

    def watch(name):
        # The adapter keeps one instance for each choice of settings, this one.
        call = getattr(store, name)

        def put(*words):
            order.append(str(words[1 if name == "put_file" else 0]))
            if len(order) in fails:
                raise ConnectionResetError("the pod was evicted")
            return call(*words)

        monkeypatch.setattr(store, name, put)

    watch("put_file")
    watch("pipe_file")
    for number in (1, 2, 3, 4):
        order.clear()
        fails[:] = [number]
        with pytest.raises(OutputError, match="evicted"):
            bucket.commit(record, tmp_path / "new")
        assert bucket.read_record("a") is None
    fails.clear()
    order.clear()
    bucket.commit(record, tmp_path / "new")
    assert [path.rpartition("/")[2] for path in order] == [*names, "a.json"]
    assert bucket.is_whole(bucket.read_record("a"))


@needs_store
def test_what_an_earlier_run_left_goes_and_nothing_else(store, tmp_path):
    bucket, marker = Bucket("s3://study/out"), ".bedside-results.json"
    old = make_results(tmp_path / "old", [marker, "overlay.png", "report.json"])
    bucket.commit(old, tmp_path / "old")
    store.pipe_file("study/out/a/thesis.txt", b"mine")
    new = make_results(tmp_path / "new", [marker, "report.json"])
    bucket.commit(new, tmp_path / "new")
    found = {name.rpartition("/")[2] for name in store.find("study/out/a")}
    assert found == {marker, "report.json", "thesis.txt"}
    assert not bucket.is_whole(old)
    assert bucket.is_whole(new)


@needs_store
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such object"),
        (b'{"id": "a", "source": "/etc/passwd"}\n', "line 1"),
        (b'{"id": "a", "source": "../other/a.png"}\n', "line 1"),
        (b'{"id": "a", "source": "http://127.0.0.1/a.png"}\n', "line 1"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(bundle, store, capsys, content, said):
    if content is not None:
        store.pipe_file("study/cases.jsonl", content)
    assert segment(bundle) == 3
    assert said in capsys.readouterr().err
    assert not store.exists("study/out")


@needs_store
def test_a_bucket_that_is_not_there_is_one_line(bundle, study, capsys):
    assert segment(bundle, output="s3://nowhere/out") == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif("s3fs" not in MISSING, reason="s3fs is installed")
def test_without_s3fs_the_error_says_how_to_install_it(bundle, capsys):
    assert segment(bundle) == 4
    assert "s3fs" in capsys.readouterr().err
