"""Lookup tables of DICOM headers: palettes and modality LUTs, in every encoding."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bedside.errors import FormatError

_COLOURS = ("Red", "Green", "Blue")
_SIGN_BIT = 2**15
_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2
_MAX_SEGMENTS = 2**16


class _NoTableError(Exception):
    """A table cannot be read."""


@dataclass(frozen=True)
class Table:
    """A lookup table; stored values beyond its ends get the entry at that end.

    Attributes:
        entries: (entries,) or (entries, 3).
        first: The stored value of the first entry.
    """

    entries: np.ndarray = field(repr=False)
    first: int

    def look_up(self, stored: np.ndarray) -> np.ndarray:
        """Replace stored values, (H, W) or (1, H, W), by their entries.

        Example:
            >>> Table(np.uint8([10, 20, 30]), first=-1).look_up(np.int16([[-5, 0, 5]])).tolist()
            [[10, 20, 30]]
        """
        place = stored.astype(np.int32) - self.first
        found: np.ndarray = self.entries[np.clip(place, 0, len(self.entries) - 1)]
        return found


@dataclass(frozen=True)
class _Descriptor:
    """A LUT descriptor: number of entries, first stored value, bits per entry."""

    count: int
    first: int
    bits: int


def read_palette(dataset: Any, path: Path) -> Table | None:
    """Return the palette of a PALETTE COLOR image.

    Returns:
        A table of (entries, 3) uint8; None where the image has no palette.

    Raises:
        FormatError: If it is missing, incomplete or malformed.

    Source:
        DICOM PS3.3 C.7.6.3.1.5 and 6 (plain), C.7.9 (segmented).
    """
    if dataset.PhotometricInterpretation != "PALETTE COLOR":
        return None
    try:
        channels, descriptors = [], []
        for colour in _COLOURS:
            descriptor = _read_descriptor(dataset, f"{colour}PaletteColorLookupTableDescriptor")
            descriptors.append(descriptor)
            channels.append(_read_channel(dataset, colour, descriptor))
    except _NoTableError as error:
        raise FormatError(
            f"{path}: the colour palette cannot be read: {error}. Convert the image to RGB."
        ) from None
    if len({(one.count, one.first) for one in descriptors}) > 1:
        raise FormatError(
            f"{path}: its palettes of red, green and blue differ in length or first value. "
            "Convert the image to RGB."
        )
    return Table(_to_8_bits(np.stack(channels, axis=1), descriptors[0].bits), descriptors[0].first)


def read_modality_lut(item: Any, header: Any, path: Path) -> Table:
    """Return the table of an item of ModalityLUTSequence.

    Args:
        item: The item.
        header: The header that holds it.
        path: The file, for errors.

    Returns:
        A table of (entries,), in the smallest dtype that holds them.

    Raises:
        FormatError: If it is incomplete or malformed.

    Source:
        DICOM PS3.3 C.11.1.1.
    """
    try:
        descriptor = _read_descriptor(item, "LUTDescriptor", header)
        entries = _read_entries(item, "LUTData", descriptor, header)
    except _NoTableError as error:
        raise FormatError(
            f"{path}: its Modality LUT cannot be read: {error}. Convert the image to one with a "
            "rescale slope and intercept."
        ) from None
    return Table(entries.astype(np.uint8) if entries.max() < 256 else entries, descriptor.first)


def _read_descriptor(holder: Any, keyword: str, header: Any = None) -> _Descriptor:
    """Return a LUT descriptor, of any VR."""
    header = holder if header is None else header
    value = holder.get(keyword)
    if isinstance(value, bytes):
        value = np.frombuffer(value[: len(value) // 2 * 2], _word_type(header)).tolist()
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 3:
        shown = "missing" if value in (None, "") else value
        raise _NoTableError(f"its {keyword} is {shown}; three numbers were expected")
    count, first, bits = (int(number) & 0xFFFF for number in value)
    if header.get("PixelRepresentation") == 1 and first >= _SIGN_BIT:
        first -= 2**16
    if not 8 <= bits <= 16:
        raise _NoTableError(f"its entries are of {bits} bits; 8 to 16 were expected")
    return _Descriptor(count or 2**16, first, bits)


def _read_channel(dataset: Any, colour: str, descriptor: _Descriptor) -> np.ndarray:
    """Return the entries of one colour, plain or segmented, (entries,) uint16."""
    plain = f"{colour}PaletteColorLookupTableData"
    segmented = f"Segmented{plain}"
    if plain in dataset or segmented not in dataset:
        return _read_entries(dataset, plain, descriptor, dataset)
    return _read_segments(dataset, segmented, descriptor)


def _read_entries(holder: Any, keyword: str, descriptor: _Descriptor, header: Any) -> np.ndarray:
    """Return entries, (entries,) uint16.

    Entries of 8 bits may each fill a word; their length shows it.
    """
    words, octets = _read_raw(holder, keyword, header)
    if len(words) >= descriptor.count:
        return words[: descriptor.count]
    if descriptor.bits == 8 and len(octets) >= descriptor.count:
        return octets[: descriptor.count].astype(np.uint16)
    raise _NoTableError(
        f"its {keyword} has {len(octets)} bytes, too few for {descriptor.count} entries of "
        f"{descriptor.bits} bits"
    )


def _read_raw(holder: Any, keyword: str, header: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return a table's data as words, and as bytes with the low byte of each word first."""
    if keyword not in holder:
        raise _NoTableError(f"its {keyword} is missing")
    element = holder[keyword]
    value = element.value
    if not isinstance(value, bytes):
        numbers = [value] if isinstance(value, int) else list(value or ())
        words = np.array([int(number) & 0xFFFF for number in numbers], np.uint16)
        return words, words.astype("<u2").view(np.uint8)
    whole = value[: len(value) // 2 * 2]
    words = np.frombuffer(whole, _word_type(header)).astype(np.uint16)
    if element.VR == "OW":
        return words, words.astype("<u2").view(np.uint8)
    return words, np.frombuffer(value, np.uint8)


def is_big_endian(dataset: Any) -> bool:
    """Whether a header is big-endian."""
    return dataset.original_encoding[1] is False


def _word_type(header: Any) -> str:
    return ">u2" if is_big_endian(header) else "<u2"


def _read_segments(dataset: Any, keyword: str, descriptor: _Descriptor) -> np.ndarray:
    """Return the entries of a segmented table, of the width that fits, (entries,) uint16."""
    words, octets = _read_raw(dataset, keyword, dataset)
    problem: _NoTableError | None = None
    for data, in_bytes in ((octets, True), (words, False)) if descriptor.bits == 8 else (
        (words, False),
    ):  # fmt: skip
        try:
            entries = _expand(data.tolist(), descriptor.count, in_bytes=in_bytes)
        except (IndexError, _NoTableError) as error:
            reason = error if isinstance(error, _NoTableError) else "it ends within a segment"
            problem = problem or _NoTableError(f"{keyword}: {reason}")
            continue
        return np.array(entries, np.uint16)
    raise problem or _NoTableError(f"its {keyword} is empty")


def _expand(data: list[int], count: int, *, in_bytes: bool) -> list[int]:
    """Expand segments until there are `count` entries."""
    entries: list[int] = []
    # Stack of segment positions to read, with the number of segments from each.
    pending = [(0, _MAX_SEGMENTS)]
    for _ in range(_MAX_SEGMENTS):
        if len(entries) >= count:
            return entries[:count]
        place, left = pending.pop()
        kind, length = data[place], data[place + 1]
        size = 2 + {_DISCRETE: length, _LINEAR: 1, _INDIRECT: 4 if in_bytes else 2}.get(kind, 0)
        if place + size > len(data):
            raise IndexError
        if left > 1:
            pending.append((place + size, left - 1))
        if kind == _DISCRETE:
            entries += data[place + 2 : place + size]
        elif kind == _LINEAR and entries:
            entries += _ramp(entries[-1], data[place + 2], length)
        elif kind == _INDIRECT and entries:
            target = _read_offset(data[place + 2 : place + size], in_bytes=in_bytes)
            if not target < place:
                raise _NoTableError("a segment points at no earlier one")
            pending.append((target, length))
        else:
            raise _NoTableError(f"a segment is of the unknown kind {kind}")
    raise _NoTableError("it has too many segments")


def _ramp(start: int, end: int, length: int) -> list[int]:
    """Return the entries of a linear segment: even steps from `start`, which is excluded."""
    steps = np.arange(1, length + 1) / max(length, 1)
    return [int(value) for value in np.rint(start + (end - start) * steps)]


def _read_offset(data: list[int], *, in_bytes: bool) -> int:
    """Return the index that an indirect segment points at by bytes."""
    if in_bytes:
        return int.from_bytes(bytes(data), "little")
    return (data[1] << 16 | data[0]) // 2


def _to_8_bits(entries: np.ndarray, bits: int) -> np.ndarray:
    """Return a palette, (entries, 3), in 8 bits.

    Writers confuse the descriptor's bits: 16-bit entries up to 255 are 8-bit ones, and 8-bit
    entries beyond 255 are 16-bit ones.
    """
    if entries.max() < 256:
        return entries.astype(np.uint8)
    shift = bits - 8 if bits > 8 else 8
    return (entries >> shift).clip(0, 255).astype(np.uint8)
