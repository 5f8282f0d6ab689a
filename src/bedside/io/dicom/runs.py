"""Single images that are the frames of one cine, and their order.

An ultrasound exam is often one series of stills, and a cine often one file per frame: images are
joined only if they show the same view at a plausible rate.
"""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bedside.io.dicom.files import read_decimals
from bedside.io.dicom.frame_time import (
    FrameTimes,
    read_frame_times,
    read_moment_ms,
    times_from_steps,
)

IN_TIME = ("US", "IVUS", "XA", "RF", "ES")
"""Modalities whose single images can be the frames of a cine."""

_WORDS = ("Acquisition", "Content", "InstanceCreation")
_ALIKE = (
    "SeriesInstanceUID", "FrameOfReferenceUID", "SOPClassUID", "Rows", "Columns", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "PixelRepresentation",
    "PixelSpacing", "PixelAspectRatio", "NominalScannedPixelSpacing", "ImagerPixelSpacing",
    "ImageType", "BodyPartExamined", "Laterality", "ImageLaterality", "ViewPosition", "ViewName",
    "ViewNumber", "StageName", "StageNumber", "PositionerPrimaryAngle", "PositionerSecondaryAngle",
    "TransducerType",
)  # fmt: skip
_CODES = ("ViewCodeSequence", "AnatomicRegionSequence", "PrimaryAnatomicStructureSequence")
_REGIONS = "SequenceOfUltrasoundRegions"
_REGION_ATTRIBUTES = (
    "RegionSpatialFormat", "RegionDataType", "RegionLocationMinX0", "RegionLocationMinY0",
    "RegionLocationMaxX1", "RegionLocationMaxY1", "PhysicalUnitsXDirection",
    "PhysicalUnitsYDirection", "PhysicalDeltaX", "PhysicalDeltaY",
)  # fmt: skip
_ORDERING = (
    "InstanceNumber",
    *(f"{word}{part}" for word in _WORDS for part in ("Date", "Time")),
    "AcquisitionDateTime",
)
RUN_TAGS = (
    *_ALIKE, *_ORDERING, *_CODES, _REGIONS, "PixelSpacingCalibrationType", "SOPInstanceUID",
    "FrameTime", "CineRate", "RecommendedDisplayFrameRate",
)  # fmt: skip
"""What is read of headers to tell the frames of a cine."""

_PARALLEL = 1e-3
_APART_MM = 1e-3
# Stills are not stored faster than this; a cine is slower only if its header says so.
_LONGEST_STEP_MS = 2000.0
_SLOWER = 3.0
# Two images may be stills of one measurement.
_LEAST_FRAMES = 3
_SAME_STEP = 0.02
_SECOND_MS = 1000.0


@dataclass(frozen=True)
class Order:
    """The order of the images of a cine.

    Attributes:
        indices: Of the images, in order.
        by: The attributes that define it, for messages.
        moments_ms: Time of each, in order; None if unknown.
        notes: Warnings.
    """

    indices: tuple[int, ...]
    by: str
    moments_ms: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Runs:
    """The cines among the single images of a folder.

    Attributes:
        cines: The files of each cine; all others are stills.
        notes: Why images of one series were not joined, in sentences for the user.
    """

    cines: list[tuple[Path, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def lie_in_stack(headers: Sequence[Any]) -> bool:
    """Whether single images are slices: parallel, and not all at one place."""
    try:
        positions = np.array([read_decimals(each, "ImagePositionPatient") for each in headers])
        orientations = np.array(
            [read_decimals(each, "ImageOrientationPatient") for each in headers]
        )
    except (TypeError, ValueError):
        return False
    if positions.shape != (len(headers), 3) or orientations.shape != (len(headers), 6):
        return False
    first = orientations[0]
    return are_parallel(orientations, first) and count_heights(positions, first) > 1


def are_parallel(orientations: np.ndarray, other: np.ndarray) -> bool:
    """Whether orientations are equal but for rounding, (6,) or (N, 6) and (6,)."""
    return bool(np.abs(orientations - other).max() <= _PARALLEL)


def count_heights(positions: Any, orientation: np.ndarray) -> int:
    """Return the number of different places along the normal of slices.

    Args:
        positions: ImagePositionPatient of each slice, (N, 3).
        orientation: ImageOrientationPatient of all, (6,).
    """
    heights = np.sort(np.asarray(positions) @ np.cross(orientation[:3], orientation[3:]))
    return 1 + int((np.diff(heights) > _APART_MM).sum())


def find_identity(header: Any) -> tuple[str, ...] | None:
    """Return the attributes that copies of an image share; None without a UID."""
    uid = _read_text(header, "SOPInstanceUID")
    return (uid, *(_read_text(header, keyword) for keyword in _ORDERING)) if uid else None


def find_differences(headers: Sequence[Any]) -> list[str]:
    """Return the attributes that must be equal in one cine and are not."""
    keys = [_read_key(each) for each in headers]
    return [name for name in keys[0] if len({key[name] for key in keys}) > 1]


def sort_runs(files: Mapping[Path, Any]) -> Runs:
    """Sort single images into cines and stills.

    A cine is three images or more of one series that share size, view and regions, have an order,
    and follow each other within two seconds, or within three times their stated frame time. Images
    without times are ordered by number.

    Args:
        files: The header of each file, with `RUN_TAGS`.
    """
    found = Runs()
    by_series: dict[str, dict[Path, Any]] = defaultdict(dict)
    for path, header in files.items():
        by_series[str(header.get("SeriesInstanceUID"))][path] = header
    for series in by_series.values():
        _sort_series(series, found)
    return found


def find_order(headers: Sequence[Any]) -> Order | None:
    """Return the order of images: by acquisition time, else by number, else by another time.

    Returns:
        The order; None if there is none.
    """
    numbers = read_instance_numbers(headers)
    moments = _read_moments(headers)
    by_number = _sort_by(numbers) if numbers else None
    word, taken = moments if moments is not None else ("", None)
    by_time = (
        _sort_by(list(zip(taken, numbers or [0] * len(taken), strict=True))) if taken else None
    )
    if by_time is not None and (word == "Acquisition" or by_number is None):
        notes = () if by_number in (None, by_time) else (_SAY_CONTRADICTION,)
        return Order(by_time, f"{word} times", _pick(taken, by_time), notes)
    if by_number is None:
        return None
    return Order(by_number, "InstanceNumber", _pick(taken, by_number), ())


def read_run_times(first: Any, order: Order) -> FrameTimes:
    """Return the times of the frames of a cine, by the files' times or the header."""
    stated = read_frame_times(first, len(order.indices))
    steps = _steps(order)
    whole_seconds = all(moment % _SECOND_MS == 0 for moment in order.moments_ms or (0,))
    if not steps or min(steps) <= 0 or whole_seconds:
        return stated
    times = times_from_steps(steps)
    if stated.step_ms and abs((times.step_ms or 0) / stated.step_ms - 1) <= _SAME_STEP:
        return stated
    return times


_SAY_CONTRADICTION = (
    "the images' InstanceNumber gives another order than their times of acquisition, which count"
)


def _sort_series(series: Mapping[Path, Any], found: Runs) -> None:
    """Sort the images of one series."""
    by_key: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path, header in series.items():
        by_key[tuple(_read_key(header).values())].append(path)
    cines, stills, apart, unordered = [], 0, False, False
    for paths in by_key.values():
        runs = _split_at_gaps(paths, [series[path] for path in paths])
        is_ordered = find_order([series[path] for path in paths]) is not None
        apart, unordered = apart or (is_ordered and len(runs) > 1), unordered or not is_ordered
        cines += [tuple(run) for run in runs if len(run) >= _LEAST_FRAMES]
        stills += sum(len(run) for run in runs if len(run) < _LEAST_FRAMES)
    found.cines.extend(cines)
    if len(series) >= _LEAST_FRAMES and len(cines) + stills > 1:
        reasons = []
        if len(by_key) > 1:
            reasons.append(f"they differ in {', '.join(find_differences([*series.values()]))}")
        if apart:
            reasons.append("they were taken more than 2 s apart")
        if unordered:
            reasons.append("they have no times or numbers to order them by")
        found.notes.append(
            f"{min(series)} and {len(series) - 1} other single images of its series are "
            f"{len(cines) + stills} cases: {'; '.join(reasons) or 'they are too few'}."
        )


def _split_at_gaps(paths: Sequence[Path], headers: Sequence[Any]) -> list[list[Path]]:
    """Split images at long pauses; into single images if they have no order.

    Copies of an image go where it goes.
    """
    copies: dict[Any, list[Path]] = defaultdict(list)
    for path, header in zip(paths, headers, strict=True):
        copies[find_identity(header) or path].append(path)
    by_path = dict(zip(paths, headers, strict=True))
    of_original = {group[0]: group for group in copies.values()}
    runs = _split_originals(list(of_original), [by_path[path] for path in of_original])
    return [[path for original in run for path in of_original[original]] for run in runs]


def _split_originals(paths: Sequence[Path], headers: Sequence[Any]) -> list[list[Path]]:
    """Split images without copies."""
    order = find_order(headers)
    if order is None:
        return [[path] for path in paths]
    ordered = [paths[index] for index in order.indices]
    steps = _steps(order)
    if steps and min(steps) < 0:
        # Times in another order than the numbers only show the duration.
        span = sorted(order.moments_ms or ())
        steps = [later - earlier for earlier, later in itertools.pairwise(span)]
        if max(steps) > _LONGEST_STEP_MS:
            return [[path] for path in ordered]
    stated = read_frame_times(headers[order.indices[0]], 1).step_ms
    longest = max(_LONGEST_STEP_MS, _SLOWER * (stated or 0))
    runs = [[ordered[0]]]
    for path, step in zip(ordered[1:], steps or [0.0] * len(ordered[1:]), strict=True):
        if step > longest:
            runs.append([])
        runs[-1].append(path)
    return runs


def _read_key(header: Any) -> dict[str, str]:
    """Return what the frames of one cine share, by name."""
    key = {keyword: _read_text(header, keyword) for keyword in _ALIKE}
    for keyword in _CODES:
        items = header.get(keyword) or ()
        key[keyword] = str([_read_text(item, "CodeValue") for item in items])
    regions = header.get(_REGIONS) or ()
    key[_REGIONS] = str(
        [[_read_text(each, name) for name in _REGION_ATTRIBUTES] for each in regions]
    )
    return key


def _read_text(holder: Any, keyword: str) -> str:
    try:
        return str(holder.get(keyword) or "")
    except (TypeError, ValueError):
        return ""


def read_instance_numbers(headers: Sequence[Any]) -> list[int]:
    """Return InstanceNumber of each; empty if one is missing."""
    try:
        return [int(header.InstanceNumber) for header in headers]
    except (AttributeError, TypeError, ValueError):
        return []


def _read_moments(headers: Sequence[Any]) -> tuple[str, list[float]] | None:
    """Return the times of images, by the first kind of time that separates them."""
    for word in _WORDS:
        read = [read_moment_ms(header, word) for header in headers]
        moments = [moment for moment in read if moment is not None]
        if len(moments) == len(headers) and len(set(moments)) > 1:
            return word, moments
    return None


def _sort_by(keys: Sequence[Any]) -> tuple[int, ...] | None:
    """Return indices in the order of keys; None if two are equal."""
    if len(set(keys)) < len(keys):
        return None
    return tuple(sorted(range(len(keys)), key=lambda index: keys[index]))


def _pick(values: Sequence[float] | None, indices: Sequence[int]) -> tuple[float, ...] | None:
    return None if values is None else tuple(values[index] for index in indices)


def _steps(order: Order) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(order.moments_ms or ())]
