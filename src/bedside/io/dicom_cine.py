"""Opens a DICOM cine or a single frame, after making sure that all of it is there."""

import warnings
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from bedside.errors import FormatError
from bedside.io.dicom_calibration import read_calibration, read_frame_time_ms
from bedside.io.dicom_header import DicomInstances, of_one_file
from bedside.io.dicom_pixels import FrameDecoder
from bedside.volume import Cine

MAX_BYTES = 2**31
"""Largest file, and largest decoded cine, that is read: 2 GiB."""

_REQUIRED = (
    "SOPClassUID",
    "Rows",
    "Columns",
    "PixelData",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)
_COLOUR_SPACES = {
    1: ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"),
    3: ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"),
}
_DICOMDIR = "1.2.840.10008.1.3.10"


def open_dicom(path: Path, *, max_bytes: int = MAX_BYTES) -> tuple[Cine, DicomInstances]:
    """Open a DICOM file as a cine; its frames are decoded when asked for.

    Args:
        path: The file.
        max_bytes: Larger files, and larger decoded cines, are refused before decoding.

    Returns:
        The cine, and its header.

    Raises:
        FormatError: If it is not DICOM, holds no image, is truncated, damaged or too large,
            or is compressed in a way that cannot be decoded.
    """
    _check_size(path, max_bytes)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            dataset, cine = _open(path, max_bytes, caught)
        except FormatError:
            raise
        except Exception as error:
            # pydicom reads values when they are asked for, and raises nine kinds of error.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise FormatError(
                f"{path} cannot be read as DICOM: {reason.rstrip('.')}. "
                "It is truncated or damaged; export it again."
            ) from error
    notes = dict.fromkeys(f"DICOM: {warning.message}" for warning in caught)
    return replace(cine, warnings=(*cine.warnings, *notes)), of_one_file(dataset, len(cine))


def _open(path: Path, max_bytes: int, caught: list[Any]) -> tuple[Any, Cine]:
    """Read and check a file; `caught` collects what pydicom warns of on the way."""
    dataset = _read_dataset(path, max_bytes)
    if any("End of file" in str(warning.message) for warning in caught):
        raise FormatError(
            f"{path} ends in the middle of its data. It is truncated; export it again."
        )
    _check_attributes(dataset, path)
    frames = _count_frames(dataset, path)
    channels = _check_grid(dataset, path, frames=frames, max_bytes=max_bytes)
    decode = FrameDecoder(dataset, path, frames)
    calibration = read_calibration(dataset)
    notes = [*calibration.warnings]
    if str(dataset.get("LossyImageCompression", "")) == "01":
        notes.append("the image is compressed with loss" + _say_ratio(dataset))
    cine = Cine(
        shape=(frames, channels, int(dataset.Rows), int(dataset.Columns)),
        decode=decode,
        modality=str(dataset.get("Modality") or "") or None,
        spacing_mm=calibration.spacing_mm,
        frame_time_ms=read_frame_time_ms(dataset),
        region=calibration.region,
        warnings=tuple(notes),
    )
    return dataset, cine


def _check_size(path: Path, max_bytes: int) -> None:
    """Refuse a file that is too large to hold, or that inflates to one."""
    size = path.stat().st_size
    if size > max_bytes:
        raise FormatError(
            f"{path} has {size / 2**30:.1f} GiB; at most {max_bytes / 2**30:g} GiB are read. "
            "Split the recording."
        )


def _read_dataset(path: Path, max_bytes: int) -> Any:
    """Read the data set, pixel data included, unless it would inflate past `max_bytes`."""
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        _check_inflated_size(path, max_bytes)
    return pydicom.dcmread(path)


def _check_inflated_size(path: Path, max_bytes: int) -> None:
    """Refuse a deflated data set that grows past `max_bytes`; pydicom would hold all of it."""
    content = path.read_bytes()
    # The length of group 2 stands in its first element and counts from that element's end.
    start = 144 + int.from_bytes(content[140:144], "little")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total, pending = 0, content[start:]
    # What follows the end of the stream, such as a byte to make it even, is never consumed.
    while pending and not inflater.eof:
        total += len(inflater.decompress(pending, 2**20))
        if total > max_bytes:
            raise FormatError(
                f"{path} inflates to more than {max_bytes / 2**30:g} GiB and is refused. "
                "Export it uncompressed if it is sound."
            )
        pending = inflater.unconsumed_tail


def _check_attributes(dataset: Any, path: Path) -> None:
    """Refuse what is not an image, or lacks an attribute that decoding needs."""
    meta = getattr(dataset, "file_meta", {})
    if meta.get("MediaStorageSOPClassUID") == _DICOMDIR:
        raise FormatError(f"{path} is a DICOMDIR, an index without images. Name an image.")
    missing = [keyword for keyword in _REQUIRED if dataset.get(keyword) in (None, "")]
    if "TransferSyntaxUID" not in meta:
        missing.append("TransferSyntaxUID")
    if not missing:
        return
    kind = "" if "SOPClassUID" in missing else UID(str(dataset.SOPClassUID)).name
    if "Rows" in missing and kind and "Image" not in kind:
        raise FormatError(f"{path} holds no image ({kind}). Name an image file.")
    named = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
    raise FormatError(f"{path} lacks {named}. The file is truncated or damaged; export it again.")


def _count_frames(dataset: Any, path: Path) -> int:
    """Read the number of frames; a file that does not say has one."""
    value = dataset.get("NumberOfFrames")
    try:
        frames = int(value) if value not in (None, "") else 1
    except (TypeError, ValueError):
        frames = 0
    if frames < 1:
        raise FormatError(f"{path}: NumberOfFrames is {value!r}; expected 1 or more.")
    return frames


def _check_grid(dataset: Any, path: Path, *, frames: int, max_bytes: int) -> int:
    """Check the declared size and kind of pixels before any is decoded.

    Returns:
        Number of channels after decoding.

    Raises:
        FormatError: If a value is out of range, or the cine would not fit in memory.
    """
    samples, bits = dataset.SamplesPerPixel, dataset.BitsAllocated
    colour_space = str(dataset.PhotometricInterpretation)
    for keyword in ("Rows", "Columns"):
        if not isinstance(dataset[keyword].value, int) or dataset[keyword].value < 1:
            raise FormatError(
                f"{path}: {keyword} is {dataset[keyword].value!r}; expected 1 or more. "
                "The header is damaged; export it again."
            )
    if colour_space not in _COLOUR_SPACES.get(samples, ()):
        raise FormatError(
            f"{path}: {samples} samples of {colour_space} are not an image that can be read. "
            "Export it as MONOCHROME2 or RGB."
        )
    if bits not in (8, 16) or not 1 <= dataset.BitsStored <= bits:
        raise FormatError(
            f"{path}: {dataset.BitsStored} bits stored in {bits}; expected 8 or 16 allocated. "
            "Export it with 8 or 16 bits."
        )
    total = frames * dataset.Rows * dataset.Columns * samples * bits // 8
    if total > max_bytes:
        raise FormatError(
            f"{path} declares {frames} frames of {dataset.Rows} x {dataset.Columns}, "
            f"{total / 2**30:.1f} GiB; at most {max_bytes / 2**30:g} GiB are decoded. "
            "Split the recording."
        )
    return 3 if samples == 3 or colour_space == "PALETTE COLOR" else 1


def _say_ratio(dataset: Any) -> str:
    """Tell the compression ratio, where the header does."""
    ratio = dataset.get("LossyImageCompressionRatio")
    if ratio in (None, ""):
        return ""
    last = ratio[-1] if isinstance(ratio, list | tuple) or hasattr(ratio, "append") else ratio
    return f" ({last}:1)"
