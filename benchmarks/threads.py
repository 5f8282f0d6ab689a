"""Many threads on one model: whose result each gets, and how many frames a second they get.

Every frame has content of its own, and each result is compared, bit for bit, with what the same
frame gives when nobody else calls: the labels that a `Segmenter` draws, preprocessing and repairs
included. All results are held to the end and compared then, so that one that is changed after it
was returned is found too.
"""

import argparse
import datetime
import hashlib
import platform
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

from bedside.bundle import Bundle, find_bundle, read_bundle
from bedside.pipeline.frames.plan import FramePlan
from bedside.runtime import open_session
from bedside.runtime.execution_modes import ExecutionMode, certified_modes
from bedside.runtime.machine import describe_processor, read_load
from bedside.segment import Segmenter
from bedside.system.atomic import write_text
from bedside.volume import ImageSequence

PACKAGES = ("openvino", "onnxruntime", "numpy")
THREADS = (1, 2, 8)
SIZE_PX = (120, 160)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    variant: ExecutionMode
    frames: int
    foreign: dict[int, int]
    frames_s: dict[int, float]


def main() -> None:
    """Measure every certified way to run a bundle, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="camus-4ch")
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parser.parse_args()
    # Threads of the caller are what is measured here, so the work of one frame has one.
    cv2.setNumThreads(1)
    bundle = read_bundle(find_bundle(options.bundle))
    load = read_load()
    rows = []
    for variant in certified_modes(bundle):
        rows.append(measure(bundle, variant, options.frames))
        print(rows[-1], flush=True)
    write_text(options.output, write_page(bundle, rows, load))


def measure(bundle: Bundle, variant: ExecutionMode, frames: int) -> Row:
    """Segment all frames by one thread, then by several at once."""
    backend, precision = variant
    session = open_session(bundle, backend=backend, precision=precision, threads=1)
    segmenter = Segmenter(bundle.spec, session)
    plan = segmenter.plan(ImageSequence((frames, 1, *SIZE_PX), make_frame))
    alone, foreign, frames_s = [], {}, {}
    for threads in THREADS:
        found, frames_s[threads] = segment_all(segmenter, plan, frames, threads)
        alone = alone or found
        foreign[threads] = sum(a != b for a, b in zip(alone, found, strict=True))
    if len(set(alone)) < frames:
        raise SystemExit(f"only {len(set(alone))} of {frames} frames have labels of their own.")
    return Row(variant, frames, foreign, frames_s)


def segment_all(
    segmenter: Segmenter, plan: FramePlan, frames: int, threads: int
) -> tuple[list[bytes], float]:
    """Segment frames 0, 1, 2 ... by some threads, each taking the next one.

    Returns:
        A hash of the labels of each frame, taken when all were done; and frames a second.
    """
    held: list[np.ndarray | None] = [None] * frames
    numbers, lock = iter(range(frames)), threading.Lock()

    def work() -> None:
        while True:
            with lock:
                index = next(numbers, None)
            if index is None:
                return
            held[index] = segmenter.segment_frame(make_frame(index), plan).labels

    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work) for _ in range(threads)]:
            future.result()
    seconds = time.perf_counter() - begin
    hashes = [hashlib.blake2b(np.ascontiguousarray(labels)).digest() for labels in held]
    return hashes, frames / seconds


def make_frame(index: int) -> np.ndarray:
    """Draw a sector of speckle with a dark chamber, (1, H, W) uint8; no two are alike."""
    rng = np.random.default_rng(index)
    height, width = SIZE_PX
    rows, columns = np.ogrid[:height, :width]
    depth = np.hypot(rows - 2, columns - width / 2)
    angle = np.arctan2(columns - width / 2, np.maximum(rows - 2, 1e-3))
    image = rng.integers(60, 180, SIZE_PX)
    # The chamber beats, and is moved and turned a little.
    middle, half = rng.uniform(0.35, 0.5) * height, rng.uniform(0.08, 0.16) * width
    across = (columns - width / 2 - rng.uniform(-6, 6)) / half
    along = (rows - middle) / (2.2 * half)
    image[across**2 + along**2 < 1] = 12
    image[(depth > height - 4) | (np.abs(angle) > 0.65)] = 0
    return image.astype(np.uint8)[None]


def write_page(bundle: Bundle, rows: list[Row], load: float) -> str:
    """Say what was measured, as Markdown."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [
        "# Many threads on one model",
        "",
        f"One `Segmenter` with one session, called by 1, 2 and {THREADS[-1]} threads: frames of "
        f"{SIZE_PX[0]} x {SIZE_PX[1]}, no two alike, from frame to labels. A result is foreign if "
        "its labels differ in any pixel from those that one thread gets for the same frame; all "
        "are held to the end and compared then. The runtime uses one thread a call. Written by "
        "`benchmarks/threads.py`.",
        "",
        f"- Processor: {describe_processor()}",
        f"- Load of the machine before and after, 1 minute: {load:.1f}, {read_load():.1f}",
        f"- Date: {datetime.date.today()}; Python {platform.python_version()}, {versions}",
        f"- Bundle: {bundle.spec.name} {bundle.spec.version}, sha256 {bundle.sha256[:12]}",
        "",
        "| backend | precision | frames | foreign results by 8 threads | "
        + " | ".join(f"frames/s, {count} thread{'s' * (count > 1)}" for count in THREADS)
        + " |",
        "|---|---|---|---|" + "---|" * len(THREADS),
    ]
    for row in rows:
        rates = " | ".join(f"{row.frames_s[count]:.0f}" for count in THREADS)
        backend, precision = row.variant
        lines.append(
            f"| {backend} | {precision} | {row.frames} | {row.foreign[THREADS[-1]]} | {rates} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
