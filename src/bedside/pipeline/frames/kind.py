"""Shape and dtype that the frames of a sequence share, checked before each is processed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bedside.errors import FormatError, FrameError
from bedside.volume import ImageSequence

_REAL = "biuf"


@dataclass(frozen=True)
class FrameKind:
    """Shape and dtype of the frames of a sequence.

    Attributes:
        shape: (C, H, W).
        dtype: Of their values; None where any real dtype will do, as for a window.
    """

    shape: tuple[int, ...]
    dtype: np.dtype | None

    def check(self, frame: np.ndarray) -> None:
        """Refuse a frame of another shape or dtype.

        Raises:
            FrameError: If it is not; both are named.
        """
        if not isinstance(frame, np.ndarray):
            raise FrameError(f"the frame is no array but {type(frame).__name__}.")
        same = self.dtype is None or _same_numbers(frame.dtype, self.dtype)
        if frame.shape == self.shape and same and frame.dtype.kind in _REAL:
            return
        numbers = "real numbers" if self.dtype is None else self.dtype.name
        raise FrameError(
            f"the frame is {frame.shape} of {frame.dtype}; the plan is for {self.shape} of "
            f"{numbers}, (channels, rows, columns). Make a new plan for frames of another kind."
        )


def find_kind(
    sample: Sequence[np.ndarray], *, any_numbers: bool, channels: int | None = None
) -> FrameKind:
    """Shape and dtype that some frames share.

    Args:
        sample: (C, H, W) frames.
        any_numbers: Whether any real dtype will do.
        channels: Number of channels that are images of their own; None for grey or colour.

    Raises:
        FormatError: If there are none, or they are no frames of one sequence in grey or colour.
    """
    if not len(sample):
        raise FormatError("there are no frames to plan for; expected one at least.")
    first = sample[0]
    if not isinstance(first, np.ndarray) or first.dtype.kind not in _REAL:
        kind = getattr(first, "dtype", type(first).__name__)
        raise FormatError(f"frames are of {kind}; expected arrays of real numbers.")
    _check_shape(first.shape, channels)
    kind = FrameKind(first.shape, None if any_numbers else first.dtype)
    for frame in sample:
        try:
            kind.check(frame)
        except FrameError as error:
            raise FormatError(f"the frames are not of one sequence: {error}") from error
    return kind


def check_decoded(sequence: ImageSequence, *frames: np.ndarray) -> None:
    """Refuse frames of another shape than their sequence states.

    Raises:
        FormatError: If they are not.
    """
    for frame in frames:
        if frame.shape != sequence.shape[1:] or frame.dtype.kind not in _REAL:
            raise FormatError(
                f"a frame decodes to {frame.shape} of {frame.dtype}; expected real numbers of "
                f"{sequence.shape[1:]}, as the image says."
            )


def _check_shape(shape: tuple[int, ...], wanted: int | None) -> None:
    """Refuse shapes other than (wanted, H, W), or (1, H, W) and (3, H, W).

    Raises:
        FormatError: If so.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise FormatError(f"a frame is {shape}; expected (channels, rows, columns).")
    channels = shape[0]
    if wanted is not None and channels != wanted:
        raise FormatError(
            f"frames have {channels} channels; this bundle takes {wanted}. Give a file for each "
            "channel, by its name."
        )
    if wanted is None and channels not in (1, 3):
        turned = " Channels come first." if shape[-1] in (1, 3) else ""
        raise FormatError(
            f"frames have {channels} channels; this bundle takes grey or colour frames, of 1 or "
            f"3.{turned}"
        )


def _same_numbers(one: np.dtype[Any], other: np.dtype[Any]) -> bool:
    """Whether two dtypes are equal up to byte order."""
    return (one.kind, one.itemsize) == (other.kind, other.itemsize)
