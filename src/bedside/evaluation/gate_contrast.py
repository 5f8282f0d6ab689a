"""The contrast of a gate: training images against images of other kinds, by logistic regression.

Half of the patients of each kind are fitted to; the others are left to count what is refused.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from scipy.optimize import minimize

from bedside.datasets.case import Case, open_image
from bedside.errors import InputError
from bedside.evaluation.gate_images import describe_images, to_picture
from bedside.pipeline.gate import CONTRAST_LIMIT
from bedside.pipeline.segmenter import Segmenter
from bedside.spec.gate import GateContrast, GateView
from bedside.volume import ImageSequence

FOREIGN_CASES = 60
"""Cases of a kind that are fitted to, at most."""

_PLACES = (0.25, 0.5, 0.75)
_PENALTY = 1e-4
_QUANTILE = 0.99
# Where an image of another kind should lie, which is the largest threshold of a gate; and how much
# of the spread of the training images may be given up for it.
_WANTED, _LEAST_SPREAD = 1.75, 0.125

Descriptions = Sequence[Mapping[str, np.ndarray]]


def is_fitted_to(case: Case) -> bool:
    """Whether a case of another kind is one to fit to: those of half of the patients are."""
    return zlib.crc32(case.patient_id.encode()) % 2 == 0


def list_pictures(
    case: Case, segmenter: Segmenter, *, side_px: int | None = None
) -> list[ImageSequence]:
    """Images of a case as somebody may hand them in: some frames as pictures, or the scan.

    Args:
        case: Of another kind.
        segmenter: Whose gate is fitted.
        side_px: Side that pictures are shrunk or enlarged to; None to leave them as they are.
    """
    sequence = open_image(case).sequence
    if segmenter.spec.model.spatial_dims == 3:
        return [sequence]
    indices = sorted({int(place * len(sequence)) for place in _PLACES})
    grey = segmenter.spec.input.channels == 1 or segmenter.spec.input.neighbours > 0
    pictures = [to_picture(sequence.decode(index), grey=grey) for index in indices]
    if side_px is not None:
        size = (side_px, side_px)
        pictures = [cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in pictures]
    return [ImageSequence.from_array(np.ascontiguousarray(each)) for each in pictures]


def describe_foreign(
    segmenter: Segmenter,
    cases: Sequence[Case],
    *,
    side_px: int | None = None,
    on_case: Callable[[int], None] = lambda done: None,
) -> list[Mapping[str, np.ndarray]]:
    """Descriptions of images of another kind; those that are refused anyway are left out.

    Args:
        segmenter: The network with its steps.
        cases: All cases of a data set; some of those to fit to are taken.
        side_px: Side that pictures are shrunk or enlarged to; None to leave them as they are.
        on_case: Called with the number of cases done.
    """
    chosen = [case for case in cases if is_fitted_to(case)]
    described: list[Mapping[str, np.ndarray]] = []
    for count, index in enumerate(_spread(len(chosen)), 1):
        for image in list_pictures(chosen[index], segmenter, side_px=side_px):
            try:
                described += [each.views for each in describe_images(segmenter, image)]
            except InputError:
                continue
        on_case(count)
    return described


def fit_contrast(
    views: Sequence[GateView],
    own: Descriptions,
    folds: np.ndarray,
    foreign: Mapping[str, Descriptions],
) -> GateContrast | None:
    """Fit the contrast of a gate; None without any image of another kind.

    Args:
        views: Of the gate; their means and scales are used.
        own: Descriptions of the training images.
        folds: (N,) in which of several folds each of them is held out.
        foreign: Descriptions of images of other kinds, by their name; each kind weighs the same.
    """
    kinds = {name: _scale(views, each) for name, each in foreign.items() if each}
    if not kinds:
        return None
    rows = _scale(views, own)
    scores = np.zeros(len(rows))
    for fold in np.unique(folds):
        out = folds == fold
        if not out.all():
            weights, bias = _regress(rows[~out], list(kinds.values()))
            scores[out] = rows[out] @ weights + bias
    weights, bias = _regress(rows, list(kinds.values()))
    parts, begin = [], 0
    for view in views:
        size = len(view.mean)
        part = weights[begin : begin + size] / np.sqrt(size)
        parts.append(tuple(float(f"{value:.4g}") for value in part))
        begin += size
    far, deviation = float(np.quantile(scores, _QUANTILE)), float(scores.std()) + 1e-6
    others = np.concatenate([kind @ weights + bias for kind in kinds.values()])
    room = (float(np.quantile(others, 1 - _QUANTILE)) - far) / (_WANTED - 1)
    return GateContrast(
        weights=tuple(parts),
        bias=float(bias),
        far=far,
        spread=min(deviation, max(room, _LEAST_SPREAD * deviation)),
        images=sum(map(len, kinds.values())),
        kinds=tuple(kinds),
    )


def describe_others(
    segmenter: Segmenter, foreign: Mapping[str, Sequence[Case]], sides: tuple[int, int] | None
) -> dict[str, Descriptions]:
    """Descriptions of images of other kinds, by name.

    A network that takes pixels as they are from the middle of a frame sees little of a large
    picture. Its gate is contrasted with pictures of the size of its own frames too, as kinds of
    their own.

    Args:
        segmenter: The network with its steps.
        foreign: Cases by name of their data set.
        sides: Shortest and longest side of its frames, if it is such a network.
    """
    found: dict[str, Descriptions] = {}
    for name, cases in foreign.items():
        found[name] = describe_foreign(segmenter, cases)
        if sides is not None:
            side = sides[1]
            resized = describe_foreign(segmenter, cases, side_px=side)
            found[f"{name}, {side} x {side} pixels"] = resized
    return found


def _spread(count: int) -> list[int]:
    """At most `FOREIGN_CASES` of so many cases, spread evenly over them."""
    chosen = min(count, FOREIGN_CASES)
    return [index * count // chosen for index in range(chosen)]


def _scale(views: Sequence[GateView], described: Descriptions) -> np.ndarray:
    """Scaled descriptions, (N, numbers); each view has the same length, whatever its size."""
    parts = []
    for view in views:
        vectors = np.stack([each[view.name] for each in described])
        scaled = (vectors - np.array(view.mean)) / np.array(view.scale)
        scaled = np.clip(scaled, -CONTRAST_LIMIT, CONTRAST_LIMIT)
        parts.append(scaled / np.sqrt(len(view.mean)))
    return np.hstack(parts)


def _regress(own: np.ndarray, kinds: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """Weights and bias of a logistic regression; own and foreign images weigh the same."""
    rows = np.vstack([own, *kinds])
    signs = np.repeat([-1.0, 1.0], [len(own), len(rows) - len(own)])
    shares = [np.full(len(own), 0.5 / len(own))]
    shares += [np.full(len(kind), 0.5 / len(kinds) / len(kind)) for kind in kinds]
    share = np.concatenate(shares)

    def loss(found: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (rows @ found[:-1] + found[-1])
        slope = -signs * share / (1 + np.exp(np.clip(margins, -50, 50)))
        value = share @ np.logaddexp(0, -margins) + 0.5 * _PENALTY * found[:-1] @ found[:-1]
        return float(value), np.append(rows.T @ slope + _PENALTY * found[:-1], slope.sum())

    start = np.zeros(rows.shape[1] + 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    return found[:-1], float(found[-1])
