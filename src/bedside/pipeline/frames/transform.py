"""The mapping between a source frame and the network's input: two rectangles."""

from dataclasses import dataclass

import cv2
import numpy as np

from bedside.errors import GeometryError
from bedside.pipeline.logits import check_grid, find_place, most_likely
from bedside.volume import Box

ALIGNMENT = 4
"""Tensor pixels that edges are placed by, so that they fall between logits of any stride."""


@dataclass(frozen=True)
class FrameTransform:
    """A rectangle of the source frame, and the rectangle of the tensor that shows it.

    Both are bounded by pixel edges, so one is the other, resized.

    Attributes:
        source_shape: (height, width) of the source frame.
        box: Part of the source that the tensor shows.
        inner: Part of the tensor that shows it.
    """

    source_shape: tuple[int, int]
    box: Box
    inner: Box

    def project(self, labels: np.ndarray, size_px: tuple[int, ...]) -> np.ndarray:
        """Labels on the tensor's grid, by nearest neighbour.

        Args:
            labels: (height, width) uint8 on the source grid.
            size_px: (height, width) of the tensor.

        Returns:
            `size_px` uint8; 0 where the tensor shows nothing of the source.

        Raises:
            GeometryError: If the labels are on another grid.
        """
        check_grid(labels.shape, self.source_shape, "the labels")
        tensor = np.zeros(size_px, np.uint8)
        size = (self.inner.width, self.inner.height)
        nearest = cv2.INTER_NEAREST_EXACT
        tensor[self.inner.slices] = cv2.resize(labels[self.box.slices], size, interpolation=nearest)
        return tensor

    def restore(
        self,
        logits: np.ndarray,
        *,
        stride: int,
        probabilities: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Labels on the source grid: logits are interpolated to it and compared there.

        Contours so fall between the network's coarser pixels. Outside the box all is background.

        Args:
            logits: (K, h, w) float32 for the tensor, at a stride of `stride`.
            stride: Tensor pixels for one logit.
            probabilities: (K, height, width) float32 that the softmax of the interpolated
                logits is written to; background has 1 outside the box.
            out: (height, width) uint8 that the labels are written to; None for a new array.

        Returns:
            (height, width) uint8 labels on the source grid.

        Raises:
            GeometryError: If an edge of `inner` falls inside a logit, or outside of all.

        Example:
            >>> whole = FrameTransform((1, 8), Box(0, 0, 1, 8), Box(0, 0, 1, 2))
            >>> whole.restore(np.float32([[[0, 0]], [[-1, 3]]]), stride=1)
            array([[0, 0, 0, 1, 1, 1, 1, 1]], dtype=uint8)
        """
        inner = self.inner
        edges = (inner.top, inner.left, inner.bottom, inner.right)
        if any(edge % stride for edge in edges):
            raise GeometryError(f"{inner} does not fall between logits at a stride of {stride}.")
        shown = Box(*(edge // stride for edge in edges))
        if logits.ndim != 3 or shown.bottom > logits.shape[1] or shown.right > logits.shape[2]:
            raise GeometryError(
                f"logits of {logits.shape} do not cover {inner} at a stride of {stride}."
            )
        place = find_place(
            (self.box.height, self.box.width),
            begin=(shown.top, shown.left),
            size=(shown.height, shown.width),
        )
        frame = np.empty(self.source_shape, np.uint8) if out is None else out
        frame.fill(0)
        chances = None
        if probabilities is not None:
            probabilities.fill(0)
            probabilities[0] = 1
            chances = probabilities[(slice(None), *self.box.slices)]
        frame[self.box.slices] = most_likely(logits, place, probabilities=chances)
        return frame
