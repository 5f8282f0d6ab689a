"""Which work items are being worked on, and which of them nobody wants any more."""

import threading

from bedside.errors import CancelledError


class Cancellations:
    """Requests to cancel, for the threads of one process.

    A work item can be cancelled from `begin` until `commit`: then its results begin to leave, and
    it is completed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[str, bool] = {}

    def begin(self, uid: str) -> None:
        """Begin to work on an item."""
        with self._lock:
            self._wanted[uid] = True

    def request(self, uid: str) -> bool:
        """Ask that an item be cancelled; return whether it is."""
        with self._lock:
            if not self._wanted.get(uid, False):
                return False
            self._wanted[uid] = False
            return True

    def check(self, uid: str) -> None:
        """Return if the work should go on.

        Raises:
            CancelledError: If it was cancelled.
        """
        with self._lock:
            if not self._wanted.get(uid, True):
                raise CancelledError("the work item was cancelled.")

    def commit(self, uid: str) -> None:
        """Take no more requests for an item.

        Raises:
            CancelledError: If it was cancelled before.
        """
        self.check(uid)
        with self._lock:
            if not self._wanted.pop(uid, True):
                raise CancelledError("the work item was cancelled.")

    def end(self, uid: str) -> None:
        """Forget an item."""
        with self._lock:
            self._wanted.pop(uid, None)
