"""Where the network's input lies on the source frame, and the way back: pixel centres throughout."""

from dataclasses import dataclass

import cv2
import numpy as np

from bedside.volume import Box


@dataclass(frozen=True)
class Placement:
    """An axis-aligned map between source pixels and tensor pixels.

    The centre of source pixel (row, column) falls on tensor coordinate
    `(row + 0.5 - box.top) * scale[0] + offset[0] - 0.5`, and likewise for columns.

    Attributes:
        source_shape: (height, width) of the source frame.
        box: Part of the source that the tensor shows.
        scale: (row, column) tensor pixels for one source pixel.
        offset: (row, column) tensor pixels before the box begins.
    """

    source_shape: tuple[int, int]
    box: Box
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[int, int] = (0, 0)

    def project(self, labels: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
        """Carry labels from the source grid to the tensor's, by nearest neighbour.

        Args:
            labels: (height, width) uint8 on the source grid.
            size_px: (height, width) of the tensor.

        Returns:
            `size_px` uint8; 0 where the tensor shows nothing of the source.
        """
        (scale_y, scale_x), (offset_y, offset_x) = self.scale, self.offset
        writes_to = np.array(
            [
                [scale_x, 0, (0.5 - self.box.left) * scale_x + offset_x - 0.5],
                [0, scale_y, (0.5 - self.box.top) * scale_y + offset_y - 0.5],
            ]
        )
        placed: np.ndarray = cv2.warpAffine(
            labels, writes_to, (size_px[1], size_px[0]), flags=cv2.INTER_NEAREST
        )
        return placed

    def restore(self, logits: np.ndarray, *, stride: int) -> np.ndarray:
        """Carry logits back to the source grid and take the most likely class there.

        The logits are interpolated and only then compared, so that contours fall
        between the network's coarser pixels. Outside the box all is background.

        Args:
            logits: (K, h, w) float32 for the tensor, at a stride of `stride`.
            stride: Tensor pixels for one logit.

        Returns:
            (height, width) uint8 labels on the source grid.

        Example:
            >>> whole = Placement((4, 6), Box(0, 0, 4, 6))
            >>> logits = np.zeros((2, 4, 6), np.float32)
            >>> logits[1, 1:3, 2:5] = 1
            >>> whole.restore(logits - np.float32([[[0.5]], [[0]]]), stride=1)[1]
            array([0, 0, 1, 1, 1, 0], dtype=uint8)
        """
        box = self.box
        step_y, step_x = self.scale[0] / stride, self.scale[1] / stride
        # cv2 wants the map from destination (source frame) to where it reads (logits), x first.
        reads_at = np.array(
            [
                [step_x, 0, 0.5 * step_x + self.offset[1] / stride - 0.5],
                [0, step_y, 0.5 * step_y + self.offset[0] / stride - 0.5],
            ]
        )
        best = None
        labels = np.zeros((box.height, box.width), np.uint8)
        for value, plane in enumerate(logits):
            placed = cv2.warpAffine(
                np.ascontiguousarray(plane, np.float32),
                reads_at,
                (box.width, box.height),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
            if best is None:
                best = placed
                continue
            labels[placed > best] = value
            best = cv2.max(best, placed)
        frame = np.zeros(self.source_shape, np.uint8)
        frame[box.slices] = labels
        return frame
