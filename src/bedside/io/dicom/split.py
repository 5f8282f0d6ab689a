"""Several scans in one file, told apart by stack, time and kind of their frames."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bedside.errors import FormatError
from bedside.io.dicom.stack import Plane
from bedside.io.select import choose_place


@dataclass(frozen=True)
class FrameAxes:
    """What distinguishes the scan of a frame from others in its file.

    Attributes:
        stack: The stack; by orientation if stacks have no name.
        stack_id: Its name, if it has one.
        time: The point in time, in any unit.
        channel: What is shown, such as tissue or flow.
    """

    stack: Hashable
    stack_id: str | None
    time: float
    channel: str


def read_axes(groups: Any, plane: Plane) -> FrameAxes:
    """Return the scan of a frame, from its functional groups.

    Source:
        DICOM PS3.3 C.7.6.16.2.2, Frame Content; C.8.24.6.3 and 5, Temporal Position and Image
        Data Type of ultrasound volumes.
    """
    name = _read(groups, "FrameContentSequence", "StackID")
    time = _read(groups, "FrameContentSequence", "TemporalPositionIndex")
    if time is None:
        time = _read(groups, "TemporalPositionSequence", "TemporalPositionTimeOffset")
    return FrameAxes(
        stack=tuple(np.round(plane.orientation, 2).tolist()) if name is None else str(name),
        stack_id=None if name is None else str(name),
        time=float(time or 0),
        channel=str(_read(groups, "ImageDataTypeSequence", "DataType") or ""),
    )


def choose_frames(
    axes: Sequence[FrameAxes], select: Mapping[str, int] | None, path: Path
) -> list[int]:
    """Return the frames of one scan among those of a file.

    Stacks are told apart by StackID or else by orientation, points in time by
    TemporalPositionIndex, and contents of an ultrasound volume by data type. All are counted
    from 1, in the order of frames and of time.

    Args:
        axes: Of each frame.
        select: Which stack, time or channel, by name.
        path: The file, for errors.

    Returns:
        Indices of frames, in the order stored.

    Raises:
        FormatError: If there are several scans and none is selected, or the selection does not
            exist; the scans are listed.
    """
    names = [each.stack for each in axes]
    kinds = [each.channel for each in axes]
    columns = {
        "stack": _number(names, list(dict.fromkeys(names))),
        "time": _number([each.time for each in axes], sorted({each.time for each in axes})),
        "channel": _number(kinds, list(dict.fromkeys(kinds))),
    }
    lengths = {name: max(column) + 1 for name, column in columns.items()}
    scans = list(zip(*columns.values(), strict=True))
    try:
        place = choose_place(select, lengths, path)
    except FormatError as error:
        if len(set(scans)) == 1:
            raise
        raise FormatError(f"{error} It holds: {_list_scans(scans, axes, lengths)}.") from error
    wanted = []
    for length in lengths.values():
        wanted.append(place % length)
        place //= length
    chosen = [index for index, scan in enumerate(scans) if scan == tuple(wanted)]
    if not chosen:
        raise FormatError(
            f"{path} has no frame of what --select names. It holds: "
            f"{_list_scans(scans, axes, lengths)}."
        )
    return chosen


def _read(groups: Any, group: str, keyword: str) -> Any:
    """Return an attribute of a frame's group; None if it is missing."""
    content = groups.get(group)
    value = content[0].get(keyword) if content else None
    return None if value == "" else value


def _number(keys: Sequence[Hashable], order: Sequence[Hashable]) -> list[int]:
    """Return numbers from 0 for keys in an order."""
    numbers = {key: number for number, key in enumerate(order)}
    return [numbers[key] for key in keys]


def _list_scans(
    scans: Sequence[tuple[int, ...]], axes: Sequence[FrameAxes], lengths: Mapping[str, int]
) -> str:
    """Return a description of each scan: its selection, StackID or kind, and frames."""
    listed = []
    for scan in sorted(set(scans)):
        words = " ".join(
            f"{axis}={place + 1}"
            for (axis, length), place in zip(lengths.items(), scan, strict=True)
            if length > 1
        )
        first = axes[scans.index(scan)]
        called = "" if first.stack_id is None else f'StackID "{first.stack_id}", '
        called += f"{first.channel}, " if first.channel and lengths["channel"] > 1 else ""
        listed.append(f"{words} ({called}{scans.count(scan)} frames)")
    more = f"; and {len(listed) - 12} more" if len(listed) > 12 else ""
    return "; ".join(listed[:12]) + more
