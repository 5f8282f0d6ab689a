"""Results in an S3-like store, where a PUT is whole: an object is there or not.

What belongs together is put in this order: the marker, which names the files and makes them
known for ours; the files; the record. A case without a record is not done.
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bedside.batch.manifest import Case
from bedside.batch.object_store import (
    find_object,
    list_folder,
    open_store,
    remove_object,
    store_errors,
)
from bedside.batch.record import STATE_FOLDER, Record, parse_record, record_line
from bedside.errors import OutputError
from bedside.io.own_results import MARKER, is_result_name


@dataclass(frozen=True)
class Bucket:
    """Results below a URL.

    Attributes:
        url: It, without a slash at its end.
    """

    url: str

    def __str__(self) -> str:
        """Its URL."""
        return self.url

    def find_taken(self, case_ids: Sequence[str]) -> set[str]:
        """Cases that have something here, by two listings and no look at each."""
        with store_errors(self.url, OutputError, "list"):
            names = {
                PurePosixPath(entry["name"]).name.removesuffix(suffix)
                for folder, suffix in ((self.url, ""), (self._state("records"), ".json"))
                for entry in list_folder(folder)
            }
        return names & set(case_ids)

    def read_record(self, case_id: str) -> Record | None:
        """The record of a case."""
        content = find_object(self._record(case_id))
        return None if content is None else parse_record(content.decode("utf-8", "replace"))

    def is_in_the_way(self, case_id: str, *, resume: bool) -> bool:
        """Whether objects of a case are not ours, or would be replaced without being asked."""
        objects = list_folder(f"{self.url}/{case_id}")
        return bool(objects) and not (resume and self._read_marker(case_id))

    def holds(self, case: Case) -> bool:
        """Whether the source of a case lies where its results go."""
        return any(url.startswith(f"{self.url}/{case.id}/") for url in case.urls)

    def is_whole(self, record: Record) -> bool:
        """Whether a case is done and every file is here in its size."""
        if record.status != "done":
            return False
        folder = f"{self.url}/{record.id}"
        with store_errors(folder, OutputError, "list"):
            found = open_store().find(folder, detail=True)
            base = folder.removeprefix("s3://")
            return all(
                found.get(f"{base}/{file.name}", {}).get("size") == file.bytes
                for file in record.files
            )

    def commit(self, record: Record, results: Path | None = None) -> None:
        """Remove what an earlier run left, then put marker, files and record, in this order."""
        folder = f"{self.url}/{record.id}"
        with store_errors(folder, OutputError, "write"):
            store = open_store()
            earlier = self.read_record(record.id)
            names = {file.name for file in record.files} if results is not None else set()
            left = set(self._read_marker(record.id))
            left |= {file.name for file in earlier.files} if earlier else set()
            if earlier:
                store.rm_file(self._record(record.id))
            for name in sorted(left - names):
                remove_object(f"{folder}/{name}")
            # False comes first: the marker.
            for name in sorted(names, key=lambda name: (name != MARKER, name)):
                store.put_file(f"{results}/{name}", f"{folder}/{name}")
            store.pipe_file(self._record(record.id), (record_line(record) + "\n").encode())

    def has_list(self, name: str) -> bool:
        """Whether there is a list of this name."""
        with store_errors(self.url, OutputError, "list"):
            return bool(open_store().exists(f"{self.url}/{name}"))

    def put_list(self, listing: Path) -> None:
        """Put a list that is complete."""
        url = f"{self.url}/{listing.name}"
        with store_errors(url, OutputError, "write"):
            open_store().put_file(str(listing), url)

    def _state(self, name: str) -> str:
        return f"{self.url}/{STATE_FOLDER}/{name}"

    def _record(self, case_id: str) -> str:
        return self._state(f"records/{case_id}.json")

    def _read_marker(self, case_id: str) -> list[str]:
        """Names of the files that a run of ours has put, or begun to put; the marker too."""
        content = find_object(f"{self.url}/{case_id}/{MARKER}")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            names = json.loads(content or b"")["files"]
            return [*filter(is_result_name, names), MARKER]
        return []
