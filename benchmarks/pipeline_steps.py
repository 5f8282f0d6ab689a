"""How long each step of the pipeline takes: frames of 256 x 256 and 720 x 960, and a small scan.

The frame is a speckled ultrasound sector with three structures; logits are those of a network
that is sure inside structures and not at their borders, at a stride of 2, and at 1 for the
random field. Colour frames of 720 x 960 are prepared as they were before, too: converted whole and
cropped then, from memory in planes or as decoders write it. A busy machine shows in p95: the time
that the thread itself ran stands beside it.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from bedside import spec
from bedside.pipeline.frames.plan import FramePlan, plan_preprocess
from bedside.pipeline.postprocess import LabelGrid, apply_postprocess
from bedside.pipeline.refine import refine_logits
from bedside.pipeline.volumes.builder import VolumeBuilder
from bedside.pipeline.volumes.intensity_steps import INTENSITY_STEPS
from bedside.runtime.machine import describe_processor, read_load
from bedside.system.atomic import write_text
from bedside.volume import ImageSequence

HEADER = "| step | p50 ms | p95 ms | own p50 ms | own p95 ms |"
SIDE = 256
COLOUR = (720, 960)
SCAN = (64, 128, 128)
GRID = LabelGrid((0.5, 0.5), (0.0, 0.5))
VALUES = (1, 2, 3)
BASE = (spec.Grey(), spec.CropFan(), spec.Fit(), spec.ScalePercentile())
REPAIRS = (spec.KeepLargest(), spec.FillHoles())
POSTPROCESS = (
    spec.KeepLargest(),
    spec.FillHoles(),
    spec.DropSmall(min_px=20),
    spec.Opening(radius_px=2),
    spec.Closing(radius_px=2),
)
PRIORS = (
    spec.ComponentCount(label=1),
    spec.Surrounds(outer=2, inner=1, open_to=(3,)),
    spec.NotTouching(first=1, second=3),
    spec.Size(label=1, unit="mm2", least=100),
    spec.Eccentricity(label=1, most=0.95),
    spec.LeftRight(left=1, right=3),
)
TONES = (
    spec.ScaleRange(),
    spec.ZScore(),
    spec.Clahe(),
    spec.NonLocalMeans(),
    spec.FanGain(),
)


def draw_scene() -> tuple[np.ndarray, np.ndarray]:
    """Draw 8 frames, (8, 1, 256, 256) uint8, and the labels of all, (256, 256)."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    squares = ((rows - 0.4) / 0.22) ** 2 + ((columns - 0.5) / 0.13) ** 2
    below = ((rows - 0.78) / 0.11) ** 2 + ((columns - 0.5) / 0.11) ** 2
    labels = np.select([squares < 1, squares < 1.7, below < 1], [1, 2, 3], 0).astype(np.uint8)
    inside = np.abs(np.arctan2(columns - 0.5, rows + 0.02)) < 0.7
    inside &= np.hypot(rows, columns - 0.5) < 0.97
    bright = np.array([70, 25, 130, 25])[labels] * inside
    frames = rng.gamma(4.0, 0.25, (8, SIDE, SIDE)) * bright
    return np.clip(frames, 0, 255).astype(np.uint8)[:, None], labels


def draw_logits(labels: np.ndarray, stride: int) -> np.ndarray:
    """Give (4, 256 / stride, 256 / stride) float32: sure inside, noisy at borders."""
    rng = np.random.default_rng(1)
    planes = [cv2.GaussianBlur((labels == k).astype(np.float32), (0, 0), 2.5) for k in range(4)]
    side = SIDE // stride
    small = [cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA) for plane in planes]
    noise = [cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), 2) for _ in range(4)]
    return (10 * np.stack(small) + 4 * np.stack(noise)).astype(np.float32)


def measure(*works: Callable[[], object], runs: int) -> list[list[float]]:
    """Time each work, ten calls in turn: p50 and p95 on the wall, then the thread's own, in ms."""
    spans: list[list[tuple[float, float]]] = [[] for _ in works]
    for _ in range(-(-runs // 10)):
        for work, taken in zip(works, spans, strict=True):
            work()
            for _ in range(min(runs, 10)):
                begin, own_begin = time.perf_counter(), time.thread_time()
                work()
                own_ms = 1e3 * (time.thread_time() - own_begin)
                taken.append((1e3 * (time.perf_counter() - begin), own_ms))
    return [np.percentile(taken, (50, 95), axis=0).T.ravel().tolist() for taken in spans]


def write_row(name: str, times: list[float]) -> str:
    """A row of the table."""
    return f"| {name} | {' | '.join(f'{ms:.2f}' for ms in times)} |"


def list_work() -> dict[str, Callable[[], object]]:
    """Name what is measured, in the order of the table."""
    frames, labels = draw_scene()
    frame = frames[0]
    input_spec = spec.InputSpec(modality="US", channels=1, size_px=(SIDE, SIDE))
    plan = plan_preprocess(BASE, frames, input_spec=input_spec)
    tensor, logits = plan.apply(frame), draw_logits(labels, 2)
    fine = draw_logits(labels, 1)
    rough = plan.transform.restore(logits, stride=2)

    def after(steps: tuple[spec.RefineStep, ...]) -> None:
        plan.apply(frame)
        refined = refine_logits(logits, tensor, steps, stride=2) if steps else logits
        restored = plan.transform.restore(refined, stride=2)
        apply_postprocess(restored, REPAIRS, label_values=VALUES, grid=GRID)

    work: dict[str, Callable[[], object]] = {
        "**pre and post, no field**": lambda: after(()),
        "**pre and post, local field**": lambda: after((spec.LocalCrf(),)),
        "preprocess as camus-4ch": lambda: plan.apply(frame),
        "restore (logits to labels)": lambda: plan.transform.restore(logits, stride=2),
    }
    window = spec.WindowPreset(preset="abdomen")
    hounsfield = (frame.astype(np.int16) * 8) - 1000
    windowed = plan_preprocess((window,), [hounsfield], input_spec=input_spec)
    work["window_preset"] = lambda: windowed.apply(hounsfield)
    for tone in TONES:
        toned = plan_preprocess((tone,), frames, input_spec=input_spec)
        work[tone.step] = lambda toned=toned: toned.apply(frame)
    for step in POSTPROCESS:
        work[step.step] = lambda step=step: apply_postprocess(
            rough, [step], label_values=VALUES, grid=GRID
        )
    for prior in PRIORS:
        work[f"prior {prior.step}"] = lambda prior=prior: apply_postprocess(
            rough, (), label_values=VALUES, priors=[prior], grid=GRID
        )
    for name, planes, stride in (("128 x 128", logits, 2), ("256 x 256", fine, 1)):
        work[f"local_crf, logits {name}"] = lambda p=planes, s=stride: refine_logits(
            p, tensor, [spec.LocalCrf()], stride=s
        )
    return {**work, **list_scan_work()}


def list_scan_work() -> dict[str, Callable[[], object]]:
    """Name what is measured on a scan."""
    rng = np.random.default_rng(2)
    array = rng.normal(100, 20, (1, *SCAN)).astype(np.float32)
    labels = np.zeros(SCAN, np.uint8)
    labels[10:50, 20:100, 20:100] = 1
    labels[20:40, 40:80, 40:80] = 2
    labels[rng.random(SCAN) < 0.002] = 3
    size = " x ".join(map(str, SCAN))
    work: dict[str, Callable[[], object]] = {}
    for tone in (spec.ScaleRange(), spec.ZScore()):
        work[f"{tone.step}, scan {size}"] = lambda tone=tone: INTENSITY_STEPS[type(tone)](
            tone, _begin(array)
        )
    for step in POSTPROCESS:
        work[f"{step.step}, scan {size}"] = lambda step=step: apply_postprocess(
            labels, [step], label_values=VALUES, grid=LabelGrid((1.0, 1.0, 1.0))
        )
    return work


def _begin(array: np.ndarray) -> VolumeBuilder:
    """A scan under way, which a step may write to."""
    sequence = ImageSequence((len(array[0]), 1, *SCAN[1:]), lambda index: array[:, index])
    builder = VolumeBuilder(sequence)
    builder.array = array.copy()
    return builder


def apply_as_before(plan: FramePlan, frame: np.ndarray) -> np.ndarray:
    """Prepare a colour frame as it was: converted whole, then cropped."""
    image = plan.stages[0](np.moveaxis(frame, 0, -1))[plan.crop.slices]
    for stage in plan.stages[1:]:
        image = stage(image)
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    return np.ascontiguousarray(planes[None], dtype=np.float32)


def list_colour_rows(runs: int) -> list[str]:
    """Time frames of 720 x 960 in colour, before and now in turns; their tensors are equal."""
    rng = np.random.default_rng(3)
    height, width = COLOUR
    rows, columns = np.mgrid[:height, :width]
    inside = np.abs(np.arctan2(columns - width / 2, rows + 10)) < 0.7
    inside &= np.hypot(rows, columns - width / 2) < 650
    grey = np.clip(rng.gamma(4.0, 15.0, (8, height, width)) * inside, 0, 255).astype(np.uint8)
    together = [np.moveaxis(np.repeat(each[..., None], 3, axis=-1), -1, 0) for each in grey]
    apart = np.ascontiguousarray(together[0])
    work: dict[str, Callable[[], object]] = {}
    for name, steps, channels in (("grey", BASE, 1), ("rgb", (spec.Rgb(), *BASE[1:]), 3)):
        if channels == 3:
            steps = (spec.Rgb(), spec.CropCentre(size_px=(650, 840)), *BASE[2:])
        input_spec = spec.InputSpec(modality="US", channels=channels, size_px=(SIDE, SIDE))
        plan = plan_preprocess(steps, together, input_spec=input_spec)
        calls: dict[str, Callable[[], object]] = {
            "before, planes apart": lambda plan=plan: apply_as_before(plan, apart),
            "before, planes together": lambda plan=plan: apply_as_before(plan, together[0]),
            "now, planes apart": lambda plan=plan: plan.apply(apart),
            "now, planes together": lambda plan=plan: plan.apply(together[0]),
        }
        tensors = [call() for call in calls.values()]
        assert all(np.array_equal(tensors[0], tensor) for tensor in tensors)
        work |= {f"{name}, {each}": call for each, call in calls.items()}
    times = measure(*work.values(), runs=runs)
    return [
        "",
        f"Colour frames of {height} x {width}, timed in turns, with the same tensors to the bit. "
        "`planes together` is how decoders write colour, and how every reader now hands it out; "
        "`planes apart` is how pictures, colour NIfTI, NRRD and MetaImage, and files opened with "
        "`--untrusted`, came before, and how an array may come from a caller. `before` converts "
        "the whole frame to grey and crops then.",
        "",
        HEADER,
        "|---|---|---|---|---|",
        *map(write_row, work, times),
    ]


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    load = read_load()
    lines = [
        "# Steps of the pipeline: time",
        "",
        f"Frames of {SIDE} x {SIDE}, 8 bits, 4 classes; {arguments.threads} threads; "
        f"{describe_processor()}; load of the last minute {load:.1f} at the start. "
        "`pre and post` is what surrounds the network of a frame: the steps of `camus-4ch`, "
        "logits of 128 x 128 to labels, islands and holes. `own` is the time that the calling "
        "thread itself ran, which other work on the machine does not change: where it lies far "
        "below p50, the machine was busy.",
        "",
        HEADER,
        "|---|---|---|---|---|",
    ]
    for name, work in list_work().items():
        slow = "scan" in name or "non_local" in name
        (times,) = measure(work, runs=max(5, arguments.runs // 20) if slow else arguments.runs)
        lines.append(write_row(name, times))
        print(lines[-1], flush=True)
    lines += list_colour_rows(arguments.runs)
    text = "\n".join([*lines, ""])
    write_text(arguments.output, text)


if __name__ == "__main__":
    main()
