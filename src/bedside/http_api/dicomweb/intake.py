"""Where stored instances go: to the intake of a DICOM node, or to a folder."""

from pathlib import Path
from typing import Protocol

from bedside.http_api.dicomweb.instances import InstanceIds
from bedside.http_api.image_store import ImageStore


class Intake(Protocol):
    """What takes instances that came in."""

    def store(self, path: Path, ids: InstanceIds, *, association: str) -> None:
        """Take an instance; it is safe on disk when this returns.

        Args:
            path: Its file, which may be moved, and is removed afterwards.
            ids: Its UIDs.
            association: What came together has one; of this request.

        Raises:
            InputError: If it is refused.
            OSError: If it cannot be written.
        """

    def finish(self, association: str) -> None:
        """Take note that no more instances come with this request."""


class StoreIntake:
    """Keeps instances as images of a store, one a series, by its SeriesInstanceUID.

    Args:
        store: The store.
    """

    def __init__(self, store: ImageStore) -> None:
        self._store = store

    def store(self, path: Path, ids: InstanceIds, *, association: str) -> None:
        """Add an instance to its series."""
        self._store.add_instance(ids.series_instance_uid, ids.sop_instance_uid, path)

    def finish(self, association: str) -> None:
        """Do nothing: a series may always grow."""
