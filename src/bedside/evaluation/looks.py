"""The ledger of looks: every evaluation on a test part, one line of JSON each.

A test part that has been looked at often is no test any more: whoever chooses by it has fitted to
it. The ledger is a file that is only appended to, in the project that the results belong to, to be
committed with it.
"""

import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedside.bundle import Bundle
from bedside.errors import FormatError
from bedside.spec.reading import from_mapping, to_mapping
from bedside.system.atomic import append_bytes
from bedside.system.regular_files import read_regular
from bedside.system.revision import describe_folder, find_commit

LEDGER = "test_looks.jsonl"
_MOST_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Look:
    """One evaluation on a test part.

    Attributes:
        when: Date and time in UTC, ISO 8601.
        what: The command, such as "evaluate".
        bundle: Name and version of what was scored.
        sha256: Hash of the bundle's file; "" where there was none yet.
        data: Name of the data set.
        part: Hash of the patients of the test part; the same patients, the same hash.
        cases: How many images were scored.
        dice: Mean Dice by structure; None for one that no image has.
        bedside: Revision of the code.
        project: Revision of the project that the ledger is in; None outside of git.
        note: What else is known of it.
    """

    when: str
    what: str
    bundle: str
    sha256: str
    data: str
    part: str
    cases: int
    dice: Mapping[str, float | None]
    bedside: str
    project: str | None = None
    note: str = ""


def find_ledger(output: Path) -> Path:
    """Path of the ledger for results that are written to a folder.

    It is the first `test_looks.jsonl` in that folder or above; else it is in the root of the git
    repository that the folder is in; else in the folder itself.

    Args:
        output: Folder of the results; it need not exist.
    """
    output = Path(output).resolve()
    for folder in (output, *output.parents):
        if (folder / LEDGER).is_file() or (folder / ".git").exists():
            return folder / LEDGER
    return output / LEDGER


def hash_part(patients: Iterable[str]) -> str:
    """Hash of a test part, by its patients' ids in any order.

    Example:
        >>> hash_part(["b", "a"]) == hash_part(["a", "b", "a"])
        True
    """
    text = json.dumps(sorted(set(patients)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_looks(ledger: Path) -> list[Look]:
    """All looks in a ledger, oldest first; none if there is no file.

    Raises:
        FormatError: If a line is not the record of a look.
    """
    if not ledger.exists():
        return []
    looks = []
    for number, line in enumerate(read_regular(ledger).decode().splitlines(), 1):
        try:
            looks.append(from_mapping(Look, json.loads(line)))
        except ValueError as error:
            raise FormatError(
                f"{ledger}, line {number}, is not the record of a look at test data: {error} "
                "Restore the file from the project's history; it is only ever appended to."
            ) from error
    return looks


def record_look(
    ledger: Path, bundle: Bundle, *, what: str, cases: int, dice: Mapping[str, float | None]
) -> list[Look]:
    """Append a look at a bundle's test part to a ledger.

    Args:
        ledger: The file; made if missing.
        bundle: What was scored.
        what: The command.
        cases: Number of images scored.
        dice: Mean Dice by structure.

    Returns:
        All looks at this test part, this one last.

    Raises:
        FormatError: If the ledger is damaged.
        OutputError: If it cannot be written.
    """
    return record_look_at(
        ledger,
        bundle.split["test"],
        what=what,
        name=f"{bundle.spec.name} {bundle.spec.version}",
        sha256=bundle.sha256,
        data=bundle.card.data,
        cases=cases,
        dice=dice,
    )


def record_look_at(
    ledger: Path,
    patients: Iterable[str],
    *,
    what: str,
    name: str,
    sha256: str,
    data: str,
    cases: int,
    dice: Mapping[str, float | None],
) -> list[Look]:
    """Append a look at a test part to a ledger, by a network that is in no bundle.

    Args:
        ledger: The file; made if missing.
        patients: Patients of the test part.
        what: The command.
        name: What the network is called.
        sha256: Hash of the file of its weights.
        data: Name of the data set.
        cases: Number of images scored.
        dice: Mean Dice by structure.

    Returns:
        All looks at this test part, this one last.

    Raises:
        FormatError: If the ledger is damaged.
        OutputError: If it cannot be written.
    """
    look = Look(
        when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        what=what,
        bundle=name,
        sha256=sha256,
        data=data,
        part=hash_part(patients),
        cases=cases,
        dice={each: None if value is None else round(value, 5) for each, value in dice.items()},
        bedside=find_commit(),
        project=describe_folder(ledger.parent),
    )
    before = [each for each in read_looks(ledger) if each.part == look.part]
    _append(ledger, to_mapping(look))
    return [*before, look]


def _append(ledger: Path, record: Any) -> None:
    """Add a line at the end, in one write, so that processes do not mix theirs."""
    line = (json.dumps(record, sort_keys=True, allow_nan=False) + "\n").encode()
    append_bytes(ledger, line, durable=True)


def describe_looks(looks: Sequence[Look], ledger: Path) -> str:
    """How often a test part was looked at, in a sentence.

    Args:
        looks: All looks at it, at least one.
        ledger: Where they are recorded.
    """
    if len(looks) == 1:
        return f"This is the first look at this test part that {ledger} records."
    networks = len({(each.bundle, each.sha256) for each in looks})
    return (
        f"This is look {len(looks)} at this test part in {ledger}, the first was on "
        f"{looks[0].when[:10]}; networks scored: {networks}. Figures of what is chosen by such "
        "looks are too high."
    )
