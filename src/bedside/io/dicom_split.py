"""Several scans in one enhanced file, told apart by what their frames say of stack and time."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bedside.errors import FormatError
from bedside.io.dicom_stack import Plane
from bedside.io.select import choose_place


def choose_frames(
    groups: Sequence[Any],
    planes: Sequence[Plane],
    select: Mapping[str, int] | None,
    path: Path,
) -> list[int]:
    """Choose the frames of one scan among those of a file.

    Stacks are told apart by their StackID, or where there is none by their orientation; points
    in time by their TemporalPositionIndex. Both are counted from 1, in the order of frames and
    of time.

    Args:
        groups: The functional groups of each frame.
        planes: Where each lies.
        select: Which stack or time, by name.
        path: The file, for errors.

    Returns:
        Indices of frames, in the order stored.

    Raises:
        FormatError: If there are several scans and none is chosen, or one that is not there;
            they are listed.

    Source:
        DICOM PS3.3 C.7.6.16.2.2, Frame Content.
    """
    names = [_read_stack(own, plane) for own, plane in zip(groups, planes, strict=True)]
    stacks = _number(names, list(dict.fromkeys(names)))
    moments = [int(_read(own, "TemporalPositionIndex") or 0) for own in groups]
    times = _number(moments, sorted(set(moments)))
    lengths = {"stack": max(stacks) + 1, "time": max(times) + 1}
    scans = list(zip(stacks, times, strict=True))
    try:
        place = choose_place(select, lengths, path)
    except FormatError as error:
        if len(set(scans)) == 1:
            raise
        raise FormatError(f"{error} It holds: {_list_scans(scans, groups, lengths)}.") from error
    wanted = place % lengths["stack"], place // lengths["stack"]
    chosen = [index for index, scan in enumerate(scans) if scan == wanted]
    if not chosen:
        raise FormatError(
            f"{path} has no frame of what --select names. It holds: "
            f"{_list_scans(scans, groups, lengths)}."
        )
    return chosen


def _read_stack(groups: Any, plane: Plane) -> Hashable:
    """Read what tells the stack of a frame."""
    name = _read(groups, "StackID")
    return tuple(np.round(plane.orientation, 2).tolist()) if name is None else str(name)


def _read(groups: Any, keyword: str) -> Any:
    """Read an attribute of a frame's content; None where it is missing."""
    content = groups.get("FrameContentSequence")
    value = content[0].get(keyword) if content else None
    return None if value == "" else value


def _number(keys: Sequence[Hashable], order: Sequence[Hashable]) -> list[int]:
    """Number keys from 0 in an order."""
    numbers = {key: number for number, key in enumerate(order)}
    return [numbers[key] for key in keys]


def _list_scans(
    scans: Sequence[tuple[int, int]], groups: Sequence[Any], lengths: Mapping[str, int]
) -> str:
    """Name each scan as it is selected, with its StackID and number of frames."""
    listed = []
    for scan in sorted(set(scans)):
        words = " ".join(
            f"{axis}={place + 1}"
            for (axis, length), place in zip(lengths.items(), scan, strict=True)
            if length > 1
        )
        name = _read(groups[scans.index(scan)], "StackID")
        called = "" if name is None else f'StackID "{name}", '
        listed.append(f"{words} ({called}{scans.count(scan)} frames)")
    more = f"; and {len(listed) - 12} more" if len(listed) > 12 else ""
    return "; ".join(listed[:12]) + more
