"""How far masks of frames that keep coming are from those of a film, and what is measured on them.

Live masks of pydicom's SonoSite cine are compared with those of `Model.segment`, whose plan comes
from frames of the whole film. Ejection fractions of CAMUS patients whom the network has not seen
are compared with those of the experts' masks, by the same method of discs. Then frames are played
against the clock: 10 minutes at 30 a second, and 90 s of each other kind. It takes 19 minutes, and
writes stream.md, and stream.svg beside it; the machine should have nothing else to do.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np

import bedside
from bedside.benchmarking.streams import StreamRun, measure_stream
from bedside.benchmarking.wire import measure_wire
from bedside.cli.bench_stream import draw
from bedside.cli.demo import find_cine
from bedside.io.source import open_source
from bedside.pipeline.frames.plan import SAMPLE_FRAMES
from bedside.runtime.contract import WrappedSession
from bedside.runtime.machine import describe_processor, read_load
from bedside.segment import Model, Segmenter
from bedside.stream.heart import find_values, simpson_volume
from bedside.system.atomic import write_text
from bedside.volume import ImageSequence

HERE = Path(__file__).parent
FRAMES_PER_S = 30
WARM_UP = 15
MOVED = {
    "1 px right": (0, 1), "2 px right": (0, 2), "1 px left": (0, -1), "1 px down": (1, 0),
    "1 px up": (-1, 0),
}  # fmt: skip
"""(down, right) in pixels."""


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


def list_moved(model: Model) -> list[str]:
    """Rows of masks of a moved cine, moved back, against those of the cine, by the same plan."""
    frames = list(open_source(find_cine()).sequence)
    pipeline = model.segmenter.pipeline
    plan = pipeline.plan(open_source(find_cine()).sequence)

    def draw_masks(by: tuple[int, int]) -> np.ndarray:
        back = -by[0], -by[1]
        moved = (np.ascontiguousarray(np.roll(frame, by, (1, 2))) for frame in frames[WARM_UP:])
        masks = [pipeline.run(frame, plan).labels for frame in moved]
        return np.stack([np.roll(each, back, (0, 1)) for each in masks])

    own, rows = draw_masks((0, 0)), []
    for name, by in MOVED.items():
        masks = draw_masks(by)
        dice = " | ".join(f"{measure_dice(own, masks, value):.4f}" for value in (1, 2, 3))
        rows.append(f"| {name} | {dice} |")
    return rows


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


def measure_slow(model: Model, seconds: float) -> tuple[str, dict[str, float]]:
    """Play 60 frames a second to a network that does fewer than 20.

    Returns:
        A sentence, and ages of masks as multiples of the service time.
    """
    plain = replace(model.bundle, card=replace(model.bundle.card, precisions=()))
    gate = model.bundle.gate
    slow = Model(plain, Segmenter(model.bundle.spec, Slowed(model.segmenter.session), gate=gate))
    frames = list(open_source(find_cine()).sequence)
    run = measure_stream(slow, frames, fps=60, seconds=seconds)
    third = len(run.timeline_ms) // 3
    first, last = np.median(run.timeline_ms[:third]), np.median(run.timeline_ms[-third:])
    service = run.stage_ms["total"] - run.stage_ms["wait"]
    ages = {name: ms / service for name, ms in run.latency_ms.items()}
    return (
        f"A network slowed to {1e3 / service:.0f} a second at 60 frames a second, {seconds:.0f} s: "
        f"{run.frames} frames, {run.processed} masks, {run.dropped} dropped, sum exact: "
        f"{run.frames == run.processed + run.dropped}; age of masks p50 {ages['p50']:.2f}, p99 "
        f"{ages['p99']:.2f}, worst {ages['max']:.2f} times the service time of {service:.0f} ms; "
        f"the latest mask of a second, at the median of the first third {first:.0f} ms, of the "
        f"last {last:.0f} ms. Plans and the check of the probe's marker are made beside the frames."
    ), ages


def play(model: Model, *, minutes: float, others: float) -> list[StreamRun]:
    """Play frames against the clock.

    Args:
        model: What segments them.
        minutes: Time of the run at 30 frames a second.
        others: Time of each other run, in minutes.
    """
    frames = list(open_source(find_cine()).sequence)
    kinds = [
        (measure_stream, 30, False, minutes), (measure_stream, 60, False, others),
        (measure_stream, 30, True, others), (measure_stream, 60, True, others),
        (measure_wire, 30, False, others), (measure_wire, 30, True, others),
    ]  # fmt: skip
    runs = []
    for measure, fps, competing, length in kinds:
        sys.stderr.write(f"run {len(runs) + 1} of {len(kinds)}, {length:g} min ...\n")
        runs.append(measure(model, frames, fps=fps, seconds=60 * length, competing=competing))
    return runs


def list_runs(runs: Sequence[StreamRun]) -> list[str]:
    """Rows of runs against the clock."""
    rows = []
    for run in runs:
        latency = " | ".join(f"{ms:.1f}" for ms in run.latency_ms.values())
        rows.append(
            f"| {run.fps:g}{', 640 x 480 by OpenIGTLink' if run.wire else ''}"
            f"{', one core busy' if run.competing else ''} | {run.frames} "
            f"| {run.processed} | {run.dropped} | {run.misses} | {latency} "
            f"| {run.age_ms['p99']:.1f} | {run.rss_drift_mb:+.1f} |"
        )
    return rows


def list_goals(runs: Sequence[StreamRun], ages: dict[str, float]) -> list[str]:
    """Rows of what was wanted, and what was reached."""
    long, _, busy, _, wire, _ = runs
    goals = [
        (f"30 a second, {long.seconds / 60:.0f} min: late", 0, long.misses, ""),
        ("30 a second: p99", 12, long.latency_ms["p99"], " ms"),
        ("30 a second: growth of memory", 10, long.rss_drift_mb, " MB"),
        ("one core busy: late", 0.1, 100 * busy.misses / max(1, busy.frames), " %"),
        ("640 x 480 by OpenIGTLink: p50", 8, wire.latency_ms["p50"], " ms"),
        ("640 x 480 by OpenIGTLink: p99", 20, wire.latency_ms["p99"], " ms"),
        ("640 x 480 by OpenIGTLink: age p99", 2, wire.age_frames["p99"], " frames"),
        ("slowed network: age p99", 2, ages["p99"], " x service time"),
    ]
    return [
        f"| {name} | at most {wanted:g}{unit} | {found:.4g}{unit} "
        f"| {'yes' if found <= wanted else 'MISSED'} |"
        for name, wanted, found, unit in goals
    ]


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the run at 30 a second")
    parser.add_argument("--others", type=float, default=1.5, help="minutes of each other run")
    parser.add_argument("--seconds", type=float, default=20.0, help="time of the slowed network")
    parser.add_argument("--camus", type=Path, default=HERE.parents[1] / "shared" / "data" / "camus")
    arguments = parser.parse_args()
    load = read_load()
    with bedside.load("camus-4ch") as model:
        runs = play(model, minutes=arguments.minutes, others=arguments.others)
    # With one thread there is no rung below, which would not be slowed.
    with bedside.load("camus-4ch", precision="default", threads=1) as model:
        slow, ages = measure_slow(model, arguments.seconds)
    with bedside.load("camus-4ch", precision="default") as model:
        precision = model.segmenter.session.precision
        rows, moved = compare_cine(model), list_moved(model)
        hearts = compare_hearts(model, arguments.camus)
    stages = ", ".join(f"{name} {ms:.2f}" for name, ms in runs[0].stage_ms.items())
    wire = runs[4]
    is_exact = all(run.frames == run.processed + run.dropped for run in runs)
    text = f"""# Masks of frames that keep coming

Written by `benchmarks/stream.py` on {describe_processor()}; `camus-4ch`.

## Against the clock

The cine of 240 x 320 in a loop, deadline 33 ms; ms from frame-in to mask-out. The load of the
machine was {load:.2f} on its {os.cpu_count()} cores when they began; where that is above 0.5, these
times say little.

| frames/s | frames | masks | dropped | late | p50 | p95 | p99 | p99.9 | max | age p99 | RSS +MB |
|---|---|---|---|---|---|---|---|---|---|---|---|
{chr(10).join(list_runs(runs))}

| | wanted | reached | |
|---|---|---|---|
{chr(10).join(list_goals(runs, ages))}

![Latency over time of each run](stream.svg)

A stream begins with one thread of the runtime, as that is delayed least by what else runs. Sums of
masks and dropped frames were exact in each run: {is_exact}. Median of each stage at 30 frames a
second, in ms: {stages}.

By OpenIGTLink another process sends frames of 640 x 480 in colour and looks at their masks; a mask
is sent before its frame, and both have arrived after {wire.picture_ms["p50"]:.1f} ms (p50),
{wire.picture_ms["p99"]:.1f} ms (p99).

{slow}

## Live and offline

pydicom's SonoSite cine in {precision}, frames 15 to 29, which come after the warm-up of 0.5 s; Dice
over them:

| masks | against | LV cavity | LV myocardium | left atrium |
|---|---|---|---|---|
{chr(10).join(rows)}

A plan is made from frames up to its own alone; a film is planned from 16 of its frames. Where the
film is known before, nothing differs. Else the sector's axis is found half a pixel beside that of
the film, and the network draws a moved picture a little differently. The film moved by a pixel or
two, and its masks moved back, against its own masks, all by one plan:

| film moved by | LV cavity | LV myocardium | left atrium |
|---|---|---|---|
{chr(10).join(moved)}

So 0.99 in the thin myocardium asks for the sector to a fraction of a pixel, which the frames of
half a second do not show.

## Measurements

{hearts}
"""
    write_text(HERE / "stream.svg", draw(runs))
    write_text(HERE / "stream.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
