"""Is this what the network was made for? Judged from its own input and output, in one pass.

An image is described five ways (`gate_views`): its outlines as the network draws them, its
thumbnail, its texture, its grain, and figures such as how sure the network is. Each is compared
with the training images; all together they may be compared with images of other kinds too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bedside.pipeline.coarse import Coarse, coarsen
from bedside.pipeline.gate_views import VIEW_NAMES, describe_coarse
from bedside.spec.gate import Gate, GateContrast

JUDGED_FRAMES = 7
"""Frames of a sequence that are judged at most."""

CONTRAST, SIZE = "contrast", "size"
CONTRAST_LIMIT = 6.0
"""Scaled numbers beyond it count as this in a contrast."""

SIZE_FACTOR = 1.5
"""How many times larger or smaller than in training a side of a frame may be."""

_SLICES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class GateVerdict:
    """How far an image is from what a network was made for.

    Attributes:
        distance: Distance as a multiple of what 99 % of the training images stay within.
        view: In what it is farthest; a key of `VIEW_NAMES`, `CONTRAST` or `SIZE`.
    """

    distance: float
    view: str


class GateJudge:
    """A gate, ready to judge any number of images from any number of threads.

    Args:
        gate: Of a network's bundle, of version `VERSION`.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        views = gate.views
        self._mean, scale = (
            np.concatenate([getattr(view, name) for view in views]) for name in ("mean", "scale")
        )
        self._per_scale = 1 / scale
        self._begins = np.cumsum([0, *(len(view.mean) for view in views)])[:-1]
        most = max(len(view.axes) for view in views)
        axes = np.concatenate([_fill(view.axes, most, 0.0) for view in views], axis=1)
        # The last row gives the squared length instead of a place along an axis.
        self._axes = np.concatenate([axes, np.ones((1, axes.shape[1]))])
        spread = np.stack([_fill(view.spread, most, 1.0) for view in views], axis=1)
        # Of a square along each axis what it adds to the distance, along and beside the axes.
        per_along = 1 / (spread * [max(1, len(view.axes)) * view.far_along for view in views])
        self._per_beside = 1 / np.array([view.residual * view.far_beside for view in views])
        self._per_square = np.stack([per_along, np.broadcast_to(-self._per_beside, spread.shape)])
        self._weights = np.concatenate(gate.contrast.weights) if gate.contrast else None

    def judge(
        self,
        tensor: np.ndarray,
        logits: np.ndarray,
        *,
        coarse: Coarse | None = None,
        frame_px: tuple[int, ...] | None = None,
    ) -> GateVerdict:
        """Measure how far an image is from the training images.

        Args:
            tensor: (C, H, W) as the network takes it.
            logits: (K, h, w) as it gives them.
            coarse: Both on a coarse grid; None to work it out.
            frame_px: (height, width) of the frame that the tensor is cut from; None if unknown.
        """
        coarse = coarse or coarsen(tensor, logits)
        return self.judge_described(describe_coarse(tensor, coarse), frame_px)

    def judge_described(
        self, described: Mapping[str, np.ndarray], frame_px: tuple[int, ...] | None = None
    ) -> GateVerdict:
        """Measure how far an image is by its descriptions, by name."""
        scaled = np.concatenate(
            [described[view.name] for view in self.gate.views], dtype=np.float64
        )
        scaled -= self._mean
        scaled *= self._per_scale
        distances = self._measure_views(scaled)
        contrast = self.gate.contrast
        if contrast is not None and self._weights is not None:
            distances[CONTRAST] = measure_contrast(contrast, score_contrast(scaled, self._weights))
        if self.gate.frame_px is not None and frame_px is not None:
            distances[SIZE] = measure_size(self.gate, frame_px)
        farthest = max(distances, key=distances.__getitem__)
        return GateVerdict(distances[farthest], farthest)

    def judge_window(self, tensor: np.ndarray, logits: np.ndarray) -> list[GateVerdict]:
        """Judge a window of a scan by some of its slices.

        Args:
            tensor: (C, D, H, W) as the network takes it.
            logits: (K, d, h, w) as it gives them.
        """
        return [self.judge(*passed) for passed in slice_window(tensor, logits)]

    def _measure_views(self, scaled: np.ndarray) -> dict[str, float]:
        """Distance in each view, as a multiple of the far training images."""
        products = self._axes * scaled
        products[-1] *= scaled
        sums = np.add.reduceat(products, self._begins, axis=1)
        along, whole = sums[:-1], sums[-1]
        along *= along
        inside, beside = np.add.reduce(along * self._per_square, axis=1)
        beside += whole * self._per_beside
        return {
            view.name: math.sqrt(max(one, other))
            for view, one, other in zip(
                self.gate.views, inside.tolist(), beside.tolist(), strict=True
            )
        }


def _fill(rows: Sequence[object], count: int, value: float) -> np.ndarray:
    """Rows as an array, to which rows of one value are added until they are so many."""
    own = np.array(rows, dtype=np.float64)
    found = np.full((count, *own.shape[1:]), value)
    found[: len(own)] = own
    return found


def slice_window(tensor: np.ndarray, logits: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Slices of a window of a scan, spread over it, each as a frame and its logits.

    Args:
        tensor: (C, D, H, W).
        logits: (K, d, h, w).

    Returns:
        (C, H, W) and (K, h, w) of each.
    """
    places = [(int(part * tensor.shape[1]), int(part * logits.shape[1])) for part in _SLICES]
    return [(tensor[:, of_tensor], logits[:, of_logits]) for of_tensor, of_logits in places]


def choose_frames(count: int) -> tuple[int, ...]:
    """Frames of a sequence that are judged: all of a few, else some spread over it.

    Example:
        >>> choose_frames(1), choose_frames(3), choose_frames(30)
        ((0,), (0, 1, 2), (2, 6, 10, 15, 19, 23, 27))
    """
    if count <= JUDGED_FRAMES:
        return tuple(range(count))
    step = count / JUDGED_FRAMES
    return tuple(int((index + 0.5) * step) for index in range(JUDGED_FRAMES))


def median_verdict(verdicts: Sequence[GateVerdict]) -> GateVerdict | None:
    """Return the median of several frames by distance, the lower one of two; None of none."""
    ordered = sorted(verdicts, key=lambda verdict: verdict.distance)
    return ordered[(len(ordered) - 1) // 2] if ordered else None


def explain(gate: Gate, verdict: GateVerdict, *, made_for: str) -> str:
    """Reason in words why an image is foreign."""
    if verdict.view == CONTRAST and gate.contrast is not None:
        return (
            f"this looks unlike {made_for}: all in all it is closer to {gate.contrast.images} "
            f"images of other kinds than 99 % of the {gate.images} training images are"
        )
    if verdict.view == SIZE and gate.frame_px is not None:
        return (
            f"this looks unlike {made_for}: a side of its frame is more than {SIZE_FACTOR:g} times "
            f"off the {_describe_range(*gate.frame_px)} pixels of the training images, and the "
            "network takes pixels as they are"
        )
    return (
        f"this looks unlike {made_for}: in {VIEW_NAMES[verdict.view]} it is "
        f"{verdict.distance:.1f} times as far from the {gate.images} training images as 99 % of "
        "them are"
    )


def _describe_range(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def score_contrast(scaled: np.ndarray, weights: np.ndarray) -> float:
    """Weighted sum of the scaled descriptions of all views, (numbers,), without the bias."""
    return float(weights @ np.minimum(np.maximum(scaled, -CONTRAST_LIMIT), CONTRAST_LIMIT))


def measure_contrast(contrast: GateContrast, score: float) -> float:
    """Distance by a score without its bias: 1 at that of a far training image, 0 or more."""
    return max(0.0, 1.0 + (score + contrast.bias - contrast.far) / contrast.spread)


def measure_size(gate: Gate, frame_px: Sequence[int]) -> float:
    """Distance by the size of a frame: beyond the threshold if a side is `SIZE_FACTOR` times off.

    Of networks that take pixels as they are from the middle of a frame, its size is what tells
    their scale, and what lies around.
    """
    if gate.frame_px is None:
        return 0.0
    low, high = gate.frame_px
    factor = max(max(frame_px) / high, low / max(1, min(frame_px)), 1.0)
    return gate.threshold * math.log(factor) / math.log(SIZE_FACTOR)


def split_distance(
    vectors: np.ndarray, *, mean: np.ndarray, scale: np.ndarray, axes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions along the axes, (N, axes), and squared distances beside them, (N,)."""
    scaled = (vectors - mean) / scale
    along = scaled @ axes.T
    beside = np.maximum((scaled**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
    return along, beside
