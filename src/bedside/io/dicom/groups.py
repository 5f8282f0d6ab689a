"""DICOM files sorted into scans, cines and single images by a few header attributes."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bedside.io.dicom.auxiliary import (
    AUXILIARY_TAGS,
    why_beside_scan,
    why_capture,
    why_localizer,
)
from bedside.io.dicom.enhanced import is_enhanced
from bedside.io.dicom.files import MAX_BYTES, read_decimals, read_header
from bedside.io.dicom.parts import PART_TAGS, is_part
from bedside.io.dicom.runs import IN_TIME, RUN_TAGS, are_parallel, count_heights, sort_runs
from bedside.io.dicom.warnings import collected_warnings

# Attributes that separate images at one place, in order of precedence.
_DIMENSIONS = (
    "EchoTime", "TemporalPositionIdentifier", "AcquisitionNumber", "TriggerTime", "DiffusionBValue",
    "ImageType", "ContentTime",
)  # fmt: skip
_SERIES = ("SeriesInstanceUID", "SOPClassUID", "Rows", "Columns")
_TAGS = (
    *_SERIES, *AUXILIARY_TAGS, *PART_TAGS, "Modality", "NumberOfFrames", "ImagePositionPatient",
    "ImageOrientationPatient", *_DIMENSIONS,
)  # fmt: skip


@dataclass(frozen=True)
class Groups:
    """Sorted DICOM files.

    Attributes:
        scans: The files of each scan, each cine in single images, and each image in parts.
        singles: Files that are an image of their own.
        auxiliary: Images that are not scans, with the reason.
        notes: Why single images of one series are separate cases.
    """

    scans: tuple[tuple[Path, ...], ...]
    singles: tuple[Path, ...]
    auxiliary: Mapping[Path, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Stub:
    """Series and place of a file.

    Attributes:
        path: The file.
        header: The attributes that were read.
        series: What the slices of a scan have in common.
        position: (3,).
        orientation: (6,).
    """

    path: Path
    header: Any = field(repr=False)
    series: Hashable
    position: np.ndarray = field(repr=False)
    orientation: np.ndarray = field(repr=False)


def group_files(paths: Iterable[Path]) -> Groups:
    """Sort DICOM files into scans, cines and single images.

    The slices of a scan are single images of one series, class, size and orientation at two or
    more places. Where several lie at each place (echoes, points in time), the series is split by
    the first attribute that separates them. The parts of a concatenation are one image; cines in
    single images are found by `bedside.io.dicom.runs`.

    Args:
        paths: The files. One with an unreadable header is a single image, and is refused when it
            is opened.
    """
    singles: list[Path] = []
    headers: dict[Path, Any] = {}
    auxiliary: dict[Path, str] = {}
    by_series: dict[Hashable, list[_Stub]] = defaultdict(list)
    by_image: dict[Hashable, list[Path]] = defaultdict(list)
    for path in paths:
        header = headers[path] = _read_header(path, _TAGS)
        why = None if header is None else (why_localizer(header) or why_capture(header))
        stub = None if header is None else _read_stub(path, header)
        if why is not None:
            auxiliary[path] = why
        elif header is not None and is_part(header):
            by_image[tuple(str(header.get(keyword)) for keyword in PART_TAGS[:2])].append(path)
        elif stub is None:
            singles.append(path)
        else:
            by_series[stub.series].append(stub)
    scans = [tuple(sorted(parts)) for parts in by_image.values() if len(parts) > 1]
    singles += [parts[0] for parts in by_image.values() if len(parts) == 1]
    for stubs in by_series.values():
        for parallel in _split_by_orientation(stubs):
            for scan in _split_by_dimension(parallel):
                if len(scan) > 1 and _count_places(scan) > 1:
                    scans.append(tuple(sorted(stub.path for stub in scan)))
                else:
                    singles += [stub.path for stub in scan]
    beside = _find_beside_scans(scans, singles, headers)
    singles = [path for path in singles if path not in beside]
    runs = sort_runs(_read_runs(singles, headers))
    in_cines = {path for sequence in runs.cines for path in sequence}
    return Groups(
        tuple(sorted([*scans, *(tuple(sorted(sequence)) for sequence in runs.cines)])),
        tuple(sorted(path for path in singles if path not in in_cines)),
        {**auxiliary, **beside},
        tuple(runs.notes),
    )


def _read_runs(singles: Iterable[Path], headers: Mapping[Path, Any]) -> dict[Path, Any]:
    """Read the attributes that define a cine, of images that can be its frames."""
    found = {}
    for path in singles:
        header = headers[path]
        if header is None or not _is_single(header) or header.get("Modality") not in IN_TIME:
            continue
        header = _read_header(path, RUN_TAGS)
        if header is not None:
            found[path] = header
    return found


def _find_beside_scans(
    scans: Iterable[Sequence[Path]], singles: Iterable[Path], headers: Mapping[Path, Any]
) -> dict[Path, str]:
    """Return images that are skipped because their study has a scan, with reasons."""
    whole = [path for path in singles if headers[path] is not None and is_enhanced(headers[path])]
    with_scans = [*whole, *(scan[0] for scan in scans)]
    studies = {str(headers[path].get("StudyInstanceUID")) for path in with_scans}
    found = {}
    for path in singles:
        header = headers[path]
        if header is None or str(header.get("StudyInstanceUID")) not in studies:
            continue
        why = why_beside_scan(header)
        if why is not None:
            found[path] = why
    return found


def _read_header(path: Path, tags: Sequence[str]) -> Any:
    """Return some attributes; None if they cannot be read, which opening reports."""
    with collected_warnings():
        try:
            header = read_header(path, MAX_BYTES, tags=tags)
            # Converted now, to find unreadable values.
            for keyword in tags:
                header.get(keyword)
        except Exception:  # noqa: BLE001 - pydicom raises nine kinds of error
            return None
    return header


def _is_single(header: Any) -> bool:
    try:
        return int(header.get("NumberOfFrames") or 1) == 1
    except (TypeError, ValueError):
        return False


def _read_stub(path: Path, header: Any) -> _Stub | None:
    """Return the series and place of a file; None if it cannot be a slice."""
    if not _is_single(header):
        return None
    try:
        series = tuple(str(header[keyword].value) for keyword in _SERIES)
        position = np.array(read_decimals(header, "ImagePositionPatient"))
        orientation = np.array(read_decimals(header, "ImageOrientationPatient"))
    except (KeyError, TypeError, ValueError):
        # Opening it reports the error.
        return None
    placed = position.shape == (3,) and orientation.shape == (6,)
    if not placed or not np.isfinite([*position, *orientation]).all():
        return None
    return _Stub(path, header, series, position, orientation)


def _split_by_orientation(stubs: Sequence[_Stub]) -> list[list[_Stub]]:
    """Group parallel slices."""
    groups: list[list[_Stub]] = []
    for stub in stubs:
        for group in groups:
            if are_parallel(group[0].orientation, stub.orientation):
                group.append(stub)
                break
        else:
            groups.append([stub])
    return groups


def _split_by_dimension(stubs: list[_Stub]) -> list[list[_Stub]]:
    """Split slices at shared places by the first attribute that separates them."""
    places = _count_places(stubs)
    if places == len(stubs) or places < 2:
        return [stubs]
    for keyword in _DIMENSIONS:
        groups: dict[str, list[_Stub]] = defaultdict(list)
        for stub in stubs:
            groups[_read_text(stub, keyword)].append(stub)
        alike = {len(group) for group in groups.values()} == {places}
        if alike and all(_count_places(group) == places for group in groups.values()):
            return list(groups.values())
    return [stubs]


def _read_text(stub: _Stub, keyword: str) -> str:
    try:
        return str(stub.header.get(keyword))
    except (TypeError, ValueError):
        return ""


def _count_places(stubs: Sequence[_Stub]) -> int:
    """Number of different places along the normal."""
    return count_heights([stub.position for stub in stubs], stubs[0].orientation)
