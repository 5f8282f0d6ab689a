"""How sure a mask is, structure by structure, from one pass of the network.

A frame is described by sums over its pixels, so that the slices of a scan are described by the
sum of their sums. Features are ratios of them; a model of the bundle, calibrated on validation
units, turns features into a predicted Dice with an interval.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import cv2
import numpy as np

from bedside.pipeline.logits import softmax
from bedside.spec.confidence import Confidence, Confidences, StructureConfidence, StructureModel

STATISTICS = (
    "drawn", "expected", "agreed", "doubt", "inner_doubt", "band", "border", "brightness",
    "gradient", "dark_border", "pixels", "unsure", "light", "light_squared",
)  # fmt: skip
"""Sums over the pixels of a frame, for each structure; the last four are of the whole frame."""

IMAGE_FEATURES = ("inner_light", "border_gradient", "dark_border")
"""Features that need the image, not only the logits."""

_SIDE_PX = 64
_DARK = 0.04
_LOW, _HIGH = 0.1, 0.9
_CLIP = 3.0


def describe_frame(tensor: np.ndarray | None, logits: np.ndarray) -> np.ndarray:
    """Sums over the pixels of one frame, on a grid of at most 64 pixels a side.

    Args:
        tensor: (C, H, W) as the network takes it; None for the slice of a 3D network.
        logits: (K, h, w) as it gives them.

    Returns:
        (K - 1, `STATISTICS`) float64.
    """
    height, width = logits.shape[1:]
    factor = min(1.0, _SIDE_PX / max(height, width))
    size = max(1, round(factor * width)), max(1, round(factor * height))
    chances = np.stack([_shrink(plane.astype(np.float32, copy=False), size) for plane in logits])
    softmax(chances)
    labels = chances.argmax(axis=0)
    likely = chances[1:].reshape(len(chances) - 1, -1)
    masks = labels == np.arange(1, len(chances))[:, None, None]
    drawn = masks.reshape(likely.shape).astype(np.float32)
    doubt = likely * (1 - likely)
    grey = np.zeros(labels.shape, np.float32)
    if tensor is not None:
        grey = _shrink(tensor[len(tensor) // 2].astype(np.float32, copy=False), size)
    border, gradient, dark = _measure_border(masks, grey)
    ones = np.ones(len(likely))
    between = cv2.inRange(likely, _LOW, _HIGH)
    return np.stack([
        drawn.sum(axis=1), likely.sum(axis=1), np.einsum("kp,kp->k", likely, drawn),
        doubt.sum(axis=1), np.einsum("kp,kp->k", doubt, drawn),
        np.count_nonzero(between, axis=1), border, drawn @ grey.ravel(), gradient, dark,
        labels.size * ones, (labels.size - float(chances.max(axis=0).sum())) * ones,
        float(grey.sum()) * ones, float(np.vdot(grey, grey)) * ones,
    ], axis=1, dtype=np.float64)  # fmt: skip


def describe_slabs(
    slabs: Iterable[np.ndarray], described: list[np.ndarray]
) -> Iterator[np.ndarray]:
    """Pass slabs of logits on, (K, n, h, w), and append the sums of each of their slices."""
    for slab in slabs:
        described += [describe_frame(None, slab[:, index]) for index in range(slab.shape[1])]
        yield slab


def make_features(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Features of each structure, by name, from sums.

    Args:
        sums: (..., K - 1, `STATISTICS`) of a frame, or of all slices of a scan together.

    Returns:
        (..., K - 1) each.
    """
    of = {name: sums[..., index] for index, name in enumerate(STATISTICS)}
    drawn, border = np.maximum(of["drawn"], 1), np.maximum(of["border"], 1)
    all_drawn = np.maximum(of["drawn"].sum(axis=-1, keepdims=True), 1)
    light = of["light"] / of["pixels"]
    spread = np.sqrt(np.maximum(of["light_squared"] / of["pixels"] - light**2, 1e-6))
    lost = np.log(1.01 - 2 * of["agreed"] / np.maximum(of["drawn"] + of["expected"], 1))
    return {
        "lost": lost,
        "band": np.log((of["band"] + 1) / drawn),
        "border_doubt": of["doubt"] / border,
        "inner_doubt": of["inner_doubt"] / drawn,
        "most_lost": np.broadcast_to(lost.max(axis=-1, keepdims=True), lost.shape),
        "unsure": np.log(of["unsure"] / of["pixels"] + 1e-4),
        "size": np.log(drawn / of["pixels"]),
        "share": np.log(drawn / all_drawn),
        "inner_light": of["brightness"] / drawn / spread,
        "border_gradient": of["gradient"] / border / spread,
        "dark_border": of["dark_border"] / border,
    }


def score_features(model: StructureModel, features: np.ndarray) -> np.ndarray:
    """Weighted sum of features, (N, features), that rises with the Dice, (N,)."""
    scaled = np.clip((features - np.array(model.centre)) / np.array(model.scale), -_CLIP, _CLIP)
    return np.asarray(scaled @ np.array(model.weights) + scaled**2 @ np.array(model.squares))


class ConfidenceEstimator:
    """A bundle's calibration, ready for any number of images and threads.

    Args:
        confidence: The calibration.
        structures: Names of all structures of the bundle, in the order of its labels.
    """

    def __init__(self, confidence: Confidence, structures: Sequence[str]) -> None:
        self.confidence = confidence
        places = {name: index for index, name in enumerate(structures)}
        self._frames, self._scans = (
            [(places[model.structure], model) for model in models]
            for models in (confidence.frames, confidence.scans)
        )

    def find_model(self, structure: str, *, scan: bool = False) -> StructureModel | None:
        """Return the model of a structure; None without one."""
        models = self._scans if scan else self._frames
        return next((model for _, model in models if model.structure == structure), None)

    def assess(self, sums: np.ndarray, *, scan: bool = False) -> Confidences:
        """Predict the Dice of each structure.

        Args:
            sums: (K - 1, `STATISTICS`).
            scan: Whether they are those of all slices of a scan together.

        Returns:
            By name, of the structures that are drawn.
        """
        models = self._scans if scan else self._frames
        if not models:
            return {}
        features = make_features(sums)
        return {
            model.structure: _predict(model, features, place)
            for place, model in models
            if sums[place, 0] > 0
        }


def find_median(frames: Sequence[Confidences]) -> Confidences:
    """Return for each structure the frame that is the median by its predicted Dice."""
    found: dict[str, list[StructureConfidence]] = {}
    for frame in frames:
        for name, each in frame.items():
            found.setdefault(name, []).append(each)
    return {
        name: sorted(each, key=lambda one: one.predicted_dice)[(len(each) - 1) // 2]
        for name, each in found.items()
    }


def name_untrusted(confidence: Confidences) -> list[str]:
    """Warnings of structures that are not to be trusted."""
    return [
        f"{name}: the network is less sure of its mask than of nine in ten validation images; "
        "do not trust this structure."
        for name, found in confidence.items()
        if not found.trusted
    ]


def _predict(
    model: StructureModel, features: Mapping[str, np.ndarray], place: int
) -> StructureConfidence:
    row = np.array([[features[name][place] for name in model.features]])
    score = score_features(model, row)[0]
    dice = float(np.interp(score, model.scores, model.dice))
    low, high = model.bound_dice(dice)
    return StructureConfidence(
        round(dice, 4), round(low, 4), round(high, 4), trusted=dice >= model.least_dice
    )


def _measure_border(
    masks: np.ndarray, grey: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges between pixels within and outside each mask: number, contrast, and dark ones."""
    sums = np.zeros((3, len(masks)))
    dark = grey < _DARK
    for edges, contrast, both in (
        (masks[:, 1:] != masks[:, :-1], cv2.absdiff(grey[1:], grey[:-1]), dark[1:] & dark[:-1]),
        (
            masks[:, :, 1:] != masks[:, :, :-1],
            cv2.absdiff(grey[:, 1:], grey[:, :-1]),
            dark[:, 1:] & dark[:, :-1],
        ),
    ):
        flat = edges.reshape(len(masks), -1).astype(np.float32)
        seen = np.stack([np.ones(contrast.size, np.float32), contrast.ravel(), both.ravel()])
        sums += seen.astype(np.float32, copy=False) @ flat.T
    return sums[0], sums[1], sums[2]


def _shrink(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Average a plane over the cells of a grid of (width, height)."""
    if plane.shape == size[::-1]:
        return plane
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA))
