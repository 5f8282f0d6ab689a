"""JPEG Lossless frames (process 14) decoded by numpy: any precision, any predictor."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np

from bedside.io.dicom.jpeg_segments import (
    FRAMES,
    SCAN,
    FrameHeader,
    read_frame_header,
    read_segments,
    unpack,
)

# Bytes of coded data that are decoded at a time: what is worked on stays in the cache.
_CHUNK = 2**13
# Bits after a chunk in which a pixel that begins in it may end: 4 samples of 31 bits at most.
_MARGIN = 128
# Bytes behind the data, so that bits may be looked at beyond its end.
_PADDING = bytes(_MARGIN // 8 + 8)
# Steps of one pixel are composed to steps of 2, 4, 8.
_DOUBLINGS = 3
_SHIFTS = np.arange(8, 0, -1, dtype=np.uint32)
_MAX_CATEGORY = 16
_INVALID = 2**20
# By category: bits after the difference in 16 bits; the least positive difference; what is taken
# off a smaller one. A difference of 2^15, category 16, has no bits.
_SPARE = np.array([*range(16, 0, -1), 16], np.uint16)
_HALF = np.array([0, *(1 << power for power in range(15)), 1], np.uint16)
_WHOLE = np.array([0, *((2 << power) - 1 for power in range(15)), -(2**15)], np.int32)
_TABLES, _RESTART_INTERVAL = 0xC4, 0xDD
_LOSSLESS = 3
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")


def decode_lossless_jpeg(frame: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the pixels of a frame.

    Args:
        frame: The encoded frame.
        shape: (H, W, samples) that is expected, samples at most 4.

    Returns:
        (H, W, samples) uint16, of the bits that its precision has.

    Raises:
        ValueError: If the frame is damaged, of another process or shape, or its samples are not
            of the same size.

    Source:
        ITU-T T.81, Annex H (lossless mode), C (Huffman tables) and B (markers).
    """
    rows, columns, samples = shape
    header: FrameHeader | None = None
    tables: dict[int, _HuffmanTable] = {}
    interval = 0
    pixels = np.empty(shape, np.uint16)
    missing = set(range(samples))
    for marker, content, coded in read_segments(frame):
        if marker == _TABLES:
            tables |= _read_tables(content)
        elif marker == _RESTART_INTERVAL:
            (interval,) = unpack(">H", content)
        elif marker in FRAMES:
            header = read_frame_header(marker, content)
            _check_header(header, shape)
        elif marker == SCAN:
            if header is None:
                raise ValueError("a scan before the frame's header")
            scan = _read_scan(content, header, tables, interval)
            pixels[..., list(scan.components)] = scan.decode(coded, rows, columns)
            missing -= set(scan.components)
            if not missing:
                return pixels
    raise ValueError("the data ends early")


class _HuffmanTable(NamedTuple):
    """What the next 16 bits begin with, (65536,) each.

    Attributes:
        categories: Number of bits that follow the code.
        lengths: Bits of the code.
        steps: Bits of code and difference together.
        values: The difference, if it ends within the 16 bits; _INVALID where no code begins so.
    """

    categories: np.ndarray
    lengths: np.ndarray
    steps: np.ndarray
    values: np.ndarray

    @classmethod
    def make(cls, counts: np.ndarray, symbols: np.ndarray) -> Self:
        """Make it of the number of codes of each length, (16,), and the categories in order."""
        sizes = np.repeat(np.arange(1, 17), counts)
        shares = 1 << (16 - sizes)
        rest = 2**16 - int(shares.sum())
        if len(symbols) != len(sizes) or rest < 0 or symbols.max(initial=0) > _MAX_CATEGORY:
            raise ValueError("a damaged Huffman table")
        # What is invalid is stepped over, and seen later.
        categories = np.repeat(np.append(symbols, 0), np.append(shares, rest)).astype(np.uint8)
        lengths = np.repeat(np.append(sizes, 1), np.append(shares, rest)).astype(np.uint8)
        after = (np.arange(2**16) << lengths).astype(np.uint16)
        values = _to_differences(after, categories)
        values[2**16 - rest :] = _INVALID
        follow = np.where(categories < _MAX_CATEGORY, categories, np.uint8(0))
        return cls(categories, lengths, lengths + follow, values)


@dataclass(frozen=True)
class _Scan:
    """One scan: some components, interleaved pixel by pixel.

    Attributes:
        components: Their places in the frame.
        tables: Table of each.
        predictor: 1 to 7.
        shift: Bits that were cut off each sample.
        initial: Prediction of a first sample.
        interval: Pixels between restarts; 0 if there are none.
    """

    components: tuple[int, ...]
    tables: tuple[_HuffmanTable, ...] = field(repr=False)
    predictor: int
    shift: int
    initial: int
    interval: int

    def decode(self, coded: bytes, rows: int, columns: int) -> np.ndarray:
        """Pixels of these components, (H, W, samples) uint16."""
        interval = self.interval or rows * columns
        if interval % columns:
            raise ValueError("a restart within a row")
        height = interval // columns
        parts = _RESTART.split(coded) if self.interval else [coded]
        if len(parts) < -(-rows // height):
            raise ValueError("the data ends early")
        done = []
        for part, top in zip(parts, range(0, rows, height), strict=False):
            count = min(height, rows - top)
            differences = _read_differences(part, self.tables, count * columns)
            planes = differences.reshape(len(self.tables), count, columns)
            done.append(np.stack([self._add_up(plane) for plane in planes], axis=-1))
        return np.concatenate(done) << self.shift

    def _add_up(self, differences: np.ndarray) -> np.ndarray:
        """Samples of their differences from their predictions, (H, W) each, modulo 2^16."""
        if self.predictor > 1:
            return _add_up_by_diagonals(differences, _PREDICTORS[self.predictor], self.initial)
        samples = differences.astype(np.uint16)
        samples[0, 0] = (differences[0, 0] + self.initial) & 0xFFFF
        samples[:, 0] = np.cumsum(samples[:, 0], dtype=np.uint16)
        return np.cumsum(samples, axis=1, dtype=np.uint16)


# Prediction by the samples to the left, above, and to the left above.
_PREDICTORS: dict[int, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    2: lambda left, above, corner: above,
    3: lambda left, above, corner: corner,
    4: lambda left, above, corner: left + above - corner,
    5: lambda left, above, corner: left + ((above - corner) >> 1),
    6: lambda left, above, corner: above + ((left - corner) >> 1),
    7: lambda left, above, corner: (left + above) >> 1,
}


def _add_up_by_diagonals(
    differences: np.ndarray,
    predict: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    initial: int,
) -> np.ndarray:
    """Samples of their differences, one diagonal after another: its samples need only earlier ones.

    Args:
        differences: (H, W) int32.
        predict: One of _PREDICTORS.
        initial: Prediction of the first sample.
    """
    rows, columns = differences.shape
    if rows > columns:
        # As many diagonals, but shorter ones.
        turned = _add_up_by_diagonals(
            differences.T, lambda left, above, corner: predict(above, left, corner), initial
        )
        return turned.T
    row, column = np.arange(rows)[:, None], np.arange(columns)
    # Row d holds diagonal d: sample (y, d - y) at y.
    skewed = np.zeros((rows + columns - 1, rows), np.int32)
    skewed[row + column, row] = differences
    first = skewed[0]
    first[0] = (first[0] + initial) & 0xFFFF
    for diagonal in range(1, len(skewed)):
        now, before = skewed[diagonal], skewed[diagonal - 1]
        low, high = max(1, diagonal - columns + 1), min(rows, diagonal)
        if low < high:
            corner = skewed[diagonal - 2, low - 1 : high - 1]
            now[low:high] += predict(before[low:high], before[low - 1 : high - 1], corner)
        if diagonal < columns:
            now[0] += before[0]
        if diagonal < rows:
            now[diagonal] += before[diagonal - 1]
        now &= 0xFFFF
    samples: np.ndarray = skewed[row + column, row].astype(np.uint16)
    return samples


def _check_header(header: FrameHeader, shape: tuple[int, int, int]) -> None:
    if header.process != _LOSSLESS:
        raise ValueError(f"a frame of process SOF{header.process}, not of lossless JPEG")
    if header.shape != shape:
        raise ValueError("it codes {} x {} pixels of {} samples".format(*header.shape))
    if not 2 <= header.precision <= 16:
        raise ValueError("a damaged header")
    if shape[2] > 1 and set(header.sampling) != {0x11}:
        raise ValueError("samples of different sizes")


def _read_scan(
    content: bytes, header: FrameHeader, tables: dict[int, _HuffmanTable], interval: int
) -> _Scan:
    count = content[0] if content else 0
    if not 1 <= count <= 4 or len(content) != 4 + 2 * count:
        raise ValueError("a damaged scan")
    names, used = content[1 : 1 + 2 * count : 2], content[2 : 2 + 2 * count : 2]
    predictor, shift = content[-3], content[-1] & 15
    if predictor not in range(1, 8) or shift >= header.precision:
        raise ValueError("a damaged scan")
    try:
        return _Scan(
            components=tuple(header.components.index(name) for name in names),
            tables=tuple(tables[number >> 4] for number in used),
            predictor=predictor,
            shift=shift,
            initial=1 << (header.precision - shift - 1),
            interval=interval,
        )
    except (KeyError, ValueError):
        raise ValueError("a scan of what is not declared") from None


def _read_tables(content: bytes) -> dict[int, _HuffmanTable]:
    """Tables of a segment, by number."""
    found = {}
    while content:
        counts = np.frombuffer(content[1:17].ljust(16, b"\0"), np.uint8)
        symbols = np.frombuffer(content[17 : 17 + int(counts.sum())], np.uint8)
        if content[0] >> 4:
            raise ValueError("a damaged Huffman table")
        found[content[0]] = _HuffmanTable.make(counts, symbols)
        content = content[17 + len(symbols) :]
    return found


def _read_differences(coded: bytes, tables: Sequence[_HuffmanTable], count: int) -> np.ndarray:
    """Differences of the first pixels of some coded data.

    Where a code begins is known only after the ones before it. So the step from each bit to the
    next pixel is looked up for all bits at once, and composed to steps of 16 pixels, which are
    followed one by one.

    Args:
        coded: Without restarts.
        tables: Of each sample of a pixel.
        count: Number of pixels.

    Returns:
        (samples, count) int32.
    """
    plain = coded.replace(b"\xff\x00", b"\xff")
    array = np.frombuffer(plain + _PADDING, np.uint8).astype(np.uint32)
    words = array[:-2] << 16 | array[1:-1] << 8 | array[2:]
    found: list[np.ndarray] = []
    begin, total = 0, 0
    while total < count:
        low = begin // 8
        size = min(_CHUNK, len(plain) - low)
        if size <= 0:
            raise ValueError("the data ends early")
        here = words[low : low + size + len(_PADDING) - 2]
        bits = (here[:, None] >> _SHIFTS).astype(np.uint16).ravel()
        places, end = _find_pixels(bits, 8 * size, begin - 8 * low, tables)
        found.append(_read_values(bits, places[: count - total], tables))
        total += len(places)
        begin = 8 * low + end
    return np.concatenate(found, axis=1)


def _find_pixels(
    bits: np.ndarray, size: int, begin: int, tables: Sequence[_HuffmanTable]
) -> tuple[np.ndarray, int]:
    """Bits at which the pixels of a chunk begin, and where the first one after it does."""
    inside = np.arange(size + _MARGIN)
    step = inside
    for table in tables:
        jump = inside + table.steps.take(bits[: len(inside)])
        step = jump if step is inside else jump.take(step, mode="clip")
    # A pixel that begins after the chunk is none of its own.
    step[size:] = inside[size:]
    powers = [step]
    for _ in range(_DOUBLINGS):
        powers.append(powers[-1].take(powers[-1], mode="clip"))
    leap, place, places = powers.pop(), begin, []
    while place < size:
        places.append(place)
        place = leap.item(place)
    starts = np.array(places)
    for power in reversed(powers):
        starts = np.stack([starts, power.take(starts)], axis=1).ravel()
    return starts[starts < size], place


def _read_values(
    bits: np.ndarray, places: np.ndarray, tables: Sequence[_HuffmanTable]
) -> np.ndarray:
    """Differences of the pixels that begin at some bits, (samples, pixels) int32."""
    values = np.empty((len(tables), len(places)), np.int32)
    for table, value in zip(tables, values, strict=True):
        code = bits.take(places)
        table.values.take(code, out=value)
        if value.max(initial=0) == _INVALID:
            raise ValueError("a code that no table has")
        steps = table.steps.take(code)
        long = np.flatnonzero(steps > 16)
        if len(long):
            after = bits.take(places[long] + table.lengths.take(code[long]))
            value[long] = _to_differences(after, table.categories.take(code[long]))
        places = places + steps
    return values


def _to_differences(after: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Differences of the 16 bits after their codes."""
    extra = after >> _SPARE.take(categories)
    negative = extra < _HALF.take(categories)
    differences: np.ndarray = extra - np.where(negative, _WHOLE.take(categories), np.int32(0))
    return differences
