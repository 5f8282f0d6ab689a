"""The outcome of a case: its record, its folder and the list of all, each complete or absent.

    OUTPUT/ID/...                      results; they appear in one rename
    OUTPUT/.batch/records/ID.json      its record; written just before that rename
    OUTPUT/.batch/parts/...            work in progress; leftovers there are deleted
    OUTPUT/results.jsonl               all records, one per line

A case is done if its record says so and its folder holds the files that the record lists.
If the process is killed between the two, the case runs again.
"""

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
from bedside.system.atomic import append_bytes, output_errors, write_text

Status = Literal["done", "refused", "failed"]
STATUSES: tuple[Status, ...] = ("done", "refused", "failed")

STATE_FOLDER = ".batch"
"""Folder of records and work in progress, below the output."""


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
    """Which file was segmented; its path may change, its content may not.

    Attributes:
        bytes: Its size, or that of all files of a folder.
        mtime_ns: Modification time, the latest of all files.
        files: How many files.
    """

    bytes: int
    mtime_ns: int
    files: int = 1


@dataclass(frozen=True)
class Basis:
    """All that the results of a case depend on: the same basis gives the same bytes.

    Attributes:
        inputs: The source and its further channels.
        bundle_sha256: Hash of the bundle.
        settings: Settings of the run.
        bedside_version: Version of this program.
    """

    inputs: tuple[InputFact, ...]
    bundle_sha256: str
    settings: Mapping[str, str]
    bedside_version: str


@dataclass(frozen=True)
class Record:
    """The outcome of a case; a line of `results.jsonl`.

    Attributes:
        id: The case.
        source: Its file.
        status: "done", "refused" (the image cannot be segmented) or "failed" (the worker
            crashed, timed out, or met an unforeseen error).
        error: The reason if it is not done.
        seconds: Elapsed time, measured by the worker or by its supervisor.
        attempts: How many workers have started it in this run.
        files: Its results.
        basis: Their inputs and settings.
        cost: Time and memory, as in the `report.json` of a single run; None if not done.
        finished: End time in UTC.
        warnings: Warnings of its report.
        measurements: One row per structure; see `bedside.report.measurement_table`.
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
    """Write the record of a case and move its results into place.

    Results of an earlier run are removed first, so that a record never accompanies the results of
    another run.

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
            _put(record_line(record) + "\n", _record_path(output, record.id), part=part)
            if results is not None:
                folder.parent.mkdir(parents=True, exist_ok=True)
                results.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_record(output: Path, case_id: str) -> Record | None:
    """The record of a case; None if there is none, or it cannot be read."""
    try:
        return parse_record(_record_path(output, case_id).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def parse_record(text: str) -> Record | None:
    """The record that a text holds; None if it is none."""
    try:
        return from_mapping(Record, json.loads(text), "record")
    except ValueError:
        return None


def is_whole(record: Record, output: Path) -> bool:
    """Whether a case is done and its folder holds every file in its size."""
    folder = output / record.id
    try:
        return record.status == "done" and all(
            (folder / file.name).stat().st_size == file.bytes for file in record.files
        )
    except OSError:
        return False


def begin_part(output: Path, case_id: str) -> Path:
    """Make a hidden folder for the work on a case, on the file system of its results.

    Raises:
        OutputError: If it cannot be made.
    """
    parts = output / STATE_FOLDER / "parts"
    with output_errors(parts):
        parts.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=_part_prefix(case_id), dir=parts))


def clear_parts(output: Path, case_ids: Sequence[str]) -> None:
    """Remove what ended processes left of their work on these cases or lists."""
    parts = output / STATE_FOLDER / "parts"
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


def input_fact(path: Path, files: Sequence[Path] = ()) -> InputFact:
    """Size and time of a file, or of all files of a folder, without reading them.

    Args:
        path: A file or a folder.
        files: The files that `path` represents, if it is a series.

    Raises:
        FormatError: If it does not exist.
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
    """Append a record to a list in one write, since others may be reading it.

    Raises:
        OutputError: If it cannot be written.
    """
    line = (record_line(record) + "\n").encode("utf-8")
    append_bytes(target, line)


def write_lines(records: Sequence[Record], target: Path) -> None:
    """Write a list of records, completely or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    part = begin_part(target.parent, target.name)
    try:
        _put("".join(record_line(record) + "\n" for record in records), target, part=part)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _put(text: str, target: Path, *, part: Path) -> None:
    """Write a file completely or not at all, by way of a folder that is cleared later."""
    with output_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(part / "text", text)
        (part / "text").replace(target)


def record_line(record: Record) -> str:
    """A record as a line of a list, without the end of the line."""
    return json.dumps(to_mapping(record), allow_nan=False)


def _record_path(output: Path, case_id: str) -> Path:
    return output / STATE_FOLDER / "records" / f"{case_id}.json"


def _part_prefix(case_id: str) -> str:
    """A prefix from a hash, since an id may hold slashes and be long."""
    return hashlib.sha256(os.fsencode(case_id)).hexdigest()[:24] + "-"


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
