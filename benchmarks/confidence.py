"""How well bundles know the quality of their masks: writes benchmarks/confidence.md.

Usage: python benchmarks/confidence.py --data ../shared/data BUNDLE=DATASET ...
Validation units calibrate, with the help of training units where the bundle says so. The
calibration that ships is measured on test units, and the method on 100 re-splits of validation and
test units, in parts of the same sizes. Each run is a look at the test parts.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from bedside.bundle import Bundle, find_bundle, read_bundle
from bedside.evaluation.calibration import (
    ARTEFACTS_PER_CASE,
    ARTEFACTS_PER_TRAINING_CASE,
    Image,
    draw_case,
    list_drawn,
)
from bedside.evaluation.confidence_fit import Drawn, fit_structure
from bedside.evaluation.looks import find_ledger, record_look
from bedside.evaluation.parts import list_part
from bedside.evaluation.planted import ARTEFACTS, list_artefacts
from bedside.evaluation.planted_chance import CHANCE_ARTEFACTS, choose_artefacts
from bedside.evaluation.report import markdown_table
from bedside.pipeline.coarse import coarsen
from bedside.pipeline.confidence import (
    ConfidenceEstimator,
    describe_coarse,
    make_features,
    score_features,
)
from bedside.pipeline.gate import GateJudge
from bedside.runtime.machine import describe_processor, read_load
from bedside.segment import open_segmenter
from bedside.spec.confidence import StructureModel
from bedside.system.atomic import write_text
from feature_cache import Arrays, hash_inputs, remember

CHECKED = (
    "shadow of 15 deg", "two shadows of 25 deg", "speckle 0.5", "mirrored", "gain 0.5",
    "gain 1.5", "JPEG at quality 15", "0.65 times the pixels", "1.5 times the pixels",
)  # fmt: skip
"""Artefacts that nothing is calibrated with; of MR and CT also speckle and gain."""

GAIN_SPECKLE = ("gain 0.5", "gain 1.5", "speckle 0.5")
GROUPS = ("clean", "all")
_PER_CASE = 4
_BINS = 5


def draw_part(bundle: Bundle, data: Path, part: str, cache: Path) -> list[Image]:
    """Draw a part: clean, with artefacts of `CHECKED`, and with some to calibrate by.

    Images of the training part have only some of the latter.
    """
    modality = bundle.spec.input.modality
    kinds = [each for each in list_artefacts(modality) if each.name in CHECKED]
    if modality in ("MR", "CT"):
        kinds += [each for each in ARTEFACTS if each.name in ("speckle 0.5", "gain 0.5")]
    cases, helps = list_part(bundle, data, part), part == "train"
    checked, chance = (0, ARTEFACTS_PER_TRAINING_CASE) if helps else (_PER_CASE, ARTEFACTS_PER_CASE)

    def draw() -> Arrays:
        segmenter = open_segmenter(bundle, precision="f32", threads=1, gate="off")
        images = []
        for number, case in enumerate(cases):
            rng = np.random.default_rng(number)
            planted = [kinds[index] for index in rng.permutation(len(kinds))[:checked]]
            planted += choose_artefacts(modality, case.person, count=chance)
            images += list(draw_case(segmenter, case, planted))
        segmenter.session.close()
        return pack_images(images)

    also = [part] if helps else [each.name for each in kinds]
    key = hash_inputs(bundle, cases, also=also)
    return unpack_images(remember(cache, f"{bundle.spec.name}-{part}", key, draw))


def pack_images(images: Sequence[Image]) -> Arrays:
    """Images as arrays."""
    return {
        "names": np.array([[each.case_id, each.unit, each.artefact] for each in images]),
        "frames": np.array([len(each.sums) for each in images]),
        "sums": np.concatenate([each.sums for each in images]),
        "counts": np.concatenate([each.counts for each in images]),
        "count_frames": np.array([len(each.counts) for each in images]),
        "own": np.array([
            json.dumps([[place, name, *pair] for (place, name), pair in each.own.items()])
            for each in images
        ]),
        "cavity_ml": np.array([each.cavity_ml or (np.nan, np.nan) for each in images]),
    }  # fmt: skip


def unpack_images(arrays: Arrays) -> list[Image]:
    """Images that were packed."""
    sums, counts = (
        np.split(arrays[name], np.cumsum(arrays[of])[:-1])
        for name, of in (("sums", "frames"), ("counts", "count_frames"))
    )
    return [
        Image(
            *names.tolist(), sums[index], counts[index],
            {(place, name): (one, other) for place, name, one, other in json.loads(str(own))},
            tuple(cavity.tolist()) if np.isfinite(cavity).all() else None,
        )
        for index, (names, own, cavity) in enumerate(
            zip(arrays["names"], arrays["own"], arrays["cavity_ml"], strict=True)
        )
    ]  # fmt: skip


def predict(model: StructureModel, place: int, drawn: Sequence[Drawn]) -> np.ndarray:
    """Predicted Dice of each image."""
    made = make_features(np.stack([each.sums for each in drawn]))
    rows = np.stack([made[name][:, place] for name in model.features], axis=1)
    return np.interp(score_features(model, rows), model.scores, model.dice)


def find_aurc_gap(predicted: np.ndarray, loss: np.ndarray) -> float:
    """Area under the risk-coverage curve beyond the oracle's, as a part of what random has."""

    def area(score: np.ndarray) -> float:
        ordered = loss[np.argsort(-score, kind="stable")]
        return float((np.cumsum(ordered) / np.arange(1, len(ordered) + 1)).mean())

    best = area(-loss)
    return (area(predicted) - best) / max(float(loss.mean()) - best, 1e-9)


def find_caught(predicted: np.ndarray, dice: np.ndarray) -> float:
    """Part of the worst tenth that is flagged where 10 % of the others are."""
    bad = np.zeros(len(dice), bool)
    bad[np.argsort(dice)[: max(1, round(0.1 * len(dice)))]] = True
    return float(np.mean(predicted[bad] <= np.quantile(predicted[~bad], 0.1)))


def find_calibration_error(predicted: np.ndarray, dice: np.ndarray) -> float:
    """Mean absolute difference of means in bins of as many images."""
    bins = np.array_split(np.argsort(predicted), _BINS)
    return sum(len(b) * abs(float((predicted - dice)[b].mean())) for b in bins) / len(dice)


def measure(
    model: StructureModel, place: int, drawn: Sequence[Drawn], kinds: Sequence[str]
) -> dict[str, float]:
    """All figures of a model on images that it was not fitted on."""
    predicted = predict(model, place, drawn)
    dice = np.array([each.dice for each in drawn])
    kind, clean = np.array(kinds), np.array([each.clean for each in drawn])
    bounds = np.array([model.bound_dice(float(each)) for each in predicted])
    inside = (bounds[:, 0] <= dice) & (dice <= bounds[:, 1])
    found = {}
    for name, chosen in (("clean", clean), ("all", np.ones_like(clean))):
        found[f"caught {name}"] = find_caught(predicted[chosen], dice[chosen])
        found[f"gap {name}"] = find_aurc_gap(predicted[chosen], 1 - dice[chosen])
        found[f"error {name}"] = find_calibration_error(predicted[chosen], dice[chosen])
    found |= {"inside clean": inside[clean].mean(), "inside planted": inside[~clean].mean()}
    gained = np.isin(kind, GAIN_SPECKLE)
    for name in model.measurement_tails:
        held = np.full(len(drawn), np.nan)
        for index, each in enumerate(drawn):
            if name in each.measured:
                value, truth = each.measured[name]
                dice_here = float(predicted[index])
                low, high = model.bound_measurement(name, value, predicted_dice=dice_here) or (0, 0)
                held[index] = low <= truth <= high
        for word, chosen in (("clean", clean), ("gain", gained)):
            known = chosen & np.isfinite(held)
            found[f"{name} {word}"] = float(held[known].mean()) if known.any() else np.nan
    return found


def resplit(
    images: Sequence[Image], place: int, *, scans: bool, units: int, is_volume: bool, times: int,
    training: Sequence[Image],
) -> dict[str, float]:  # fmt: skip
    """Mean figures over re-splits: so many units calibrate, the others are measured."""
    helping = list(list_drawn(training, place, scans=scans))
    chance = {each.name for each in CHANCE_ARTEFACTS}
    listed = list_kinds(images, place, scans=scans)
    everyone, rng = sorted({image.unit for image in images}), np.random.default_rng(0)
    rows = []
    for _ in range(times):
        own = set(rng.permutation(everyone)[:units].tolist())
        fitted = [each for each, kind in listed if each.unit in own and kind in ("", *chance)]
        model = fit_structure(
            "x", place, fitted, with_image=not is_volume, training=helping
        )  # fmt: skip
        rest = [(e, kind) for e, kind in listed if e.unit not in own and kind not in chance]
        if model is not None:
            rows.append(measure(model, place, *map(list, zip(*rest, strict=True))))
    return {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}


def list_kinds(images: Sequence[Image], place: int, *, scans: bool) -> list[tuple[Drawn, str]]:
    """Drawn structures of all images with what was planted, and the changes between phases."""
    by_name = {(image.case_id, image.artefact): image for image in images}
    found = []
    for image in images:
        name, second = image.case_id.removesuffix("_ED"), None
        if name != image.case_id:
            second = by_name.get((f"{name}_ES", image.artefact))
        pair = [image] if second is None else [image, second]
        own = len(list(list_drawn([image], place, scans=scans)))
        found += [
            (each, image.artefact) for each in list(list_drawn(pair, place, scans=scans))[:own]
        ]
    return found


def describe_bundle(bundle: Bundle, images: dict[str, list[Image]], *, times: int) -> list[str]:
    """Tables of one bundle."""
    confidence = bundle.confidence
    assert confidence is not None
    chance = {each.name for each in CHANCE_ARTEFACTS}
    places = {label.name: index for index, label in enumerate(bundle.spec.labels)}
    scans = bool(confidence.scans)
    flags, covers = [], []
    test = [image for image in images["test"] if image.artefact not in chance]
    for model in confidence.scans or confidence.frames:
        place = places[model.structure]
        listed = list_kinds(test, place, scans=scans)
        own = measure(model, place, *map(list, zip(*listed, strict=True)))
        every = resplit(
            [*images["val"], *images["test"]], place, scans=scans, times=times,
            units=confidence.units, is_volume=bundle.spec.model.spatial_dims == 3,
            training=images.get("train", ()),
        )  # fmt: skip
        flags.append([
            model.structure,
            *(f"{own[f'{word} {name}']:.2f}" for word in ("caught", "gap") for name in GROUPS),
            *(f"{own[f'error {name}']:.3f}" for name in GROUPS),
            f"{every['gap all']:.2f}", f"{every['error all']:.3f}",
        ])  # fmt: skip
        names = ("inside", *model.measurement_tails)
        names = tuple(name for name in names if f"{name} clean" in every)
        for name in names:
            second = "inside planted" if name == "inside" else f"{name} gain"
            covers.append([
                model.structure, "Dice" if name == "inside" else name.replace("_", " "),
                *(f"{100 * found[f'{name} clean']:.1f}" for found in (every, own)),
                *(f"{100 * found[second]:.1f}" for found in (every, own)),
            ])  # fmt: skip
    return [
        f"## {bundle.spec.name}", "",
        f"Calibrated on {confidence.images} images of {confidence.units} {confidence.unit}"
        + (f", with {confidence.training_units} of training" if confidence.training_units else "")
        + f"; measured on {len({image.unit for image in test})}.", "",
        *markdown_table(
            ["structure", "caught, clean", "caught, all", "AURC gap, clean", "AURC gap, all",
             "error, clean", "error, all", "re-splits: gap, all", "re-splits: error, all"], flags),
        "",
        *markdown_table(
            ["structure", "interval of", "clean, re-splits %", "clean, test %",
             "planted, re-splits %", "planted, test %"], covers),
        "",
    ]  # fmt: skip


def time_parts(bundle: Bundle, *, runs: int = 300) -> list[str]:
    """Row of the table of costs, in processor time: network, grid, gate and confidence in turns."""
    cv2.setNumThreads(1)
    with open_segmenter(bundle, precision="default", threads=1).session as session:
        taken = bundle.spec.input
        random = np.random.default_rng(0)
        tensor = random.random((1, taken.channels, *taken.size_px), dtype=np.float32)
        for plane in tensor[0]:
            plane[:] = cv2.GaussianBlur(plane, (0, 0), 4)
        judge = None if bundle.gate is None else GateJudge(bundle.gate)
        names = [label.name for label in bundle.spec.labels]
        assert bundle.confidence is not None
        estimator, spans = ConfidenceEstimator(bundle.confidence, names), []
        for _ in range(runs):
            moments = [time.process_time()]
            logits = session.predict(tensor)[0]
            moments.append(time.process_time())
            coarse = coarsen(tensor[0], logits)
            moments.append(time.process_time())
            if judge is not None:
                judge.judge(tensor[0], logits, coarse=coarse)
            moments.append(time.process_time())
            estimator.assess(describe_coarse(coarse))
            moments.append(time.process_time())
            spans.append(np.diff(moments))
        network, grid, gate, sure = 1e3 * np.median(spans, axis=0)
        shares = [100 * each / network for each in (grid + sure, grid + gate + sure)]
        return [
            bundle.spec.name, session.precision,
            *(f"{each:.2f}" for each in (network, grid, gate, sure)),
            *(f"{each:.0f}" for each in shares),
        ]  # fmt: skip


COSTS = [
    "bundle", "precision", "network ms", "grid ms", "gate ms", "confidence ms",
    "of a frame not judged %", "of a still %",
]  # fmt: skip
HEAD = """# How sure are the masks?

Predicted Dice of each structure, from one pass, calibrated on validation units (`bedside
calibrate`), by clean images and by planted artefacts of random strength; where that is said, images
of training units helped to weigh features, and did nothing else. What follows is measured with
others: mirroring, JPEG and other sizes of pixels are of kinds that nothing was calibrated with,
shadows of 15 and 25 degrees, speckle of 0.5 and gain of 0.5 and 1.5 are strengths of kinds that
occur there. Written by `benchmarks/confidence.py`.

- caught: part of the worst tenth of images that is flagged where 10 % of the others are. Goal 0.80.
- AURC gap: area under the risk-coverage curve beyond the oracle's, that of a random order being 1.
  Goal at most 0.40.
- error: mean absolute difference of predicted and true Dice, of means in 5 bins. Goal at most
  0.030.
- Intervals are to hold 90 %. Goals: 87 to 93 % clean; of measurements 85 % under gain and speckle.
  "planted" is all artefacts for the Dice, and gain and speckle for measurements. Re-splits are
  TIMES of validation and test units, as many units calibrating as in the bundle.
- clean: images as they are. all: these, and the same with an artefact.
"""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", help="BUNDLE=DATASET, such as camus-4ch=camus")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--cache", type=Path, required=True, help="folder of kept features")
    parser.add_argument("--times", type=int, default=100, help="re-splits")
    parser.add_argument(
        "--notes", type=Path, help="text that follows the tables",
        default=Path(__file__).parent / "results" / "confidence_notes.md",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    lines, costs, load = (
        [HEAD.replace("TIMES", str(arguments.times))],
        list[list[str]](),
        read_load(),
    )
    for pair in arguments.bundles:
        name, _, own = pair.partition("=")
        bundle = read_bundle(find_bundle(name))
        images = {
            part: draw_part(bundle, arguments.data / own, part, arguments.cache)
            for part in ("train", "val", "test")
            if part != "train" or (bundle.confidence and bundle.confidence.training_units)
        }
        cases = len({image.case_id for image in images["test"]})
        record_look(find_ledger(arguments.output.parent), bundle, what="confidence", cases=cases,
                    dice=mean_dice(bundle, images["test"]))  # fmt: skip
        lines += describe_bundle(bundle, images, times=arguments.times)
        if bundle.spec.model.spatial_dims == 2:
            costs.append(time_parts(bundle))
    lines += [
        "## Cost", "",
        "Processor time of the network in its fastest precision, of the grid that both share, of "
        "the gate and of the confidence, in turns, medians of 300, one thread; "
        f"{describe_processor()}, load {load:.1f} before, {read_load():.1f} after. Of a film the "
        "gate judges 7 frames at most, of live frames as many as fit in 5 % of the network's time.",
        "",
        *markdown_table(COSTS, costs), "",
    ]  # fmt: skip
    text = "\n".join(lines) + "\n" + arguments.notes.read_text(encoding="utf-8")
    print(text)
    write_text(arguments.output, text)


def mean_dice(bundle: Bundle, images: Sequence[Image]) -> dict[str, float | None]:
    """Mean Dice of clean cases by structure."""
    found: dict[str, float | None] = {}
    for place, label in enumerate(bundle.spec.labels):
        counts = [image.counts[:, place].sum(axis=0) for image in images if not image.artefact]
        known = [2 * both / (true + drawn) for both, true, drawn in counts if true]
        found[label.name] = float(np.mean(known)) if known else None
    return found


if __name__ == "__main__":
    main()
