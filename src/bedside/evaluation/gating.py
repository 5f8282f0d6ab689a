"""Fits the gate of a bundle on training images, and counts what it accepts."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from bedside.datasets.case import Case, open_image
from bedside.errors import DataError, InputError
from bedside.evaluation.gate_contrast import describe_others, fit_contrast
from bedside.evaluation.gate_images import Described, describe_images
from bedside.evaluation.missing import vary_channels
from bedside.pipeline.gate import GateJudge, median_verdict, split_distance
from bedside.pipeline.gate_views import VIEW_NAMES
from bedside.pipeline.segmenter import Segmenter
from bedside.spec import CropCentre
from bedside.spec.gate import VERSION, Gate, GateView
from bedside.volume import ImageSequence

AXES = 8
"""Principal axes of a description."""

THRESHOLDS = (1.1, 1.75)
"""Least and largest distance from which on an image is foreign."""

MARGIN = 1.25
"""Factor by which that is above the largest distance of a validation case, within these bounds."""

FEWEST_IMAGES = 40
"""Training images below which no gate is fitted."""

_PEEKED = 15
_QUANTILE = 0.99
_FOLDS = 5
# Floor of a scale, as a part of the mean one: pixels that are constant in the training images,
# such as those outside of a sector, are not in those of another machine.
_FLOOR = 0.3


def fit_gate(
    segmenter: Segmenter,
    train: Sequence[Case],
    val: Sequence[Case],
    *,
    foreign: Mapping[str, Sequence[Case]] | None = None,
    on_case: Callable[[int], None] = lambda done: None,
) -> Gate:
    """Fit a gate on training images, and set its threshold by validation images.

    Where channels may be missing, each case is seen with all and without some of them.

    Args:
        segmenter: The network with its steps.
        train: Training cases.
        val: Validation cases.
        foreign: Cases of other kinds by name; those of half of the patients are contrasted with
            the training images. None to use the training images alone.
        on_case: Called with the number of training cases done.

    Raises:
        DataError: If there are too few images.
        InputError: If an image is refused.
    """
    images: list[Described] = []
    owners: list[str] = []
    for count, case in enumerate(train, 1):
        seen = vary_channels(open_image(case).sequence, segmenter.spec.input, number=count)
        found = [each for sequence in seen for each in describe_images(segmenter, sequence)]
        images += found
        owners += [case.patient_id] * len(found)
        on_case(count)
    if len(images) < FEWEST_IMAGES:
        raise DataError(
            f"there are {len(images)} training images; a gate needs at least {FEWEST_IMAGES}."
        )
    folds = np.unique(owners, return_inverse=True)[1] % _FOLDS
    described = [each.views for each in images]
    views = tuple(
        fit_view(name, np.stack([each[name] for each in described]), folds) for name in VIEW_NAMES
    )
    sides = find_sides(segmenter, images)
    others = describe_others(segmenter, foreign or {}, sides)
    gate = Gate(
        views,
        THRESHOLDS[1],
        images=len(described),
        contrast=fit_contrast(views, described, folds, others),
        version=VERSION,
        frame_px=sides,
    )
    return set_threshold(segmenter, gate, val)


def find_sides(segmenter: Segmenter, images: Sequence[Described]) -> tuple[int, int] | None:
    """Shortest and longest side of frames, where the network takes pixels as they are; else None.

    Such a network cuts so many pixels from the middle of a frame: another size of the frame is
    another scale, or another part of the body around what it takes.
    """
    steps = segmenter.spec.preprocess
    if not any(isinstance(step, CropCentre) and step.size_px for step in steps):
        return None
    sides = [side for each in images for side in each.frame_px or ()]
    return (min(sides), max(sides)) if sides else None


def set_threshold(segmenter: Segmenter, gate: Gate, val: Sequence[Case]) -> Gate:
    """Gate with a threshold somewhat beyond the validation cases, within bounds.

    Raises:
        InputError: If an image is refused.
    """
    distances = measure_cases(segmenter, gate, val, lacking=True)
    low, high = THRESHOLDS
    threshold = round(min(high, max(low, MARGIN * max(distances, default=high))), 3)
    accepted = sum(distance <= threshold for distance in distances)
    return replace(gate, threshold=threshold, accepted=accepted, checked=len(distances))


def measure_cases(
    segmenter: Segmenter, gate: Gate, cases: Iterable[Case], *, lacking: bool = False
) -> list[float]:
    """Distance of each case from the training images, the median over its frames.

    What cannot be opened or preprocessed is infinitely far.

    Args:
        segmenter: The network with its steps.
        gate: The gate.
        cases: What to measure.
        lacking: Whether each is measured once more without channels that may be missing.
    """
    distances: list[float] = []
    judge = GateJudge(gate)
    for number, case in enumerate(cases):
        try:
            sequence = open_image(case).sequence
        except InputError:
            distances.append(math.inf)
            continue
        seen = vary_channels(sequence, segmenter.spec.input, number=number)
        distances += [_measure(segmenter, judge, each) for each in (seen if lacking else seen[:1])]
    return distances


def _measure(segmenter: Segmenter, judge: GateJudge, sequence: ImageSequence) -> float:
    try:
        described = describe_images(segmenter, sequence)
    except InputError:
        return math.inf
    found = median_verdict([judge.judge_described(each.views, each.frame_px) for each in described])
    return math.inf if found is None else found.distance


def check_made_for(segmenter: Segmenter, cases: Sequence[Case]) -> None:
    """Refuse a data set of other images than the network was made for.

    Up to 15 cases are judged by the gate; without one nothing is.

    Raises:
        DataError: If more than half of them are foreign.
        InputError: If an image is refused.
    """
    judge = segmenter.pipeline.judge
    if judge is None:
        return
    chosen = [cases[index] for index in range(0, len(cases), -(-len(cases) // _PEEKED))]
    distances = measure_cases(segmenter, judge.gate, chosen)
    foreign = sum(distance > judge.gate.threshold for distance in distances)
    if 2 * foreign > len(chosen):
        raise DataError(
            f"{foreign} of {len(chosen)} images that were looked at are unlike those that "
            f"{segmenter.spec.name} was trained on ({segmenter.spec.input.view}): labels of the "
            "same number can mean other structures. Name its own kind of data, or pass --gate warn."
        )


def fit_view(name: str, vectors: np.ndarray, folds: np.ndarray) -> GateView:
    """Fit one view of a gate.

    Args:
        name: Its name.
        vectors: (N, size) descriptions of training images.
        folds: (N,) in which of several folds an image is held out; a patient's images together.
    """
    along, beside = np.zeros(len(vectors)), np.zeros(len(vectors))
    for fold in np.unique(folds):
        out = folds == fold
        if out.all():
            out = np.zeros(len(vectors), bool)
        mean, scale, axes, spread, residual = _fit(vectors[~out])
        rows = vectors[out] if out.any() else vectors
        positions, rest = split_distance(rows, mean=mean, scale=scale, axes=axes)
        chosen = out if out.any() else slice(None)
        along[chosen] = (positions**2 / spread).mean(axis=1)
        beside[chosen] = rest / residual
    mean, scale, axes, spread, residual = _fit(vectors)
    return GateView(
        name=name,
        mean=_round(mean),
        scale=_round(scale),
        axes=tuple(_round(axis) for axis in axes),
        spread=_round(spread),
        residual=float(residual),
        far_along=max(1.0, float(np.quantile(along, _QUANTILE))),
        far_beside=max(1.0, float(np.quantile(beside, _QUANTILE))),
    )


def _fit(
    vectors: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Mean, scale, principal axes, variance along them, and mean square beside them."""
    mean, variance = vectors.mean(axis=0), vectors.var(axis=0)
    scale = np.sqrt(variance + _FLOOR**2 * max(float(variance.mean()), 1e-12))
    scaled = (vectors - mean) / scale
    count = max(1, min(AXES, vectors.shape[1] - 2, len(vectors) // 4))
    _, singular, axes = np.linalg.svd(scaled, full_matrices=False)
    energy = singular**2 / len(vectors)
    # Nothing is expected to lie closer to the axes than a hundredth of all that varies.
    total = float(energy.sum()) + 1e-12
    spread = np.maximum(energy[:count], 1e-3 * total)
    return mean, scale, axes[:count], spread, max(float(energy[count:].sum()), 1e-2 * total)


def _round(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.5g}") for value in values)
