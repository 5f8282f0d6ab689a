"""What the tests of the page share: node, cases for its pipeline, a file server."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from bedside.errors import BackendError
from bedside.pipeline.frames.plan import SAMPLE_FRAMES
from bedside.spec import to_mapping
from bedside.web.site import STATIC
from bedside.web.vendor import read_vendor_files

HERE = Path(__file__).with_name("web")
OLDEST_NODE = (20, 19)
DEADLINE_S = 300


def has_runtime() -> bool:
    """Whether the browser's runtime is fetched."""
    try:
        read_vendor_files()
    except BackendError:
        return False
    return True


@functools.cache
def find_node() -> str:
    """The path of node; a test without it is skipped, and says so."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("NOT TESTED: the page's pipeline; node is not installed.")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    version = tuple(int(part) for part in re.findall(r"\d+", said)[:2])
    if version < OLDEST_NODE:
        pytest.skip(f"NOT TESTED: the page's pipeline; node {said.strip()} is older than 20.19.")
    return node


def run_node(script, *arguments):
    """What a script of this folder prints, as JSON."""
    command = [find_node(), str(HERE / script), str(STATIC), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_steps(cases, folder):
    """The page's pipeline on cases of `make_case`."""
    (folder / "cases.json").write_text(json.dumps([case for case, _ in cases]))
    return run_node("steps.mjs", folder / "cases.json")


def make_case(segmenter, sequence, folder, *, index=0):
    """Write a case for `steps.mjs`; returns it with the images and labels that Python makes."""
    folder.mkdir()
    count = min(len(sequence), SAMPLE_FRAMES)
    sample = np.linspace(0, len(sequence) - 1, count).round().astype(int).tolist()
    assert index in sample
    files = []
    for number in sample:
        frame = np.moveaxis(sequence.decode(number), 0, -1)
        files.append(str(folder / f"frame{number}.raw"))
        np.ascontiguousarray(frame).tofile(files[-1])
    plan = segmenter.plan(sequence)
    frame = sequence.decode(index)
    tensor = plan.apply(frame)
    logits = segmenter.session.predict(tensor)
    logits.tofile(folder / "logits.raw")
    channels, height, width = frame.shape
    case = {
        "spec": to_mapping(segmenter.spec),
        "region": None if sequence.region is None else asdict(sequence.region),
        "spacing_mm": sequence.spacing_mm,
        "width": width,
        "height": height,
        "channels": channels,
        "dtype": frame.dtype.name,
        "frames": files,
        "index": sample.index(index),
        "logits": str(folder / "logits.raw"),
        "out": str(folder),
    }
    wanted = {
        "plan": plan,
        "images": [image for _, image in plan.trace(frame)],
        "tensor": tensor,
        "structures": segmenter.spec.labels,
        "result": segmenter.segment_frame(frame, plan),
    }
    return case, wanted


def list_differing(case, wanted):
    """Number of values that differ from Python's, by the name of the image."""
    folder = Path(case["out"])
    arrays = {f"step{k}": image for k, image in enumerate(wanted["images"])}
    arrays |= {"tensor": wanted["tensor"], "labels": wanted["result"].labels}
    found = {}
    for name, array in arrays.items():
        ours = np.fromfile(folder / f"js_{name}.raw", array.dtype)
        assert ours.size == array.size, name
        found[name] = int(np.count_nonzero(ours != array.ravel()))
    return found


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """A plain file server, without any header of ours, that counts what it is asked."""

    asked: list[str]

    def log_message(self, *arguments) -> None:
        self.asked.append(self.path)


@contextmanager
def serve_folder(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A folder at an address, and the paths that were asked for."""
    asked: list[str] = []
    handler = functools.partial(type("Handler", (_Quiet,), {"asked": asked}), directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
