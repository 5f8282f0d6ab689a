"""Agreement of raters, from the number of them that marked each voxel."""

from dataclasses import dataclass
from math import comb

import numpy as np

from bedside.errors import UsageError


@dataclass(frozen=True)
class Agreement:
    """Overlap among the raters of one finding, pooled over raters as sums over sums.

    Attributes:
        pairs: IoU of two raters, over all pairs; 0 for a pair of which only one saw anything.
        with_others: IoU of one rater with what at least half of the others marked.
        with_consensus: IoU of one rater with what at least half of all marked, himself
            included, which flatters.
        all_saw: Whether some voxel was marked by every rater.
    """

    pairs: float
    with_others: float
    with_consensus: float
    all_saw: bool


def measure_agreement(counts: np.ndarray, *, raters: int = 4) -> Agreement:
    """Measure the agreement on one finding.

    A voxel that k of n raters marked lies in the intersection of C(k, 2) pairs and outside
    the union of C(n - k, 2), so that sums over all pairs need no rater's own mask. In the same
    way, a voxel's k raters each have k - 1 others who marked it, and the n - k others k.

    Args:
        counts: Raters who marked each voxel, 0 to `raters`, any shape; somewhere at least half.
        raters: Number of raters, at least 2.

    Returns:
        IoUs in [0, 1].

    Raises:
        UsageError: If a count is out of range, or nothing was marked by half of the raters.

    Example:
        >>> measure_agreement(np.array([2, 2, 0]), raters=2).pairs
        1.0
        >>> measure_agreement(np.array([1, 2, 1]), raters=2).pairs
        0.3333333333333333
    """
    if counts.min() < 0 or counts.max() > raters:
        raise UsageError(f"counts go from {counts.min()} to {counts.max()}; expected 0-{raters}.")
    half, half_of_others = (raters + 1) // 2, raters // 2
    if counts.max() < half:
        raise UsageError(f"nothing was marked by {half} of {raters} raters.")
    voxels = np.bincount(counts.ravel().astype(np.int64), minlength=raters + 1)
    k = np.arange(raters + 1)
    both = np.array([comb(n, 2) for n in k])
    either = comb(raters, 2) - both[::-1]
    agreed = k * (k - 1 >= half_of_others)
    united = k + (raters - k) * (k >= half_of_others)
    with_all = np.where(k >= half, raters, k)
    return Agreement(
        pairs=float(both @ voxels / (either @ voxels)),
        with_others=float(agreed @ voxels / (united @ voxels)),
        with_consensus=float((k * (k >= half)) @ voxels / (with_all @ voxels)),
        all_saw=bool(voxels[raters] > 0),
    )
