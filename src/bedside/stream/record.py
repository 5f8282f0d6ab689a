"""Events on disk as JSON lines, and the same frames again, with the same labels to the bit."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from bedside.errors import FormatError, OutputError
from bedside.stream.event import Event, checksum
from bedside.stream.live import LiveStream
from bedside.stream.planner import Settled
from bedside.stream.protocol import Frame


class EventFile:
    """A sink that writes events as JSON, one a line, and each at once.

    Of labels only a checksum is written.

    Args:
        path: The file; written anew.

    Raises:
        OutputError: If it cannot be written.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = path
        try:
            self._file: IO[str] = open(path, "w", encoding="utf-8", buffering=1)  # noqa: SIM115
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}.") from error

    def write(self, event: Event) -> None:
        """Write an event.

        Raises:
            OutputError: If it cannot be written.
        """
        try:
            self._file.write(json.dumps(event.to_mapping()) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror}.") from error

    def close(self) -> None:
        """Finish the file."""
        with contextlib.suppress(OSError):  # of a line that was told not to be written
            self._file.close()

    def __enter__(self) -> "EventFile":
        """Return the sink; it is closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()


def read_events(path: Path | str) -> list[dict[str, Any]]:
    """Events of a recording, in the order in which they were told; see `Event.to_mapping`.

    Raises:
        FormatError: If it is none.
    """
    events = []
    try:
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
            event = json.loads(line)
            if not isinstance(event, dict) or not isinstance(event.get("frame"), int):
                raise FormatError(f"{path}: line {number} is no event of a stream.")
            events.append(event)
    except (OSError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path} is no recording of a stream: {error}.") from error
    return events


@dataclass(frozen=True)
class Replayed:
    """A frame that was played again.

    Attributes:
        event: Its event now.
        recorded: Its event then.
        is_same: Whether the labels are the same to the bit, or the reason for which there are none.
    """

    event: Event
    recorded: Mapping[str, Any]
    is_same: bool


def replay(
    recorded: Iterable[Mapping[str, Any]], frames: Iterable[Frame], live: LiveStream
) -> Iterator[Replayed]:
    """Play the frames of a recording again, without waiting.

    Frames that were dropped then are dropped now, and each is segmented in the step in which it
    was, by the plan that was ready for it. Labels so depend on the frames alone, and not on how
    busy the machine is.

    Args:
        recorded: Events as `read_events` returns them.
        frames: All frames that arrived then, in their order.
        live: A stream that has just been opened, of the same bundle and settings.

    Yields:
        One for each frame that had an event of its own.

    Raises:
        FormatError: If there are fewer frames than were recorded.
    """
    by_frame: dict[int, Mapping[str, Any]] = {}
    for each in recorded:
        if each["state"] != "stale" or each["frame"] not in by_frame:
            by_frame.setdefault(each["frame"], each)
    by_frame.pop(-1, None)
    last, number = max(by_frame, default=-1), -1
    for number, frame in enumerate(frames):
        if number > last:
            break
        then = by_frame.get(number)
        if then is None or then["reason"].startswith("too old"):
            live.skip()
            continue
        settled = Settled(then["looks"], then["verdicts"]) if "looks" in then else None
        event = live.push(frame, then["time_s"], step=then["step"], settled=settled)
        yield Replayed(event, then, _is_same(event, then))
    if number < last:
        raise FormatError(f"there are {number + 1} frames; {last + 1} were recorded.")


def _is_same(event: Event, then: Mapping[str, Any]) -> bool:
    if event.labels is None or "labels" not in then:
        same_reason = then["reason"] == event.reason
        return event.labels is None and "labels" not in then and same_reason
    labels = {"shape": list(event.labels.shape), "crc32": checksum(event.labels)}
    return bool(labels == then["labels"])
