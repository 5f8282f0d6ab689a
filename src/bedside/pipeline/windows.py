"""A network of fixed size over an input of any size: overlapping windows, blended."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from bedside.errors import SpecError
from bedside.spec import DeploymentSpec

Shape = tuple[int, ...]
# Part of a window that is one standard deviation of the weights of its blend.
_BLEND_SIGMA = 0.125
# Weight that the corners of a window keep, so that nothing is divided by zero.
_SMALLEST_WEIGHT = 1e-3


def window_origins(
    shape: Sequence[int], window: Sequence[int], *, overlap: float = 0.5
) -> list[Shape]:
    """Place windows over a grid so that every element is covered, border to border.

    Along each axis the first window touches the low border, the last one the high
    border, and the rest are spread evenly between, to the nearest element.

    Args:
        shape: Grid size, (D, H, W) or (H, W).
        window: Window size, same axes; at most the grid's.
        overlap: Fraction of a window that neighbours share at least, in [0, 1).

    Returns:
        Low corner of each window, last axis fastest.

    Raises:
        SpecError: If a window does not fit the grid, or `overlap` is out of range.

    Source:
        The even spread is nnU-Net's, Isensee et al. 2021, doi:10.1038/s41592-020-01008-z.

    Example:
        >>> window_origins((110,), (64,), overlap=0.5)
        [(0,), (23,), (46,)]
    """
    if not 0 <= overlap < 1:
        raise SpecError(f"overlap is {overlap}; expected at least 0 and below 1.")
    axes = []
    for size, side in zip(shape, window, strict=True):
        if side > size:
            raise SpecError(f"a window of {side} does not fit a grid of {size}; pad it first.")
        step = max(1.0, side * (1 - overlap))
        count = int(np.ceil((size - side) / step)) + 1
        axes.append(np.rint(np.linspace(0, size - side, count)).astype(int).tolist())
    return list(itertools.product(*axes))


def blend_weights(window: Sequence[int], blend: str) -> np.ndarray:
    """Weigh the elements of a window against those of its neighbours.

    Args:
        window: Window size.
        blend: "gaussian" for weights that fall from 1 at the centre, or "constant".

    Returns:
        (*window) float32 in (0, 1].
    """
    weights = np.ones(tuple(window), np.float32)
    if blend == "constant":
        return weights
    for axis, side in enumerate(window):
        distance = (np.arange(side) - (side - 1) / 2) / (_BLEND_SIGMA * side)
        shape = [1] * len(window)
        shape[axis] = side
        weights *= np.exp(-0.5 * distance**2).astype(np.float32).reshape(shape)
    floored: np.ndarray = np.maximum(weights, _SMALLEST_WEIGHT)
    return floored


def predict_windows(
    predict: Callable[[np.ndarray], np.ndarray],
    tensor: np.ndarray,
    window: Shape,
    *,
    stride: int,
    overlap: float,
    blend: str,
    on_window: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Run a network over a tensor, window by window, and blend the logits.

    Args:
        predict: From (1, C, *window) float32 to (1, K, *window / stride) logits.
        tensor: (C, *S) float32; sizes are multiples of `stride`, and at least the window's.
        window: What the network takes; multiples of `stride`.
        stride: Tensor elements for one logit.
        overlap: See `window_origins`.
        blend: See `blend_weights`.
        on_window: Called with the number of windows done, and of how many.

    Returns:
        (K, *S / stride) float32.
    """
    shape = tuple(size // stride for size in tensor.shape[1:])
    side = tuple(size // stride for size in window)
    if shape == side:
        whole: np.ndarray = predict(np.ascontiguousarray(tensor[None]))[0]
        on_window(1, 1)
        return whole
    weights = blend_weights(side, blend)
    origins = window_origins(shape, side, overlap=overlap)
    total: np.ndarray | None = None
    norm = np.zeros(shape, np.float32)
    for index, origin in enumerate(origins):
        inside = tuple(slice(low, low + size) for low, size in zip(origin, side, strict=True))
        source = tuple(slice(s.start * stride, s.stop * stride) for s in inside)
        logits = predict(np.ascontiguousarray(tensor[(None, slice(None), *source)]))[0]
        if total is None:
            total = np.zeros((len(logits), *shape), np.float32)
        total[(slice(None), *inside)] += logits * weights
        norm[inside] += weights
        on_window(index + 1, len(origins))
    assert total is not None  # window_origins gives one at least
    total /= norm
    return total


def predict_scan(
    predict: Callable[[np.ndarray], np.ndarray],
    tensor: np.ndarray,
    spec: DeploymentSpec,
    *,
    on_window: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Run a deployment's network over a scan as its spec says, in use and in validation alike.

    Args:
        predict: See `predict_windows`.
        tensor: (C, D, H, W) float32, as `prepare_volume` makes it.
        spec: Size and overlap of the windows, their blend, and the stride of the logits.
        on_window: See `predict_windows`.

    Returns:
        (K, D / stride, H / stride, W / stride) float32.
    """
    return predict_windows(
        predict,
        tensor,
        spec.input.size_px,
        stride=spec.model.logit_stride,
        overlap=spec.windows.overlap,
        blend=spec.windows.blend,
        on_window=on_window,
    )
