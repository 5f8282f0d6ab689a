"""Checks of a DICOM header before pixels are decoded."""

from pathlib import Path
from typing import Any

from pydicom.uid import UID

from bedside.errors import FormatError

REQUIRED = (
    "SOPClassUID", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "PixelRepresentation",
)  # fmt: skip
_COLOUR_SPACES = {
    1: ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"),
    3: ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"),
}
_FLOATING = (
    "holds floating-point pixels (a parametric map), which are not read. Convert it to NIfTI."
)
_OTHER_FORMS = {
    "FloatPixelData": _FLOATING,
    "DoubleFloatPixelData": _FLOATING,
    "SpectroscopyData": "holds spectroscopy, and no image. Name an image file.",
    "PixelDataProviderURL": "refers to pixels that a server keeps (JPIP). Fetch the image itself.",
}
_DICOMDIR = "1.2.840.10008.1.3.10"


def check_attributes(dataset: Any, path: Path, *, pixels: bool = True) -> None:
    """Refuse a file that is no image, or lacks an attribute that decoding needs.

    Args:
        dataset: As read.
        path: Its file.
        pixels: Whether pixel data must be there.

    Raises:
        FormatError: If something is missing; it is named.
    """
    meta = getattr(dataset, "file_meta", {})
    if meta.get("MediaStorageSOPClassUID") == _DICOMDIR:
        raise FormatError(f"{path} is a DICOMDIR, an index without images. Name an image.")
    wanted = (*REQUIRED, "PixelData") if pixels else REQUIRED
    missing = [keyword for keyword in wanted if dataset.get(keyword) in (None, "")]
    if "TransferSyntaxUID" not in meta:
        missing.append("TransferSyntaxUID")
    if not missing:
        return
    kind = "" if "SOPClassUID" in missing else UID(str(dataset.SOPClassUID)).name
    if "Rows" in missing and kind and "Image" not in kind:
        raise FormatError(f"{path} holds no image ({kind}). Name an image file.")
    form = _name_form(dataset)
    if form is not None:
        raise FormatError(f"{path} {form}")
    named = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
    raise FormatError(f"{path} lacks {named}. The file is truncated or damaged; export it again.")


def _name_form(dataset: Any) -> str | None:
    """Return the kind of a valid file that is no image; None if it is not known.

    Returns:
        The end of a sentence that begins with the file's name.
    """
    for keyword, form in _OTHER_FORMS.items():
        if keyword in dataset:
            return form
    recognition = str(dataset.get("RecognitionCode") or "")
    if recognition.startswith("ACR-NEMA") and "SOPClassUID" not in dataset:
        return f"is {recognition}, which is older than DICOM. Convert it to DICOM with dcmconv."
    return None


def count_frames(dataset: Any, path: Path) -> int:
    """Return the number of frames; 1 if the file does not say.

    Raises:
        FormatError: If it is not a number, or below 1.
    """
    value = dataset.get("NumberOfFrames")
    try:
        frames = int(value) if value not in (None, "") else 1
    except (TypeError, ValueError):
        frames = 0
    if frames < 1:
        raise FormatError(f"{path}: NumberOfFrames is {value!r}; expected 1 or more.")
    return frames


def check_grid(dataset: Any, path: Path, *, frames: int, max_bytes: int) -> int:
    """Check the declared size and kind of pixels before any is decoded.

    Returns:
        Number of channels after decoding.

    Raises:
        FormatError: If a value is out of range, or the image would not fit in memory.
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
    if dataset.PixelRepresentation not in (0, 1):
        raise FormatError(
            f"{path}: PixelRepresentation is {dataset.PixelRepresentation}; expected 0 or 1. "
            "The header is damaged; export it again."
        )
    total = frames * dataset.Rows * dataset.Columns * samples * bits // 8
    if total > max_bytes:
        raise FormatError(
            f"{path} declares {frames} frames of {dataset.Rows} x {dataset.Columns}, "
            f"{total / 2**30:.1f} GiB; at most {max_bytes / 2**30:g} GiB are decoded. "
            "Split the recording."
        )
    return 3 if samples == 3 or colour_space == "PALETTE COLOR" else 1
