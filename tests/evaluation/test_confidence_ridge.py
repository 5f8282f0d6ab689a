"""Weights of features: with the help of training units, and with squares."""

import numpy as np
import pytest

from bedside.evaluation.confidence_ridge import Described, Weighing, choose_weights
from bedside.pipeline.confidence import score_features

FEATURES = 11
NAMES = tuple(f"f{index}" for index in range(FEATURES))


def describe(count: int, *, seed: int, moved: float = 0.0, noise: float = 0.5) -> Described:
    """Images of which the first feature alone tells what is missing of the Dice."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, FEATURES))
    target = 2 + 0.5 * features[:, 0] + noise * rng.normal(size=count)
    dice = np.clip(1.02 - np.exp(-target - moved), 0, 1)
    return Described(features + moved, dice, np.ones(count))


def agreement(model, images: Described) -> float:
    """Correlation of scores and what is true of images."""
    return float(np.corrcoef(score_features(model, images.features), images.target)[0, 1])


def test_training_units_help_where_validation_units_are_few():
    few, many, fresh = (
        describe(count, seed=seed) for seed, count in enumerate((20, 400, 2000))
    )  # fmt: skip
    alone, helped = (
        Weighing("head", NAMES, few, others, squared=False).fit() for others in (None, many)
    )
    assert agreement(helped, fresh) > agreement(alone, fresh) + 0.02


def test_what_is_surer_and_better_altogether_changes_no_weight():
    own, others = describe(60, seed=1), describe(300, seed=2, noise=0.0)
    further = Described(others.features + 3, 1.02 - (1.02 - others.dice) / 2, others.weights)
    first, second = (
        Weighing("head", NAMES, own, each, squared=True).fit() for each in (others, further)
    )
    np.testing.assert_allclose(first.weights, second.weights, atol=1e-4)
    np.testing.assert_allclose(first.centre, second.centre, atol=1e-4)


@pytest.mark.parametrize("bent", [False, True])
def test_squares_are_weighed_where_they_lower_the_held_out_error(bent):
    rng = np.random.default_rng(5)
    features = rng.normal(size=(200, FEATURES))
    first = features[:, 0] ** 2 if bent else features[:, 0]
    own = Described(
        features, 1.02 - np.exp(-2.5 - 0.3 * first + 0.1 * rng.normal(size=200)), np.ones(200)
    )
    ways = [Weighing("head", NAMES, own, None, squared) for squared in (False, True)]
    model, scores = choose_weights(ways, np.arange(200) % 9)
    assert any(model.squares) == bent
    assert np.corrcoef(scores, own.target)[0, 1] > 0.8
