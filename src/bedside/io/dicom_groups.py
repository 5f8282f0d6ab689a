"""Tells which files of a folder are the slices of one scan, by a quick look at their headers."""

import warnings
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bedside.io.dicom_files import MAX_BYTES, read_decimals, read_header

_IN_TIME = ("US", "IVUS", "XA", "RF")
_PARALLEL = 1e-3
_APART_MM = 1e-3
# What tells the images at one place apart, in the order in which it is tried.
_DIMENSIONS = (
    "EchoTime",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "TriggerTime",
    "DiffusionBValue",
    "ImageType",
    "ContentTime",
)
_SERIES = ("SeriesInstanceUID", "SOPClassUID", "Rows", "Columns")
_TAGS = (
    *_SERIES,
    "Modality",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    *_DIMENSIONS,
)


@dataclass(frozen=True)
class Groups:
    """The DICOM files of a folder, sorted out.

    Attributes:
        scans: The files of each scan.
        singles: Files that are an image of their own.
        localizers: Single images that only show where a scan lies.
    """

    scans: tuple[tuple[Path, ...], ...]
    singles: tuple[Path, ...]
    localizers: tuple[Path, ...]


@dataclass(frozen=True)
class _Stub:
    """What a file says of its series and place.

    Attributes:
        path: The file.
        header: The attributes that were read.
        series: What all slices of a scan have in common.
        position: (3,).
        orientation: (6,).
        is_localizer: Whether it only shows where a scan lies.
    """

    path: Path
    header: Any = field(repr=False)
    series: Hashable
    position: np.ndarray = field(repr=False)
    orientation: np.ndarray = field(repr=False)
    is_localizer: bool


def group_files(paths: Iterable[Path]) -> Groups:
    """Sort DICOM files into scans and single images.

    The slices of a scan are single images of one series, class, size and orientation that
    lie at two or more places. Where several lie at each place (echoes, points in time), the
    series is split by what tells them apart, if anything does.

    Args:
        paths: The files. One whose header cannot be read is a single image, and is refused
            when it is opened.
    """
    singles: list[Path] = []
    localizers: list[Path] = []
    by_series: dict[Hashable, list[_Stub]] = defaultdict(list)
    for path in paths:
        stub = _read_stub(path)
        if stub is None:
            singles.append(path)
        elif stub.is_localizer:
            localizers.append(path)
        else:
            by_series[stub.series].append(stub)
    scans = []
    for stubs in by_series.values():
        for parallel in _split_by_orientation(stubs):
            for scan in _split_by_dimension(parallel):
                if len(scan) > 1 and _count_places(scan) > 1:
                    scans.append(tuple(sorted(stub.path for stub in scan)))
                else:
                    singles += [stub.path for stub in scan]
    return Groups(tuple(sorted(scans)), tuple(sorted(singles)), tuple(sorted(localizers)))


def _read_stub(path: Path) -> _Stub | None:
    """Read the few attributes that matter; None where the file cannot be a slice of a scan."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = read_header(path, MAX_BYTES, tags=_TAGS)
            if int(header.get("NumberOfFrames") or 1) > 1 or header.Modality in _IN_TIME:
                return None
            series = tuple(str(header[keyword].value) for keyword in _SERIES)
            position = np.array(read_decimals(header, "ImagePositionPatient"))
            orientation = np.array(read_decimals(header, "ImageOrientationPatient"))
            words = [str(word).upper() for word in header.get("ImageType") or ()]
        except Exception:  # noqa: BLE001
            # Whatever is wrong with it is said when it is opened.
            return None
    placed = position.shape == (3,) and orientation.shape == (6,)
    if not placed or not np.isfinite([*position, *orientation]).all():
        return None
    return _Stub(path, header, series, position, orientation, "LOCALIZER" in words)


def _split_by_orientation(stubs: Sequence[_Stub]) -> list[list[_Stub]]:
    """Put slices that lie parallel together."""
    groups: list[list[_Stub]] = []
    for stub in stubs:
        for group in groups:
            if np.abs(group[0].orientation - stub.orientation).max() <= _PARALLEL:
                group.append(stub)
                break
        else:
            groups.append([stub])
    return groups


def _split_by_dimension(stubs: list[_Stub]) -> list[list[_Stub]]:
    """Split slices of which several lie at each place by the first attribute that does it."""
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
    """Count the different places along the normal."""
    first = stubs[0].orientation
    normal = np.cross(first[:3], first[3:])
    heights = np.sort([float(stub.position @ normal) for stub in stubs])
    return 1 + int((np.diff(heights) > _APART_MM).sum())
