"""Scans on the page: a zip of a DICOM series, its slices, and three planes by NiiVue."""

import io
import shutil
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

import bedside
from bedside.bundle import find_bundle, read_bundle
from bedside.errors import BackendError
from bedside.evaluation.generated import make_samples
from bedside.http_api.server import HttpServer
from bedside.http_api.settings import HttpSettings
from bedside.service.engine import Engine
from bedside.service.settings import EngineSettings, ServedModel
from bedside.web.vendor import VIEWER, read_vendor_files
from dicom_makers import make_affine, make_slices, write_series
from makers import write_nifti
from page_makers import run_node

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
# Only guards against hanging: other processes may have the cores.
PATIENCE_MS = 240_000
OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)
NO_GPU = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@pytest.fixture(scope="module")
def bundle():
    return read_bundle(find_bundle("hippocampus"))


@pytest.fixture(scope="module")
def scan(bundle):
    """A scan that the network finds something in, (D, H, W) uint8."""
    return np.stack([frame[0] for frame in next(make_samples(bundle.spec)).sequence])


@pytest.fixture(scope="module")
def series(scan, tmp_path_factory):
    """The scan as files of an oblique DICOM series, in no order, and these in a zip."""
    folder = tmp_path_factory.mktemp("series")
    affine = make_affine(OBLIQUE, spacing=(1.1, 0.9, 0.8))
    slices = make_slices(scan.astype(np.uint16), affine, modality="MR", slope=None)
    paths = write_series(slices, folder / "files")
    packed = folder / "series.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("files/readme.txt", "no image")
        for path in paths:
            archive.write(path, f"files/{path.name}")
    return folder / "files", packed


@pytest.fixture(scope="module")
def page():
    """The served page with a network for scans, and all requests that it makes."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="NOT TESTED: scans on the page; playwright is missing."
    )
    if not Path(CHROMIUM).exists():
        pytest.skip("NOT TESTED: scans on the page; chromium is not installed.")
    with Engine(
        EngineSettings((ServedModel("hippocampus"),), threads=1, precision="f32")
    ) as engine:
        server = HttpServer(engine, HttpSettings(port=0))
        with playwright.sync_playwright() as started:
            browser = started.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", *NO_GPU]
            )
            page = browser.new_page(viewport={"width": 1100, "height": 700})
            page.set_default_timeout(PATIENCE_MS)
            page.asked, page.said = [], []
            page.on("request", lambda each: page.asked.append(urlsplit(each.url)))
            page.on("console", lambda message: page.said.append(message.text))
            page.on("pageerror", lambda error: page.said.append(str(error)))
            page.goto(server.address)
            page.wait_for_selector("body[data-state=ready]")
            yield page
            browser.close()
        server.close(patience_s=1)


def open_scan(page, path):
    page.set_input_files("#file", str(path))
    page.wait_for_selector("body[data-state=done], body[data-state=error]", state="attached")
    assert page.text_content("#problem") == ""


def test_a_zip_of_a_series_is_segmented_and_its_slices_are_in_place(page, series, tmp_path):
    folder, packed = series
    open_scan(page, packed)
    with page.expect_download() as download:
        page.click("#save-nifti")
    download.value.save_as(tmp_path / "mask.nii.gz")
    with bedside.load("hippocampus", precision="f32", threads=1) as model:
        result = model.segment(folder)
        (tmp_path / "wanted.nii.gz").write_bytes(result.to_bytes("nifti"))
    ours, theirs = (nibabel.load(tmp_path / name) for name in ("mask.nii.gz", "wanted.nii.gz"))
    assert np.array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))
    assert np.array_equal(ours.affine, theirs.affine)
    volumes = page.locator("#structures td:nth-child(3)").all_inner_texts()
    assert volumes == [f"{each.volume_ml:.2f} ml" for each in result.report.structures]
    for number in (5, 20):
        page.evaluate(f"document.getElementById('frame').value = {number}")
        page.dispatch_event("#frame", "input")
        areas = page.locator("#structures td:nth-child(2)").all_inner_texts()
        wanted = [each.area_cm2[number] for each in result.report.structures]
        assert areas == [f"{area:.2f} cm²" if area else "not seen" for area in wanted]
    assert page.text_content("#frame-number") == f"Slice 21 of {len(list(folder.iterdir()))}"
    with page.expect_download() as download:
        page.click("#save-seg")
    assert dcmread(download.value.path()).Modality == "SEG"


def count_colours(page):
    """Pixels of each structure's hue in the three planes: orange, blue."""
    picture = Image.open(io.BytesIO(page.locator("#volume").screenshot())).convert("RGB")
    red, _, blue = np.moveaxis(np.asarray(picture).astype(int), -1, 0)
    return np.count_nonzero(red - blue > 40), np.count_nonzero(blue - red > 40)


def wait_for_colours(page, holds):
    for _ in range(150):
        if holds(*(found := count_colours(page))):
            return
        page.wait_for_timeout(200)
    raise AssertionError(found)


def test_a_scan_is_shown_in_three_planes_and_its_structures_can_be_hidden(
    page, scan, tmp_path, bundle
):
    try:
        read_vendor_files(VIEWER)
    except BackendError as error:
        pytest.skip(f"NOT TESTED: three planes; {error}")
    path = write_nifti(scan.transpose(2, 1, 0), tmp_path / "scan.nii.gz")
    open_scan(page, path)
    # The crosshair has the hue of the second structure; neither is drawn where nothing is.
    page.click("#planes")
    assert page.is_visible("#volume")
    assert page.is_hidden("#stage")
    page.fill("#opacity", "100")
    wait_for_colours(page, lambda orange, blue: orange > 200 and blue > 200)
    page.uncheck("#structure-1")
    wait_for_colours(page, lambda orange, blue: orange < 40 and blue > 200)
    page.check("#structure-1")
    wait_for_colours(page, lambda orange, blue: orange > 200)
    before = page.text_content("#frame-number")
    page.focus("#planes")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"document.getElementById('frame-number').textContent !== '{before}'")
    page.click("#planes")
    assert page.is_visible("#stage")
    page.fill("#opacity", "35")
    assert page.said == []
    # All that was sent is the scan, to the server of the page; NiiVue asks for nothing.
    assert len({each.netloc for each in page.asked if each.scheme != "blob"}) == 1
    names = [each.path for each in page.asked if each.path.endswith("niivue.js")]
    assert names in ([], ["/page/vendor/niivue.js"])


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_read_and_a_damaged_one_is_refused(method, tmp_path):
    contents = [bytes([number]) * (1000 * number) for number in (1, 2, 3)]
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.mkdir("folder")
        for number, content in enumerate(contents):
            archive.writestr(f"folder/{number}", content)
        archive.comment = b"a comment"
    assert run_node("zip.mjs", path) == [[content[0], len(content)] for content in contents]
    packed = path.read_bytes()
    for number, damaged in enumerate((packed[:-40], packed[:20] + packed[40:], packed[:200])):
        path = tmp_path / f"damaged{number}.zip"
        path.write_bytes(damaged)
        assert "zip" in run_node("zip.mjs", path)["error"]
