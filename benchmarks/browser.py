"""How fast and how equal the page runs a bundle in headless Chromium, without a GPU.

The network is timed in turns with the same graph in ONNX Runtime in Python, so that other work on
the machine slows both. A cine is dropped on the page, and the time to its first mask and to all
masks is taken in the page. Labels of real frames are compared with Python's, pixel by pixel. The
time on a processor, which other work changes less than the clock, is read from Linux for the
busiest threads of Chromium; so are graphs in int8 compared with those in f32. What a live stream
sends and gets is counted in bytes.

python benchmarks/browser.py --data DIR    (DIR/camus; needs `make web`)
"""

import argparse
import base64
import contextlib
import functools
import http.server
import json
import os
import struct
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright
from websockets.sync.client import connect

from bedside.bundle import Bundle, find_bundle, read_bundle
from bedside.cli.demo import find_cine
from bedside.evaluation.generated import make_samples
from bedside.export.site import export_site
from bedside.http_api.server import HttpServer
from bedside.http_api.settings import HttpSettings
from bedside.io.source import open_source
from bedside.pipeline.segmenter import open_segmenter
from bedside.runtime import open_session
from bedside.runtime.interleaved_timing import time_interleaved
from bedside.runtime.machine import describe_processor, read_load
from bedside.service.engine import Engine
from bedside.service.settings import EngineSettings, ServedModel
from bedside.system.atomic import write_text

PATIENCE_MS = 600_000
CALLS = 10

OPEN = """async (threads) => {
  const { DeviceEngine } = await import("./engine.js");
  globalThis.engines ??= new Map();
  const engine = new DeviceEngine();
  const { about } = await engine.open("models/camus-4ch", threads);
  const answer = await fetch("models/camus-4ch/check-frame.bin");
  const { width, height, channels } = about.check;
  const image = { data: new Uint8Array(await answer.arrayBuffer()), width, height, channels };
  await engine.plan([image], { region: null, spacingMm: null });
  engines.set(threads, { engine, image });
}"""
RUN = """async ([threads, count]) => {
  const { engine, image } = engines.get(threads);
  const spans = [];
  for (let k = 0; k < count; k += 1) spans.push((await engine.run(image)).ms);
  return spans;
}"""
NETWORK = """async ([name, content, shape, count]) => {
  const ort = await import("./vendor/ort.js");
  const at = (file) => new URL(`./vendor/${file}`, document.baseURI).href;
  const wasmPaths = { mjs: at("ort-threads.js"), wasm: at("ort.wasm") };
  Object.assign(ort.env.wasm, { numThreads: 1, wasmPaths });
  const bytesOf = (text) => Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
  globalThis.networks ??= new Map();
  if (!networks.has(name)) {
    const options = { executionProviders: ["wasm"], graphOptimizationLevel: "all" };
    networks.set(name, await ort.InferenceSession.create(bytesOf(content.graph), options));
  }
  const values = new Float32Array(bytesOf(content.image).buffer);
  let logits = null;
  for (let k = 0; k < count; k += 1) {
    const tensor = new ort.Tensor("float32", values, shape);
    ({ logits } = await networks.get(name).run({ image: tensor }));
  }
  const classes = logits.dims[1];
  const pixels = logits.data.length / classes;
  return Array.from({ length: pixels }, (_, i) => {
    let best = 0;
    const at = (k) => logits.data[k * pixels + i];
    for (let k = 1; k < classes; k += 1) if (at(k) > at(best)) best = k;
    return best;
  });
}"""
SEGMENT = """async ([name, content]) => {
  const { openFile } = await import("./io/open.js");
  const { engine } = engines.get(1);
  const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
  const source = await openFile(new File([bytes], name));
  const image = await source.read(0);
  await engine.plan([image], source);
  const { labels } = await engine.run(image);
  let text = "";
  for (const each of labels.data) text += String.fromCharCode(each);
  return btoa(text);
}"""
DROP = """async ([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name));
  const begin = performance.now();
  document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
  const until = async (holds) => {
    while (!holds()) await new Promise(requestAnimationFrame);
    return performance.now() - begin;
  };
  const first = await until(() => !document.getElementById("save-png").disabled);
  const all = await until(() => document.body.dataset.state === "done");
  return { first, all };
}"""


@contextmanager
def open_page(bundle: Bundle, chromium: str) -> Iterator[Page]:
    """The page with a bundle, on a plain file server, ready."""
    with tempfile.TemporaryDirectory() as scratch:
        site = Path(scratch) / "site"
        export_site(bundle, site)
        handler = type(
            "Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}
        )
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(handler, directory=str(site))
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as started:
            browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(PATIENCE_MS)
            page.goto(f"http://localhost:{server.server_port}/")
            page.wait_for_selector("body[data-state=ready]")
            yield page
            browser.close()
        server.shutdown()


def time_network(page: Page, bundle: Bundle, rounds: int) -> dict[str, Mapping[str, list[float]]]:
    """Times of stages in ms: of the page on one and two threads, and of Python, in turns."""
    spec = bundle.spec.input
    tensor = np.random.default_rng(0).random((1, spec.channels, *spec.size_px), np.float32)
    sessions = {
        threads: open_session(bundle, backend="onnxruntime", precision="f32", threads=threads)
        for threads in (1, 2)
    }
    spent: dict[str, Any] = {}
    for threads in sessions:
        page.evaluate(OPEN, threads)
        page.evaluate(RUN, [threads, 2 * CALLS])
    for _ in range(rounds):
        for threads, session in sessions.items():
            with ProcessorTime(threads) as spent_ms:
                found = page.evaluate(RUN, [threads, CALLS])
            busy = spent_ms.value
            row = spent.setdefault(f"page, {threads}", {})
            row.setdefault("total, on processors", []).append(busy / CALLS)
            for stage in found[0]:
                row.setdefault(stage, []).extend(each[stage] for each in found)
            calls = {"network": functools.partial(session.predict, tensor)}
            own = time_interleaved(calls, total_s=0.15)["network"]
            spent.setdefault(f"Python, {threads}", {"network": []})["network"].append(own.p50_ms)
    return spent


class ProcessorTime:
    """Milliseconds that the busiest threads of this process's children spend on processors.

    Args:
        threads: How many of them count.
    """

    def __init__(self, threads: int) -> None:
        self.value = 0.0
        self._threads, self._before = threads, _read_threads()

    def __enter__(self) -> "ProcessorTime":
        """Begin to count."""
        self._before = _read_threads()
        return self

    def __exit__(self, *_: object) -> None:
        """Count what was spent since."""
        spans = [now - self._before.get(key, 0) for key, now in _read_threads().items()]
        self.value = sum(sorted(spans, reverse=True)[: self._threads]) / 1e6


def _read_threads() -> dict[str, int]:
    """Nanoseconds on a processor of each thread of this process's children, and of theirs."""
    found, waiting = {}, [str(os.getpid())]
    for process in waiting:
        for thread in Path("/proc", process, "task").glob("*"):
            with contextlib.suppress(OSError):
                waiting += (thread / "children").read_text().split()
                if process != str(os.getpid()):
                    found[thread.as_posix()] = int((thread / "schedstat").read_text().split()[0])
    return found


def compare_int8(page: Page, rounds: int) -> list[str]:
    """Lines of a table: graphs in f32 and int8 in the page, in turns, on one thread."""
    rows = []
    for name in ("hc18-head", "vocal-folds"):
        bundle = read_bundle(find_bundle(name))
        segmenter = open_segmenter(bundle, precision="f32", threads=1)
        sequence = next(make_samples(bundle.spec, count=1)).sequence
        tensor = segmenter.plan(sequence).apply(sequence.decode(0))
        image = base64.b64encode(np.ascontiguousarray(tensor, np.float32).tobytes()).decode()
        spans: dict[str, list[float]] = {"f32": [], "int8": []}
        equal = {}
        for turn in range(rounds):
            for precision, row in spans.items():
                graph = base64.b64encode(bundle.read_graph(precision)).decode()
                content = {"graph": "" if turn else graph, "image": image}
                asked = [f"{name} {precision}", content, list(tensor.shape), CALLS]
                with ProcessorTime(1) as spent:
                    labels = page.evaluate(NETWORK, asked)
                if turn:
                    row.append(spent.value / CALLS)
                    continue
                session = open_session(
                    bundle, backend="onnxruntime", precision=precision, threads=1
                )
                theirs = session.predict(tensor)[0].argmax(axis=0).ravel()
                equal[precision] = float((np.array(labels) == theirs).mean())
        rows += [
            f"| {name} | {precision} | {np.median(row):.1f} | {100 * equal[precision]:.2f} % |"
            for precision, row in spans.items()
        ]
    return rows


def count_wire(bundle: Bundle) -> str:
    """Count what a live stream of the cine sends and gets, in words."""
    settings = EngineSettings((ServedModel(bundle.spec.name),), threads=1, precision="f32")
    sequence = open_source(find_cine()).sequence
    with Engine(settings) as engine:
        server = HttpServer(engine, HttpSettings(port=0))
        address = f"{server.address.replace('http', 'ws')}/stream?model={bundle.spec.name}"
        sent, masks, events = [], [], []
        with connect(f"{address}&deadline_ms=5000", max_size=None) as socket:
            socket.recv()
            for index in range(len(sequence)):
                frame = np.moveaxis(sequence.decode(index), 0, -1)
                if not index:
                    socket.send(json.dumps({"shape": list(frame.shape)}))
                sent.append(8 + frame.size)
                socket.send(struct.pack("<d", index / 30) + frame.tobytes())
                event: dict[str, Any] = {}
                while event.get("frame") != index or not event.get("labels"):
                    text = socket.recv()
                    if isinstance(text, str):
                        event = json.loads(text)
                    events.append(len(text))
                masks.append(len(socket.recv()))
        server.close(patience_s=1)
    mask, event_bytes = np.mean(masks), sum(events) / len(sent)
    down = mask + event_bytes
    return (
        f"A live stream of the cine, {frame.shape[0]} x {frame.shape[1]} in "
        f"{'colours' if frame.shape[2] == 3 else 'grey'}: {sent[0]:,} bytes a frame to the server, "
        f"{mask:,.0f} bytes of mask and {event_bytes:,.0f} bytes of events back; at 30 frames a "
        f"second {sent[0] * 8 * 30 / 1e6:.1f} and {down * 8 * 30 / 1e6:.2f} Mbit/s, without the "
        "heads of packets."
    )


def time_cine(page: Page, times: int) -> list[dict[str, float]]:
    """Milliseconds from the drop of a cine to its first mask, and to all."""
    content = base64.b64encode(find_cine().read_bytes()).decode()
    return [page.evaluate(DROP, [find_cine().name, content]) for _ in range(times)]


def compare(page: Page, bundle: Bundle, paths: list[Path]) -> list[float]:
    """Part of the pixels of each frame whose label is Python's."""
    segmenter = open_segmenter(bundle, precision="f32", threads=1)
    equal = []
    for path in paths:
        content = base64.b64encode(path.read_bytes()).decode()
        found = page.evaluate(SEGMENT, [path.name, content])
        labels = np.frombuffer(base64.b64decode(found), np.uint8)
        theirs = segmenter.segment_sequence(open_source(path).sequence).labels.array.ravel()
        equal.append(float((labels == theirs).mean()))
    return equal


def describe_busyness(load: float) -> list[str]:
    """Return what other work does to the table, if there was much."""
    if load <= (os.cpu_count() or 1):
        return []
    return [
        "Other work took all cores: p10 is the nearest to a quiet machine, ratios to the rows of "
        "Python say more than times, and two threads, which wait for each other, cannot be judged.",
        "",
    ]


def describe(times_ms: list[float]) -> str:
    """Return the shortest, median and longest time in words."""
    return f"{min(times_ms):.0f} to {max(times_ms):.0f} ms (median {np.median(times_ms):.0f})"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    bundle, load = read_bundle(find_bundle("camus-4ch")), read_load()
    with open_page(bundle, arguments.chromium) as page:
        version = page.context.browser.version if page.context.browser else ""
        cines = time_cine(page, 5)
        spent = time_network(page, bundle, arguments.rounds)
        eighths = compare_int8(page, max(2, arguments.rounds // 2))
        paths = sorted(arguments.data.glob("camus/*/*_4CH_E?.nii.gz")) if arguments.data else []
        equal = compare(page, bundle, paths[: arguments.frames])
    lines = [
        "# The page in a browser",
        "",
        f"{describe_processor()}, load {load:.1f} before; Chromium {version}, headless, no GPU. "
        f"camus-4ch, 256 x 256, f32; {arguments.rounds} rounds of {CALLS} frames, in turns with "
        "ONNX Runtime in Python. Made by `python benchmarks/browser.py --data DIR`.",
        "",
        *describe_busyness(load),
        "| where, threads | stage | p10 ms | p50 ms | p90 ms |",
        "|---|---|---|---|---|",
    ]
    for where, stages in spent.items():
        for stage, values in stages.items():
            low, middle, high = np.percentile(values, [10, 50, 90])
            lines.append(f"| {where} | {stage} | {low:.1f} | {middle:.1f} | {high:.1f} |")
    first, every = ([each[name] for each in cines] for name in ("first", "all"))
    lines += [
        "",
        f"SonoSite cine of 30 frames of 240 x 320, dropped {len(cines)} times: first mask after "
        f"{describe(first)}, all 30 masks after {describe(every)}.",
    ]
    lines += [
        "",
        count_wire(bundle),
        "",
        "Graphs in int8 are not used: one thread, in turns, milliseconds of the network on a "
        "processor, and pixels of logits with the label of ONNX Runtime in Python in the same "
        "precision.",
        "",
        "| bundle | precision | p50 ms | equal |",
        "|---|---|---|---|",
        *eighths,
    ]
    if equal:
        exact = sum(part == 1 for part in equal)
        lines += [
            "",
            f"{len(equal)} frames of CAMUS: {100 * np.mean(equal):.4f} % of the pixels have the "
            f"label of Python (OpenVINO, f32), in the worst frame {100 * min(equal):.3f} %; "
            f"{exact} frames are equal in all pixels.",
        ]
    write_text(arguments.output, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
