"""Checks of anatomical priors, and their repairs where there are any."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from bedside.pipeline.postprocess.changes import LabelEdit
from bedside.pipeline.postprocess.components import (
    components,
    cut_out,
    mask_of,
    remove_parts,
    weigh_parts,
)
from bedside.pipeline.postprocess.grid import LabelGrid
from bedside.pipeline.postprocess.morphology import touching
from bedside.spec import (
    ComponentCount,
    Eccentricity,
    LeftRight,
    NotTouching,
    Prior,
    Size,
    Surrounds,
)

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def check_priors(
    labels: np.ndarray, priors: Sequence[Prior], *, grid: LabelGrid
) -> list[LabelEdit]:
    """Check every prior; an absent structure violates none.

    Args:
        labels: (H, W) or (D, H, W) uint8; changed in place where a prior repairs.
        priors: In order.
        grid: Scale and direction of the labels.
    """
    return [found for prior in priors for found in CHECKERS[type(prior)](labels, prior, grid)]


def _components(labels: np.ndarray, prior: ComponentCount, grid: LabelGrid) -> Iterator[LabelEdit]:
    window = cut_out(labels, prior.label)
    if window is None:
        return
    inside = labels[window]
    parts, sizes = components(mask_of(inside, prior.label))
    if len(sizes) <= prior.most:
        return
    if prior.action == "report":
        expected = f"{{value}} components, at most {prior.most} expected"
        yield LabelEdit(
            prior.step, prior.named, "reported", len(sizes), value=len(sizes), expected=expected
        )
        return
    dropped = np.ones(len(sizes), bool)
    shares = None if grid.shares is None else grid.shares[window[0]]
    amounts = weigh_parts(parts, sizes, shares)
    dropped[np.argsort(-amounts, kind="stable")[: prior.most]] = False
    yield LabelEdit(
        prior.step, prior.named, "removed", *remove_parts(inside, parts, sizes, dropped)
    )


def _encloses(labels: np.ndarray, prior: Surrounds, grid: LabelGrid) -> Iterator[LabelEdit]:
    window = cut_out(labels, prior.inner, margin=(1,) * labels.ndim)
    if window is None:
        return
    inside, named = labels[window], (prior.inner, prior.outer)
    parts, sizes = components(mask_of(inside, prior.inner))
    met = np.unique(parts[touching(mask_of(inside, prior.outer)) > 0])
    apart = ~np.isin(np.arange(1, len(sizes) + 1), met)
    if apart.any():
        if prior.action == "repair":
            yield LabelEdit(
                prior.step, named, "removed", *remove_parts(inside, parts, sizes, apart)
            )
        else:
            count, pixels = int(apart.sum()), int(sizes[apart].sum())
            expected = "{value} components apart from {other}, none expected"
            yield LabelEdit(prior.step, named, "reported", count, pixels, count, expected)
    share = _open_share(inside, prior)
    if share > prior.most_open:
        expected = (
            f"{{value}} % of its outline is not enclosed by {{other}}, at most "
            f"{100 * prior.most_open:g} % expected"
        )
        yield LabelEdit(prior.step, named, "reported", value=100 * share, expected=expected)


def _open_share(labels: np.ndarray, prior: Surrounds) -> float:
    """Share of the inner structure's outline that touches what it should not."""
    inner = labels == prior.inner
    fine = np.isin(labels, (prior.inner, prior.outer, *prior.open_to))
    outline = inner & ~_eroded(inner, beyond=False)
    # Beyond the edge of the image nobody knows what lies; that counts as enclosed.
    exposed = inner & ~_eroded(fine, beyond=True)
    total = np.count_nonzero(outline)
    return float(np.count_nonzero(exposed) / total) if total else 0.0


def _apart(labels: np.ndarray, prior: NotTouching, grid: LabelGrid) -> Iterator[LabelEdit]:
    window = cut_out(labels, prior.second, margin=(1,) * labels.ndim)
    if window is None:
        return
    inside = labels[window]
    meets = touching(mask_of(inside, prior.first)) & mask_of(inside, prior.second)
    count = int(np.count_nonzero(meets))
    if not count:
        return
    if prior.action == "repair":
        inside[meets > 0] = 0
        yield LabelEdit(prior.step, prior.named, "removed", 0, count)
    else:
        expected = "{value} px touch {other}, none expected"
        yield LabelEdit(prior.step, prior.named, "reported", value=count, expected=expected)


def _size(labels: np.ndarray, prior: Size, grid: LabelGrid) -> Iterator[LabelEdit]:
    pixels = int(np.count_nonzero(labels == prior.label))
    if not pixels:
        return
    if prior.unit == "px":
        size = float(pixels)
    elif grid.spacing_mm is None:
        reason = "the scale of the image is not known"
        yield LabelEdit(prior.step, prior.named, "skipped", expected=reason)
        return
    else:
        size = float(pixels)
        if grid.shares is not None:
            size = float(grid.shares @ np.count_nonzero(labels == prior.label, axis=(1, 2)))
        size = size * math.prod(grid.spacing_mm) / (1e3 if prior.unit == "ml" else 1)
    if size < prior.least or (prior.most is not None and size > prior.most):
        limits = [f"at least {prior.least:g}"] if prior.least else []
        limits += [f"at most {prior.most:g}"] if prior.most is not None else []
        expected = f"{{value}} {prior.unit}, {' and '.join(limits)} expected"
        yield LabelEdit(prior.step, prior.named, "reported", value=size, expected=expected)


def _eccentricity(labels: np.ndarray, prior: Eccentricity, grid: LabelGrid) -> Iterator[LabelEdit]:
    value = measure_eccentricity(labels == prior.label, grid.spacing_mm, places=grid.places)
    if value is not None and not prior.least <= value <= prior.most:
        expected = f"eccentricity {{value}}, {prior.least:g} to {prior.most:g} expected"
        yield LabelEdit(prior.step, prior.named, "reported", value=value, expected=expected)


def measure_eccentricity(
    mask: np.ndarray, spacing_mm: tuple[float, ...] | None, *, places: np.ndarray | None = None
) -> float | None:
    """Eccentricity of a mask; see `bedside.spec.Eccentricity`.

    Args:
        mask: Boolean, (H, W) or (D, H, W).
        spacing_mm: Along its axes; None to measure in pixels.
        places: Where uneven slices lie, in mean slices, (D,); None where all are alike.

    Returns:
        In [0, 1); None of a mask that is empty.

    Example:
        >>> round(measure_eccentricity(np.ones((10, 20), bool), None), 3)
        0.866
    """
    index = np.argwhere(mask)
    if not len(index):
        return None
    at = index.astype(np.float64)
    if places is not None:
        at[:, 0] = places[index[:, 0]]
    lengths = np.asarray(spacing_mm or (1.0,) * mask.ndim)
    # A pixel is no point: its own second moment is a twelfth of its side's square.
    moments = np.cov(at * lengths, rowvar=False, bias=True) + np.diag(lengths**2) / 12
    shortest, *_, longest = np.linalg.eigvalsh(moments)
    return math.sqrt(max(0.0, 1 - shortest / longest))


def _left_right(labels: np.ndarray, prior: LeftRight, grid: LabelGrid) -> Iterator[LabelEdit]:
    masks = [labels == value for value in prior.named]
    if not all(mask.any() for mask in masks):
        return
    leftward: tuple[float, ...] | None = grid.left
    if prior.of == "picture":
        leftward = (*(0.0,) * (labels.ndim - 1), -1.0)
    if leftward is None:
        reason = "the file does not say where the patient's left is"
        yield LabelEdit(prior.step, prior.named, "skipped", expected=reason)
        return
    left, right = (float(np.dot(_centre(mask, grid.places), leftward)) for mask in masks)
    if left >= right:
        return
    if prior.action == "repair":
        for mask, value in zip(masks, reversed(prior.named), strict=True):
            labels[mask] = value
        pixels = int(sum(np.count_nonzero(mask) for mask in masks))
        yield LabelEdit(prior.step, prior.named, "exchanged", 0, pixels)
    else:
        expected = f"lies to the right of {{other}}, as the {prior.of} is seen; left expected"
        yield LabelEdit(prior.step, prior.named, "reported", expected=expected)


def _eroded(mask: np.ndarray, *, beyond: bool) -> np.ndarray:
    """Mask eroded by its face neighbours; `beyond` is the value outside."""
    if mask.ndim == 2:
        kept = cv2.erode(
            mask.view(np.uint8), _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=int(beyond)
        )
        return kept.view(np.bool_)
    # It is imported where a scan needs it, since it takes 0.2 s.
    from scipy import ndimage

    return np.asarray(ndimage.binary_erosion(mask, border_value=int(beyond)))


def _centre(mask: np.ndarray, places: np.ndarray | None) -> np.ndarray:
    """Centroid of a nonempty mask in elements; uneven slices at their heights."""
    if mask.ndim == 2:
        moments = cv2.moments(mask.view(np.uint8), binaryImage=True)
        return np.array([moments["m01"], moments["m10"]]) / moments["m00"]
    from scipy import ndimage

    centre = np.array(ndimage.center_of_mass(mask))
    if places is not None:
        centre[0] = np.average(places, weights=np.count_nonzero(mask, axis=(1, 2)))
    return centre


CHECKERS: Mapping[type, Callable[[np.ndarray, Any, LabelGrid], Iterator[LabelEdit]]] = {
    ComponentCount: _components,
    Surrounds: _encloses,
    NotTouching: _apart,
    Size: _size,
    Eccentricity: _eccentricity,
    LeftRight: _left_right,
}
