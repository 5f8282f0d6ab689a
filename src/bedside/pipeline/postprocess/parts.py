"""Masks of one label, and their connected components: in a frame by OpenCV, in a scan by cc3d."""

import cv2
import numpy as np

Window = tuple[slice, ...]


def cut_out(labels: np.ndarray, value: int, *, margin: tuple[int, ...] = ()) -> Window | None:
    """Find the smallest box that holds a label.

    Args:
        labels: (H, W) or (D, H, W) uint8.
        value: The label.
        margin: Border added along each axis, cut at the edge of the grid; none if empty.

    Returns:
        The box, or None if the label is nowhere.
    """
    if labels.ndim == 2:
        left, top, width, height = cv2.boundingRect(cv2.inRange(labels, value, value))
        if not width:
            return None
        window: Window = (slice(top, top + height), slice(left, left + width))
    else:
        box = _box_of_scan(labels, value)
        if box is None:
            return None
        window = box
    if not margin:
        return window
    return tuple(
        slice(max(0, side.start - border), min(size, side.stop + border))
        for side, border, size in zip(window, margin, labels.shape, strict=True)
    )


def _box_of_scan(labels: np.ndarray, value: int) -> Window | None:
    """Find the box of a label in (D, H, W), slice by slice, so that no mask is held whole."""
    found = []
    for index, plane in enumerate(labels):
        left, top, width, height = cv2.boundingRect(cv2.inRange(plane, value, value))
        if width:
            found.append((index, top, left, index + 1, top + height, left + width))
    if not found:
        return None
    spans = np.array(found)
    low, high = spans[:, :3].min(axis=0).tolist(), spans[:, 3:].max(axis=0).tolist()
    return tuple(slice(begin, end) for begin, end in zip(low, high, strict=True))


def mask_of(labels: np.ndarray, value: int) -> np.ndarray:
    """Mark a label with 255, uint8."""
    if labels.ndim == 2:
        return cv2.inRange(labels, value, value)
    mask: np.ndarray = (labels == value).astype(np.uint8)
    mask *= 255
    return mask


def components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tell connected components apart; corners connect.

    Args:
        mask: (H, W) or (D, H, W) uint8, not 0 inside.

    Returns:
        Integers of the same shape, 0 outside and 1, 2, ... inside; and the size of each
        component in pixels, the first one's first.
    """
    if mask.ndim == 2:
        _, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        return parts, stats[1:, cv2.CC_STAT_AREA]
    import cc3d

    # Its option for binary images fails on boxes that are one voxel thin (seen in 4.1.1).
    parts, count = cc3d.connected_components(mask, connectivity=26, return_N=True)
    return parts, np.bincount(parts.ravel(), minlength=count + 1)[1:]


def remove_parts(
    labels: np.ndarray, parts: np.ndarray, sizes: np.ndarray, dropped: np.ndarray
) -> tuple[int, int]:
    """Turn components into background.

    Args:
        labels: Changed in place.
        parts: As from `components`, of the same shape.
        sizes: As from `components`.
        dropped: For each component, whether it goes.

    Returns:
        How many went, and how many pixels.
    """
    count = int(np.count_nonzero(dropped))
    if count:
        gone = np.concatenate([[False], dropped])
        labels[gone[parts]] = 0
    return count, int(sizes[dropped].sum())
