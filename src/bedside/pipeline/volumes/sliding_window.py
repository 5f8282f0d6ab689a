"""A network of fixed size over an input of any size: overlapping windows, blended."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bedside.errors import SpecError
from bedside.pipeline.logits import check_grid
from bedside.spec import DeploymentSpec

Shape = tuple[int, ...]
Run = Callable[[Callable[[Shape], np.ndarray], Sequence[Shape]], Iterator[np.ndarray]]
# Part of a window that is one standard deviation of the weights of its blend.
_BLEND_SIGMA = 0.125
# Weight that the corners of a window keep, so that nothing is divided by zero.
_SMALLEST_WEIGHT = 1e-3


@dataclass(frozen=True)
class SlidingWindow:
    """How a network of fixed size covers a larger tensor.

    Attributes:
        size: What the network takes, along each spatial axis; multiples of `stride`.
        stride: Tensor elements for one logit.
        overlap: See `window_origins`.
        blend: See `blend_weights`.
    """

    size: Shape
    stride: int = 1
    overlap: float = 0.5
    blend: str = "gaussian"


def plan_window(spec: DeploymentSpec) -> SlidingWindow:
    """The window of a deployment, in use and in validation alike."""
    stride, windows = spec.model.logit_stride, spec.windows
    return SlidingWindow(spec.input.size_px, stride, windows.overlap, windows.blend)


def window_origins(
    shape: Sequence[int], window: Sequence[int], *, overlap: float = 0.5
) -> list[Shape]:
    """Corners of windows that cover a grid, border to border.

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
    """Weights of the elements of a window against overlapping ones.

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
    window: SlidingWindow,
    *,
    on_window: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Run a network over a tensor, window by window, and blend the logits.

    Args:
        predict: As in `predict_slabs`.
        tensor: (C, *S) float32; sizes are multiples of the stride, and at least the window's.
        window: How the network covers it.
        on_window: Called with the number of windows done, and of how many.

    Returns:
        (K, *S / stride) float32.
    """
    slabs = predict_slabs(
        predict,
        lambda inside: tensor[(slice(None), *inside)],
        tensor.shape[1:],
        window,
        on_window=on_window,
    )
    return np.concatenate([slab.copy() for slab in slabs], axis=1)


def predict_slabs(
    predict: Callable[[np.ndarray], np.ndarray],
    read: Callable[[tuple[slice, ...]], np.ndarray],
    shape: Shape,
    window: SlidingWindow,
    *,
    on_window: Callable[[int, int], None] = lambda done, total: None,
    run: Run = map,
) -> Iterator[np.ndarray]:
    """Run a network window by window, and yield the logits slab by slab as they are finished.

    Windows go along the first axis last: never more logits are held than one window is long.

    Args:
        predict: From (1, C, *window) float32 to (1, K, *window / stride) logits.
        read: Returns the part of a tensor (C, *S) that slices of its spatial axes name.
        shape: S, of that tensor.
        window: How the network covers it.
        on_window: As in `predict_windows`.
        run: Yields the logits of one window after another, (K, *window / stride); as `map`, or
            ahead of what is done with them here.

    Yields:
        (K, n, *S[1:] / stride) float32, slab after slab along the first axis; together
        S[0] / stride. Each holds only until the next is asked for.

    Raises:
        GeometryError: If the network gives logits of another size.
    """
    stride = window.stride
    shape = tuple(size // stride for size in shape)
    side = tuple(size // stride for size in window.size)
    weights = blend_weights(side, window.blend)
    origins = window_origins(shape, side, overlap=window.overlap)
    total: np.ndarray | None = None
    norm = np.zeros((side[0], *shape[1:]), np.float32)
    predict_at = functools.partial(_predict_at, predict=predict, read=read, window=window)
    for number, (origin, logits) in enumerate(
        zip(origins, run(predict_at, origins), strict=True), 1
    ):
        inside = tuple(slice(low, low + size) for low, size in zip(origin, side, strict=True))
        check_grid(logits.shape[1:], side, "logits of a window")
        on_window(number, len(origins))
        if shape == side:
            yield logits
            return
        if total is None:
            total = np.zeros((len(logits), *norm.shape), np.float32)
        across = (slice(None), *inside[1:])
        total[:, *across] += logits * weights
        norm[across] += weights
        # Up to where the next window begins, or all.
        done = origins[number][0] - origin[0] if number < len(origins) else side[0]
        if done:
            total[:, :done] /= norm[:done]
            yield total[:, :done]
            for held in (*total, norm):  # one by one: numpy copies what it moves within itself
                held[: side[0] - done] = held[done:]
                held[side[0] - done :] = 0


def _predict_at(
    origin: Shape,
    *,
    predict: Callable[[np.ndarray], np.ndarray],
    read: Callable[[tuple[slice, ...]], np.ndarray],
    window: SlidingWindow,
) -> np.ndarray:
    """Logits of the window at a corner, given in logits; see `predict_slabs`."""
    begins = [low * window.stride for low in origin]
    source = tuple(slice(low, low + size) for low, size in zip(begins, window.size, strict=True))
    found: np.ndarray = predict(np.ascontiguousarray(read(source)[None], np.float32))[0]
    return found
