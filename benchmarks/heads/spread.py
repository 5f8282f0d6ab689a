"""What masks that a diffusion head draws say of the network's own mask."""

import numpy as np
from scipy.special import softmax

from bedside.bundle import Bundle
from bedside.pipeline.confidence import make_features, score_features
from confidence import find_aurc_gap, find_calibration_error, find_caught

PREDICTORS = (
    "confidence that ships",
    "soft Dice of the network",
    "draws against the mask",
    "draws against each other",
)


def compare_draws(chances: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Mean Dice of draws with the network's mask, and with one another, by structure.

    Args:
        chances: (samples, K, h, w).
        logits: (K, h, w) of the network.

    Returns:
        (2, K - 1); 1 where neither has the structure.
    """
    classes = np.arange(1, len(logits))[:, None, None]
    drawn = np.argmax(chances, axis=1)[:, None] == classes
    own = np.argmax(logits, axis=0) == classes
    against_own = np.mean([_dice(each, own) for each in drawn], axis=0)
    pairs = [_dice(one, other) for index, one in enumerate(drawn) for other in drawn[index + 1 :]]
    return np.stack([against_own, np.mean(pairs, axis=0)])


def find_soft_dice(logits: np.ndarray) -> np.ndarray:
    """Dice of the network's mask with its own chances, by structure, (K - 1,).

    Args:
        logits: (K, h, w).
    """
    chances = softmax(logits, axis=0)[1:]
    own = np.argmax(logits, axis=0) == np.arange(1, len(logits))[:, None, None]
    both, total = (chances * own).sum(axis=(1, 2)), (chances + own).sum(axis=(1, 2))
    return np.asarray(2 * both / total)


def _dice(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    both = (one & other).sum(axis=(1, 2))
    total = one.sum(axis=(1, 2)) + other.sum(axis=(1, 2))
    return np.where(total > 0, 2 * both / np.maximum(total, 1), 1.0)


def predict_shipped(bundle: Bundle, sums: np.ndarray) -> np.ndarray:
    """Dice that the confidence of a bundle predicts, (N, K - 1), from (N, K - 1, statistics)."""
    assert bundle.confidence is not None
    places = {label.name: place for place, label in enumerate(bundle.spec.labels)}
    found = np.full(sums.shape[:2], np.nan)
    made = make_features(sums)
    for model in bundle.confidence.frames:
        place = places[model.structure]
        rows = np.stack([made[name][:, place] for name in model.features], axis=1)
        found[:, place] = np.interp(score_features(model, rows), model.scores, model.dice)
    return found


def measure_predictors(
    dice: np.ndarray, clean: np.ndarray, predicted: np.ndarray
) -> list[dict[str, float]]:
    """AURC gap, part caught and error of each predictor, clean and all, for one structure.

    Args:
        dice: (N,) true Dice; NaN where it is not drawn.
        clean: (N,) bool.
        predicted: (predictors, N).
    """
    found = []
    for each in predicted:
        figures = {}
        for name, chosen in (("clean", clean), ("all", np.ones_like(clean))):
            known = chosen & np.isfinite(dice)
            figures[f"caught {name}"] = find_caught(each[known], dice[known])
            figures[f"gap {name}"] = find_aurc_gap(each[known], 1 - dice[known])
            figures[f"error {name}"] = find_calibration_error(each[known], dice[known])
        found.append(figures)
    return found
