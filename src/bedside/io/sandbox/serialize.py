"""An opened source passed between processes: JSON and plain files."""

import math
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from bedside.errors import FormatError
from bedside.io.formats import FORMATS, load
from bedside.io.opened import Source
from bedside.volume import Box, Geometry, ImageSequence, UnevenSlices

_FRAMES = "frames.raw"
_DTYPES = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")


def serialize(source: Source, folder: Path) -> dict[str, Any]:
    """Write all frames of a source and its header to a folder.

    Args:
        source: The source.
        folder: The folder.

    Returns:
        Everything else, as JSON.

    Raises:
        FormatError: If a frame differs in shape or type from the first.
    """
    sequence = source.sequence
    dtype = sequence.decode(0).dtype
    with (folder / _FRAMES).open("wb") as file:
        for index, frame in enumerate(sequence):
            if frame.dtype != dtype or frame.shape != sequence.shape[1:]:
                raise FormatError(
                    f"{source.path}: frame {index + 1} is {frame.dtype} {frame.shape}, the first "
                    f"{dtype} {sequence.shape[1:]}."
                )
            native = frame.astype(dtype.newbyteorder("="), copy=False)
            # Colours together at each pixel, as decoders and OpenCV have them.
            file.write(np.moveaxis(native, 0, -1).tobytes())
    region, geometry = sequence.region, sequence.geometry
    return {
        "kind": source.kind,
        "dtype": dtype.str[1:],
        "shape": sequence.shape,
        "modality": sequence.modality,
        "spacing_mm": sequence.spacing_mm,
        "pixel_aspect": sequence.pixel_aspect,
        "frame_time_ms": sequence.frame_time_ms,
        "frame_starts_ms": sequence.frame_starts_ms,
        "region": region and [region.top, region.left, region.bottom, region.right],
        "warnings": sequence.warnings,
        "geometry": geometry and geometry.affine.tolist(),
        "slice_spacing_mm": sequence.slice_spacing_mm,
        "unknown": sequence.unknown,
        "third_axis": sequence.third_axis,
        "default_grid": sequence.default_grid,
        "uneven": sequence.uneven and [sequence.uneven.heights_mm, sequence.uneven.edges_mm],
        "header": _write_header(source, folder),
    }


def deserialize(answer: dict[str, Any], folder: Path, path: Path) -> Source:
    """Return the source that another process serialized, after checking all of it.

    Args:
        answer: The result of `serialize`, after JSON.
        folder: The folder with its files, which may be deleted afterwards.
        path: The file that the source is of.

    Raises:
        FormatError: If the number of frames is wrong.
        Exception: Of any kind, if the answer is malformed.
    """
    kind, third_axis = answer["kind"], answer["third_axis"]
    if kind not in FORMATS or answer["dtype"] not in _DTYPES:
        raise ValueError(f"kind {kind!r} of {answer['dtype']!r}")
    if third_axis not in ("time", "space", None):
        raise ValueError(f"third axis {third_axis!r}")
    frames, channels, height, width = (int(size) for size in answer["shape"])
    shape = (frames, channels, height, width)
    geometry, region, uneven = (answer[key] for key in ("geometry", "region", "uneven"))
    affine = None if geometry is None else np.array(geometry, np.float64)
    sequence = ImageSequence(
        shape=shape,
        decode=_Frames(folder / _FRAMES, shape, np.dtype(answer["dtype"])),
        modality=None if answer["modality"] is None else str(answer["modality"]),
        spacing_mm=_numbers(answer["spacing_mm"], 2),
        frame_time_ms=_number(answer["frame_time_ms"]),
        frame_starts_ms=_numbers(answer["frame_starts_ms"], frames),
        region=None if region is None else Box(*map(int, region)),
        warnings=tuple(str(text) for text in answer["warnings"]),
        geometry=None if affine is None else Geometry(shape[:1] + shape[2:], affine, space="LPS"),
        slice_spacing_mm=_number(answer["slice_spacing_mm"]),
        unknown=tuple(int(index) for index in answer["unknown"] if 0 <= index < frames),
        third_axis=third_axis,
        pixel_aspect=_aspect(answer["pixel_aspect"]),
        default_grid=bool(answer["default_grid"]),
        uneven=None if uneven is None else UnevenSlices(
            _numbers(uneven[0], frames), _numbers(uneven[1], frames + 1)
        ),
    )  # fmt: skip
    return Source(path, kind, sequence, _read_header(answer["header"], folder, kind))


class _Frames:
    """Decoded frames in a file, which may be deleted while it is open.

    Args:
        file: The file.
        shape: (frames, channels, height, width).
        dtype: Of a value.

    Raises:
        FormatError: If the length of the file does not match.
    """

    def __init__(self, file: Path, shape: tuple[int, int, int, int], dtype: np.dtype) -> None:
        self._shape, self._dtype = shape[1:], dtype
        self._size = math.prod(shape[1:]) * dtype.itemsize
        length = file.stat().st_size
        if min(shape) < 1 or length != shape[0] * self._size:
            raise FormatError(f"{length} bytes of frames are not {shape} of {dtype}.")
        self._file = file.open("rb")
        weakref.finalize(self, self._file.close)

    def __call__(self, index: int) -> np.ndarray:
        """Read frame `index`, (C, H, W)."""
        content = os.pread(self._file.fileno(), self._size, index * self._size)
        channels, *plane = self._shape
        pixels = np.frombuffer(bytearray(content), self._dtype).reshape(*plane, channels)
        return np.moveaxis(pixels, -1, 0)


def _write_header(source: Source, folder: Path) -> dict[str, Any] | None:
    """Write the headers of a source to files, or return them as JSON."""
    module = FORMATS[source.kind].header
    if module is None or source.header is None:
        return None
    written: dict[str, Any] = load(module).write_headers(source.header, folder)
    return written


def _read_header(header: Any, folder: Path, kind: str) -> Any:
    """Return the header that `_write_header` wrote."""
    module = FORMATS[kind].header
    if header is None and kind != "dicom":
        return None
    if module is None:
        raise ValueError(f"a header of {kind}")
    return load(module).read_headers(header, folder)


def _numbers(values: Any, count: int) -> Any:
    """Return that many finite numbers, or None."""
    if values is None:
        return None
    numbers = tuple(map(float, values))
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{numbers[:8]} are not {count} numbers")
    return numbers


def _aspect(value: Any) -> float | None:
    """Return the aspect ratio of a pixel, which must be positive."""
    aspect = _number(value)
    if aspect is not None and not 0 < aspect < math.inf:
        raise ValueError(f"pixels as high as {aspect:g} times their width")
    return aspect


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
