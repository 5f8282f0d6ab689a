"""The page in Chromium: a folder on a plain file server, real files, and no byte that leaves."""

import os
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

import bedside
from bedside.bundle import find_bundle, read_bundle
from bedside.cli.demo import find_cine
from bedside.errors import BackendError
from bedside.evaluation.generated import make_samples
from bedside.export.site import export_site
from bedside.http_api.server import HttpServer
from bedside.http_api.settings import HttpSettings
from bedside.io.source import open_source
from bedside.pipeline.segmenter import open_segmenter
from bedside.service.engine import Engine
from bedside.service.settings import EngineSettings, ServedModel
from makers import make_dicom, make_fan, write_dicom, write_nifti
from page_makers import serve_folder

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
DATA = Path(os.environ.get("BEDSIDE_DATA", Path(__file__).parents[3] / "shared" / "data"))
# Only guards against hanging: other processes may have the cores.
PATIENCE_MS = 240_000
AGREEMENT = 0.999


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site with camus-4ch, and its address."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="NOT TESTED: the page in Chromium; playwright is missing."
    )
    if not Path(CHROMIUM).exists():
        pytest.skip("NOT TESTED: the page in Chromium; chromium is not installed.")
    folder = tmp_path_factory.mktemp("site") / "site"
    try:
        export_site(read_bundle(find_bundle("camus-4ch")), folder)
    except BackendError as error:
        pytest.skip(f"NOT TESTED: the page in Chromium; {error}")
    with serve_folder(folder) as (address, asked), playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser, address, asked, folder
        browser.close()


@pytest.fixture(scope="module")
def context(site):
    """One browser profile in which the page has been opened once."""
    browser, address, *_ = site
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(address)
    wait_for(page, "ready")
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    page.close()
    yield context
    context.close()


@pytest.fixture(scope="module")
def opened(site, context):
    """The page, opened once, with what it says to the console and asks of the network."""
    opened = context.new_page()
    opened.said, opened.requests = [], []
    opened.on("console", lambda message: opened.said.append(message.text))
    opened.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.goto(site[1])
    wait_for(opened, "ready")
    opened.on("request", lambda request: opened.requests.append((request.method, request.url)))
    yield opened
    opened.close()


@pytest.fixture
def page(opened):
    """The page; a test in which it reports an error to the console fails."""
    opened.said.clear()
    opened.requests.clear()
    yield opened
    assert opened.said == []


def wait_for(page, *states):
    """Wait until the page is in one of some states; an error that was not awaited fails."""
    awaited = ",".join(f"body[data-state={state}]" for state in {*states, "error"})
    page.wait_for_selector(awaited, state="attached")
    problem = page.text_content("#problem")
    assert page.get_attribute("body", "data-state") in states, problem
    return problem


def open_files(page, path):
    page.set_input_files("#file", str(path))
    wait_for(page, "done")


def save_nifti(page, folder):
    """The labels of all frames, (F, H, W)."""
    with page.expect_download() as download:
        page.click("#save-nifti")
    target = folder / download.value.suggested_filename
    download.value.save_as(target)
    return np.asarray(nibabel.load(target).dataobj).T, target


@pytest.fixture(scope="module")
def segmenter():
    return open_segmenter(read_bundle(find_bundle("camus-4ch")), precision="f32", threads=1)


def check_agreement(ours, theirs):
    assert ours.shape == theirs.shape
    assert (ours == theirs).mean() >= AGREEMENT
    assert set(np.unique(ours)) == set(np.unique(theirs))


def check_confidence(page, confidence, *, of=""):
    """The page tells how far each mask is to be trusted, in the numbers of Python."""
    told = page.text_content("#own")
    assert confidence
    for name, sure in confidence.items():
        words = re.search(
            rf"{name}, predicted Dice{of}\s*(0\.\d\d)(.{{0,36}})", told, re.IGNORECASE
        )
        assert float(words[1]) == pytest.approx(sure.predicted_dice, abs=0.011), told
        assert ("not to be trusted" in words[2]) != sure.trusted


def test_a_cine_is_segmented_on_the_device_and_no_byte_leaves(page, site, segmenter, tmp_path):
    site[2].clear()
    open_files(page, find_cine())
    ours, _ = save_nifti(page, tmp_path)
    theirs = segmenter.segment_sequence(open_source(find_cine()).sequence)
    check_agreement(ours, theirs.labels.array)
    check_confidence(page, theirs.frame_confidence[0])
    # Only the download itself, which the page hands to the browser.
    assert {url.split(":")[0] for _, url in page.requests} <= {"blob"}
    # Chromium may look for a new version of the page after it was opened.
    assert set(site[2]) <= {"/sw.js"}
    assert "30 frames" in page.text_content("#times")
    assert "another frame size" in page.text_content("#notes")
    areas = [cell.strip() for cell in page.locator("#structures td:nth-child(2)").all_inner_texts()]
    assert areas == [f"{np.count_nonzero(ours[0] == value):,} px" for value in (1, 2, 3)]


def test_the_page_works_after_its_server_is_gone_and_with_threads(site):
    browser, _, asked, folder = site
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    with serve_folder(folder) as (address, _):
        page.goto(address)
        wait_for(page, "ready")
        assert page.evaluate("navigator.serviceWorker.ready.then(() => crossOriginIsolated)")
    asked.clear()
    page.reload()
    wait_for(page, "ready")
    open_files(page, find_cine())
    assert "Works offline" in page.text_content("#about")
    assert page.locator("#structures td:nth-child(2)").first.inner_text().endswith(" px")
    assert asked == []
    context.close()


def test_a_picture_is_segmented_and_its_mask_is_read_back(page, segmenter, tmp_path):
    picture = tmp_path / "frame.png"
    Image.fromarray(make_fan(1, 240, 320)[0]).save(picture)
    open_files(page, picture)
    with page.expect_download() as download:
        page.click("#save-png")
    target = tmp_path / download.value.suggested_filename
    download.value.save_as(target)
    assert target.name == "frame-segmentation.png"
    with Image.open(target) as image:
        assert image.info["bedside"] == "result"
        labels, palette = np.array(image), image.getpalette()[3:6]
    assert palette == [230, 60, 60]
    check_agreement(
        labels[None], segmenter.segment_sequence(open_source(picture).sequence).labels.array
    )
    assert page.is_hidden("#transport")


def test_frames_of_patients_have_the_labels_and_the_place_of_python(page, segmenter, tmp_path):
    images = sorted(DATA.glob("camus/patient000[1-3]/*_4CH_ED.nii.gz"))
    if not images:
        pytest.skip(f"NOT TESTED: the page on patients; {DATA / 'camus'} is not here.")
    for image in images:
        open_files(page, image)
        labels, target = save_nifti(page, tmp_path)
        theirs = segmenter.segment_sequence(open_source(image).sequence).labels.array
        check_agreement(labels.reshape(theirs.shape), theirs)
        assert np.array_equal(nibabel.load(target).affine, nibabel.load(image).affine)
        assert "cm²" in page.inner_text("#structures tbody")


def test_a_foreign_image_is_told_on_the_device_in_the_words_of_python(page, tmp_path):
    picture = tmp_path / "noise.png"
    noise = np.random.default_rng(3).integers(0, 255, (240, 320), np.uint8)
    Image.fromarray(noise).save(picture)
    open_files(page, picture)
    with bedside.load("camus-4ch", precision="f32", threads=1) as model:
        result = model.segment(picture)
    (told,) = [text for text in result.warnings if "looks unlike" in text]
    page.wait_for_selector("#notes >> text=looks unlike")
    assert told[1:] in page.text_content("#notes")
    assert not any(sure.trusted for sure in result.confidence.values())
    check_confidence(page, result.confidence)


def test_frames_of_a_film_that_show_nothing_are_named_in_the_words_of_python(page, tmp_path):
    decode = open_source(find_cine()).sequence.decode
    frames = np.stack([decode(index)[0] * (index not in (8, 20)) for index in range(0, 28, 4)])
    open_files(page, write_dicom(make_dicom(frames), tmp_path / "film.dcm"))
    with bedside.load("camus-4ch", precision="f32", threads=1) as model:
        result = model.segment(tmp_path / "film.dcm")
    (told,) = [text for text in result.warnings if "were judged (3, 6, counted" in text]
    assert told in page.text_content("#notes")
    assert "not to be trusted" in page.text_content("#own")


def make_film(path):
    """A film of a fan, as browsers without licences play it."""
    av = pytest.importorskip("av", reason="NOT TESTED: a film in Chromium; av is missing.")
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libvpx", rate=25, options={"deadline": "realtime"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for frame in make_fan(12, 240, 320):
            picture = av.VideoFrame.from_ndarray(np.repeat(frame[..., None], 3, axis=2), "rgb24")
            film.mux(stream.encode(picture))
        film.mux(stream.encode())
    return path


def test_a_film_is_segmented_while_it_plays(page, tmp_path):
    open_files(page, make_film(tmp_path / "film.webm"))
    assert "Age of the mask" in page.text_content("#times")
    assert "areas are given in pixels" in page.text_content("#notes")
    page.fill("#scale", "0.5")
    page.press("#scale", "Tab")
    assert "cm²" in page.inner_text("#structures tbody")
    assert "given by hand" in page.text_content("#notes")
    page.click("#play")
    assert page.get_attribute("#play", "aria-label") == "Play"


def test_what_is_opened_last_is_shown_whatever_was_being_done(page, tmp_path):
    pictures = [tmp_path / f"{name}.png" for name in "ab"]
    for seed, path in enumerate(pictures):
        Image.fromarray(make_fan(1, 240, 320, seed=seed)[0]).save(path)
    page.set_input_files("#file", str(find_cine()))
    page.set_input_files("#file", str(pictures[0]))
    # Loading a model again takes what is open then.
    page.evaluate("document.getElementById('model').dispatchEvent(new Event('change'))")
    page.evaluate("document.getElementById('model').dispatchEvent(new Event('change'))")
    page.set_input_files("#file", str(pictures[1]))
    wait_for(page, "done")
    assert page.get_attribute("#stage", "aria-label").startswith("b.png: LV cavity")
    assert page.is_hidden("#problem")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("notes.txt", b"no image at all", "no image or film"),
        ("cut.png", b"\x89PNG\r\n\x1a\n" + bytes(40), "damaged or truncated"),
        ("empty.dcm", b"", "empty"),
    ],
)
def test_what_is_no_image_is_refused_in_words(page, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    page.set_input_files("#file", str(tmp_path / name))
    page.wait_for_selector("body[data-state=error]", state="attached")
    assert words in page.text_content("#problem")
    page.said.clear()  # Chromium reports a film that it cannot play


@pytest.fixture(scope="module")
def served(site):
    """The page as a server sends it, and the addresses that anything was posted to."""
    models = (ServedModel("camus-4ch"), ServedModel("hippocampus"))
    with Engine(EngineSettings(models, threads=1, precision="f32")) as engine:
        server = HttpServer(engine, HttpSettings(port=0))
        page = site[0].new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.posts = []
        page.on(
            "request", lambda each: page.posts.append(each.url) if each.method != "GET" else None
        )
        page.goto(server.address)
        wait_for(page, "ready")
        yield page
        page.close()
        server.close(patience_s=1)


def test_a_served_page_has_the_server_segment_until_it_is_switched_to_the_device(
    served, segmenter, tmp_path
):
    assert served.text_content("#place") == "On the server"
    open_files(served, find_cine())
    ours, _ = save_nifti(served, tmp_path)
    found = segmenter.segment_sequence(open_source(find_cine()).sequence)
    check_confidence(served, found.confidence, of=" of the whole")
    with served.expect_download() as download:
        served.click("#save-seg")
    assert dcmread(download.value.path()).Modality == "SEG"
    assert [url.split("/")[-1] for url in served.posts] == ["segment?model=camus-4ch"] * 2
    open_files(served, make_film(tmp_path / "film.webm"))
    open_files(served, find_cine())
    served.posts.clear()
    served.check("#on-device")
    # The page says that it loads before it has segmented anew.
    served.wait_for_selector("#place.safe", timeout=PATIENCE_MS)
    wait_for(served, "done")
    again, _ = save_nifti(served, tmp_path)
    assert served.posts == []
    theirs = found.labels.array
    assert np.array_equal(ours, theirs)
    check_agreement(again, theirs)
    check_confidence(served, found.frame_confidence[0])
    served.uncheck("#on-device")
    served.wait_for_selector("#place:not(.safe)")
    wait_for(served, "done")


def test_a_served_page_shows_the_slices_and_volumes_of_a_scan(served, tmp_path):
    bundle = read_bundle(find_bundle("hippocampus"))
    array = np.stack([frame[0] for frame in next(make_samples(bundle.spec)).sequence])
    affine = np.diag([0.9, 0.8, 1.1, 1.0])
    path = write_nifti(array.transpose(2, 1, 0), tmp_path / "scan.nii.gz", affine=affine)
    served.select_option("#model", "hippocampus")
    served.wait_for_selector("body[data-state=ready], body[data-state=error]", state="attached")
    open_files(served, path)
    with bedside.load(bundle.path, precision="f32", threads=1) as model:
        result = model.segment(path)
    volumes = served.locator("#structures td:nth-child(3)").all_inner_texts()
    assert volumes == [f"{each.volume_ml:.2f} ml" for each in result.report.structures]
    assert max(each.volume_ml for each in result.report.structures) > 0
    served.evaluate("document.getElementById('frame').value = 20")
    served.dispatch_event("#frame", "input")
    areas = served.locator("#structures td:nth-child(2)").all_inner_texts()
    wanted = [each.area_cm2[20] for each in result.report.structures]
    assert areas == [f"{area:.2f} cm²" if area else "not seen" for area in wanted]
    served.check("#on-device")
    served.wait_for_selector("body[data-state=error]", state="attached")
    assert "hippocampus does not run in a browser" in served.text_content("#problem")


def test_an_image_of_another_kind_is_refused(page, tmp_path):
    path = write_dicom(make_dicom(make_fan(1), tags={"Modality": "XA"}), tmp_path / "a.dcm")
    page.set_input_files("#file", str(path))
    page.wait_for_selector("body[data-state=error]", state="attached")
    assert "modality is XA, the model camus-4ch is for US" in page.text_content("#problem")
    assert page.is_disabled("#save-png")


def test_a_mask_never_stands_under_the_name_of_another_model(served):
    served.check("#on-device")
    served.select_option("#model", "camus-4ch")
    served.wait_for_selector("#place.safe", timeout=PATIENCE_MS)
    wait_for(served, "ready", "done")
    open_files(served, find_cine())
    served.select_option("#model", "hippocampus")
    served.wait_for_selector("body[data-state=error]", state="attached")
    assert served.is_disabled("#save-png")
    assert served.is_disabled("#save-nifti")
    # What is opened now is refused, and not segmented by the model before.
    served.set_input_files("#file", str(find_cine()))
    served.wait_for_selector("body[data-state=error]", state="attached")
    assert "no model is loaded" in served.text_content("#problem")


def test_the_keyboard_reaches_frames_structures_and_help(page):
    open_files(page, find_cine())
    page.keyboard.press("ArrowRight")
    assert page.input_value("#frame") == "1"
    assert page.get_attribute("#stage", "aria-label").startswith("examples_ybr_color.dcm, frame 2")
    page.keyboard.press("2")
    assert not page.is_checked("#structure-2")
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    assert page.input_value("#opacity") == "0"
    names = page.evaluate(
        "[...document.querySelectorAll('button, input, select')].filter((each) =>"
        " !each.labels?.length && !each.ariaLabel && !each.textContent.trim()).map(({ id }) => id)"
    )
    assert names == ["file"]  # hidden behind the button that opens it
