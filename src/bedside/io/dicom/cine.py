"""DICOM files of one or several frames: cines, scans and single images."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bedside.io.dicom.auxiliary import check_captured
from bedside.io.dicom.calibration import Calibration, read_aspect, read_calibration
from bedside.io.dicom.enhanced import are_slices, place_frames, read_frame_rule, sort_in_time
from bedside.io.dicom.files import MAX_BYTES, describe_form, pydicom_errors
from bedside.io.dicom.frame_time import (
    FrameTimes,
    read_clock_ms,
    read_frame_times,
    times_from_steps,
)
from bedside.io.dicom.functional import FrameGroups, list_groups
from bedside.io.dicom.header import DicomInstances, number_frames
from bedside.io.dicom.options import DicomOptions
from bedside.io.dicom.parts import Part, read_parts
from bedside.io.dicom.pixels import FrameDecoder, describe_stray_bits
from bedside.io.dicom.values import ValueRule, describe_rule, is_colour, with_one_dtype
from bedside.io.select import choose_place
from bedside.volume import ImageSequence


def open_dicom(
    path: Path,
    *,
    files: Sequence[Path] = (),
    max_bytes: int = MAX_BYTES,
    options: DicomOptions | None = None,
    select: Mapping[str, int] | None = None,
) -> tuple[ImageSequence, DicomInstances]:
    """Open a DICOM file; its frames are decoded on request.

    Frames with a place each are the slices of a scan, sorted by place. A file that is part of a
    concatenation is opened with its other parts.

    Args:
        path: The file, or a name for several.
        files: The parts of a concatenation; if empty, those beside `path`.
        max_bytes: Larger files, and larger decoded images, are refused before decoding.
        options: Options for headers that are incomplete.
        select: Which stack, point in time or channel of a file that has several.

    Returns:
        The frames, and their headers.

    Raises:
        FormatError: If it is not DICOM, holds no image, is truncated, damaged or too large,
            has a compression that cannot be decoded, or a part of it is missing.
        GeometryError: If it is a scan with missing or uneven slices.
    """
    with pydicom_errors(path) as caught:
        parts, told = read_parts(files or [path], path, max_bytes, caught)
        told += [*describe_form(parts[0].header), *check_captured(parts[0].header, path)]
        options = options or DicomOptions()
        if sum(part.frames for part in parts) > 1 and are_slices(parts):
            sequence, header = place_frames(parts, path=path, options=options, select=select)
        else:
            choose_place(select, {}, path)
            sequence, header = _follow_in_time(parts, path, options)
    notes = dict.fromkeys(f"DICOM: {text}" for text in caught)
    return replace(sequence, warnings=(*told, *sequence.warnings, *notes)), header


def describe_loss(dataset: Any) -> list[str]:
    """Return a warning about lossy compression, if there is any."""
    if str(dataset.get("LossyImageCompression", "")) != "01":
        return []
    ratio = dataset.get("LossyImageCompressionRatio")
    if ratio in (None, ""):
        return ["the image is compressed with loss"]
    last = ratio[-1] if isinstance(ratio, list | tuple) or hasattr(ratio, "append") else ratio
    return [f"the image is compressed with loss ({last}:1)"]


def describe_values(header: Any, rule: ValueRule, decoder: FrameDecoder) -> list[str]:
    """Return warnings about stored pixels and their conversion, by the first frame."""
    notes = describe_stray_bits(decoder)
    if is_colour(header):
        return notes
    modality = str(header.get("Modality") or "") or None
    photometric = str(header.PhotometricInterpretation)
    return notes + describe_rule(rule, decoder(0), modality=modality, photometric=photometric)


def make_timed(
    header: Any, shape: tuple[int, int], decode: Callable[[int], np.ndarray], *,
    calibration: Calibration, times: FrameTimes, notes: Sequence[str],
) -> ImageSequence:  # fmt: skip
    """Return frames that follow each other in time.

    Args:
        header: Of the first.
        shape: Number of frames and of channels.
        decode: Returns one.
        calibration: Their scale and region.
        times: Their times.
        notes: Warnings about their values.
    """
    return ImageSequence(
        shape=(*shape, int(header.Rows), int(header.Columns)),
        decode=decode,
        modality=str(header.get("Modality") or "") or None,
        spacing_mm=calibration.spacing_mm,
        pixel_aspect=read_aspect(header),
        frame_time_ms=times.step_ms,
        frame_starts_ms=times.starts_ms,
        region=calibration.region,
        warnings=(*calibration.warnings, *times.warnings, *notes, *describe_loss(header)),
    )


def _follow_in_time(
    parts: Sequence[Part], path: Path, options: DicomOptions
) -> tuple[ImageSequence, DicomInstances]:
    """Return frames in the order stored; grey ones are rescaled."""
    first, frames = parts[0], sum(part.frames for part in parts)
    places = [(part, number) for part in parts for number in range(part.frames)]
    groups = [each for part in parts for each in list_groups(part.header, part.frames)]
    groups = groups if len(groups) == frames else []
    order = sort_in_time(groups) if groups else None
    if order is not None:
        places, groups = [places[index] for index in order], [groups[index] for index in order]
    rules = _read_rules(places, groups, path, options)

    def decode(index: int) -> np.ndarray:
        part, number = places[index]
        return rules[index].apply(part.decoder(number))

    sequence = make_timed(
        first.header,
        (frames, first.channels),
        decode,
        calibration=read_calibration(first.header, _find_spacing(groups)),
        times=_read_times(parts, groups, frames),
        notes=describe_values(first.header, rules[0], first.decoder),
    )
    numbered = number_frames([(part.header, part.frames) for part in parts])
    if order is not None:
        numbered = tuple(numbered[index] for index in order)
    return sequence, DicomInstances(tuple(part.header for part in parts), numbered)


def _read_rules(
    places: Sequence[tuple[Part, int]],
    groups: Sequence[FrameGroups],
    path: Path,
    options: DicomOptions,
) -> list[ValueRule]:
    """Return the value rule of each frame: one per file, unless functional groups differ."""
    if any(each.find("PixelValueTransformationSequence") is not None for each in groups):
        rules = [read_frame_rule(each, path, options) for each in groups]
    else:
        headers = {id(part): part.header for part, _ in places}
        by_part = {
            key: read_frame_rule(FrameGroups(header, {}, {}), path, options)
            for key, header in headers.items()
        }
        rules = [by_part[id(part)] for part, _ in places]
    return rules if len(rules) == 1 else with_one_dtype(rules)


def _find_spacing(groups: Sequence[FrameGroups]) -> Any:
    """Return the PixelSpacing that the groups of all frames share; else None."""
    found = [each.read("PixelMeasuresSequence", "PixelSpacing") for each in groups]
    return found[0] if found and all(each == found[0] for each in found) else None


def _read_times(parts: Sequence[Part], groups: Sequence[FrameGroups], frames: int) -> FrameTimes:
    """Return the times of frames, from the first header or from functional groups."""
    times = read_frame_times(parts[0].header, frames if len(parts) == 1 else 1)
    if times.step_ms is not None or not groups:
        return times
    for keyword in ("FrameAcquisitionDateTime", "FrameReferenceDateTime"):
        read = [read_clock_ms(str(each.read("FrameContentSequence", keyword))) for each in groups]
        moments = [moment for moment in read if moment is not None]
        steps = [later - earlier for earlier, later in itertools.pairwise(moments)]
        if len(moments) == frames > 1 and min(steps) > 0:
            return replace(times_from_steps(steps), warnings=times.warnings)
    return times
