"""What a performer asks of a worklist, whichever protocol it speaks."""

from typing import Protocol

from pydicom import Dataset


class Worklist(Protocol):
    """A worklist, for one thread at a time.

    Each method raises `PeerError` if nothing was sent or nothing was done, `UnansweredError` if
    nobody knows, and `ConflictError` if the state of the work item or the transaction UID forbids
    what was asked.
    """

    def search(self, limit: int, offset: int = 0) -> list[Dataset]:
        """Return scheduled work items, at most `limit`, without the first `offset`."""

    def retrieve(self, uid: str) -> Dataset:
        """Return one work item."""

    def change_state(self, uid: str, state: str, transaction_uid: str) -> None:
        """Claim a work item, complete it, or cancel it."""

    def update(self, uid: str, changes: Dataset, transaction_uid: str) -> None:
        """Change attributes of a work item that was claimed."""

    def subscribe(self, uid: str, ae_title: str) -> str:
        """Have events of a work item sent to an AE title; return the address of their channel."""

    def close(self) -> None:
        """Release connections."""
