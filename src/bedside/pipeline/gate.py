"""Is this what the network was made for? Judged from its own input and output, in one pass.

An image is described five ways: its outlines as the network draws them, its thumbnail, its texture,
its grain, and figures such as how sure the network is. Each is compared with the training images;
all together they may be compared with images of other kinds too.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from bedside.spec.gate import Gate, GateContrast, GateView

JUDGED_FRAMES = 7
"""Frames of a sequence that are judged at most."""

THUMBNAIL_PX, TEXTURE_PX, OUTLINES_PX = 12, 6, 8
BRIGHTNESS_BINS, CHANGE_BINS = 16, 10
GRAIN_STEPS_PX, GRAIN_ROWS = (1, 2, 4), 8
CONTRAST = "contrast"
CONTRAST_LIMIT = 6.0
"""Scaled numbers beyond it count as this in a contrast."""

_SLICES = (0.25, 0.5, 0.75)
_LOGITS_PX = 32
_UNSURE = 0.8
_DARK = 0.02


@dataclass(frozen=True)
class GateVerdict:
    """How far an image is from what a network was made for.

    Attributes:
        distance: Distance as a multiple of what 99 % of the training images stay within.
        view: In what it is farthest; a key of `VIEWS`, or `CONTRAST`.
    """

    distance: float
    view: str


class GateJudge:
    """A gate, ready to judge any number of images from any number of threads.

    Args:
        gate: Of a network's bundle.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._views = [(view, _Numbers.of(view)) for view in gate.views]
        self._weights = [np.array(row) for row in gate.contrast.weights] if gate.contrast else []

    def judge(self, tensor: np.ndarray, logits: np.ndarray) -> GateVerdict:
        """Measure how far an image is from the training images.

        Args:
            tensor: (C, H, W) as the network takes it.
            logits: (K, h, w) as it gives them.
        """
        described = describe(tensor, logits)
        scaled = [
            (described[view.name] - numbers.mean) / numbers.scale for view, numbers in self._views
        ]
        distances = {
            view.name: _measure(view, numbers, vector)
            for (view, numbers), vector in zip(self._views, scaled, strict=True)
        }
        contrast = self.gate.contrast
        if contrast is not None:
            distances[CONTRAST] = measure_contrast(contrast, score_contrast(scaled, self._weights))
        farthest = max(distances, key=lambda name: distances[name])
        return GateVerdict(distances[farthest], farthest)

    def judge_window(self, tensor: np.ndarray, logits: np.ndarray) -> list[GateVerdict]:
        """Judge a window of a scan by some of its slices.

        Args:
            tensor: (C, D, H, W) as the network takes it.
            logits: (K, d, h, w) as it gives them.
        """
        return [self.judge(*passed) for passed in slice_window(tensor, logits)]


@dataclass(frozen=True)
class _Numbers:
    """The numbers of a view as arrays."""

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, view: GateView) -> "_Numbers":
        """Numbers of a view."""
        return cls(*map(np.array, (view.mean, view.scale, view.axes, view.spread)))


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
    return (
        f"this looks unlike {made_for}: in {VIEW_NAMES[verdict.view]} it is "
        f"{verdict.distance:.1f} times as far from the {gate.images} training images as 99 % of "
        "them are"
    )


def _measure(view: GateView, numbers: _Numbers, scaled: np.ndarray) -> float:
    """Distance of a scaled description from the training images, as a multiple of the far ones."""
    positions = numbers.axes @ scaled
    beside = max(float((scaled**2).sum() - (positions**2).sum()), 0.0)
    inside = float((positions**2 / numbers.spread).mean())
    outside = beside / view.residual
    return math.sqrt(max(inside / view.far_along, outside / view.far_beside))


def score_contrast(scaled: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> float:
    """Weighted sum of scaled descriptions, without the bias."""
    return sum(
        float(row @ np.clip(vector, -CONTRAST_LIMIT, CONTRAST_LIMIT))
        for vector, row in zip(scaled, weights, strict=True)
    )


def measure_contrast(contrast: GateContrast, score: float) -> float:
    """Distance by a score without its bias: 1 at that of a far training image, 0 or more."""
    return max(0.0, 1.0 + (score + contrast.bias - contrast.far) / contrast.spread)


def split_distance(
    vectors: np.ndarray, *, mean: np.ndarray, scale: np.ndarray, axes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions along the axes, (N, axes), and squared distances beside them, (N,)."""
    scaled = (vectors - mean) / scale
    along = scaled @ axes.T
    beside = np.maximum((scaled**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
    return along, beside


def describe(tensor: np.ndarray, logits: np.ndarray) -> dict[str, np.ndarray]:
    """Describe an image and what the network made of it.

    Args:
        tensor: (C, H, W).
        logits: (K, h, w).

    Returns:
        A vector of float64 for each key of `VIEWS`.
    """
    small = np.stack([_shrink(each, _LOGITS_PX) for each in logits.astype(np.float32, copy=False)])
    small -= small.max(axis=0)
    np.exp(small, out=small)
    small /= small.sum(axis=0)
    image = tensor.astype(np.float32, copy=False)
    return {name: view(image, small).astype(np.float64) for name, view in VIEWS.items()}


def _describe_outlines(image: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """Where the network sees each structure, coarsely."""
    return np.concatenate([_shrink(each, OUTLINES_PX).ravel() for each in chances[1:]])


def _describe_thumbnail(image: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """The image, coarsely."""
    return np.concatenate([_shrink(channel, THUMBNAIL_PX).ravel() for channel in _thin(image)])


def _describe_texture(image: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """How much the image changes from pixel to pixel, coarsely."""
    grey = _thin(image)[len(image) // 2]
    return _shrink(cv2.absdiff(grey, cv2.blur(grey, (5, 5))), TEXTURE_PX).ravel()


def _describe_grain(image: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """How often each brightness occurs, and each change over a few pixels, wherever it is."""
    grey = image[len(image) // 2]
    rows = np.ascontiguousarray(grey[: -max(GRAIN_STEPS_PX) : GRAIN_ROWS])
    parts = [_count(rows, BRIGHTNESS_BINS)]
    for step in GRAIN_STEPS_PX:
        below = np.ascontiguousarray(grey[step::GRAIN_ROWS][: len(rows)])
        right = np.ascontiguousarray(rows[:, step:])
        for one, other in ((below, rows), (right, np.ascontiguousarray(rows[:, :-step]))):
            parts.append(_count(cv2.sqrt(cv2.absdiff(one, other)), CHANGE_BINS))
    return np.concatenate(parts)


def _thin(image: np.ndarray) -> np.ndarray:
    """Every second pixel of every second row, which keeps texture and costs a quarter."""
    return np.ascontiguousarray(image[:, ::2, ::2])


def _count(plane: np.ndarray, bins: int) -> np.ndarray:
    """Roots of the shares of pixels in even bins of [0, 1]; what lies outside counts nowhere."""
    counts = cv2.calcHist([plane], [0], None, [bins], [0.0, 1.0 + 1e-6]).ravel()
    return np.sqrt(counts / plane.size)


def _describe_figures(image: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """How sure the network is, how large the structures are, and how bright the image."""
    surest = chances.max(axis=0)
    entropy = -(chances * np.log(chances + 1e-6)).sum(axis=0)
    image = _thin(image)
    mean, deviation = cv2.meanStdDev(image.reshape(-1, 1))
    return np.array([
        entropy.mean(), surest.mean(), (surest < _UNSURE).mean(), *chances[1:].mean(axis=(1, 2)),
        (image < _DARK).mean(), mean[0, 0], deviation[0, 0],
    ])  # fmt: skip


VIEWS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "outlines": _describe_outlines,
    "thumbnail": _describe_thumbnail,
    "texture": _describe_texture,
    "grain": _describe_grain,
    "figures": _describe_figures,
}
"""Descriptions, from the tensor and class probabilities of 32 x 32 pixels."""

VIEW_NAMES = {
    "outlines": "what the network finds in it",
    "thumbnail": "its picture",
    "texture": "its texture",
    "grain": "its brightness and grain",
    "figures": "how sure the network is and how bright it is",
}


def _shrink(plane: np.ndarray, side: int) -> np.ndarray:
    """Average a plane over side x side cells."""
    return np.asarray(cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA))
