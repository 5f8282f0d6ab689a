"""Ideas for streams, and what they cost: masks steadied over time, and frames not computed again.

Steadied: by `bedside.stream.steady`; and, left out, logits averaged over time, L' = a L + (1 - a)
L'_before, as they are or moved along by optical flow. Not computed again, left out: a frame whose
tensor has changed by less than a bound, on average, keeps the mask before it, for 10 frames at
most.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

import bedside
from bedside.cli.demo import find_cine
from bedside.io.source import open_source
from bedside.pipeline.frames.plan import FramePlan, plan_preprocess
from bedside.pipeline.postprocess import apply_postprocess
from bedside.runtime.machine import describe_processor
from bedside.segment import Model
from bedside.stream.steady import SteadyLogits
from bedside.system.atomic import write_text

HERE = Path(__file__).parent
WEIGHTS = (0.7, 0.5, 0.35)
BOUNDS = (0.01, 0.015, 0.0175, 0.02, 0.03)
MOST_SKIPPED = 10
FRAMES_PER_S = 30.0
PATIENTS = slice(30, 60)
"""Of the test patients; not those on whom the numbers of the blend were chosen."""


class Film:
    """Tensors, logits and labels of a film, frame by frame."""

    def __init__(self, model: Model, frames: Sequence[np.ndarray]) -> None:
        spec = model.bundle.spec
        spread = np.linspace(0, len(frames) - 1, 8).round().astype(int)
        sample = [frames[index] for index in spread]
        self.model, self.spec = model, spec
        self.plan: FramePlan = plan_preprocess(spec.preprocess, sample, input_spec=spec.input)
        self.tensors = [self.plan.apply(frame) for frame in frames]
        self.logits = [model.segmenter.session.predict(each)[0] for each in self.tensors]
        self.values = [label.value for label in spec.labels]
        self.labels = self.draw(self.logits)

    def draw(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """Labels from logits."""
        drawn = []
        for each in logits:
            labels = self.plan.transform.restore(each, stride=self.spec.model.logit_stride)
            steps = self.spec.postprocess
            drawn.append(apply_postprocess(labels, steps, label_values=self.values)[0])
        return np.stack(drawn)

    def average(self, weight: float, move: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
        """Labels from logits that are averaged over time."""
        kept = [self.logits[0]]
        for index in range(1, len(self.logits)):
            kept.append(weight * self.logits[index] + (1 - weight) * move(index, kept[-1]))
        return self.draw(kept)

    def steady(self) -> tuple[np.ndarray, float]:
        """Labels of a steady stream; and the part of the frames that were taken alone."""
        blender = SteadyLogits()
        kept = [
            blender.blend(tensor, logits, plan=self.plan, time_s=index / FRAMES_PER_S)
            for index, (tensor, logits) in enumerate(zip(self.tensors, self.logits, strict=True))
        ]
        alone = [np.array_equal(*pair) for pair in zip(kept[1:], self.logits[1:], strict=True)]
        return self.draw(kept), float(np.mean(alone))

    def measure_lag(self, labels: np.ndarray) -> float:
        """By how many frames areas follow those of frame by frame."""
        moments, lags = np.arange(len(labels)), []
        for value in self.values:
            ours, base = (
                (each == value).sum(axis=(1, 2)).astype(float) for each in (labels, self.labels)
            )
            shifts = np.arange(-1, 4, 0.1)
            errors = [
                np.abs(np.interp(moments[4:-4] - shift, moments, base) - ours[4:-4]).mean()
                for shift in shifts
            ]
            lags += [shifts[int(np.argmin(errors))]] if base.any() else []
        return float(np.mean(lags))

    def flow(self, index: int, before: np.ndarray) -> np.ndarray:
        """Logits of the frame before, moved along by optical flow."""
        shape = before.shape[1:]
        old, new = (
            cv2.resize((255 * self.tensors[i][0].mean(axis=0)).clip(0, 255), shape[::-1])
            for i in (index - 1, index)
        )
        finder = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        flow = finder.calc(new.astype(np.uint8), old.astype(np.uint8), None)
        rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
        places = columns + flow[..., 0], rows + flow[..., 1]
        edge = cv2.BORDER_REPLICATE
        return np.stack(
            [cv2.remap(each, *places, cv2.INTER_LINEAR, borderMode=edge) for each in before]
        )

    def reuse(self, bound: float) -> tuple[np.ndarray, int]:
        """Labels where frames that hardly changed are not computed; and how many were."""
        kept, last, computed = [self.logits[0]], 0, 1
        for index in range(1, len(self.tensors)):
            change = float(np.abs(self.tensors[index] - self.tensors[last]).mean())
            if change < bound and index - last < MOST_SKIPPED:
                kept.append(kept[-1])
            else:
                kept.append(self.logits[index])
                last, computed = index, computed + 1
        return self.draw(kept), computed

    def measure_dice(self, labels: np.ndarray, truth: np.ndarray) -> list[float]:
        """Dice of each structure that the truth has, over all frames."""
        pairs = [(labels == value, truth == value) for value in self.values]
        return [float(2 * (a & b).sum() / (a.sum() + b.sum())) for a, b in pairs if b.any()]

    def measure_unrest(self, labels: np.ndarray) -> float:
        """Mean second difference of the area of each structure, relative to frame by frame."""
        ratios = []
        for value in self.values:
            ours, base = (
                np.abs(np.diff((each == value).sum(axis=(1, 2)).astype(float), 2)).mean()
                for each in (labels, self.labels)
            )
            ratios += [ours / base] if base else []
        return float(np.mean(ratios))


def list_steady(name: str, film: Film, truth: np.ndarray | None) -> list[str]:
    """Rows of averaged logits."""
    rows = []
    for weight in WEIGHTS:
        for how, move in (("as they are", lambda _, before: before), ("by flow", film.flow)):
            labels = film.average(weight, move)
            loss = "no truth"
            if truth is not None:
                before = np.mean(film.measure_dice(film.labels, truth))
                loss = f"{np.mean(film.measure_dice(labels, truth)) - before:+.4f}"
            unrest = film.measure_unrest(labels)
            rows.append(f"| {name} | {weight} | {how} | {unrest:.2f} | {loss} |")
    return rows


def describe_steady(film: Film, truth: np.ndarray | None) -> list[float]:
    """Unrest, loss of Dice, lag, frames taken alone, and unrest of the experts' masks."""
    labels, alone = film.steady()
    loss = own = float("nan")
    if truth is not None:
        own = film.measure_unrest(truth)
        pair = [np.mean(film.measure_dice(each, truth)) for each in (labels, film.labels)]
        loss = float(pair[0] - pair[1])
    return [film.measure_unrest(labels), loss, film.measure_lag(labels), alone, own]


def list_kept(name: str, films: Sequence[list[float]]) -> str:
    """The row of a steady stream: the mean of films, and the worst."""
    unrest, loss, lag, alone, own = np.mean(films, axis=0)
    worst = np.min([film[1] for film in films])
    told = "no truth" if np.isnan(loss) else f"{loss:+.4f} (worst {worst:+.4f})"
    experts = "no truth" if np.isnan(own) else f"{own:.2f}"
    return f"| {name} | {unrest:.2f} | {experts} | {told} | {abs(lag):.1f} | {100 * alone:.0f} % |"


def make_beat(folder: Path, patient: str) -> tuple[list[np.ndarray], np.ndarray]:
    """A film of a patient's heart beat, and its labels.

    The image at end-diastole is moved to that at end-systole and back, by the optical flow between
    the two, with speckle of its own in each frame; the expert's labels are moved along.
    """
    start = folder / patient / f"{patient}_4CH_"
    first, last = (
        open_source(f"{start}{phase}.nii.gz").sequence.decode(0)[0] for phase in ("ED", "ES")
    )
    truth = open_source(f"{start}ED_gt.nii.gz").sequence.decode(0)[0].astype(np.uint8)
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = finder.calc(*(cv2.GaussianBlur(each, (0, 0), 3) for each in (last, first)), None)
    flow = cv2.GaussianBlur(flow, (0, 0), 15)
    rows, columns = np.mgrid[: first.shape[0], : first.shape[1]].astype(np.float32)
    random, frames, labels = np.random.default_rng(0), [], []
    for index in range(30):
        part = np.float32(0.5 - 0.5 * np.cos(2 * np.pi * index / 24))
        places = columns + part * flow[..., 0], rows + part * flow[..., 1]
        image = cv2.remap(first.astype(np.float32), *places, cv2.INTER_LINEAR)
        speckle = random.standard_normal(first.shape).astype(np.float32)
        speckle = cv2.GaussianBlur(speckle, (0, 0), 1.5)
        image *= 1 + 0.15 * speckle / speckle.std()
        frames.append(image.clip(0, 255).astype(np.uint8)[None])
        labels.append(cv2.remap(truth, *places, cv2.INTER_NEAREST))
    return frames, np.stack(labels)


def list_reused(name: str, film: Film) -> list[str]:
    """Rows of frames that are not computed again."""
    rows = []
    for bound in BOUNDS:
        labels, computed = film.reuse(bound)
        dice = min(film.measure_dice(labels, film.labels))
        rows.append(
            f"| {name} | {bound} | {computed} of {len(film.tensors)} "
            f"| {len(film.tensors) / computed:.2f} | {dice:.4f} |"
        )
    return rows


def read_sequence(folder: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames of a vocal-fold sequence, and the experts' labels."""
    pictures = sorted(folder.glob("*.jpg"))
    truth = folder.parents[2] / "annot" / folder.parent.name / folder.name
    frames = [np.moveaxis(cv2.imread(str(path))[..., ::-1], -1, 0).copy() for path in pictures]
    masks = [cv2.imread(str(truth / f"{p.stem}.png"), cv2.IMREAD_UNCHANGED) for p in pictures]
    return frames, np.stack(masks)


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = HERE.parents[1] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default, help="with vocalfolds and camus")
    data = parser.parse_args().data
    folder = data / "vocalfolds" / "img"
    with bedside.load("camus-4ch", precision="default") as model:
        film = Film(model, list(open_source(find_cine()).sequence))
        steady, reused = list_steady("SonoSite", film, None), list_reused("SonoSite", film)
        kept = [list_kept("SonoSite", [describe_steady(film, None)])]
        beats = [make_beat(data / "camus", each) for each in model.bundle.split["test"][PATIENTS]]
        films = [describe_steady(Film(model, frames), truth) for frames, truth in beats]
        kept.append(list_kept(f"CAMUS, {len(films)} made of pairs", films))
    with bedside.load("vocal-folds", precision="default") as model:
        for path in sorted(path for path in folder.glob("*/*") if path.is_dir()):
            patient = path.relative_to(folder).as_posix()
            is_test = patient in model.bundle.split["test"]
            frames, truth = read_sequence(path)
            film = Film(model, frames)
            name = patient if is_test else f"{patient}, seen in training"
            kept.append(list_kept(name, [describe_steady(film, truth)]))
            if not is_test:
                continue
            steady += list_steady(patient, film, truth)
            reused += list_reused(patient, film)
    text = f"""# Steady masks, and frames not computed again

Written by `benchmarks/stream_variants.py` on {describe_processor()}.

Wanted of steady masks: a second difference of the areas of at most half of that frame by frame, and
at most 0.002 less Dice against the experts' masks.

## Kept: `steady`

Logits are blended with those before, moved along by optical flow, but not where the images differ
though moved, where the network is sure of another class, or, in all of a frame, where that is much
of it. The films of CAMUS are made of the two annotated images of a patient, with speckle in each
frame, as no film here has annotated frames at a live rate. The numbers of the blend were chosen on
the SonoSite cine, the vocal folds and 12 patients of CAMUS, who are none of those below.

The annotated frames of the vocal folds are far apart in time: from one to the next the experts' own
masks change so much that their areas have nearly the second difference of the network's, frame by
frame, or more. Masks with half of it, by whatever method, would be steadier than the truth and so
wrong: a network with memory, the other candidate, was not trained for that reason. Most of these
frames are taken alone, nothing is gained, and hardly anything lost.

| film | second difference, ratio | of the experts' masks | Dice | lag, frames | taken alone |
|---|---|---|---|---|---|
{chr(10).join(kept)}

## Left out: averaged logits

a is the weight of the new frame. On the vocal folds averaging costs more Dice than is allowed at
any weight.

| film | a | logits before | second difference, ratio | Dice |
|---|---|---|---|---|
{chr(10).join(steady)}

## Left out: frames that are not computed again

A frame whose tensor has changed by less than a bound keeps the mask before it. Wanted on both
films: 1.3 times fewer milliseconds at a Dice of 0.99 against computing all. On the SonoSite cine
one bound, chosen on that cine, just reaches it for calls of the network, which take two thirds of
the time; no frame of the vocal folds is enough like the one before.

| film | bound | computed | fewer calls | least Dice of a structure |
|---|---|---|---|---|
{chr(10).join(reused)}
"""
    write_text(HERE / "stream_variants.md", text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
