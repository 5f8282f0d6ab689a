"""How long a frame of 720 x 960 takes to decode, for each form of DICOM pixels, and PNG.

The frame is blurred noise in a sector on black. "Memory" says whether a colour frame comes as rows
of pixels (HWC), as OpenCV needs it, or in planes. The last rows compare two ways to exchange the
chroma channels of YBR_FULL, by turns. A busy machine shows in p95.
"""

import argparse
import functools
import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pydicom import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)

from bedside.io.source import open_source
from bedside.runtime.machine import describe_processor, read_load
from bedside.system.atomic import write_text

SIZE = (720, 960)
HEADER = "| pixels | memory | p50 ms | p95 ms |\n|---|---|---|---|"


def draw_frame() -> np.ndarray:
    """A sector of speckle on black, (H, W, 3) uint8."""
    noise = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    mask = np.zeros(SIZE, np.uint8)
    cv2.ellipse(mask, (480, 20), (680, 680), 0, 50, 130, 1, cv2.FILLED)
    return np.asarray(cv2.GaussianBlur(noise, (9, 9), 3) * mask[..., None])


def make_dicom(frame: np.ndarray, photometric: str) -> Dataset:
    """Two frames, uncompressed."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundMultiFrameImageStorage, "1.2.3"
    dataset.Modality, dataset.NumberOfFrames = "US", 2
    dataset.Rows, dataset.Columns = SIZE
    dataset.SamplesPerPixel = frame.ndim if frame.ndim == 3 else 1
    dataset.PhotometricInterpretation = photometric
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = frame.tobytes() * 2
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def list_images(frame: np.ndarray) -> Mapping[str, Dataset | bytes]:
    """The forms of pixels that are timed, by name."""
    rle = make_dicom(frame, "RGB")
    rle.compress(RLELossless, generate_instance_uid=False)
    jpeg = make_dicom(frame, "YBR_FULL_422")
    encoded = cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes()
    jpeg.PixelData = encapsulate([encoded, encoded])
    jpeg["PixelData"].is_undefined_length = True
    jpeg.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    png = io.BytesIO()
    Image.fromarray(frame).save(png, "PNG")
    return {
        "grey": make_dicom(frame[..., 0], "MONOCHROME2"),
        "RGB": make_dicom(frame, "RGB"),
        "YBR_FULL": make_dicom(frame, "YBR_FULL"),
        "JPEG baseline, colour": jpeg,
        "RLE, RGB": rle,
        "PNG, decoded when opened": png.getvalue(),
    }


def time_in_turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of each call, one call of each way a round."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, call in ways.items():
            begin = time.perf_counter()
            call()
            spent[name].append(1e3 * (time.perf_counter() - begin))
    return {name: np.array(values) for name, values in spent.items()}


def swap_by_index(image: np.ndarray) -> np.ndarray:
    """Exchange the chroma channels by numpy."""
    return np.ascontiguousarray(image[..., [0, 2, 1]])


def swap_by_opencv(image: np.ndarray) -> np.ndarray:
    """Exchange the chroma channels by OpenCV."""
    swapped = np.empty_like(image)
    cv2.mixChannels([image], [swapped], [0, 0, 1, 2, 2, 1])
    return swapped


def main() -> None:
    """Time every form and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    frame = draw_frame()
    ways: dict[str, Callable[[], object]] = {}
    layouts: dict[str, str] = {}
    for name, image in list_images(frame).items():
        sequence = open_source(image).sequence
        decoded = sequence.decode(0)
        rows = np.moveaxis(decoded, 0, -1).flags.c_contiguous
        layouts[name] = "-" if len(decoded) == 1 else "HWC" if rows else "planes"
        ways[name] = functools.partial(sequence.decode, len(sequence) - 1)
    for name, swap in {"index": swap_by_index, "mixChannels": swap_by_opencv}.items():
        ways[f"exchange of chroma by {name}"] = functools.partial(swap, frame)
    load = read_load()
    spent = time_in_turns(ways, arguments.rounds)
    lines = [
        "# Decoding of frames: time",
        "",
        f"{describe_processor()}, load {load:.1f}; {arguments.rounds} rounds, one call of each a "
        f"round. Made by `python benchmarks/decoding.py`.",
        "",
        HEADER,
    ]
    for name, values in spent.items():
        p50, p95 = np.percentile(values, [50, 95])
        lines.append(f"| {name} | {layouts.get(name, '-')} | {p50:.2f} | {p95:.2f} |")
    write_text(arguments.output, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
