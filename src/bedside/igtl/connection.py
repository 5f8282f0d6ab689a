"""TCP connections to peers, served by one thread that waits for all of them at once."""

import contextlib
import itertools
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from bedside.igtl.codec import encode_parts
from bedside.igtl.messages import Fault, Message
from bedside.igtl.outbox import Batch, Outbox
from bedside.igtl.reader import MessageReader

DEFAULT_PORT = 18944
LOCAL = "127.0.0.1"
"""Address at which only programs of this machine connect."""
DEADLINE_S = 10.0
_PAUSE_S = 0.2
_CHUNK_BYTES = 256 * 1024
_UNSENT_BYTES, _MOST_UNSENT_BYTES = 128 * 1024, 4 * 2**20
_PARTS = 64
"""Parts of a batch that are sent in one call; a batch may have any number."""


class Connection:
    """One peer: its socket, what it has sent in part, and what is being sent to it.

    Args:
        sock: The connected socket, which is closed with it.
        outbox: What is to be sent.
        reader: What has come.
        deadline_s: Time in which a message must become whole, in either direction.
    """

    def __init__(
        self, sock: socket.socket, outbox: Outbox, reader: MessageReader, deadline_s: float
    ) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock, self.outbox = sock, outbox
        self._reader, self._deadline_s = reader, deadline_s
        self._rest: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._chunk = memoryview(bytearray(_CHUNK_BYTES))
        self._reads_until: float | None = None
        self._sends_until: float | None = None
        outbox.open()

    @property
    def deadline(self) -> float | None:
        """When it is to be closed, by `time.monotonic`, unless a message becomes whole."""
        return min((at for at in (self._reads_until, self._sends_until) if at), default=None)

    def receive(self) -> list[Message | Fault]:
        """Read what has come.

        Raises:
            OSError: If the peer has closed the connection.
        """
        count = self.sock.recv_into(self._chunk)
        if not count:
            raise ConnectionResetError("closed by the peer")
        found = self._reader.feed(self._chunk[:count])
        self._count(found)
        if not self._reader.pending:
            self._reads_until = None
        elif found or self._reads_until is None:
            self._reads_until = time.monotonic() + self._deadline_s
        return found

    def send(self) -> bool:
        """Send as much as the network takes; False if all is sent.

        Raises:
            OSError: If the connection is lost.
        """
        with contextlib.suppress(BlockingIOError):
            while self._rest or self._take():
                count = self.sock.sendmsg(itertools.islice(self._rest, _PARTS))
                while count:
                    part = self._rest.popleft()
                    if count < len(part):
                        self._rest.appendleft(part[count:])
                    count -= min(count, len(part))
                if not self._rest:
                    self.outbox.finish()
                    self._sends_until = None
        return bool(self._rest)

    def close(self, *, late: bool = False) -> list[Message | Fault]:
        """Close it; return what the last bytes hold."""
        self.outbox.close()
        self.sock.close()
        reason = f"a message was not whole within {self._deadline_s:g} s."
        found = self._reader.finish(Fault("deadline", reason) if late else None)
        self._count(found)
        return found

    def _take(self) -> bool:
        self._rest.extend(memoryview(part) for part in self.outbox.take() if part)
        if self._rest:
            self._sends_until = time.monotonic() + self._deadline_s
            self._limit_unsent(sum(map(len, self._rest)))
        return bool(self._rest)

    def _limit_unsent(self, size: int) -> None:
        """Let the system take one batch whole, in one call, and queue no more than that."""
        size = min(max(size, _UNSENT_BYTES), _MOST_UNSENT_BYTES)
        if size != self._unsent_bytes and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, size)
            self._unsent_bytes = size

    def _count(self, found: list[Message | Fault]) -> None:
        for each in found:
            self.outbox.count_received(fault=isinstance(each, Fault))


def encode_batch(messages: Sequence[Message]) -> Batch:
    """Messages that are sent together.

    Raises:
        MessageError: If a field of the protocol cannot hold a value.
    """
    parts = [part for each in messages for part in encode_parts(each)]
    return Batch(tuple(parts), len(messages))


class Loop:
    """Serves connections in the thread that calls `step`.

    Args:
        on_item: Called with each message or fault. What it raises ends nothing.

    Attributes:
        failure: The first error that `on_item` has raised since it was read.
    """

    def __init__(self, on_item: Callable[[Connection, Message | Fault], None]) -> None:
        self._on_item = on_item
        self.failure: Exception | None = None
        self._resting: tuple[socket.socket, Callable[[], bool], float] | None = None
        self._selector = selectors.DefaultSelector()
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._drain)
        self.connections: set[Connection] = set()

    def wake(self) -> None:
        """Let `step` look at what is to be sent; called by any thread."""
        with contextlib.suppress(OSError):  # full, so that it wakes anyway, or closed
            self._waker.send(b"\0")

    def listen(self, sock: socket.socket, accept: Callable[[], bool]) -> None:
        """Call a function when a peer connects to a socket.

        Args:
            sock: The socket.
            accept: Returns False if nothing can be accepted now; it is called again a while later.
        """
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._accept(sock, accept))

    def add(self, connection: Connection) -> None:
        """Serve a connection."""
        self._selector.register(connection.sock, selectors.EVENT_READ, connection)
        self.connections.add(connection)

    def step(self, timeout_s: float | None = None) -> None:
        """Wait until something can be done, and do it."""
        deadlines = [each.deadline for each in self.connections if each.deadline]
        if self._resting is not None:
            sock, accept, until = self._resting
            if until <= time.monotonic():
                self._resting = None
                self.listen(sock, accept)
            else:
                deadlines.append(until)
        if deadlines:
            left_s = max(min(deadlines) - time.monotonic(), 0.0)
            timeout_s = left_s if timeout_s is None else min(left_s, timeout_s)
        for key, events in self._selector.select(timeout_s):
            if not isinstance(key.data, Connection):
                key.data()
            elif events & selectors.EVENT_READ:
                self._receive(key.data)
        now = time.monotonic()
        for each in tuple(self.connections):
            self._send(each)
            if each.deadline and each.deadline <= now and each in self.connections:
                self._lose(each, late=True)

    def close(self) -> None:
        """Close all connections."""
        for each in tuple(self.connections):
            self._lose(each)
        self._selector.close()
        self._waker.close()
        self._woken.close()

    def _receive(self, connection: Connection) -> None:
        try:
            found = connection.receive()
        except BlockingIOError:
            return
        except OSError:
            self._lose(connection)
            return
        self._hand_over(connection, found)

    def _send(self, connection: Connection) -> None:
        try:
            unfinished = connection.send()
        except OSError:
            self._lose(connection)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if unfinished else 0)
        if self._selector.get_key(connection.sock).events != events:
            self._selector.modify(connection.sock, events, connection)

    def _lose(self, connection: Connection, *, late: bool = False) -> None:
        self.connections.discard(connection)
        self._selector.unregister(connection.sock)
        self._hand_over(connection, connection.close(late=late))

    def _hand_over(self, connection: Connection, found: Sequence[Message | Fault]) -> None:
        for each in found:
            try:
                self._on_item(connection, each)
            except Exception as error:  # noqa: BLE001 - raised where the connection is used
                self.failure = self.failure or error

    def _accept(self, sock: socket.socket, accept: Callable[[], bool]) -> None:
        if not accept():  # it would be called again at once, and for ever
            self._selector.unregister(sock)
            self._resting = sock, accept, time.monotonic() + _PAUSE_S

    def _drain(self) -> None:
        self._woken.recv(4096)


class Endpoint:
    """Serves connections in a thread of its own until it is closed.

    Args:
        on_item: Called by that thread with each message or fault. What it raises is raised again
            by the next `send`, or by `close`; meanwhile the thread goes on.
    """

    def __init__(self, on_item: Callable[[Connection, Message | Fault], None]) -> None:
        self._loop, self._closed = Loop(on_item), False

    def close(self) -> None:
        """Close all connections.

        Raises:
            Exception: What `on_item` has raised, if it was not raised before.
        """
        self._closed = True
        self._loop.wake()
        self._thread.join()
        self._raise_failure()

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _raise_failure(self) -> None:
        failure, self._loop.failure = self._loop.failure, None
        if failure is not None:
            raise failure

    def _start(self, name: str) -> None:
        """Begin to serve, once all attributes are there."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            self._loop.close()

    def _serve(self) -> None:
        """Serve until it is closed."""
        while not self._closed:
            self._loop.step()
