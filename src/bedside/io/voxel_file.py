"""Voxels of a scan, in the header's file or beside it, read in pieces.

The size that a header declares is checked against a limit before anything is read, and against
the file afterwards.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from bedside.errors import FormatError
from bedside.io.gzip_stream import Inflated
from bedside.io.packing import Unpacker

# Most files kept open.
_OPEN_PARTS = 4


class Bytes(Protocol):
    """Random access to bytes."""

    def read(self, offset: int, size: int) -> bytes:
        """Read bytes."""


@dataclass(frozen=True)
class Stored:
    """How voxels are stored in a file.

    Attributes:
        dtype: Of a value, byte order included.
        skip: Bytes before the voxels, after decompression; -1 if the voxels are the last bytes.
        compressed: Whether they are a zlib or gzip stream.
        unpack: Another decoder; None for none.
        start: Offset of the voxels, or of their stream, in a file.
    """

    dtype: np.dtype
    skip: int = 0
    compressed: bool = False
    unpack: Unpacker | None = None
    start: Callable[[Path], int] = field(default=lambda path: 0)


@dataclass(frozen=True)
class VoxelFile:
    """The voxels of a scan in one or several open files.

    Attributes:
        file: The file, decompressed.
        skip: Bytes before the voxels.
        dtype: Of a value, byte order included.
    """

    file: Bytes
    skip: int
    dtype: np.dtype

    def read(self, index: int, shape: Sequence[int]) -> np.ndarray:
        """Return one of consecutive blocks of equal shape.

        Returns:
            Values in native byte order.

        Raises:
            FormatError: If the file was shortened since it was opened.
        """
        size = math.prod(shape) * self.dtype.itemsize
        content = self.file.read(self.skip + index * size, size)
        return (
            np.frombuffer(content, self.dtype).reshape(shape).astype(self.dtype.newbyteorder("="))
        )


class _Joined:
    """Files with equal numbers of voxel bytes, read as one.

    Args:
        sources: The files.
        size: Bytes of voxels in each.
        stored: How they are stored.
    """

    def __init__(self, sources: Sequence[Path], size: int, stored: Stored) -> None:
        self._size = size
        self._part = functools.lru_cache(_OPEN_PARTS)(
            lambda number: _open_file(sources[number], size, stored)
        )
        for number in range(len(sources)):
            # Errors are found before the first slice is read.
            self._part(number)

    def read(self, offset: int, size: int) -> bytes:
        """Read bytes, across files.

        Raises:
            FormatError: If a file does not hold what the header declares.
        """
        content = bytearray()
        while len(content) < size:
            number, begin = divmod(offset + len(content), self._size)
            part = self._part(number)
            length = min(size - len(content), self._size - begin)
            content += part.file.read(part.skip + begin, length)
        return bytes(content)


def check_declared(path: Path, shape: Sequence[int], dtype: np.dtype, *, max_bytes: int) -> int:
    """Return the size in bytes that a header declares, if it is within the limit.

    Raises:
        FormatError: If it is more.
    """
    size = math.prod(shape) * dtype.itemsize
    if size > max_bytes:
        raise FormatError(
            f"{path} declares {tuple(shape)} voxels, {size / 2**30:.1f} GiB; at most "
            f"{max_bytes / 2**30:g} GiB are read. Crop it."
        )
    return size


def find_beside(path: Path, name: str) -> Path:
    """Return the file of voxels that a header names.

    Raises:
        FormatError: If it lies elsewhere, or is missing.
    """
    source = path.parent / name
    if name in ("", ".", "..") or name != Path(name).name:
        raise FormatError(
            f"{path} names the voxels {name[:80]!r}, in another folder; expected a file beside "
            "it. Put them beside it and name them without a folder, or save it as one file."
        )
    if not source.is_file():
        raise FormatError(f"{path}: its voxels, {source}, are missing. Put them beside it.")
    return source


def open_voxels(sources: Sequence[Path], size: int, stored: Stored) -> VoxelFile:
    """Open the file of the voxels, or files that hold equal parts of them.

    Args:
        sources: The files, at least one.
        size: Bytes that the voxels take, by their header.
        stored: How they are stored.

    Raises:
        FormatError: If their number is not the declared one, or a stream is damaged.
    """
    if len(sources) == 1:
        return _open_file(sources[0], size, stored)
    part, rest = divmod(size, len(sources))
    if rest:
        raise FormatError(
            f"{size} bytes of voxels cannot be divided evenly into {len(sources)} files."
        )
    return VoxelFile(_Joined(sources, part, stored), 0, stored.dtype)


def _open_file(source: Path, size: int, stored: Stored) -> VoxelFile:
    """Open one file."""
    skip, start = stored.skip, stored.start(source)
    expected = f"its header declares {size} bytes after {max(skip, 0)}"
    if stored.compressed or stored.unpack is not None:
        try:
            # Never inflates more than declared.
            file = Inflated(
                source, max_bytes=max(skip, 0) + size, start=start,
                compressed=stored.compressed, unpack=stored.unpack,
            )  # fmt: skip
        except FormatError as error:
            raise FormatError(
                f"{source}: {expected}, which it does not inflate to: {error}"
            ) from error
    else:
        length = source.stat().st_size
        file = Inflated(source, max_bytes=length, start=min(start, length), compressed=False)
    skip = file.size - size if skip == -1 else skip
    if skip < 0 or file.size - skip != size:
        raise FormatError(
            f"{source} holds {file.size} bytes of voxels; {expected}. It is truncated or belongs "
            "to another header."
        )
    return VoxelFile(file, skip, stored.dtype)
