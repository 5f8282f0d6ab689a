"""Frames as they arrive: brought to one layout, copied into memory that is used again."""

import threading

import numpy as np

from bedside.errors import BedsideError, FormatError, InputError
from bedside.stream.slot import Payload

_KEPT = 4
"""Buffers that are kept: a frame that waits, one in flight, the last one, one that arrives."""


def view_frame(frame: object) -> np.ndarray:
    """View a frame as (C, H, W).

    Args:
        frame: (H, W), (H, W, 1), (H, W, 3), (1, H, W) or (3, H, W), of real numbers.

    Raises:
        FormatError: If it is something else.

    Example:
        >>> view_frame(np.zeros((4, 5, 3), np.uint8)).shape
        (3, 4, 5)
    """
    if not isinstance(frame, np.ndarray) or frame.dtype.kind not in "biuf":
        raise FormatError(
            f"the frame is {getattr(frame, 'dtype', type(frame).__name__)}; expected an array of "
            "real numbers."
        )
    if frame.ndim == 2:
        frame = frame[None]
    elif frame.ndim == 3 and frame.shape[2] in (1, 3):
        frame = np.moveaxis(frame, -1, 0)
    if frame.ndim != 3 or frame.shape[0] not in (1, 3) or not frame.size:
        raise FormatError(
            f"the frame is {frame.shape}; expected (H, W), (H, W, 3), (1, H, W) or (3, H, W)."
        )
    return frame


def decode_payload(payload: Payload) -> np.ndarray:
    """Decode a frame, (C, H, W).

    Raises:
        FormatError: If it cannot be decoded.
    """
    if isinstance(payload, np.ndarray):
        return payload
    if isinstance(payload, InputError):
        raise payload
    if isinstance(payload, Exception):
        raise FormatError(f"the frame cannot be decoded: {payload}") from payload
    try:
        return view_frame(payload())
    except BedsideError:
        raise
    except Exception as error:  # decoders share no base of their errors
        raise FormatError(f"the frame cannot be decoded: {error}") from error


class FrameCopies:
    """Copies of frames in buffers that are used again, by any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[np.ndarray] = []

    def take(self, frame: object) -> Payload:
        """Copy an array; what decodes one, or an error, is returned as it is.

        Returns:
            (C, H, W), colours together in memory; an error if it is no frame at all.
        """
        if callable(frame) or isinstance(frame, Exception):
            return frame
        try:
            image = np.moveaxis(view_frame(frame), 0, -1)
        except FormatError as error:
            return error
        with self._lock:
            fits = (
                index
                for index, each in enumerate(self._free)
                if each.shape == image.shape and each.dtype == image.dtype
            )
            index = next(fits, None)
            buffer = None if index is None else self._free.pop(index)
        if buffer is None:
            buffer = np.empty(image.shape, image.dtype)
        np.copyto(buffer, image)
        return np.moveaxis(buffer, -1, 0)

    def give_back(self, payload: Payload | None) -> None:
        """Let the buffer of a copy be used again."""
        if isinstance(payload, np.ndarray):
            with self._lock:
                self._free = [np.moveaxis(payload, 0, -1), *self._free[: _KEPT - 1]]
