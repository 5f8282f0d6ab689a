"""Labels outside the part of a frame that its scale belongs to."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bedside.pipeline.protocol import Segmentation
from bedside.spec import Label
from bedside.volume import Box, ImageSequence

# Part of a structure that may lie outside: its contour runs along the edge of a sector.
_BESIDE = 0.02


def drop_foreign_scale(
    found: Segmentation, sequence: ImageSequence, structures: Sequence[Label]
) -> Segmentation:
    """Return a result without a scale if labels lie where the file gives none.

    An ultrasound file calibrates regions of its frames. Beside the region that was taken there may
    be another view at another scale, or a trace.

    Args:
        found: The result.
        sequence: What was segmented; its region is where its spacing holds, if it has both.
        structures: The labels, for the warning.
    """
    box = sequence.region
    if box is None or sequence.has_slices or found.labels.spacing_mm is None:
        return found
    warning = describe_beside(found.labels.array, box, structures)
    if not warning:
        return found
    return replace(
        found,
        labels=replace(found.labels, spacing_mm=None),
        spacing_mm=None,
        warnings=(*found.warnings, warning),
    )


def match_scale(sequence: ImageSequence, found: Segmentation) -> ImageSequence:
    """Return the sequence without its scale where its result has none, for what is written of it.

    Args:
        sequence: What was segmented.
        found: The result.
    """
    spacing_mm = sequence.spacing_mm
    if sequence.region is None or spacing_mm is None or found.labels.spacing_mm is not None:
        return sequence
    return replace(sequence, spacing_mm=None, pixel_aspect=spacing_mm[0] / spacing_mm[1])


def describe_beside(labels: np.ndarray, box: Box, structures: Sequence[Label]) -> str:
    """Return a warning of structures that lie outside a region in part; empty if none does.

    Args:
        labels: (H, W), or (frames, H, W), uint8.
        box: The region that the scale belongs to.
        structures: What the values mean.
    """
    within = labels[(..., *box.slices)]
    if np.count_nonzero(within) == np.count_nonzero(labels):
        return ""
    beside = [
        each.name
        for each in structures
        if np.count_nonzero(within == each.value)
        < (1 - _BESIDE) * np.count_nonzero(labels == each.value)
    ]
    if not beside:
        return ""
    return (
        f"{' and '.join(beside)}: part of it lies outside the ultrasound region that the file's "
        f"scale belongs to (columns {box.left}-{box.right - 1}, rows {box.top}-{box.bottom - 1}); "
        "sizes are given in pixels"
    )
