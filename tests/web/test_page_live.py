"""Live frames on the page: Chromium's camera plays a film; a server or the device segments it."""

import re
import shutil
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bedside.http_api.server import HttpServer
from bedside.http_api.settings import HttpSettings
from makers import make_fan
from page_makers import has_runtime
from servers_for_tests import open_engine

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
# Only guards against hanging: other processes may have the cores.
PATIENCE_MS = 240_000
HEIGHT, WIDTH = 48, 64
AGE = "(({ dataset, textContent }) => [dataset.state, textContent])(document.getElementById('age'))"


def write_y4m(path, frames):
    """A film as Chromium's fake camera plays it, again and again."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F30:1 Ip A1:1 C420jpeg\n".encode())
        for frame in frames:
            file.write(b"FRAME\n" + frame.tobytes() + bytes([128]) * (frame.size // 2))
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium with a camera that shows a fan."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="NOT TESTED: live frames of the page; playwright is missing."
    )
    if not Path(CHROMIUM).exists():
        pytest.skip("NOT TESTED: live frames of the page; chromium is not installed.")
    film = tmp_path_factory.mktemp("film") / "fan.y4m"
    write_y4m(film, make_fan(30, HEIGHT, WIDTH))
    options = ["--no-sandbox", "--use-fake-ui-for-media-stream",
               "--use-fake-device-for-media-stream",
               f"--use-file-for-fake-video-capture={film}"]  # fmt: skip
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_engine(tmp_path_factory.mktemp("models")) as engine:
        yield engine


class Wire:
    """What a page sends and gets: requests with a body, and messages of WebSockets."""

    def __init__(self, page):
        self.posts, self.sockets, self.sent, self.got = [], [], [], []
        page.on(
            "request", lambda each: self.posts.append(each.url) if each.method != "GET" else None
        )
        page.on("websocket", self._listen)

    def _listen(self, socket):
        self.sockets.append(socket.url)
        socket.on("framesent", lambda each: self.sent.append(each))
        socket.on("framereceived", lambda each: self.got.append(each))


@contextmanager
def open_page(browser, engine):
    """The served page with the small network, its server, and what goes over the wire."""
    server = HttpServer(engine, HttpSettings(port=0))
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    wire = Wire(page)
    try:
        page.goto(server.address)
        page.wait_for_selector("body[data-state=ready]")
        yield page, wire, server
    finally:
        page.close()
        server.close(patience_s=1)


def wait_for_age(page, state):
    page.wait_for_selector(f"#age[data-state={state}]", state="attached")


def test_the_server_segments_the_camera_by_its_stream(browser, engine, tmp_path):
    with open_page(browser, engine) as (page, wire, _):
        page.click("#camera")
        wait_for_age(page, "live")
        # Both at one moment: a mask grows old meanwhile.
        state, words = page.evaluate(AGE)
        assert re.fullmatch(r"(Live|Stale): mask \d+(\.\d)? m?s old", words)
        assert words.lower().startswith(state)
        times = page.inner_text("#times")
        assert "Server and network" in times
        assert "Frames dropped" in times
        assert [url.split("/")[-1] for url in wire.sockets] == [
            "stream?model=plane&deadline_ms=250"
        ]
        assert wire.posts == []
        page.click("#play")
        wait_for_age(page, "paused")
        page.wait_for_timeout(500)
        with page.expect_download() as download:
            page.click("#save-png")
        labels = np.array(Image.open(download.value.path()))
    masks = [zlib.decompress(each) for each in wire.got if isinstance(each, bytes)]
    assert labels.shape == (HEIGHT, WIDTH)
    assert labels.tobytes() in masks
    frames = [each for each in wire.sent if isinstance(each, bytes)]
    assert {len(frame) for frame in frames} == {8 + 3 * HEIGHT * WIDTH}
    pixels = np.frombuffer(frames[0], np.uint8, offset=8).reshape(HEIGHT, WIDTH, 3).astype(int)
    # They are those of the camera, as far as its YUV of 16 to 235 keeps them.
    assert np.abs(pixels[..., 0] - make_fan(30, HEIGHT, WIDTH)).mean(axis=(1, 2)).min() < 40


def test_a_mask_that_nothing_follows_is_stale_and_never_live(browser, engine):
    with open_page(browser, engine) as (page, _, _):
        page.click("#camera")
        wait_for_age(page, "live")
        page.evaluate("document.querySelector('video').srcObject.getTracks()[0].stop()")
        wait_for_age(page, "stale")
        page.wait_for_timeout(1200)
        assert page.get_attribute("#age", "data-state") == "stale"
        assert re.fullmatch(r"Stale: mask \d+\.\d s old", page.text_content("#age"))
        assert "stale" in page.get_attribute("#stage", "class")
        assert "stale" in page.text_content("#announce")


def test_a_server_that_is_gone_is_told_and_its_mask_is_stale(browser, engine):
    with open_page(browser, engine) as (page, _, server):
        page.click("#camera")
        wait_for_age(page, "live")
        server.close(patience_s=1)
        page.wait_for_selector("body[data-state=error]", state="attached")
        assert "connection to the server was lost" in page.text_content("#problem")
        wait_for_age(page, "stale")


def test_the_device_segments_the_camera_and_nothing_leaves_it(browser, engine):
    if not has_runtime():
        pytest.skip("NOT TESTED: live frames on the device; the browser's runtime is not fetched.")
    with open_page(browser, engine) as (page, wire, _):
        page.check("#on-device")
        page.wait_for_selector("#place.safe")
        page.wait_for_selector("body[data-state=ready]", state="attached")
        page.click("#camera")
        wait_for_age(page, "live")
        assert "Network" in page.inner_text("#times")
        assert (wire.posts, wire.sockets) == ([], [])
