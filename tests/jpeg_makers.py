"""Encodes lossless JPEG, straight from the standard: for tests."""

import itertools

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLossless

# Prediction by the samples to the left (a), above (b), and to the left above (c): T.81, table H.1.
_PREDICTIONS = {
    1: lambda a, b, c: a,
    2: lambda a, b, c: b,
    3: lambda a, b, c: c,
    4: lambda a, b, c: a + b - c,
    5: lambda a, b, c: a + ((b - c) >> 1),
    6: lambda a, b, c: b + ((a - c) >> 1),
    7: lambda a, b, c: (a + b) >> 1,
}


def encode_lossless_jpeg(
    pixels, *, precision=16, predictor=1, shift=0, restart_rows=0, interleaved=True
):
    """Encode (H, W, samples); each component has a Huffman table of its own."""
    rows, columns, samples = pixels.shape
    values = pixels.astype(int) >> shift
    initial = 1 << (precision - shift - 1)
    height = restart_rows or rows
    tables = [_make_table(number) for number in range(samples)]
    frame = b"\xff\xd8" + _segment(
        0xC3,
        bytes([precision]) + rows.to_bytes(2) + columns.to_bytes(2) + bytes([samples])
        + b"".join(bytes([7 + number, 0x11, 0]) for number in range(samples)),
    )  # fmt: skip
    for number, (counts, symbols, _) in enumerate(tables):
        frame += _segment(0xC4, bytes([number, *counts, *symbols]))
    if restart_rows:
        frame += _segment(0xDD, (restart_rows * columns).to_bytes(2))
    groups = [range(samples)] if interleaved else [[number] for number in range(samples)]
    for group in groups:
        pairs = b"".join(bytes([7 + number, number << 4]) for number in group)
        frame += _segment(0xDA, bytes([len(group)]) + pairs + bytes([predictor, 0, shift]))
        for place, top in enumerate(range(0, rows, height)):
            if place:
                frame += bytes([0xFF, 0xD0 + (place - 1) % 8])
            part = values[top : top + height]
            frame += _encode(part, group, [table[2] for table in tables], predictor, initial)
    return frame + b"\xff\xd9"


def compress_lossless_jpeg(dataset, **settings):
    """Compress an image of `make_dicom`, in place."""
    kind = np.uint16 if dataset.BitsAllocated == 16 else np.uint8
    frames = int(dataset.get("NumberOfFrames", 1))
    shape = frames, dataset.Rows, dataset.Columns, dataset.SamplesPerPixel
    pixels = np.frombuffer(dataset.PixelData[: np.prod(shape) * kind().itemsize], kind)
    settings = {"precision": dataset.BitsStored, **settings}
    encoded = [encode_lossless_jpeg(frame, **settings) for frame in pixels.reshape(shape)]
    dataset.PixelData = encapsulate(encoded)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGLossless
    return dataset


def _segment(marker, content):
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2) + content


def _make_table(number):
    """Counts, symbols and codes: 17 categories, in another order for each table."""
    symbols = [(5 * place + number) % 17 for place in range(17)]
    counts = [0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 0, 1]
    codes, code, place = {}, 0, iter(symbols)
    for length, count in enumerate(counts, start=1):
        for symbol in itertools.islice(place, count):
            codes[symbol] = f"{code:0{length}b}"
            code += 1
        code <<= 1
    return counts, symbols, codes


def _encode(values, group, codes, predictor, initial):
    """Coded data of some rows up to a restart, (H, W, samples)."""
    bits = []
    for row, column in np.ndindex(values.shape[:2]):
        for number in group:
            plane = values[..., number]
            if row == 0 or column == 0:
                before = plane[row, column - 1] if column else plane[row - 1, 0] if row else initial
            else:
                before = _PREDICTIONS[predictor](
                    plane[row, column - 1], plane[row - 1, column], plane[row - 1, column - 1]
                )
            bits.append(_code((int(plane[row, column]) - int(before)) % 2**16, codes[number]))
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    content = int(text, 2).to_bytes(len(text) // 8)
    return content.replace(b"\xff", b"\xff\x00")


def _code(difference, codes):
    if difference > 2**15:
        difference -= 2**16
    category = abs(difference).bit_length()
    if category in (0, 16):
        return codes[category]
    value = difference if difference > 0 else difference + 2**category - 1
    return codes[category] + f"{value:0{category}b}"
