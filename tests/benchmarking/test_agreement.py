"""Agreement from counts, against the same from every rater's own mask."""

import itertools

import numpy as np
import pytest

from agreement import measure_agreement
from bedside.errors import UsageError


def make_masks(raters: int = 4, *, seed: int = 0) -> np.ndarray:
    """Balls about nearly one place, each rater's of another size."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.mgrid[:20, :20, :20], axis=-1)
    return np.stack(
        [
            np.linalg.norm(grid - rng.normal(10, 1, 3), axis=-1) < rng.uniform(4, 7)
            for _ in range(raters)
        ]
    )


def pool(pairs) -> float:
    """IoU of pairs of masks as the sum of intersections over the sum of unions."""
    pairs = list(pairs)
    return sum((a & b).sum() for a, b in pairs) / sum((a | b).sum() for a, b in pairs)


@pytest.mark.parametrize(("raters", "seed"), [(4, 0), (4, 1), (3, 2), (5, 3), (2, 4)])
def test_counts_tell_what_the_masks_tell(raters, seed):
    masks = make_masks(raters, seed=seed)
    found = measure_agreement(masks.sum(axis=0), raters=raters)
    assert found.pairs == pytest.approx(pool(itertools.combinations(masks, 2)))
    consensus = masks.sum(axis=0) >= raters / 2
    assert found.with_consensus == pytest.approx(pool((mask, consensus) for mask in masks))
    others = [(masks.sum(axis=0) - mask.astype(int)) >= (raters - 1) / 2 for mask in masks]
    assert found.with_others == pytest.approx(pool(zip(masks, others, strict=True)))
    assert found.all_saw


def test_raters_who_are_of_one_mind_agree():
    found = measure_agreement(np.array([0, 4, 4, 0]))
    assert (found.pairs, found.with_others, found.with_consensus) == (1.0, 1.0, 1.0)


def test_raters_who_saw_nothing_count():
    # Two of four marked the same voxel: one pair of six agrees, one saw nothing either.
    found = measure_agreement(np.array([0, 2, 0]))
    assert found.pairs == pytest.approx(1 / 5)
    assert not found.all_saw


@pytest.mark.parametrize("counts", [[0, 5], [-1, 3], [0, 1]])
def test_counts_that_cannot_be_are_refused(counts):
    with pytest.raises(UsageError):
        measure_agreement(np.array(counts))
