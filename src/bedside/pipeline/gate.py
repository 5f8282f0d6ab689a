"""Is this what the network was made for? Judged from its own input and output, in one pass.

An image is described five ways: its outlines as the network draws them, its thumbnail, its texture,
its grain, and figures such as how sure the network is. Each is compared with the training images;
all together they may be compared with images of other kinds too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from bedside.pipeline.coarse import Coarse, coarsen, shrink_planes
from bedside.spec.gate import Gate, GateContrast

JUDGED_FRAMES = 7
"""Frames of a sequence that are judged at most."""

THUMBNAIL_PX, TEXTURE_PX, OUTLINES_PX = 12, 8, 8
GRAIN_STEPS_PX = (1, 2, 4)
SAMPLED_ROWS = 32
"""Rows of a frame, spread over it, of which grain and texture are made."""

CONTRAST, SIZE = "contrast", "size"
CONTRAST_LIMIT = 6.0
"""Scaled numbers beyond it count as this in a contrast."""

SIZE_FACTOR = 1.5
"""How many times larger or smaller than in training a side of a frame may be."""

_SLICES = (0.25, 0.5, 0.75)
_WHITE = 255
# First grey level of each bin: even ones of brightness, then for each of four changes such of which
# the roots are even.
_CHANGE_BINS = (0, 3, 11, 23, 41, 64, 92, 125, 164, 207)
_BIN_BEGINS = np.array([
    *range(0, _WHITE + 1, 16),
    *((_WHITE + 1) * number + begin for number in range(1, 5) for begin in _CHANGE_BINS),
])  # fmt: skip
_UNSURE = 0.8
_DARK = 0.02


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
        self._mean, self._scale = (
            np.concatenate([getattr(view, name) for view in views]) for name in ("mean", "scale")
        )
        self._begins = np.cumsum([0, *(len(view.mean) for view in views)])[:-1]
        most = max(len(view.axes) for view in views)
        self._axes = np.concatenate([_fill(view.axes, most, 0.0) for view in views], axis=1)
        self._spread = np.stack([_fill(view.spread, most, 1.0) for view in views], axis=1)
        self._far_along = np.array([len(view.axes) * view.far_along for view in views])
        self._far_beside = np.array([view.residual * view.far_beside for view in views])
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
        return self.judge_described(describe(tensor, logits, coarse=coarse), frame_px)

    def judge_described(
        self, described: Mapping[str, np.ndarray], frame_px: tuple[int, ...] | None = None
    ) -> GateVerdict:
        """Measure how far an image is by its descriptions, by name."""
        vector = np.concatenate([described[view.name] for view in self.gate.views])
        scaled = (vector - self._mean) / self._scale
        distances = self._measure_views(scaled)
        contrast = self.gate.contrast
        if contrast is not None and self._weights is not None:
            distances[CONTRAST] = measure_contrast(contrast, score_contrast(scaled, self._weights))
        if self.gate.frame_px is not None and frame_px is not None:
            distances[SIZE] = measure_size(self.gate, frame_px)
        farthest = max(distances, key=lambda name: distances[name])
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
        squares = np.add.reduceat(self._axes * scaled, self._begins, axis=1) ** 2
        inside = (squares / self._spread).sum(axis=0) / self._far_along
        beside = np.add.reduceat(scaled * scaled, self._begins) - squares.sum(axis=0)
        found = np.sqrt(np.maximum(inside, beside / self._far_beside))
        return {view.name: each for view, each in zip(self.gate.views, found.tolist(), strict=True)}


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


def describe(
    tensor: np.ndarray, logits: np.ndarray, *, coarse: Coarse | None = None
) -> dict[str, np.ndarray]:
    """Describe an image and what the network made of it.

    Args:
        tensor: (C, H, W).
        logits: (K, h, w).
        coarse: Both on a coarse grid; None to work it out.

    Returns:
        A vector of float64 for each key of `VIEW_NAMES`.
    """
    coarse = coarse or coarsen(tensor, logits)
    assert coarse.image is not None  # a gate judges frames with their image
    grey = tensor[len(tensor) // 2]
    step = max(1, len(grey) // SAMPLED_ROWS)
    width = grey.shape[1]
    parts = np.concatenate([grey[:-1:step], grey[1::step]], axis=1, dtype=np.float32)
    pairs = cv2.convertScaleAbs(parts, alpha=_WHITE)
    rows, below = pairs[:, :width], pairs[:, width:]
    down = cv2.absdiff(below, rows)
    right = [cv2.absdiff(rows[:, apart:], rows[:, :-apart]) for apart in GRAIN_STEPS_PX]
    outlines = _lay_out(coarse.chances[1:], OUTLINES_PX)
    thumbnail = _lay_out(coarse.image, THUMBNAIL_PX)
    return {
        "outlines": outlines,
        "thumbnail": thumbnail,
        "texture": _lay_out(down[None], TEXTURE_PX) / _WHITE,
        "grain": _describe_grain([rows, down, *right]),
        "figures": _describe_figures(coarse, outlines, _average(thumbnail)),
    }


def _lay_out(planes: np.ndarray, side: int) -> np.ndarray:
    """Planes averaged over side x side cells, one after the other."""
    return shrink_planes(planes, (side, side)).ravel().astype(np.float64)


def _describe_grain(planes: Sequence[np.ndarray]) -> np.ndarray:
    """How often each brightness occurs, and each change over a few pixels, wherever it is."""
    levels = _WHITE + 1
    counts = np.empty((len(planes), levels, 1), np.float32)
    for plane, row in zip(planes, counts, strict=True):
        cv2.calcHist([plane], [0], None, [levels], [0, levels], row)
    sizes = np.array([plane.size for plane in planes], np.float64)
    shares = counts.reshape(len(planes), levels) / sizes[:, None]
    return np.asarray(np.sqrt(np.add.reduceat(shares.ravel(), _BIN_BEGINS)))


def _describe_figures(coarse: Coarse, outlines: np.ndarray, brightness: float) -> np.ndarray:
    """How sure the network is, how large the structures are, and how bright the image."""
    chances, surest, image = coarse.chances, coarse.surest, coarse.image
    assert image is not None
    cells = OUTLINES_PX * OUTLINES_PX
    sizes = np.add.reduceat(outlines, range(0, len(outlines), cells)) / cells
    variance = max(float(np.vdot(image, image)) / image.size - brightness**2, 0.0)
    return np.array([
        1 - float(np.vdot(chances, chances)) / surest.size, _average(surest),
        np.count_nonzero(surest < _UNSURE) / surest.size, *sizes,
        np.count_nonzero(image < _DARK) / image.size, brightness, math.sqrt(variance),
    ])  # fmt: skip


def _average(values: np.ndarray) -> float:
    """Mean, in half of the time that numpy's own takes for so few."""
    return float(np.add.reduce(values, axis=None)) / values.size


VIEW_NAMES: Mapping[str, str] = {
    "outlines": "what the network finds in it",
    "thumbnail": "its picture",
    "texture": "its texture",
    "grain": "its brightness and grain",
    "figures": "how sure the network is and how bright it is",
}
"""Descriptions of an image in words, by name."""
