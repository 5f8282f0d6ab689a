"""Tells which files of a folder are the slices of one scan, by a quick look at their headers."""

import warnings
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from bedside.errors import FormatError
from bedside.io.dicom_files import MAX_BYTES, check_size

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
_TAGS = (
    "SOPClassUID",
    "SeriesInstanceUID",
    "Modality",
    "Rows",
    "Columns",
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
    """What a file says of its series and place."""

    path: Path
    header: Any = field(repr=False)
    position: np.ndarray | None = field(repr=False)
    orientation: np.ndarray | None = field(repr=False)

    @property
    def series(self) -> Hashable:
        """What all slices of a scan have in common."""
        keywords = ("SeriesInstanceUID", "SOPClassUID", "Rows", "Columns")
        return tuple(str(self.header.get(keyword)) for keyword in keywords)

    @property
    def is_slice(self) -> bool:
        """Whether it may be a slice: a single image that lies somewhere, of a scan."""
        return (
            self.position is not None
            and self.orientation is not None
            and bool(self.header.get("SeriesInstanceUID"))
            and str(self.header.get("NumberOfFrames") or 1) == "1"
            and str(self.header.get("Modality")) not in _IN_TIME
        )

    @property
    def is_localizer(self) -> bool:
        """Whether it only shows where a scan lies."""
        return "LOCALIZER" in [str(word).upper() for word in self.header.get("ImageType") or ()]


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
        if stub is None or not stub.is_slice:
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
    """Read the few attributes that matter; None where that fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            check_size(path, MAX_BYTES)
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
            position = _read_numbers(header, "ImagePositionPatient", 3)
            orientation = _read_numbers(header, "ImageOrientationPatient", 6)
            stub = _Stub(path, header, position, orientation)
            # pydicom reads a value when it is asked for, and may fail only then.
            _ = stub.series, stub.is_slice, stub.is_localizer
        except FormatError:
            return None
        except Exception:  # noqa: BLE001
            return None
    return stub


def _read_numbers(header: Any, keyword: str, count: int) -> np.ndarray | None:
    """Read some numbers; None where they are not all there."""
    try:
        numbers = np.array([float(part) for part in header.get(keyword) or ()])
    except (TypeError, ValueError):
        return None
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None


def _split_by_orientation(stubs: Sequence[_Stub]) -> list[list[_Stub]]:
    """Put slices that lie parallel together."""
    groups: list[list[_Stub]] = []
    for stub in stubs:
        for group in groups:
            if np.abs(_orientation(group[0]) - _orientation(stub)).max() <= _PARALLEL:
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
    first = _orientation(stubs[0])
    normal = np.cross(first[:3], first[3:])
    heights = np.sort(
        [float(stub.position @ normal) for stub in stubs if stub.position is not None]
    )
    return 1 + int((np.diff(heights) > _APART_MM).sum())


def _orientation(stub: _Stub) -> np.ndarray:
    """Give an orientation that is known to be there."""
    if stub.orientation is None:
        raise TypeError(f"{stub.path} has no orientation")
    return stub.orientation
