"""What is chosen and compared on views of validation patients, on the network's own grid."""

import itertools
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from torch.nn import functional

from bedside.bundle import Bundle
from bedside.evaluation.intervals import mean_interval
from bedside.evaluation.metrics import dice, surface_distances
from bedside.pipeline.confidence import describe_frame
from confidence import find_aurc_gap
from heads.diffusion import DiffusionHead, draw_masks
from heads.features import Views
from heads.graph import GraphHead, move_rings
from heads.rings import draw_scores, trace_logits
from heads.shape import count_contour_bytes, count_mask_bytes, find_turns
from heads.spread import compare_draws, find_soft_dice, measure_predictors, predict_shipped

SAMPLES, STEPS, STARTS = (4,), (2, 4), (1.0, 0.6)
KINDS = ("network", "traced and filled", "graph head", "diffusion head")

_CLEAN, _EVERY = 90, 6


def find_dice(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Dice of each structure, (K - 1,), of scores at stride 2 with labels at half their size."""
    small, own = truth[::2, ::2], np.argmax(scores, axis=0)
    found = []
    for value in range(1, len(scores)):
        one, other = own == value, small == value
        total = one.sum() + other.sum()
        found.append(2 * (one & other).sum() / total if total else np.nan)
    return np.array(found)


def choose_draws(views: Views, head: DiffusionHead) -> dict[str, Any]:
    """Try numbers of draws and steps, and times to begin at, on clean and spoilt views.

    Returns:
        "chosen", the settings with the smallest AURC gap of the network's Dice, a mean over
        structures, where others with half the work are not within 0.01; and all "tried".
    """
    tried = []
    for samples, steps, start in itertools.product(SAMPLES, STEPS, STARTS):
        settings = {"samples": samples, "steps": steps, "start": start}
        dice, own, spread = [], [], []
        for index in range(0, min(2 * _CLEAN, len(views)), _EVERY):
            features, logits, truth = views.take(slice(index, index + 1))
            chances = draw_masks(head, features, logits, **settings).numpy()
            dice.append(find_dice(logits[0].numpy(), truth[0].numpy()))
            own.append(find_dice(chances.mean(axis=0), truth[0].numpy()))
            spread.append(compare_draws(chances, logits[0].numpy()))
        true, said = np.stack(dice), np.stack(spread)
        gaps = [
            [_gap(said[:, kind, place], true[:, place]) for place in range(true.shape[1])]
            for kind in range(2)
        ]
        tried.append(settings | {
            "dice": np.nanmean(own, axis=0).tolist(),
            "gap against the mask": float(np.mean(gaps[0])),
            "gap against each other": float(np.mean(gaps[1])),
        })  # fmt: skip
        print(tried[-1], flush=True)
    best = min(each["gap against the mask"] for each in tried)
    near = [each for each in tried if each["gap against the mask"] <= best + 0.01]
    chosen = min(near, key=lambda each: each["samples"] * each["steps"])
    return {"chosen": {key: chosen[key] for key in ("samples", "steps", "start")}, "tried": tried}


def _gap(predicted: np.ndarray, dice: np.ndarray) -> float:
    known = np.isfinite(dice)
    return find_aurc_gap(predicted[known], 1 - dice[known])


def score_views(
    views: Views, graph: GraphHead, diffusion: DiffusionHead, settings: dict[str, Any]
) -> dict[str, Any]:
    """Each way to draw clean views: Dice, HD95 in pixels of the network's input, and turns.

    "traced and filled" are the contours that the graph head begins with: what is lost by them.

    Returns:
        By kind, each figure a mean by structure; and "bytes" of contours and of label maps.
    """
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in (*KINDS, "experts")}
    sizes = []
    for index in range(min(_CLEAN, len(views))):
        features, logits, truth = views.take(slice(index, index + 1))
        rings = trace_logits(logits[0].numpy())
        moved = move_rings(graph, rings, features, logits)
        drawn = draw_masks(diffusion, features, logits, **settings["chosen"])
        shape = tuple(logits.shape[2:])
        expert = functional.one_hot(truth[0], len(logits[0])).permute(2, 0, 1).numpy()
        scores = (
            logits[0].numpy(), draw_scores(rings, shape), draw_scores(moved, shape),
            drawn.mean(dim=0).numpy(), expert,
        )  # fmt: skip
        for kind, each in zip(found, scores, strict=True):
            found[kind].append(describe(each, truth[0].numpy()))
        whole = [ring for ring in moved if ring is not None]
        labels = np.argmax(scores[0], axis=0).astype(np.uint8)
        sizes.append((count_contour_bytes(whole), count_mask_bytes(labels)))
    contours, masks = np.median(sizes, axis=0).tolist()
    return {kind: describe_kind(each, found["network"]) for kind, each in found.items()} | {
        "bytes": {"contours": contours, "masks": masks}
    }


def describe(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Dice, HD95 in pixels and turns of each structure of one view, (3, K - 1).

    Args:
        scores: (K, h, w), of which the largest counts once they are interpolated.
        truth: (H, W) labels.
    """
    planes = [cv2.resize(each.astype(np.float32), truth.shape[::-1]) for each in scores]
    own = np.argmax(planes, axis=0)
    found = []
    for value in range(1, len(scores)):
        pair = truth == value, own == value
        distances = surface_distances(*pair, spacing_mm=(1.0, 1.0))
        found.append([dice(*pair), distances.hd95_mm, find_turns(pair[1])])
    return np.array(found, np.float64).T


def describe_kind(rows: list[np.ndarray], beside: list[np.ndarray]) -> dict[str, Any]:
    """Means of one kind, and differences to another with their intervals over pairs of phases.

    Args:
        rows: (3, K - 1) of each view, the two phases of a patient in turn.
        beside: Of the network.
    """
    own, other = np.stack(rows), np.stack(beside)
    own[~np.isfinite(own)] = np.nan
    patients = [str(index // 2) for index in range(len(own))]
    found: dict[str, Any] = {}
    for number, name in enumerate(("dice", "hd95_px", "turns")):
        found[name] = np.nanmean(own[:, number], axis=0).tolist()
        changes = [
            mean_interval((own - other)[:, number, place].tolist(), patients)
            for place in range(own.shape[2])
        ]
        found[f"{name} change"] = [[each.mean, each.low, each.high] for each in changes]
    return found


def score_spread(
    bundle: Bundle,
    views: Views,
    images: Iterable[np.ndarray],
    head: DiffusionHead,
    settings: dict[str, Any],
) -> list[list[dict[str, float]]]:
    """Figures of each predictor of the Dice of the network's masks, for each structure.

    Args:
        bundle: With its confidence.
        views: Clean ones and then as many spoilt ones.
        images: (C, H, W) of the same views.
        head: Draws masks.
        settings: Of its draws.
    """
    dice, sums, said = [], [], []
    for index, image in zip(range(2 * _CLEAN), images, strict=False):
        features, logits, truth = views.take(slice(index, index + 1))
        own = logits[0].numpy()
        chances = draw_masks(head, features, logits, **settings["chosen"]).numpy()
        drawn = np.bincount(np.argmax(own, axis=0).ravel(), minlength=len(own))[1:] > 0
        dice.append(np.where(drawn, find_dice(own, truth[0].numpy()), np.nan))
        sums.append(describe_frame(np.asarray(image, np.float32), own))
        said.append(np.stack([find_soft_dice(own), *compare_draws(chances, own)]))
    predicted = np.concatenate([predict_shipped(bundle, np.stack(sums))[None],
                                np.stack(said, axis=1)])  # fmt: skip
    clean, true = np.arange(len(dice)) < _CLEAN, np.stack(dice)
    return [
        measure_predictors(true[:, place], clean, predicted[:, :, place])
        for place in range(true.shape[1])
    ]
