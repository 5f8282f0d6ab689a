"""Opens a DICOM cine or a single frame, after making sure that all of it is there."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bedside.io.dicom_auxiliary import check_captured
from bedside.io.dicom_calibration import read_calibration
from bedside.io.dicom_checks import check_attributes, check_grid, count_frames
from bedside.io.dicom_enhanced import is_enhanced, place_frames
from bedside.io.dicom_files import MAX_BYTES, read_whole, refused_as_ours
from bedside.io.dicom_frame_time import read_frame_times
from bedside.io.dicom_header import DicomInstances, of_one_file
from bedside.io.dicom_options import DicomOptions
from bedside.io.dicom_pixels import FrameDecoder, say_stray_bits
from bedside.io.dicom_values import read_rule, say_rule
from bedside.io.select import choose_place
from bedside.volume import Cine


def open_dicom(
    path: Path,
    *,
    max_bytes: int = MAX_BYTES,
    options: DicomOptions | None = None,
    select: Mapping[str, int] | None = None,
) -> tuple[Cine, DicomInstances]:
    """Open a DICOM file as a cine; its frames are decoded when asked for.

    The frames of an enhanced CT, MR or PET are the slices of a scan, sorted by place.

    Args:
        path: The file.
        max_bytes: Larger files, and larger decoded cines, are refused before decoding.
        options: What to do where the header leaves something open.
        select: Which stack or point in time of an enhanced image that has several.

    Returns:
        The cine, and its header.

    Raises:
        FormatError: If it is not DICOM, holds no image, is truncated, damaged or too large,
            or is compressed in a way that cannot be decoded.
        GeometryError: If it is a scan whose slices do not lie evenly.
    """
    with refused_as_ours(path) as caught:
        cine, header = _open(path, max_bytes, caught, options or DicomOptions(), select)
    notes = dict.fromkeys(f"DICOM: {warning.message}" for warning in caught)
    return replace(cine, warnings=(*cine.warnings, *notes)), header


def say_loss(dataset: Any) -> list[str]:
    """Tell that an image is compressed with loss, and how much, where the header does."""
    if str(dataset.get("LossyImageCompression", "")) != "01":
        return []
    ratio = dataset.get("LossyImageCompressionRatio")
    if ratio in (None, ""):
        return ["the image is compressed with loss"]
    last = ratio[-1] if isinstance(ratio, list | tuple) or hasattr(ratio, "append") else ratio
    return [f"the image is compressed with loss ({last}:1)"]


def _open(
    path: Path,
    max_bytes: int,
    caught: list[Any],
    options: DicomOptions,
    select: Mapping[str, int] | None,
) -> tuple[Cine, DicomInstances]:
    """Read and check a file; `caught` collects what pydicom warns of on the way."""
    dataset = read_whole(path, max_bytes, caught)
    check_attributes(dataset, path)
    auxiliary = check_captured(dataset, path)
    frames = count_frames(dataset, path)
    channels = check_grid(dataset, path, frames=frames, max_bytes=max_bytes)
    if frames > 1 and is_enhanced(dataset):
        decoder = FrameDecoder(dataset, path, frames, invert=False)
        return place_frames(dataset, decoder, path=path, options=options, select=select)
    choose_place(select, {}, path)
    decode, notes = _decode_values(dataset, path, frames=frames, options=options)
    calibration = read_calibration(dataset)
    times = read_frame_times(dataset, frames)
    cine = Cine(
        shape=(frames, channels, int(dataset.Rows), int(dataset.Columns)),
        decode=decode,
        modality=str(dataset.get("Modality") or "") or None,
        spacing_mm=calibration.spacing_mm,
        frame_time_ms=times.step_ms,
        frame_starts_ms=times.starts_ms,
        region=calibration.region,
        warnings=(*auxiliary, *calibration.warnings, *times.warnings, *notes, *say_loss(dataset)),
    )
    return cine, of_one_file(dataset, frames)


def _decode_values(
    dataset: Any, path: Path, *, frames: int, options: DicomOptions
) -> tuple[Callable[[int], np.ndarray], list[str]]:
    """Make the function that decodes a frame; grey frames are rescaled to their values."""
    if dataset.SamplesPerPixel != 1 or dataset.PhotometricInterpretation == "PALETTE COLOR":
        return FrameDecoder(dataset, path, frames), []
    modality = str(dataset.get("Modality") or "") or None
    rule = read_rule(dataset, path, modality=modality, options=options)
    decoder = FrameDecoder(dataset, path, frames, invert=False)
    notes = say_stray_bits(decoder)
    probe = decoder(0)
    notes += say_rule(
        rule, probe, modality=modality, photometric=str(dataset.PhotometricInterpretation)
    )
    return (decoder if rule.is_plain else lambda index: rule.apply(decoder(index))), notes
