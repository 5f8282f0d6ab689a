"""Masks of one label, and their connected components: in a frame by OpenCV, in a scan by cc3d."""

import cv2
import numpy as np

Window = tuple[slice, ...]


def cut_out(labels: np.ndarray, value: int, *, margin: tuple[int, ...] = ()) -> Window | None:
    """Bounding box of a label.

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
    """Bounding box of a label in (D, H, W), slice by slice, so that no mask is held whole."""
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
    """Mask of a label, 255 inside, uint8."""
    if labels.ndim == 2:
        return cv2.inRange(labels, value, value)
    mask: np.ndarray = (labels == value).astype(np.uint8)
    mask *= 255
    return mask


def components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected components; corners connect.

    Args:
        mask: (H, W) or (D, H, W) uint8, not 0 inside.

    Returns:
        Integers of the same shape, 0 outside and 1, 2, ... inside; and the size of each
        component in pixels, the first one's first.
    """
    if mask.ndim == 2:
        # Statistics from OpenCV take six times as long as the components themselves.
        count, parts = cv2.connectedComponents(mask, connectivity=8)
        if count <= 2:
            return parts, np.array([cv2.countNonZero(mask)] * (count - 1))
        return parts, np.bincount(parts.ravel(), minlength=count)[1:]
    import cc3d

    # Its option for binary images fails on boxes that are one voxel thin (seen in 4.1.1).
    parts, count = cc3d.connected_components(mask, connectivity=26, return_N=True)
    return parts, np.bincount(parts.ravel(), minlength=count + 1)[1:]


def weigh_parts(parts: np.ndarray, sizes: np.ndarray, shares: np.ndarray | None) -> np.ndarray:
    """Sizes of components weighted by the thickness that each slice covers.

    Args:
        parts: As from `components`.
        sizes: As from `components`.
        shares: Of each slice of `parts`, in parts of the mean; None where all are alike.

    Returns:
        Size of each component, in voxels of a slice of mean length.
    """
    if shares is None:
        return sizes
    weights = np.repeat(shares, parts[0].size)
    return np.bincount(parts.ravel(), weights=weights, minlength=len(sizes) + 1)[1:]


def weigh_change(before: np.ndarray, labels: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Growth of each label, weighted by the thickness that each slice covers.

    Args:
        before: From `count_by_slice`.
        labels: (D, H, W) uint8, changed since.
        shares: Of each slice, in parts of the mean.

    Returns:
        (256,) in voxels of a slice of mean length.
    """
    return np.asarray(shares @ np.abs(count_by_slice(labels) - before))


def count_by_slice(labels: np.ndarray) -> np.ndarray:
    """Count of each value in each slice, (D, 256)."""
    return np.stack([np.bincount(plane.ravel(), minlength=256) for plane in labels])


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
