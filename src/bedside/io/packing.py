"""Encodings of voxels other than gzip: bzip2, hexadecimal digits, numbers as text."""

import bz2
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from bedside.errors import FormatError

Unpacker = Callable[[IO[bytes], Path], Iterator[bytes]]
"""From an open file, and its path for errors, to its bytes, piece by piece."""

_CHUNK = 2**20
_FED = 2**16
_SPACE = b" \t\r\n\v\f"


def unpack_bzip2(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """Yield the content of bzip2 streams, a chunk at a time.

    Raises:
        FormatError: If one is damaged or truncated.
    """
    inflater = bz2.BZ2Decompressor()
    rest = file.read(_FED)
    try:
        while rest or not inflater.needs_input or (rest := file.read(_FED)):
            if piece := inflater.decompress(rest, _CHUNK):
                yield piece
            rest = b""
            if inflater.eof:
                rest = inflater.unused_data or file.read(_FED)
                if not rest.startswith(b"BZh"):
                    return
                inflater = bz2.BZ2Decompressor()
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: the bzip2 stream is damaged ({error}).") from error
    raise FormatError(f"{path}: the bzip2 stream has no end. The file is truncated; copy it again.")


def unpack_hex(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """Yield bytes written as two hexadecimal digits each; white space is ignored.

    Raises:
        FormatError: If there are other characters.
    """
    odd = b""
    while text := file.read(_FED):
        digits = odd + text.translate(None, _SPACE)
        whole = len(digits) // 2 * 2
        odd = digits[whole:]
        try:
            yield bytes.fromhex(digits[:whole].decode("ascii"))
        except ValueError as error:
            raise FormatError(f"{path} holds characters that are no hexadecimal digits.") from error
    if odd:
        raise FormatError(f"{path} holds an odd number of hexadecimal digits.")


def unpack_text(dtype: np.dtype) -> Unpacker:
    """Return a decoder of numbers written as text, separated by white space.

    Args:
        dtype: Of the result, byte order included.
    """

    def unpack(file: IO[bytes], path: Path) -> Iterator[bytes]:
        begun = b""
        while text := file.read(_FED):
            text = begun + text.replace(b",", b" ")
            end = max(text.rfind(letter) for letter in (b" ", b"\n", b"\t", b"\r"))
            begun = text[end + 1 :]
            if len(begun) > _FED:
                raise FormatError(f"{path} holds text that is not a number: {begun[:40]!r}.")
            yield _parse(text[: end + 1].split(), dtype, path)
        yield _parse(begun.split(), dtype, path)

    return unpack


def _parse(words: list[bytes], dtype: np.dtype, path: Path) -> bytes:
    """Return the bytes of numbers."""
    try:
        if dtype.kind == "f":
            return np.array([float(word) for word in words], dtype).tobytes()
        # Python integers raise on overflow instead of wrapping around.
        return np.array([_whole(word) for word in words], dtype).tobytes()
    except (ValueError, OverflowError) as error:
        raise FormatError(f"{path} holds what is no {dtype.name}: {error}.") from error


def _whole(word: bytes) -> int:
    """Return a whole number; some writers write large ones as 1e+17."""
    if word.lstrip(b"+-").isdigit():
        return int(word)
    number = float(word)
    if not number.is_integer():
        raise ValueError(f"{word[:40]!r} is not a whole number")
    return int(number)
