"""The files of the page: which there are, how they are sent, and what is refused."""

import hashlib
import io
import json
import re
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from bedside.bundle import find_bundle, read_bundle
from bedside.cli.main import main
from bedside.errors import BackendError, UsageError
from bedside.spec import Clahe, ComponentCount
from bedside.web import vendor
from bedside.web.model_files import check_supported, make_model_files
from bedside.web.site import (
    HEADERS,
    MEDIA_TYPES,
    POLICY,
    STATIC,
    complete_worker,
    make_site,
)


@pytest.fixture(scope="module")
def bundle():
    return read_bundle(find_bundle("camus-4ch"))


@pytest.fixture
def runtime():
    """Skips a test that needs the browser's runtime where that is not fetched."""
    try:
        vendor.read_vendor_files()
    except BackendError as error:
        pytest.skip(f"NOT TESTED: the page; {error}")


def test_the_page_loads_nothing_from_elsewhere():
    for path in STATIC.rglob("*"):
        if path.suffix in MEDIA_TYPES:
            text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"(https?:)?//[\w.]+\.\w", text), path


def test_the_policy_of_the_page_is_that_of_its_headers():
    (stated,) = re.findall(r'content="(default-src[^"]+)"', (STATIC / "index.html").read_text())
    # A page cannot say by itself who may frame it.
    assert stated == POLICY.removesuffix("; frame-ancestors 'none'")
    assert "connect-src 'self'" in stated
    assert "unsafe-inline" not in stated
    assert HEADERS["Cross-Origin-Opener-Policy"] == "same-origin"
    assert HEADERS["Cross-Origin-Embedder-Policy"] == "require-corp"


def test_every_script_and_style_is_short():
    for path in STATIC.rglob("*.*"):
        assert len(path.read_text("utf-8").splitlines()) <= 400, path
        assert path.suffix in MEDIA_TYPES, path


def test_every_module_of_the_page_is_there():
    for path in STATIC.rglob("*.js"):
        for target in re.findall(r'from "(\./[^"]+|\.\./[^"]+)"', path.read_text()):
            if "vendor/" not in target:
                assert (path.parent / target).is_file(), (path, target)


def test_a_model_brings_a_frame_with_its_labels(bundle):
    files = make_model_files(bundle)
    about = json.loads(files["model.json"])
    shape = [about["check"][name] for name in ("height", "width", "channels")]
    labels = np.frombuffer(files["check-labels.bin"], np.uint8).reshape(shape[:2])
    assert len(files["check-frame.bin"]) == np.prod(shape)
    assert set(np.unique(labels)) >= {0, 1}
    assert about["spec"]["name"] == "camus-4ch"
    assert files["graph.onnx"] == bundle.read_graph("f32")
    assert (about["confidence"] is None) == (bundle.confidence is None)


def test_what_the_page_cannot_run_is_refused_by_the_name_of_the_step(bundle):
    spec = bundle.spec
    steps = (*spec.preprocess[:2], Clahe(), *spec.preprocess[2:])
    with pytest.raises(UsageError, match=r'the step "clahe".*bedside serve'):
        check_supported(replace(spec, preprocess=steps))
    with pytest.raises(UsageError, match='the step "component_count"'):
        check_supported(replace(spec, priors=(ComponentCount(label=1, most=1),)))
    with pytest.raises(UsageError, match="hippocampus takes whole scans"):
        check_supported(read_bundle(find_bundle("hippocampus")).spec)
    named = replace(spec.input, channel_names=("b-mode",))
    with pytest.raises(UsageError, match="images on one grid"):
        check_supported(replace(spec, input=named))
    with pytest.raises(UsageError, match="acdc-sax takes the neighbours"):
        check_supported(read_bundle(find_bundle("acdc-sax")).spec)


def test_the_version_of_a_site_is_that_of_its_files(bundle, runtime):
    files = make_site([bundle])
    assert make_site([bundle]) == files
    worker = files["sw.js"].decode()
    listed = json.loads(re.findall(r"const FILES = (.*);", worker)[0])
    assert sorted([*listed, "sw.js"]) == sorted(files)
    changed = files | {"app.js": b"other", "sw.js": (STATIC / "sw.js").read_bytes()}
    served = complete_worker(changed).decode()
    versions = [re.findall(r'const VERSION = "(\w+)"', text) for text in (worker, served)]
    assert versions[0] != versions[1]
    assert json.loads(files["site.json"])["models"][0]["name"] == "camus-4ch"


def test_the_command_writes_a_folder_and_replaces_nothing_else(tmp_path, capsys, runtime):
    out = tmp_path / "site"
    for _ in range(2):
        assert main(["export", "hc18-head", "--to", "web", "-o", str(out)]) == 0
    assert (out / "index.html").is_file()
    assert (out / "models" / "hc18-head" / "graph.onnx").is_file()
    assert "localhost:8000" in capsys.readouterr().out
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert main(["export", "hc18-head", "--to", "web", "-o", str(tmp_path / "mine")]) == 2


@pytest.mark.parametrize("options", [["--precision", "int8"], ["--data", "."], ["--golden"]])
def test_options_that_mean_nothing_for_a_page_are_refused(tmp_path, options):
    out = tmp_path / "out"
    assert main(["export", "hc18-head", "--to", "web", *options, "-o", str(out)]) == 2
    assert not out.exists()


def test_a_runtime_that_is_missing_or_changed_is_named_with_the_way_to_get_it(tmp_path):
    with pytest.raises(BackendError, match=r"ort.js of .* is not here. Get it with: python -m"):
        vendor.read_vendor_files(folder=tmp_path)
    (tmp_path / "ort.js").write_text("other")
    with pytest.raises(BackendError, match="is another version"):
        vendor.read_vendor_files(folder=tmp_path)


def test_a_package_with_other_files_than_those_pinned_is_refused():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as package:
        entry = tarfile.TarInfo("package/dist/ort.wasm.min.mjs")
        entry.size = 4
        package.addfile(entry, io.BytesIO(b"evil"))
    with pytest.raises(BackendError, match="is not the file that was pinned"):
        vendor.unpack(buffer.getvalue())


def test_the_pinned_files_are_taken_from_a_package(runtime):
    contents = vendor.read_vendor_files()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as package:
        for name, member in vendor.RUNTIME.members.items():
            entry = tarfile.TarInfo(member.path)
            entry.size = len(contents[name])
            package.addfile(entry, io.BytesIO(contents[name]))
            assert hashlib.sha256(contents[name]).hexdigest() == member.sha256
    assert vendor.unpack(buffer.getvalue()) == contents
