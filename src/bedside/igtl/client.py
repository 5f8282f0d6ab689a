"""A client of OpenIGTLink that connects again when its server comes back."""

import socket
import threading
import time
from collections.abc import Callable

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

_CONNECT_S = 2.0
_LASTED_S = 1.0
_SOON_S = 0.05
_SOON_TRIES = 40
_LONGEST_S = 1.0


class IgtlClient(Endpoint):
    """Takes the messages of a server and sends it messages.

    If the connection is lost, it tries again every 50 ms for 2 s, then less and less often, at
    least once a second. What is sent meanwhile is dropped and counted. Close it at the end, or
    use it in a `with` block.

    Args:
        port: Of the server.
        host: Of the server.
        on_item: Called by the client's thread with what has come; it must return soon. What it
            raises, the next `send` or `close` raises.
        limit_bytes: Largest body that is accepted.
        deadline_s: The connection is closed if a message is not whole after so long.
    """

    def __init__(
        self,
        port: int = DEFAULT_PORT,
        *,
        host: str = LOCAL,
        on_item: Callable[[Message | Fault], None] | None = None,
        limit_bytes: int = LIMIT_BYTES,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        report = on_item or (lambda item: None)
        super().__init__(lambda each, item: report(item))
        self._address = (host, port)
        self._limit_bytes, self._deadline_s = limit_bytes, deadline_s
        self._outbox = Outbox()
        self._connected = threading.Event()
        self.connects = 0
        """How often it has connected."""
        self._start("igtl-client")

    @property
    def counts(self) -> IgtlCounts:
        """Counts over all connections."""
        return self._outbox.counts

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._connected.is_set()

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait for the connection; False if there was none in time."""
        return self._connected.wait(timeout_s)

    def send(self, *messages: Message) -> bool:
        """Send messages that belong together, without waiting; the latest win.

        Returns:
            False if there is no connection, and they are dropped.

        Raises:
            MessageError: If a field of the protocol cannot hold a value.
            Exception: What `on_item` has raised since the last call.
        """
        self._raise_failure()
        accepted = self._outbox.offer(encode_batch(messages))
        self._loop.wake()
        return accepted

    def _serve(self) -> None:
        failures = 0
        while not self._closed:
            failures += 1
            if self._connect():
                begin = time.monotonic()
                while self._loop.connections and not self._closed:
                    self._loop.step()
                self._connected.clear()
                failures = 0 if time.monotonic() - begin > _LASTED_S else failures
            doublings = min(max(failures - _SOON_TRIES, 0), 16)
            self._pause(min(_SOON_S * 2**doublings, _LONGEST_S))

    def _connect(self) -> bool:
        try:
            sock = socket.create_connection(self._address, timeout=_CONNECT_S)
        except OSError:
            return False
        if sock.getsockname() == sock.getpeername():  # a free port can connect to itself
            sock.close()
            return False
        reader = MessageReader(self._limit_bytes)
        self._loop.add(Connection(sock, self._outbox, reader, self._deadline_s))
        self.connects += 1
        self._connected.set()
        return True

    def _pause(self, pause_s: float) -> None:
        """Wait until it is time to try again, or it is closed."""
        until = time.monotonic() + pause_s
        while not self._closed and (left_s := until - time.monotonic()) > 0:
            self._loop.step(left_s)
