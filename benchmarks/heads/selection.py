"""What is chosen and compared on views of validation patients, on the network's own grid."""

import itertools
from typing import Any

import numpy as np

from confidence import find_aurc_gap
from heads.diffusion import DiffusionHead, draw_masks
from heads.features import Views
from heads.graph import GraphHead
from heads.pipeline import move_rings
from heads.rings import draw_scores, trace_logits
from heads.spread import compare_draws

SAMPLES, STEPS, STARTS = (4,), (2, 4), (1.0, 0.7)
KINDS = ("network", "traced and filled", "graph head", "diffusion head")

_CLEAN, _EVERY = 90, 2


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
) -> dict[str, list[float]]:
    """Mean Dice of each structure by each way to draw, over clean views.

    "traced and filled" are the contours that the graph head begins with: what is lost by them.
    """
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    for index in range(min(_CLEAN, len(views))):
        features, logits, truth = views.take(slice(index, index + 1))
        rings = trace_logits(logits[0].numpy())
        moved = move_rings(graph, rings, features, logits)
        drawn = draw_masks(diffusion, features, logits, **settings["chosen"])
        shape = tuple(logits.shape[2:])
        scores = (
            logits[0].numpy(), draw_scores(rings, shape), draw_scores(moved, shape),
            drawn.mean(dim=0).numpy(),
        )  # fmt: skip
        for kind, each in zip(KINDS, scores, strict=True):
            found[kind].append(find_dice(each, truth[0].numpy()))
    return {kind: np.nanmean(each, axis=0).tolist() for kind, each in found.items()}
