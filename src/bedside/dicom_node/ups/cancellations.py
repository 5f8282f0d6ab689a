"""Which work items are being worked on, and which of them nobody wants any more."""

import threading

from bedside.errors import CancelledError


class Cancellations:
    """Requests to cancel, for the threads of one process.

    A work item can be cancelled until `commit`: then its results begin to leave, and it is
    completed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requested: set[str] = set()
        self._committed: set[str] = set()

    def request(self, uid: str) -> bool:
        """Ask that an item be cancelled; return whether it is, which only one caller hears."""
        with self._lock:
            if uid in self._committed or uid in self._requested:
                return False
            self._requested.add(uid)
            return True

    def is_requested(self, uid: str) -> bool:
        """Whether an item was cancelled on request."""
        with self._lock:
            return uid in self._requested

    def check(self, uid: str) -> None:
        """Return if the work should go on.

        Raises:
            CancelledError: If it was cancelled.
        """
        with self._lock:
            self._check(uid)

    def commit(self, uid: str) -> None:
        """Take no more requests for an item.

        Raises:
            CancelledError: If it was cancelled before.
        """
        with self._lock:
            self._check(uid)
            self._committed.add(uid)

    def forget(self, uid: str) -> None:
        """Forget an item that has ended."""
        with self._lock:
            self._requested.discard(uid)
            self._committed.discard(uid)

    def _check(self, uid: str) -> None:
        if uid in self._requested:
            raise CancelledError("the work item was cancelled.")
