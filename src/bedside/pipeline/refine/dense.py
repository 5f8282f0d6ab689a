"""A dense conditional random field: every pixel votes for every other, in time linear in pixels."""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from scipy import sparse

from bedside.pipeline.refine.local import softmax
from bedside.spec import DenseCrf

_CELLS = 2.0
"""Cells of a grid for one standard deviation; more is finer and slower."""
_SPREAD = 1 / 3
"""Variance in cells that linear spreading into a grid and linear reading add: 1/6 each."""
_TAILS = 4.0
"""Standard deviations after which a kernel is cut."""

Sum = Callable[[np.ndarray], np.ndarray]
"""From (K, pixels) float32 to its sums over all pixels, weighted by a kernel, same shape."""


def refine_dense(logits: np.ndarray, guide: np.ndarray, step: DenseCrf, stride: int) -> np.ndarray:
    """Run mean-field rounds of a fully connected field with two Gaussian kernels.

    With Q the softmax of the logits so far and k a kernel, a round makes the logits
    L_i + sum over kernels of weight * sum_(j != i) k_ij Q_j / sqrt(n_i n_j), where L are
    those of the network and n_i = sum_j k_ij. The kernel that knows place only is a blur. The
    one that knows intensity too is taken on a bilateral grid: each pixel is spread over the
    corners of its cell in place and intensity, the grid is blurred along its axes, and read
    where the pixel is.

    Args:
        logits: (K, h, w) float32; not changed.
        guide: (h, w) float32 in [0, 1].
        step: Widths and weights of the kernels, and the number of rounds.
        stride: Tensor pixels for one logit: widths in place are in tensor pixels.

    Returns:
        (K, h, w) float32.

    Source:
        Mean field: Krähenbühl and Koltun 2011, arXiv:1210.5644. Bilateral grid: Chen, Paris
        and Durand 2007, doi:10.1145/1276377.1276506.
    """
    unary = np.array(logits.reshape(len(logits), -1), np.float32)
    messages: list[Sum] = []
    if step.smooth_weight:
        kernel, own = _place_kernel(guide.shape, step.smooth_px / stride)
        messages.append(_message(kernel, own, step.smooth_weight))
    if step.weight:
        reach = step.reach_px / stride
        rows, columns = np.indices(guide.shape, np.float32).reshape(2, -1)
        features = (rows, columns, guide.ravel())
        kernel, own = _grid_kernel(features, (reach, reach, step.sigma))
        messages.append(_message(kernel, own, step.weight))
    total = unary.copy()
    for _ in range(step.rounds):
        softmax(total)
        votes = [message(total) for message in messages]
        total = np.add(unary, votes[0], out=total)
        for vote in votes[1:]:
            total += vote
    return total.reshape(logits.shape)


def _message(kernel: Sum, own: np.ndarray, weight: float) -> Sum:
    """Normalise a kernel, weigh it, and take out what a pixel says of itself.

    Args:
        kernel: Sums over all pixels.
        own: (pixels,) the kernel between a pixel and itself.
        weight: Strength in logits.
    """
    norm = np.maximum(kernel(np.ones((1, len(own)), np.float32))[0], own)
    scale = np.float32(math.sqrt(weight)) / np.sqrt(norm)
    itself = np.float32(weight) * own / norm

    def send(chances: np.ndarray) -> np.ndarray:
        votes = kernel(chances * scale)
        votes *= scale
        votes -= chances * itself
        return votes

    return send


def _place_kernel(shape: tuple[int, ...], sigma: float) -> tuple[Sum, np.ndarray]:
    """Sum over neighbours in place, by a separable blur; beyond the image is nothing."""
    taps = _gaussian(sigma)

    def blur(values: np.ndarray) -> np.ndarray:
        planes = values.reshape(-1, *shape)
        blurred = [
            cv2.sepFilter2D(plane, -1, taps, taps, borderType=cv2.BORDER_CONSTANT)
            for plane in planes
        ]
        return np.stack(blurred).reshape(values.shape)

    return blur, np.ones(math.prod(shape), np.float32)


def _grid_kernel(features: Sequence[np.ndarray], sigmas: Sequence[float]) -> tuple[Sum, np.ndarray]:
    """Sum over pixels that are alike in all features, by a grid that is coarser than they are.

    Args:
        features: (pixels,) float32 each.
        sigmas: Standard deviation of the kernel along each feature.
    """
    pixels = len(features[0])
    corners, weights = np.zeros((pixels, 1), np.int32), np.ones((pixels, 1), np.float32)
    own = np.ones(pixels, np.float32)
    taps = _gaussian(math.sqrt(_CELLS**2 - _SPREAD))
    middle, beside = taps[len(taps) // 2 :][:2]
    shape = []
    for feature, sigma in zip(features, sigmas, strict=True):
        position = (feature - feature.min()) * np.float32(_CELLS / sigma)
        floor = position.astype(np.int32)
        rest = position - floor
        own *= middle * ((1 - rest) ** 2 + rest**2) + 2 * beside * rest * (1 - rest)
        shape.append(int(floor.max()) + 2)
        pair = np.stack([floor, floor + 1], axis=1)[:, None]
        share = np.stack([1 - rest, rest], axis=1)[:, None]
        corners = (corners[:, :, None] * shape[-1] + pair).reshape(pixels, -1)
        weights = (weights[:, :, None] * share).reshape(pixels, -1)
    starts = np.arange(0, corners.size + 1, corners.shape[1], dtype=np.int32)
    entries = (weights.ravel(), corners.ravel(), starts)
    read = sparse.csr_array(entries, shape=(pixels, math.prod(shape)))
    spread = read.T.tocsr()
    bands = [_band(size, taps) for size in shape]

    def blur(values: np.ndarray) -> np.ndarray:
        grid = spread @ np.ascontiguousarray(values.T)
        count = grid.shape[1]
        for axis, band in enumerate(bands):
            blocks = grid.reshape(math.prod(shape[:axis]), shape[axis], -1)
            grid = np.matmul(band, blocks)
        return np.ascontiguousarray((read @ grid.reshape(-1, count)).T)

    return blur, own


def _gaussian(sigma: float) -> np.ndarray:
    """Return the taps of a Gaussian, 1 in the middle."""
    reach = max(1, math.ceil(_TAILS * sigma))
    offsets = np.arange(-reach, reach + 1)
    taps: np.ndarray = np.exp(-0.5 * (offsets / sigma) ** 2).astype(np.float32)
    return taps


def _band(size: int, taps: np.ndarray) -> np.ndarray:
    """Write a blur of `size` elements as a (size, size) matrix; beyond them is nothing."""
    places = np.arange(size)
    offsets = np.abs(places[:, None] - places)
    half = taps[len(taps) // 2 :]
    band: np.ndarray = np.where(offsets < len(half), half[np.minimum(offsets, len(half) - 1)], 0)
    return band
