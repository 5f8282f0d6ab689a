"""What masks that a diffusion head draws say of the network's own mask."""

from collections.abc import Sequence

import numpy as np
import torch

from bedside.bundle import Bundle
from bedside.datasets import Case
from bedside.evaluation.planted import list_artefacts
from bedside.pipeline.confidence import make_features, score_features
from bedside.pipeline.segmenter import Segmenter
from bedside.spec.confidence import StructureModel
from confidence import CHECKED, find_aurc_gap, find_calibration_error, find_caught
from heads.diffusion import DiffusionHead, draw_masks
from heads.features import FeatureNetwork
from heads.pipeline import draw_spoilt

PREDICTORS = ("confidence that ships", "draws against the mask", "draws against each other")

_PER_CASE = 4


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


def _dice(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    both = (one & other).sum(axis=(1, 2))
    total = one.sum(axis=(1, 2)) + other.sum(axis=(1, 2))
    return np.where(total > 0, 2 * both / np.maximum(total, 1), 1.0)


def predict_spoilt(
    bundle: Bundle,
    segmenter: Segmenter,
    network: FeatureNetwork,
    head: DiffusionHead,
    cases: Sequence[Case],
    settings: dict[str, float],
) -> dict[str, np.ndarray]:
    """True Dice of the network's masks and what each predictor says, clean and with artefacts.

    Cases and artefacts are those of `benchmarks/confidence.py`.

    Returns:
        "dice", (N, K - 1), NaN where a structure is not drawn; "clean", (N,) bool; and
        "predicted", (predictors, N, K - 1).
    """
    assert bundle.confidence is not None
    kinds = [each for each in list_artefacts(bundle.spec.input.modality) if each.name in CHECKED]
    dice, clean, sums, spread = [], [], [], []
    for number, case in enumerate(cases):
        order = np.random.default_rng(number).permutation(len(kinds))[:_PER_CASE]
        for image in draw_spoilt(segmenter, case, [kinds[index] for index in order]):
            both, true, drawn = image.counts.T
            with np.errstate(invalid="ignore"):
                dice.append(np.where(drawn > 0, 2 * both / (true + drawn), np.nan))
            clean.append(not image.artefact)
            sums.append(image.sums)
            with torch.inference_mode():
                logits, features = network(torch.from_numpy(image.tensor))
            chances = draw_masks(head, features, logits, **settings).numpy()
            spread.append(compare_draws(chances, image.logits))
    places = {label.name: place for place, label in enumerate(bundle.spec.labels)}
    ships = np.full((len(dice), len(places)), np.nan)
    for model in bundle.confidence.frames:
        place = places[model.structure]
        ships[:, place] = _predict_all(model, place, np.stack(sums))
    predicted = np.concatenate([ships[None], np.stack(spread, axis=1)])
    return {"dice": np.stack(dice), "clean": np.array(clean), "predicted": predicted}


def _predict_all(model: StructureModel, place: int, sums: np.ndarray) -> np.ndarray:
    """Predicted Dice of one structure, (N,)."""
    made = make_features(sums)
    rows = np.stack([made[name][:, place] for name in model.features], axis=1)
    return np.interp(score_features(model, rows), model.scores, model.dice)


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
