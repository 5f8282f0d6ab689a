"""The audit log: a line for each thing that was done, chained by hashes.

Each line holds the hash of the one before and its own, so a line that is changed, added or removed
between others shows. That lines are missing at the end shows only against a hash that was kept
elsewhere. Lines hold no name, id, UID or path of a patient or an image.

A line is with the system before what it tells of is answered, so it survives the end of this
process, however it ends. A thread puts lines on the disk together, at most once a second: a power
failure costs the lines of the last second, and no request waits for a disk.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bedside.errors import FormatError, OutputError
from bedside.system.atomic import append_whole, output_errors
from bedside.system.regular_files import open_regular

_FIRST = "0" * 64
_LONGEST_LINE = 2**16
_TAIL = 2 * _LONGEST_LINE
SYNC_S = 1.0
"""Seconds after which a line is on the disk, where disks are not slower."""


@dataclass(frozen=True)
class Verified:
    """What is certain about an audit log.

    Attributes:
        lines: Lines that are whole.
        last_hash: Hash of the last one, to be kept elsewhere.
        has_expected: Whether one of them has the hash that was expected.
    """

    lines: int
    last_hash: str
    has_expected: bool = False


class AuditLog:
    """Adds lines to a file, for any number of threads of one process; close it at the end.

    A line that a power failure has left half-written stays, and the next one names its hash.

    Args:
        path: The file; made if it is missing, readable for its user only.
        now: The time.

    Raises:
        OutputError: If it cannot be written to, or another process does.
        FormatError: If its last line is not one of an audit log.
    """

    def __init__(self, path: Path, *, now: Callable[[], datetime] | None = None) -> None:
        self._now = now or (lambda: datetime.now(tz=UTC))
        self._lock = threading.Lock()
        self._fault: OutputError | None = None
        self._is_synced = True
        self._path = Path(path)
        with output_errors(self._path):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
            self._file = open(os.open(self._path, flags, 0o600), "r+b", buffering=0)  # noqa: SIM115
        try:
            _lock_file(self._file.fileno(), self._path)
            self._number, self._hash, torn = _read_end(self._file, self._path)
        except BaseException:
            self._file.close()
            raise
        if torn:
            self._file.write(b"\n")
            self.add("recovered", torn_sha256=hashlib.sha256(torn).hexdigest())
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._sync_on, name="bedside audit", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> OutputError | None:
        """Why lines may not be on the disk."""
        return self._fault

    def add(self, event: str, **facts: str | float | None) -> None:
        """Add a line; it outlives this process.

        Args:
            event: What was done.
            facts: About it, none of them from an image or a path.

        Raises:
            OutputError: If it cannot be written.
        """
        with self._lock, output_errors(self._path):
            line = {"n": self._number + 1, "time": self._now().isoformat(timespec="milliseconds"),
                    "event": event, **facts, "previous": self._hash}  # fmt: skip
            hashed = _hash(line)
            append_whole(self._file.fileno(), _write({**line, "hash": hashed}) + b"\n")
            self._number, self._hash = self._number + 1, hashed
            self._is_synced = False

    def close(self) -> None:
        """Close the file; all lines are on the disk.

        Raises:
            OutputError: If they cannot be put there.
        """
        self._closing.set()
        self._thread.join()
        if not self._file.closed:
            try:
                self._sync()
            finally:
                self._file.close()

    def _sync_on(self) -> None:
        """Put lines on the disk now and then, until the log is closed."""
        while not self._closing.wait(SYNC_S):
            try:
                self._sync()
            except OutputError as error:
                self._fault = error

    def _sync(self) -> None:
        if self._is_synced:
            return
        self._is_synced = True  # before: a line that comes meanwhile may not be among them
        with output_errors(self._path):
            os.fsync(self._file.fileno())

    def __enter__(self) -> "AuditLog":
        """Return the log; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the log."""
        self.close()


def verify_audit(path: Path, *, expected: str | None = None) -> Verified:
    """Check every line of an audit log.

    Args:
        path: The file.
        expected: A hash that one of its lines may have.

    Returns:
        How many lines there are, and the hash of the last one.

    Raises:
        FormatError: If the file cannot be read, or a line is not what was written; it names the
            first such line.
    """
    number, previous, torn = 0, _FIRST, b""
    has_expected = expected == _FIRST
    try:
        with open_regular(Path(path)) as file:
            for place, raw in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), start=1):
                if torn:
                    line = _check_line(raw, number, previous, path, place)
                    if line.get("torn_sha256") != hashlib.sha256(torn).hexdigest():
                        raise _broken(path, place - 1)
                    torn = b""
                elif _parse(raw) is None:
                    # One that a power failure has cut off, if the next line says so.
                    torn = raw.rstrip(b"\n")
                    continue
                else:
                    line = _check_line(raw, number, previous, path, place)
                number, previous = line["n"], line["hash"]
                has_expected = has_expected or previous == expected
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror}.") from error
    if torn:
        raise FormatError(
            f"{path}: its last line is not whole. Start the server to go on after it."
        )
    return Verified(number, previous, has_expected)


def _check_line(raw: bytes, number: int, previous: str, path: Path, place: int) -> dict[str, Any]:
    line = _parse(raw)
    if line is None or line.get("n") != number + 1 or line.get("previous") != previous:
        raise _broken(path, place)
    # A key that is there twice would be read as the last, and seen as the first.
    is_as_written = raw == _write(line) + b"\n"
    stated = line.pop("hash", None)
    if not is_as_written or stated != _hash(line):
        raise _broken(path, place)
    return {**line, "hash": stated}


def _parse(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _write(line: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(line), separators=(",", ":")).encode()


def _hash(line: Mapping[str, Any]) -> str:
    """Hash of a line without its own hash, in canonical JSON."""
    text = json.dumps(dict(line), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _broken(path: Path, place: int) -> FormatError:
    return FormatError(
        f"{path}: line {place} does not follow from those before. It, or one before, was changed, "
        "added or removed."
    )


def _read_end(file: Any, path: Path) -> tuple[int, str, bytes]:
    """Return number and hash of the last whole line, and what follows it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    *whole, torn = file.read().split(b"\n")
    if not whole:
        if size > len(torn):
            raise FormatError(f"{path} is no audit log. Name another file.")
        return 0, _FIRST, torn
    line = _parse(whole[-1])
    if line is None or not {"n", "hash"} <= line.keys():
        raise FormatError(f"{path} is no audit log: its last line is not one. Name another file.")
    return int(line["n"]), str(line["hash"]), torn


def _lock_file(number: int, path: Path) -> None:
    """Lock the file for this process.

    Raises:
        OutputError: If another process has.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise OutputError(f"another server writes {path}. Name another file.") from error
