"""How far masks of frames that keep coming are from those of a film, and what is measured on them.

Live masks of pydicom's SonoSite cine are compared with those of `Model.segment`, whose plan comes
from frames of the whole film. Ejection fractions of CAMUS patients whom the network has not seen
are compared with those of the experts' masks, by the same method of discs.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

import bedside
from bedside.benchmarking.streams import measure_stream
from bedside.cli.demo import find_cine
from bedside.io.source import open_source
from bedside.pipeline.frames.plan import SAMPLE_FRAMES
from bedside.runtime.contract import WrappedSession
from bedside.runtime.machine import describe_processor
from bedside.segment import Model, Segmenter
from bedside.stream.heart import find_values, simpson_volume
from bedside.system.atomic import write_text
from bedside.volume import ImageSequence

HERE = Path(__file__).parent
FRAMES_PER_S = 30
WARM_UP = 15


def measure_dice(one: np.ndarray, other: np.ndarray, value: int) -> float:
    """Dice of one structure over all frames."""
    ours, theirs = one == value, other == value
    return float(2 * (ours & theirs).sum() / max(1, ours.sum() + theirs.sum()))


def segment_live(
    model: Model, frames: list[np.ndarray], sample: ImageSequence | list[np.ndarray]
) -> np.ndarray:
    """Push frames one by one; return their labels."""
    with model.stream(deadline_ms=1e4, sample=sample) as live:
        pushed = [live.push(frame, i / FRAMES_PER_S).labels for i, frame in enumerate(frames)]
    return np.stack([labels for labels in pushed if labels is not None])


def describe_plan(model: Model, frames: list[np.ndarray]) -> str:
    """Width of the sector that a plan from frames finds."""
    from bedside.pipeline.frames.plan import plan_preprocess

    spec = model.bundle.spec
    box = plan_preprocess(spec.preprocess, frames, input_spec=spec.input).transform.box
    return f"{box.width} px"


def compare_cine(model: Model) -> list[str]:
    """Rows of live against offline masks."""
    frames = list(open_source(find_cine()).sequence)
    film = open_source(find_cine()).sequence
    spread = [
        frames[int(index)] for index in np.linspace(0, len(frames) - 1, SAMPLE_FRAMES).round()
    ]
    offline = model.segment(find_cine()).labels
    whole = segment_live(model, frames, frames)
    causal = segment_live(model, frames, [])
    known = segment_live(model, frames, film)
    others = segment_live(model, frames, frames[3::4])
    pairs = {
        f"live, of frames seen so far ({describe_plan(model, frames[:11])}) | offline "
        f"({describe_plan(model, spread)})": (causal, offline),
        f"live, of frames seen so far | plan of all 30 frames ({describe_plan(model, frames)})": (
            causal, whole,
        ),
        "live, the film known before, as for a film on disk | offline": (
            known, offline,
        ),
        f"plan of 7 other frames of the film ({describe_plan(model, frames[3::4])}) | offline": (
            others, offline,
        ),
        "plan of all 30 frames | offline": (whole, offline),
    }  # fmt: skip
    return [
        f"| {name} | "
        + " | ".join(f"{measure_dice(a[WARM_UP:], b[WARM_UP:], value):.4f}" for value in (1, 2, 3))
        + " |"
        for name, (a, b) in pairs.items()
    ]


def read_camus(path: Path) -> np.ndarray:
    """An image or a mask, (H, W) uint8."""
    return np.ascontiguousarray(np.asarray(nibabel.load(path).dataobj).T).astype(np.uint8)


def compare_hearts(model: Model, folder: Path) -> str:
    """Ejection fraction and area change against those of experts' masks."""
    values = find_values(model.bundle.spec.labels)
    assert values is not None
    truth: list[list[float]] = []
    found: list[list[float]] = []
    for patient in model.bundle.split["test"]:
        stem = folder / patient / f"{patient}_4CH"
        if not stem.parent.is_dir():
            continue
        experts, ours = [], []
        for moment in ("ED", "ES"):
            image = read_camus(Path(f"{stem}_{moment}.nii.gz"))
            mask = read_camus(Path(f"{stem}_{moment}_gt.nii.gz"))
            labels = model.segment(image).labels
            for masks, kept in ((mask, experts), (labels, ours)):
                kept.append((simpson_volume(masks, values), (masks == values[0]).sum()))
        if all(volume for volume, _ in (*experts, *ours)):
            truth.append([1 - low / high for high, low in zip(*experts, strict=True)])
            found.append([1 - low / high for high, low in zip(*ours, strict=True)])
    errors = 100 * (np.array(found) - np.array(truth))
    kept = np.abs(errors[:, 0]) < np.abs(errors[:, 0]).max()
    rows = [
        f"| {name} | {np.abs(error).mean():.1f} | {np.median(np.abs(error)):.1f} "
        f"| {np.abs(error).max():.1f} | {np.delete(error, np.abs(error).argmax()).mean():+.1f} "
        f"| {np.corrcoef(ours[kept], theirs[kept])[0, 1]:.2f} |"
        for name, error, ours, theirs in zip(
            ("ejection fraction", "fractional area change"), errors.T, np.array(found).T,
            np.array(truth).T, strict=True,
        )
    ]  # fmt: skip
    return "\n".join(
        [
            f"{len(truth)} test patients of CAMUS, which the network has not seen; one plane, 20 "
            "discs; in percentage points against the same of the experts' masks:",
            "",
            "| | mean absolute error | median | worst | bias without it | correlation without it |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "In the worst patient the cavity was missed at end-diastole; such a pair is no beat to "
            "a stream, which finds end-diastole as the largest area.",
        ]
    )


class Slowed(WrappedSession):
    """A network that takes a while longer, and is not closed with its stream."""

    def predict(self, tensor: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Turn a tensor into logits, 50 ms later."""
        time.sleep(0.05)
        return super().predict(tensor, out)


def measure_slow(model: Model, seconds: float) -> str:
    """Play 60 frames a second to a network that does fewer than 20."""
    plain = replace(model.bundle, card=replace(model.bundle.card, precisions=()))
    slow = Model(plain, Segmenter(model.bundle.spec, Slowed(model.segmenter.session)))
    frames = list(open_source(find_cine()).sequence)
    run = measure_stream(slow, frames, fps=60, seconds=seconds)
    third = len(run.timeline_ms) // 3
    first, last = np.median(run.timeline_ms[:third]), np.median(run.timeline_ms[-third:])
    service = run.stage_ms["total"] - run.stage_ms["wait"]
    return (
        f"A network slowed to {1e3 / service:.0f} a second at 60 frames a second, {seconds:.0f} s: "
        f"{run.frames} frames, {run.processed} masks, {run.dropped} dropped, sum exact: "
        f"{run.frames == run.processed + run.dropped}; age of masks p50 "
        f"{run.latency_ms['p50'] / service:.2f}, p99 {run.latency_ms['p99'] / service:.2f}, worst "
        f"{run.latency_ms['max'] / service:.2f} times the service time of {service:.0f} ms; the "
        f"latest mask of a second, at the median of the first third {first:.0f} ms, of the last "
        f"{last:.0f} ms. Plans and the check of the probe's marker are made beside the frames."
    )


def list_runs(report: dict[str, Any]) -> list[str]:
    """Rows of `bedside bench stream`."""
    rows = []
    for run in report["runs"]:
        latency = " | ".join(f"{ms:.1f}" for ms in run["latency_ms"].values())
        rows.append(
            f"| {run['fps']:g}{', 640 x 480 by OpenIGTLink' if run['wire'] else ''}"
            f"{', one core busy' if run['competing'] else ''} | {run['frames']} "
            f"| {run['processed']} | {run['dropped']} | {run['misses']} | {latency} "
            f"| {run['age_ms']['p99']:.1f} | {run['rss_drift_mb']:+.1f} |"
        )
    return rows


def describe_stages(report: dict[str, Any]) -> str:
    """Median of each stage at 30 frames a second."""
    stages = report["runs"][0]["stage_ms"]
    return ", ".join(f"{name} {ms:.2f}" for name, ms in stages.items())


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="stream.json of `bedside bench stream -o FOLDER`")
    parser.add_argument("--seconds", type=float, default=60.0, help="time of the slowed network")
    parser.add_argument("--camus", type=Path, default=HERE.parents[1] / "shared" / "data" / "camus")
    arguments = parser.parse_args()
    folder = arguments.camus
    report = json.loads(arguments.runs.read_text())
    with bedside.load("camus-4ch", precision="default") as model:
        precision = model.segmenter.session.precision
        rows = compare_cine(model)
        hearts = compare_hearts(model, folder)
    # With one thread there is no rung below, which would not be slowed.
    with bedside.load("camus-4ch", precision="default", threads=1) as model:
        slow = measure_slow(model, arguments.seconds)
    text = f"""# Masks of frames that keep coming

Written by `benchmarks/stream.py` on {describe_processor()}; `camus-4ch` in {precision}.

pydicom's SonoSite cine, frames 15 to 29, which come after the warm-up of 0.5 s; Dice over them:

| masks | against | LV cavity | LV myocardium | left atrium |
|---|---|---|---|---|
{chr(10).join(rows)}

A plan is made from frames up to its own alone; a film is planned from 16 of its frames. In fewer
frames the sector is found smaller on this cine, and two pixels of its width change the thin
myocardium by one per cent. Where the film is known before, nothing differs.

{hearts}

Frames against the clock, by `bedside bench stream`, for as long as their number says; the cine of
240 x 320 in a loop, `{report["bundle"]}`, deadline 33 ms; ms from frame-in to mask-out:

| frames/s | frames | masks | dropped | late | p50 | p95 | p99 | p99.9 | max | age p99 | RSS +MB |
|---|---|---|---|---|---|---|---|---|---|---|---|
{chr(10).join(list_runs(report))}

The load of the machine was {report["load"]:g} when they began, on its 2 cores; a stream begins with
one thread of the runtime, as that is delayed least by what else runs.
In each of these runs counts were exact, memory grew by no more than the table says, and no mask
older than 70 ms was told to be live. Median of
each stage at 30 frames a second, in ms: {describe_stages(report)}.

{slow}
"""
    write_text(HERE / "stream.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
