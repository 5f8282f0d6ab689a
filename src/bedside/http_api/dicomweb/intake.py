"""Where stored instances go: to the intake of a DICOM node, or to a folder."""

from pathlib import Path
from typing import Protocol

from bedside.http_api.dicomweb.instances import InstanceIds
from bedside.http_api.image_store import ImageStore


class Intake(Protocol):
    """What takes instances that came in."""

    def store(self, path: Path, ids: InstanceIds, *, association: int) -> int:
        """Take an instance.

        Args:
            path: Its file; it stays.
            ids: Its UIDs.
            association: Number of the request, unlike that of any other.

        Returns:
            0 if it is safe on disk, else a Failure Reason (PS3.18, table I.2-2).

        Raises:
            OSError: If it cannot be written.
        """

    def finish(self, association: int) -> None:
        """Take note that no more instances come with this request."""


class StoreIntake:
    """Keeps instances as images of a store, one a series, by its SeriesInstanceUID.

    Args:
        store: The store.
    """

    def __init__(self, store: ImageStore) -> None:
        self._store = store

    def store(self, path: Path, ids: InstanceIds, *, association: int) -> int:
        """Add an instance to its series."""
        self._store.add_instance(ids.series_instance_uid, ids.sop_instance_uid, path)
        return 0

    def finish(self, association: int) -> None:
        """Do nothing: a series may always grow."""
