"""Connections of HTTP: absolute deadlines for heads of requests, and caps that lock nobody out.

uvicorn waits for ever for the head of a request, and its own limit of connections refuses
everybody while slow ones stay. Here a connection without a whole request is half-open: it is
closed at a deadline, and the oldest of them when there are too many.
"""

import asyncio
import logging
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from bedside.http_api.settings import HttpSettings

_UNREAD_S = 30.0
"""For a client to read what waits for it."""

IDLE_S = 75.0
"""For a client to ask again on a connection; longer than the pools of most clients keep one, which
cannot repeat a POST that meets a connection being closed."""


class Connections:
    """The connections of one server.

    Args:
        settings: Deadlines and caps.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self.settings = settings
        # In the order of their deadlines; a dict is an ordered set.
        self.half_open: dict[GuardedProtocol, None] = {}
        self.at_work: dict[GuardedProtocol, None] = {}
        self.cut_off = 0

    def make(self, **arguments: Any) -> "GuardedProtocol":
        """Return the protocol of a new connection, for uvicorn."""
        return GuardedProtocol(self, **arguments)

    def make_room(self) -> None:
        """Close connections that are over the caps: the oldest that has not asked for anything.

        Then the oldest that is still sending, and last the newest; what is at work stays.
        """
        while len(self.half_open) > self.settings.half_open:
            next(iter(self.half_open)).cut_off()
        while len(self.half_open) + len(self.at_work) > self.settings.connections:
            *others, newest = self.half_open
            sending = (each for each in self.at_work if each.cycle.more_body)
            (others[0] if others else next(sending, newest)).cut_off()


class GuardedProtocol(H11Protocol):
    """A connection.

    Args:
        connections: All of the server.
        arguments: As uvicorn passes them.
    """

    def __init__(self, connections: Connections, **arguments: Any) -> None:
        super().__init__(**arguments)
        # Its messages would name addresses.
        self.logger = logging.getLogger("bedside.http.connections")
        self._all = connections
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._is_idle = False
        self._is_upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.transport: Any = _JoinedWrites(transport, self.loop)
        self._note()
        self._all.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._forget()
        if self._unread is not None:
            self._unread.cancel()

    def data_received(self, data: bytes) -> None:
        """Take what has arrived; it begins the next request, which then has to be there in time."""
        if self._is_idle:
            self._is_idle = False
            self._forget()
        super().data_received(data)
        self._note()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Leave the connection to the protocol of WebSocket."""
        self._is_upgraded = True
        self._forget()
        self.transport = self.transport.joined
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._is_idle = True
        self._note()

    def pause_writing(self) -> None:
        """Wait for a client that does not read its answer, but not for ever."""
        super().pause_writing()
        self._unread = self.loop.call_later(_UNREAD_S, self.cut_off)

    def resume_writing(self) -> None:
        """Go on, as the client has read."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def cut_off(self) -> None:
        """Close the connection at once."""
        self._all.cut_off += 1
        self._forget()
        if self.transport is not None:
            self.transport.abort()

    def _note(self) -> None:
        """Note whether a request is there."""
        if self._is_upgraded or self.transport is None or self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            if self not in self._all.at_work:
                self._forget()
                self._all.at_work[self] = None
        elif self not in self._all.half_open:
            self._forget()
            self._all.half_open[self] = None
            allowed_s = IDLE_S if self._is_idle else self._all.settings.header_s
            self._deadline = self.loop.call_later(allowed_s, self.cut_off)

    def _forget(self) -> None:
        self._all.half_open.pop(self, None)
        self._all.at_work.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _JoinedWrites:
    """A transport that sends the head of an answer with its body: one system call, not two.

    Each call lets threads that compute have Python, and waits for it again. What is written is held
    until the next write, or the next turn of the loop.

    Args:
        joined: The transport.
        loop: Its loop.
    """

    def __init__(self, joined: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.joined, self._loop = joined, loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """Send bytes, soon."""
        if self._held:
            held, self._held = self._held, b""
            self.joined.write(held + data)
        else:
            self._held = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Close it once all is sent."""
        self._flush()
        self.joined.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self.joined.write(held)

    def __getattr__(self, name: str) -> Any:
        """Whatever else a transport does."""
        return getattr(self.joined, name)
