"""What became of a case: its record, its folder, and the list of all, each there whole or not.

    OUTPUT/ID/...                      results; they appear by one rename
    OUTPUT/.batch/records/ID.json      what became of it; written just before that rename
    OUTPUT/.batch/parts/...            work in progress; whatever is left there is rubbish
    OUTPUT/results.jsonl               all records, a line each

A case is done when its record says so and its folder holds the files that the record lists.
Killed between the two, it is not done and is done again.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bedside.errors import FormatError
from bedside.spec.reading import from_mapping, to_mapping
from bedside.system.atomic import output_errors, write_text

Status = Literal["done", "refused", "failed"]
STATUSES: tuple[Status, ...] = ("done", "refused", "failed")

_STATE = ".batch"


@dataclass(frozen=True)
class Fault:
    """Why a case has no results.

    Attributes:
        type: Name of the error.
        message: What it says.
    """

    type: str
    message: str


@dataclass(frozen=True)
class FileFact:
    """A file of the results.

    Attributes:
        name: Its path below the case's folder.
        bytes: Its size.
        sha256: Its hash.
    """

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class InputFact:
    """Which file it was that was segmented; its path may change, its content not.

    Attributes:
        bytes: Its size, or that of all files of a folder.
        mtime_ns: When it was last written, or the last one of them.
        files: How many files.
    """

    bytes: int
    mtime_ns: int
    files: int = 1


@dataclass(frozen=True)
class Basis:
    """All that the results of a case come from. The same basis, the same bytes.

    Attributes:
        inputs: The source and its further channels.
        bundle_sha256: Hash of the bundle.
        settings: What was asked for.
        bedside_version: Version of this program.
    """

    inputs: tuple[InputFact, ...]
    bundle_sha256: str
    settings: Mapping[str, str]
    bedside_version: str


@dataclass(frozen=True)
class Record:
    """What became of a case; a line of `results.jsonl`.

    Attributes:
        id: The case.
        source: Its file.
        status: "done", "refused" (the image cannot be segmented so) or "failed" (the worker
            died, took too long, or met an error that nobody foresaw).
        error: Why it is not done.
        seconds: From its beginning to its end, as the worker or the one who waited saw it.
        attempts: Workers that have begun it in this run.
        files: Its results.
        basis: What they come from.
        cost: What `report.json` of a single run tells of time and memory; None if not done.
        finished: When, in UTC.
        warnings: What its report warns of.
        measurements: What was measured, a row for each structure: see
            `bedside.report.measurement_table`.
    """

    id: str
    source: str
    status: Status
    error: Fault | None
    seconds: float
    attempts: int
    files: tuple[FileFact, ...]
    basis: Basis
    cost: Mapping[str, Any] | None
    finished: str
    warnings: tuple[str, ...] = ()
    measurements: tuple[Mapping[str, Any], ...] = ()


def commit_record(record: Record, output: Path, results: Path | None = None) -> None:
    """Put on record what became of a case, and its results in their place.

    What an earlier run has left of the case goes first: a record never stands beside the
    results of another.

    Args:
        record: Of the case.
        output: Folder of the whole batch.
        results: A folder on the same file system that becomes the case's; None if it has none.

    Raises:
        OutputError: If something cannot be written or moved.
    """
    folder = output / record.id
    part = begin_part(output, record.id)
    try:
        with output_errors(folder):
            if folder.exists():
                folder.rename(part / "old")
            _put(_to_line(record) + "\n", _record_path(output, record.id), part=part)
            if results is not None:
                folder.parent.mkdir(parents=True, exist_ok=True)
                results.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_record(output: Path, case_id: str) -> Record | None:
    """Read the record of a case; None if there is none that can be read."""
    try:
        mapping = json.loads(_record_path(output, case_id).read_text("utf-8"))
        return from_mapping(Record, mapping, "record")
    except (OSError, ValueError):
        return None


def is_whole(record: Record, output: Path) -> bool:
    """Whether a case is done and its folder holds every file, each of its size."""
    folder = output / record.id
    try:
        return record.status == "done" and all(
            (folder / file.name).stat().st_size == file.bytes for file in record.files
        )
    except OSError:
        return False


def begin_part(output: Path, case_id: str) -> Path:
    """Make a hidden folder for work on a case, on the file system of its results.

    Raises:
        OutputError: If it cannot be made.
    """
    parts = output / _STATE / "parts"
    with output_errors(parts):
        parts.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=_part_prefix(case_id), dir=parts))


def clear_parts(output: Path, case_ids: Sequence[str]) -> None:
    """Remove what was left of work on these cases, or lists, by processes that are gone."""
    parts = output / _STATE / "parts"
    prefixes = {_part_prefix(case_id) for case_id in case_ids}
    for part in parts.iterdir() if parts.is_dir() else ():
        if part.name[: len(_part_prefix(""))] in prefixes:
            shutil.rmtree(part, ignore_errors=True)


def list_files(folder: Path) -> tuple[FileFact, ...]:
    """Hash every file of a folder and below it, in the order of their names."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        FileFact(path.relative_to(folder).as_posix(), path.stat().st_size, _hash(path))
        for path in paths
    )


def look_at(path: Path, files: Sequence[Path] = ()) -> InputFact:
    """Tell which file this is, without reading it; of a folder, which files.

    Args:
        path: A file or a folder.
        files: Those that `path` stands for, if it is neither.

    Raises:
        FormatError: If it is not there.
    """
    try:
        files = files or [path]
        if list(files) == [path] and path.is_dir():
            files = [file for file in path.rglob("*") if file.is_file()]
        facts = [file.stat() for file in files]
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}.") from error
    return InputFact(
        sum(fact.st_size for fact in facts),
        max((fact.st_mtime_ns for fact in facts), default=0),
        len(files),
    )


def append_line(record: Record, target: Path) -> None:
    """Add a record to a list that others may be reading, in one write.

    Raises:
        OutputError: If it cannot be written.
    """
    line = (_to_line(record) + "\n").encode("utf-8")
    with output_errors(target):
        handle = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            if os.write(handle, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(handle)


def write_lines(records: Sequence[Record], target: Path) -> None:
    """Write a list of records anew, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    part = begin_part(target.parent, target.name)
    try:
        _put("".join(_to_line(record) + "\n" for record in records), target, part=part)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _put(text: str, target: Path, *, part: Path) -> None:
    """Write a file whole or not at all; what is left by a kill is left where it is cleared."""
    with output_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(part / "text", text)
        (part / "text").replace(target)


def _to_line(record: Record) -> str:
    return json.dumps(to_mapping(record), allow_nan=False)


def _record_path(output: Path, case_id: str) -> Path:
    return output / _STATE / "records" / f"{case_id}.json"


def _part_prefix(case_id: str) -> str:
    """Name parts after a hash: an id may hold slashes and be long."""
    return hashlib.sha256(os.fsencode(case_id)).hexdigest()[:24] + "-"


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
