"""Voxels as a header declares them, in its own file or beside it; read piece by piece.

The header decides nothing unchecked: what it declares is held against a limit before anything
is read, and against what is there after.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bedside.errors import FormatError
from bedside.io.inflated import Inflated


@dataclass(frozen=True)
class VoxelFile:
    """The voxels of a scan in an open file.

    Attributes:
        file: The file, inflated.
        skip: Bytes in front of the voxels.
        dtype: Of a voxel, byte order included.
    """

    file: Inflated
    skip: int
    dtype: np.dtype

    def read(self, index: int, shape: Sequence[int]) -> np.ndarray:
        """Read one of the blocks of some shape that lie one behind another.

        Returns:
            Voxels of that shape, in the machine's byte order.

        Raises:
            FormatError: If the file has become shorter since it was opened.
        """
        size = math.prod(shape) * self.dtype.itemsize
        content = self.file.read(self.skip + index * size, size)
        return (
            np.frombuffer(content, self.dtype).reshape(shape).astype(self.dtype.newbyteorder("="))
        )


def check_declared(path: Path, shape: Sequence[int], dtype: np.dtype, *, max_bytes: int) -> int:
    """Hold what a header declares against what is read at most; give it in bytes.

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
    """Find the file that a header names for its voxels.

    Raises:
        FormatError: If it lies elsewhere, is no single file, or is missing.
    """
    source = path.parent / name
    if name != Path(name).name or name == "LIST":
        raise FormatError(
            f"{path} names the voxels {name[:80]!r}; expected the name of one file beside it. "
            "Save it as one file."
        )
    if not source.is_file():
        raise FormatError(f"{path}: its voxels, {source}, are missing. Put them beside it.")
    return source


def open_voxels(
    source: Path, dtype: np.dtype, size: int, *, start: int = 0, skip: int = 0,
    compressed: bool = False,
) -> VoxelFile:  # fmt: skip
    """Open the file that holds the voxels.

    Args:
        source: The file.
        dtype: Of a voxel.
        size: Bytes that the voxels take, by their header.
        start: Where in the file voxels, or the stream that holds them, begin.
        skip: Bytes in front of the voxels after that, inflated; -1 to take the last ones.
        compressed: Whether they are a zlib or gzip stream.

    Raises:
        FormatError: If they are not as many as declared, or the stream is damaged.
    """
    expected = f"its header declares {size} bytes after {max(skip, 0)}"
    if compressed:
        try:
            # No more is inflated than is declared.
            file = Inflated(source, max_bytes=skip + size, start=start, compressed=True)
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
    return VoxelFile(file, skip, dtype)
