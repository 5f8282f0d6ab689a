"""A sink that shows a stream to viewers over WebSocket: events as JSON, masks as bytes."""

import asyncio
import contextlib
import json
import logging
import re
import socket
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bedside.errors import BackendError, UsageError, install_command
from bedside.igtl.connection import LOCAL
from bedside.stream.event import Event

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

_LOCAL_PAGE = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
_LIMIT_BYTES = 1024
_UNSENT_BYTES = 16 * 1024
_PING_S, _PONG_S, _CLOSE_S = 5.0, 10.0, 1.0
_SEND_S = 10.0
_TOO_MANY = 1013
_LEVEL = 1
_KEPT = 64

Messages = tuple[str | bytes, ...]


@dataclass(frozen=True)
class ViewerCounts:
    """What became of the events for a viewer; `offered` is the sum of the others, at every moment.

    Attributes:
        offered: Events since it connected.
        sent: Handed over to the network.
        dropped: Not sent: later ones came before, or the connection was lost.
        waiting: Not sent yet.
    """

    offered: int = 0
    sent: int = 0
    dropped: int = 0
    waiting: int = 0


class _Viewer:
    """The latest messages for one viewer; used by the thread of the server alone.

    Args:
        cut: Cuts the connection.
    """

    def __init__(self, cut: Callable[[], None]) -> None:
        self.cut = cut
        self._changed = asyncio.Event()
        self._messages: Messages | None = None
        self.counts, self.is_open = ViewerCounts(), True

    def offer(self, messages: Messages) -> None:
        """Put in messages, which take the place of those that wait."""
        self._count(offered=1, waiting=self._messages is None, dropped=self._messages is not None)
        self._messages = messages
        self._changed.set()

    async def take(self) -> Messages:
        """Wait for messages."""
        while self._messages is None:
            self._changed.clear()
            await self._changed.wait()
        messages, self._messages = self._messages, None
        return messages

    def finish(self) -> None:
        """Count the messages that were taken as sent."""
        self._count(sent=1, waiting=-1)

    def close(self) -> None:
        """Drop what is not sent."""
        self.is_open = False
        self._count(dropped=self.counts.waiting, waiting=-self.counts.waiting)

    def _count(self, **more: int) -> None:
        new = {name: getattr(self.counts, name) + number for name, number in more.items()}
        self.counts = replace(self.counts, **new)


class WebSocketSink:
    """Sends each event to all viewers, without waiting for any of them.

    An event is a text of JSON, `Event.to_mapping`. If that has "labels", a binary message follows:
    the labels, uint8 row by row, deflated as by zlib. A viewer that is too slow gets the latest and
    loses those before, which are counted; one that takes nothing within 10 s is cut off. What
    viewers send is ignored.

    Args:
        port: 0 for any that is free.
        host: Address to listen at: by default only this machine can connect.
        origins: Web pages whose scripts may connect, such as "https://ward.example", besides those
            of this machine.
        max_viewers: More are refused.

    Raises:
        UsageError: If the port cannot be opened.
        BackendError: If websockets is not installed.
    """

    def __init__(
        self,
        port: int,
        *,
        host: str = LOCAL,
        origins: Sequence[str] = (),
        max_viewers: int = 16,
    ) -> None:
        self._server = _import_server()
        try:
            self._listener = socket.create_server((host, port))
        except (OSError, OverflowError) as error:
            raise UsageError(f"cannot listen at {host}:{port}: {error}.") from error
        self.port: int = self._listener.getsockname()[1]
        self._origins = [None, _LOCAL_PAGE, *origins]
        self._max_viewers, self._accepted = max_viewers, 0
        self._viewers: dict[int, _Viewer] = {}
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="bedside viewers", daemon=True
        )
        self._thread.start()
        started.wait()

    @property
    def counts(self) -> Mapping[int, ViewerCounts]:
        """Counts by number of the viewer, in the order of arrival; the last 64 are kept."""
        return {number: viewer.counts for number, viewer in self._viewers.copy().items()}

    @property
    def viewers(self) -> int:
        """How many are connected."""
        return sum(each.is_open for each in self._viewers.copy().values())

    def write(self, event: Event) -> None:
        """Send an event."""
        if self.viewers:
            messages: Messages = (json.dumps(event.to_mapping()),)
            if event.labels is not None:
                messages += (zlib.compress(event.labels.tobytes(), _LEVEL),)
            self._loop.call_soon_threadsafe(self._offer, messages)

    def close(self) -> None:
        """Send what waits, if that takes no more than a second, and close all connections."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()

    def _run(self, started: threading.Event) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve(started))
        finally:
            started.set()

    async def _serve(self, started: threading.Event) -> None:
        quiet = logging.getLogger("bedside.websocket")
        quiet.addHandler(logging.NullHandler())
        quiet.propagate = False
        async with self._server.serve(
            self._show, sock=self._listener, origins=self._origins, compression=None,
            max_size=_LIMIT_BYTES, ping_interval=_PING_S, ping_timeout=_PONG_S,
            close_timeout=_CLOSE_S, logger=quiet,
        ):  # fmt: skip
            started.set()
            await self._closing.wait()
            until = self._loop.time() + _CLOSE_S
            while self._loop.time() < until and any(each.waiting for each in self.counts.values()):
                await asyncio.sleep(0.01)
            for viewer in self._viewers.values():
                if viewer.counts.waiting:  # it reads nothing, not even that it is to be closed
                    viewer.cut()

    def _offer(self, messages: Messages) -> None:
        for viewer in self._viewers.values():
            if viewer.is_open:
                viewer.offer(messages)

    async def _show(self, connection: "ServerConnection") -> None:
        """Serve a viewer until it closes the connection."""
        if self.viewers >= self._max_viewers:
            await connection.close(_TOO_MANY, "too many viewers")
            return
        sock = connection.transport.get_extra_info("socket")
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # else the system queues many old masks
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        viewer = _Viewer(connection.transport.abort)
        self._viewers[self._accepted] = viewer
        self._accepted += 1
        closed = [number for number, each in self._viewers.items() if not each.is_open]
        for number in closed[:-_KEPT]:
            del self._viewers[number]
        sending = asyncio.create_task(_send_all(connection, viewer))
        try:
            await _ignore_all(connection)
        finally:
            sending.cancel()
            viewer.close()


async def _ignore_all(connection: "ServerConnection") -> None:
    """Wait until a viewer has gone, and take what it sends until then."""
    from websockets.exceptions import ConnectionClosed

    with contextlib.suppress(ConnectionClosed):
        async for _ in connection:
            pass


async def _send_all(connection: "ServerConnection", viewer: _Viewer) -> None:
    from websockets.exceptions import ConnectionClosed

    try:
        while True:
            messages = await viewer.take()
            async with asyncio.timeout(_SEND_S):
                for each in messages:
                    await connection.send(each)
            viewer.finish()
    except TimeoutError:
        viewer.cut()
    except ConnectionClosed:
        pass


def _import_server() -> Any:
    try:
        from websockets.asyncio import server
    except ImportError as error:
        raise BackendError(
            "websockets is not installed, which sends to viewers. Install it with: "
            f"{install_command('websockets')}"
        ) from error
    return server
