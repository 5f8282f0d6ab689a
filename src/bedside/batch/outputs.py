"""Where results of a batch go: a folder, or an S3-like store (`bedside.batch.bucket`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bedside.batch.manifest import Case
from bedside.batch.record import Record, commit_record, is_whole, read_record


class Outputs(Protocol):
    """Holds results and records of cases. It travels to workers, so it has no connection."""

    def find_taken(self, case_ids: Sequence[str]) -> set[str]:
        """Cases that have something here: a record, results, or files of somebody else."""
        ...

    def read_record(self, case_id: str) -> Record | None:
        """The record of a case; None if there is none, or it cannot be read."""
        ...

    def is_in_the_way(self, case_id: str, *, resume: bool) -> bool:
        """Whether what a case without a record has here must not be replaced."""
        ...

    def holds(self, case: Case) -> bool:
        """Whether the source of a case lies where its results go."""
        ...

    def is_whole(self, record: Record) -> bool:
        """Whether a case is done and every file is here in its size."""
        ...

    def commit(self, record: Record, results: Path | None = None) -> None:
        """Write the record of a case, and the results in a folder of this machine.

        Raises:
            OutputError: If something cannot be written.
        """
        ...

    def has_list(self, name: str) -> bool:
        """Whether there is a list of this name."""
        ...

    def put_list(self, listing: Path) -> None:
        """Store a list that is complete.

        Raises:
            OutputError: If it cannot be written.
        """
        ...


@dataclass(frozen=True)
class Folder:
    """A folder of this machine.

    Attributes:
        path: Its path.
    """

    path: Path

    def __str__(self) -> str:
        """Its path."""
        return str(self.path)

    def find_taken(self, case_ids: Sequence[str]) -> set[str]:
        """Cases that may have something here: looking at each costs little."""
        return set(case_ids)

    def read_record(self, case_id: str) -> Record | None:
        """The record of a case."""
        return read_record(self.path, case_id)

    def is_in_the_way(self, case_id: str, *, resume: bool) -> bool:
        """Whether there is a folder: results appear after their record, so it is not ours."""
        return (self.path / case_id).exists()

    def holds(self, case: Case) -> bool:
        """Whether the source of a case lies where its results go."""
        folder = self.path / case.id
        return (
            not case.urls
            and folder.exists()
            and case.source.resolve().is_relative_to(folder.resolve())
        )

    def is_whole(self, record: Record) -> bool:
        """Whether a case is done and every file is here in its size."""
        return is_whole(record, self.path)

    def commit(self, record: Record, results: Path | None = None) -> None:
        """Write the record, then move the results into place."""
        commit_record(record, self.path, results)

    def has_list(self, name: str) -> bool:
        """Whether there is a list of this name."""
        return (self.path / name).exists()

    def put_list(self, listing: Path) -> None:
        """Nothing is left to do: the list was written here."""
