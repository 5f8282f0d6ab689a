"""Label maps told apart from images, by file name and by content."""

import contextlib
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bedside.errors import BedsideError
from bedside.io.detect import why_no_image
from bedside.io.formats import FORMATS
from bedside.io.open_file import open_file

if TYPE_CHECKING:
    import numpy as np

    from bedside.io.opened import Source
    from bedside.volume import ImageSequence

_WORDS = frozenset({
    "gt", "truth", "groundtruth", "manual", "seg", "segs", "segmentation", "segmentations",
    "mask", "masks", "labelmap", "labelmaps", "annot", "annotation", "annotations", "contour",
    "contours", "roi", "rois", "rater", "raters", "parcellation", "aseg",
})  # fmt: skip
# Runs of letters, cut at capitals: labelsTr01 is labels, Tr.
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

# Only drawings have so few different values.
_FEW_VALUES = 16
_MOST_VALUES = 256
_LARGEST_VALUE = 65535
# Fraction of equal neighbours, without background, in maps of many labels.
_EQUAL_NEIGHBOURS = 0.8
_MOST_FRAMES = 24
# Subsampling for a first look.
_STEP_PX = 4


def is_named_like_labels(path: Path) -> bool:
    """Whether a file, or a folder above it, is named like a label map.

    Args:
        path: The file, relative to the folder that is searched.

    Example:
        >>> names = "p.1_gt.nii.gz", "labelsTr/a.nii", "Masks/1.png", "1_HC_Annotation.png"
        >>> [is_named_like_labels(Path(name)) for name in (*names, "unmasked.png", "p1.nii.gz")]
        [True, True, True, True, False, False]
    """
    words = {word.lower() for part in path.parts for word in _WORD.findall(part)}
    return any(word in _WORDS or word.startswith("label") for word in words)


def holds_labels(sequence: "ImageSequence", *, many: bool = False) -> bool:
    """Whether frames look like a label map: few different whole numbers.

    Only as many frames as needed are decoded, spread over the sequence.

    Args:
        sequence: The frames; three channels count as one colour per pixel.
        many: Whether up to 256 labels count too, if neighbours are mostly equal.

    Raises:
        InputError: If a frame cannot be decoded.
    """
    return _are_labels(map(sequence.decode, _spread(len(sequence))), many=many)


def file_holds_labels(path: Path, kind: str) -> bool:
    """Whether a file that is named like a label map is one.

    Returns:
        False for DICOM, which has a class for segmentations, and for a file that cannot be
        read: opening it raises the error.
    """
    try:
        if FORMATS[kind].has_label_class:
            return False
        return holds_labels(open_file(path, kind)[0], many=True)
    except (BedsideError, OSError, MemoryError):
        return False


def warn_of_labels(source: "Source") -> "Source":
    """Return a source, with a warning if it looks like a label map or a result of this program.

    Raises:
        InputError: If a frame cannot be decoded.
    """
    if FORMATS[source.kind].has_label_class:
        return source
    why = None
    with contextlib.suppress(OSError):
        why = why_no_image(source.path, source.kind)
    named = is_named_like_labels(Path(source.path.name))
    if why is None and holds_labels(source.sequence, many=named):
        why = "holds few different whole numbers, as a label map does"
    if why is None:
        return source
    warning = f"{source.path.name} {why}: make sure that it is the image, and not a mask of it"
    sequence = replace(source.sequence, warnings=(*source.sequence.warnings, warning))
    return replace(source, sequence=sequence)


def _spread(count: int) -> list[int]:
    """Return indices of frames to look at, the middle one first: labels are rare at the ends."""
    wanted = min(count, _MOST_FRAMES)
    places = {index * count // wanted for index in range(wanted)}
    return sorted(places, key=lambda place: abs(place - count // 2))


def _are_labels(frames: "Iterable[np.ndarray]", *, many: bool) -> bool:
    """Whether frames, (C, H, W) each, hold labels."""
    import numpy as np

    most = _MOST_VALUES if many else _FEW_VALUES
    values: set[int] = set()
    pairs, equal = 0, [0, 0]
    for frame in frames:
        # A few pixels are enough to recognise an image.
        few = _flatten(frame[:, ::_STEP_PX, ::_STEP_PX])
        if few is None or len(np.unique(few)) > most:
            return False
        plane = _flatten(frame)
        if plane is None:
            return False
        values.update(np.unique(plane).tolist())
        if len(values) > most:
            return False
        inner = plane[1:, 1:]
        drawn = inner != 0
        pairs += int(drawn.sum())
        equal[0] += int((drawn & (inner == plane[:-1, 1:])).sum())
        equal[1] += int((drawn & (inner == plane[1:, :-1])).sum())
    return len(values) <= _FEW_VALUES or min(equal) >= _EQUAL_NEIGHBOURS * pairs


def _flatten(frame: "np.ndarray") -> "np.ndarray | None":
    """Return one whole number per pixel, (H, W); None if values are not whole numbers."""
    import numpy as np

    if frame.dtype.kind == "f" and not (np.isfinite(frame).all() and (frame % 1 == 0).all()):
        return None
    if frame.min(initial=0) < -1 or frame.max(initial=0) > _LARGEST_VALUE:
        return None
    if len(frame) == 1:
        one: np.ndarray = frame[0]
        return one
    plane = np.zeros(frame.shape[1:], np.int64)
    for channel in frame:
        plane = (plane << 16) + channel.astype(np.int64)
    return plane
