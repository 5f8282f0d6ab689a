"""Messages that wait to be sent to one peer: the latest win, and each is counted."""

import threading
from dataclasses import dataclass, replace

from bedside.igtl.contents import Parts


@dataclass(frozen=True)
class IgtlCounts:
    """What became of the messages to and from one peer.

    Attributes:
        offered: To be sent so far; the sum of the next three, at every moment.
        sent: Handed over to the network as a whole.
        dropped: Not sent: later ones came before, or the connection was lost.
        waiting: Not sent yet.
        received: Messages that have come.
        faults: Messages that came and were refused.
    """

    offered: int = 0
    sent: int = 0
    dropped: int = 0
    waiting: int = 0
    received: int = 0
    faults: int = 0


@dataclass(frozen=True)
class Batch:
    """Messages that belong together.

    Attributes:
        parts: Their bytes, one behind the other.
        count: How many they are.
    """

    parts: Parts = ()
    count: int = 0


class Outbox:
    """Holds one batch that waits and one that is being sent; offering one never waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = self._sending = Batch()
        self._counts = IgtlCounts()
        self._open = False

    @property
    def counts(self) -> IgtlCounts:
        """The counts of this moment."""
        with self._lock:
            return self._counts

    @property
    def is_open(self) -> bool:
        """Whether there is a peer."""
        return self._open

    def open(self) -> None:
        """Accept messages."""
        with self._lock:
            self._open = True

    def offer(self, batch: Batch) -> bool:
        """Put in a batch, which takes the place of one that waits; False if there is no peer."""
        with self._lock:
            lost = self._waiting.count if self._open else batch.count
            if self._open:
                self._waiting = batch
            self._count(offered=batch.count, dropped=lost, waiting=batch.count - lost)
            return self._open

    def take(self) -> Parts:
        """Take the batch that waits, to be sent; empty if there is none."""
        with self._lock:
            self._sending, self._waiting = self._waiting, Batch()
            return self._sending.parts

    def finish(self) -> None:
        """Count the batch that was taken as sent."""
        with self._lock:
            self._count(sent=self._sending.count, waiting=-self._sending.count)
            self._sending = Batch()

    def close(self) -> None:
        """Drop what is not sent; refuse later batches."""
        with self._lock:
            lost = self._sending.count + self._waiting.count
            self._waiting, self._sending, self._open = Batch(), Batch(), False
            self._count(dropped=lost, waiting=-lost)

    def count_received(self, *, fault: bool) -> None:
        """Count a message that has come."""
        with self._lock:
            self._count(received=not fault, faults=fault)

    def _count(self, **more: int) -> None:
        new = {name: getattr(self._counts, name) + number for name, number in more.items()}
        self._counts = replace(self._counts, **new)
