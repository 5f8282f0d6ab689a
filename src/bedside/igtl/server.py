"""A server of OpenIGTLink for many clients at once."""

import errno
import socket
import threading
from collections.abc import Callable, Mapping

from bedside.errors import UsageError
from bedside.igtl.connection import (
    DEADLINE_S,
    DEFAULT_PORT,
    LOCAL,
    Connection,
    Endpoint,
    encode_batch,
)
from bedside.igtl.messages import Fault, Message
from bedside.igtl.outbox import IgtlCounts, Outbox
from bedside.igtl.reader import LIMIT_BYTES, MessageReader

_KEPT = 64
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class IgtlServer(Endpoint):
    """Sends messages to all clients and takes theirs.

    Each client has a queue of one batch: one that is too slow gets the latest and loses those
    before, which are counted, and holds up no other. Close it at the end, or use it in a `with`
    block.

    Args:
        port: 0 for any that is free.
        host: Address to listen at: by default only this machine can connect.
        on_item: Called by the server's thread with the number of a client and what it has sent;
            it must return soon. What it raises, the next `send` or `close` raises.
        limit_bytes: Largest body that is accepted.
        deadline_s: A client is closed if a message is not whole after so long.
        max_clients: More are refused.

    Attributes:
        refused: How often a client could not be accepted, as the system had no room for another
            connection. It waits and is accepted once there is.

    Raises:
        UsageError: If the port cannot be opened.
    """

    def __init__(
        self,
        port: int = DEFAULT_PORT,
        *,
        host: str = LOCAL,
        on_item: Callable[[int, Message | Fault], None] | None = None,
        limit_bytes: int = LIMIT_BYTES,
        deadline_s: float = DEADLINE_S,
        max_clients: int = 16,
    ) -> None:
        try:
            self._listener = socket.create_server((host, port))
        except (OSError, OverflowError) as error:
            raise UsageError(f"cannot listen at {host}:{port}: {error}.") from error
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._limit_bytes, self._deadline_s = limit_bytes, deadline_s
        self._max_clients = max_clients
        self._outboxes: dict[int, Outbox] = {}
        self._numbers: dict[Outbox, int] = {}
        self._accepted = self.refused = 0
        self._lock, self._joined = threading.Lock(), threading.Event()
        report = on_item or (lambda number, item: None)
        super().__init__(lambda each, item: report(self._numbers[each.outbox], item))
        self._loop.listen(self._listener, self._accept)
        self._start("igtl-server")

    @property
    def counts(self) -> Mapping[int, IgtlCounts]:
        """Counts by number of the client, in the order of arrival; the last 64 are kept."""
        with self._lock:
            return {number: outbox.counts for number, outbox in self._outboxes.items()}

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return len(self._loop.connections)

    def wait_client(self, timeout_s: float) -> bool:
        """Wait for the first client; False if there was none in time."""
        return self._joined.wait(timeout_s)

    def send(self, *messages: Message) -> int:
        """Send messages that belong together to all clients, without waiting.

        Returns:
            To how many clients.

        Raises:
            MessageError: If a field of the protocol cannot hold a value.
            Exception: What `on_item` has raised since the last call.
        """
        self._raise_failure()
        batch = encode_batch(messages)
        with self._lock:
            outboxes = list(self._outboxes.values())
        count = sum(each.offer(batch) for each in outboxes if each.is_open)
        self._loop.wake()
        return count

    def _run(self) -> None:
        try:
            super()._run()
        finally:
            self._listener.close()

    def _accept(self) -> bool:
        """Accept a client; False if the system has no room for one."""
        outbox, reader = Outbox(), MessageReader(self._limit_bytes)
        try:
            sock, _ = self._listener.accept()
            if len(self._loop.connections) >= self._max_clients:
                sock.close()
                return True
            connection = Connection(sock, outbox, reader, self._deadline_s)
        except OSError as error:
            self.refused += error.errno in _NO_ROOM
            return error.errno not in _NO_ROOM  # else it is gone again
        with self._lock:
            self._outboxes[self._accepted] = outbox
            self._numbers[outbox] = self._accepted
            self._accepted += 1
            closed = [number for number, each in self._outboxes.items() if not each.is_open]
            for number in closed[:-_KEPT]:
                del self._numbers[self._outboxes.pop(number)]
        self._loop.add(connection)
        self._joined.set()
        return True
