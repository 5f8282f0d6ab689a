"""Connections until their request for an association is there: one thread, and no pynetdicom.

A connection that has sent nothing, nothing sensible or half of a request costs a socket and some
bytes. It has no thread, does not count as an association, and ends at its deadline, or earlier if
newer ones need its place. So whoever only connects keeps nobody else out.
"""

import contextlib
import logging
import selectors
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bedside.dicom_node.config import PeerLimits
from bedside.dicom_node.notices import Notices
from bedside.dicom_node.upper_layer import make_abort
from bedside.errors import UsageError

LOGGER = logging.getLogger(__name__)
_REQUEST, _HEAD_BYTES = 1, 6
# A request names at most 128 presentation contexts; those of all storage classes take 20 kB.
_LONGEST_REQUEST, _SHORTEST_REQUEST = 2**16, 68
# What all requests together may hold before they are whole.
_MOST_BYTES = 2**21
_BACKLOG, _TICK_S, _PAUSE_S = 1024, 0.5, 0.05
# In between, those that their peers have closed make room, before one that goes on has to.
_ACCEPT_AT_ONCE = 32
_TLS_HANDSHAKE = 0x16  # first byte of a TLS connection


@dataclass(eq=False)
class Knock:
    """A connection that has no association yet.

    Attributes:
        socket: The connection.
        address: Of the peer.
        until_s: Its deadline, in the time of `time.monotonic`.
        first: What was read.
        is_plain: Whether no TLS handshake is left to do.
    """

    socket: socket.socket
    address: tuple[Any, ...]
    until_s: float
    first: bytes = field(default=b"", repr=False)
    is_plain: bool = True

    @property
    def missing(self) -> int:
        """How many bytes of the request are still to come; 0 if it is whole, -1 if it is none."""
        if len(self.first) < _HEAD_BYTES:
            is_sensible = not self.first or self.first[0] == _REQUEST
            return _HEAD_BYTES - len(self.first) if is_sensible else -1
        kind, _, length = struct.unpack(">BBI", self.first[:_HEAD_BYTES])
        if kind != _REQUEST or not _SHORTEST_REQUEST <= length <= _LONGEST_REQUEST:
            return -1
        return int(length) + _HEAD_BYTES - len(self.first)


class Gate:
    """Listens, and passes connections on once their request is there.

    Args:
        host: Address that is listened on.
        port: Its port; 0 for any that is free.
        limits: What a peer may take.
        on_request: Called with each, in the thread of the gate.
        notices: Where faults of peers are written.
        tls: Encryption of all connections; None for none.

    Attributes:
        address: Host and port that are listened on.

    Raises:
        UsageError: If the address cannot be listened on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        limits: PeerLimits,
        *,
        on_request: Callable[[Knock], None],
        notices: Notices,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._limits, self._on_request = limits, on_request
        self._notices, self._tls = notices, tls
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = socket.create_server(
                (host, port), family=family, backlog=_BACKLOG, reuse_port=False
            )
        except OSError as error:
            raise UsageError(
                f"cannot listen on {host}, port {port}: {error.strerror or error}. Choose another "
                "port under [dicom]."
            ) from error
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake, self._waker = socket.socketpair()
        self._selector.register(self._wake, selectors.EVENT_READ)
        # In the order of their deadlines, as each has the same time.
        self._knocks: dict[socket.socket, Knock] = {}
        self._of_address: dict[str, dict[socket.socket, Knock]] = {}
        self._bytes = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bedside dicom gate", daemon=True)

    @property
    def half_open(self) -> int:
        """How many connections have no association."""
        return len(self._knocks)

    def start(self) -> None:
        """Begin to accept connections."""
        self._thread.start()

    def close(self) -> None:
        """Accept no more, and end those without an association; once is enough."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._waker.send(b"\0")
        if self._thread.is_alive():
            self._thread.join()
        for knock in list(self._knocks.values()):
            self._drop(knock)
        for each in (self._listener, self._wake, self._waker):
            each.close()
        self._selector.close()

    @staticmethod
    def refuse(knock: Knock, answer: bytes = make_abort(0)) -> None:
        """End a connection with an answer: an A-ABORT, or a rejection."""
        with contextlib.suppress(OSError):
            knock.socket.send(answer)
        knock.socket.close()

    def _run(self) -> None:
        next_s = time.monotonic() + _TICK_S
        while not self._closing.is_set():
            try:
                for key, _ in self._selector.select(max(0.0, next_s - time.monotonic())):
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.data is not None and key.data.socket in self._knocks:
                        self._read(key.data)
                if (now_s := time.monotonic()) >= next_s:
                    next_s = now_s + _TICK_S
                    self._end_overdue(now_s)
            except Exception as error:  # noqa: BLE001 - without this thread nobody can come in
                LOGGER.error("a connection is lost: %s", type(error).__name__)

    def _accept(self) -> None:
        """Accept some of the connections that wait."""
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                connection, address = self._listener.accept()
            except (BlockingIOError, ConnectionError):  # none is left, or its peer has gone
                return
            except OSError:  # this process has no descriptor left, and the connection stays
                time.sleep(_PAUSE_S)
                return
            connection.setblocking(False)
            # Answers are short: without it, each waits for the peer's delayed acknowledgement.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self._hold(connection, address)
            except (OSError, ValueError):  # its peer has gone
                connection.close()

    def _hold(self, connection: socket.socket, address: tuple[Any, ...]) -> None:
        """Wait for the request of a connection."""
        limits, host = self._limits, str(address[0])
        if self._tls is not None:
            connection = self._tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        if len(self._knocks) >= limits.half_open:
            self._make_room(self._knocks)
        if len(self._of_address.get(host, ())) >= limits.half_open_per_address:
            self._make_room(self._of_address[host])
        until_s = time.monotonic() + limits.association_s
        knock = Knock(connection, address, until_s, is_plain=self._tls is None)
        self._knocks[connection] = knock
        self._of_address.setdefault(host, {})[connection] = knock
        self._selector.register(connection, selectors.EVENT_READ, knock)

    def _make_room(self, knocks: dict[socket.socket, Knock]) -> None:
        """End the oldest connection, unless its request has come meanwhile."""
        oldest = next(iter(knocks.values()))
        self._read(oldest)
        if oldest.socket in self._knocks:
            self._drop(oldest)

    def _read(self, knock: Knock) -> None:
        """Read what is there of a request, and pass the connection on if it is whole."""
        if not knock.is_plain and not self._shake_hands(knock):
            return
        while (missing := knock.missing) > 0:
            try:
                got = knock.socket.recv(missing)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            except OSError:
                got = b""
            if not got:
                self._drop(knock)
                return
            knock.first += got
            self._bytes += len(got)
            if self._bytes > _MOST_BYTES:
                self._drop(max(self._knocks.values(), key=lambda each: len(each.first)))
                return
        self._forget(knock)
        if missing < 0:
            self._notices.warn(str(knock.address[0]), _describe_first(knock.first))
            self.refuse(knock)
        else:
            self._on_request(knock)

    def _shake_hands(self, knock: Knock) -> bool:
        """Go on with a TLS handshake; return whether it is done."""
        try:
            knock.socket.do_handshake()  # type: ignore[attr-defined]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as error:
            # Without the library's text, which has a place in its source.
            why = getattr(error, "reason", None)
            if why:  # not if its peer has only gone
                why = str(why).lower().replace("_", " ")
                self._notices.warn(str(knock.address[0]), f"no TLS connection comes about: {why}")
            self._drop(knock)
            return False
        knock.is_plain = True
        return True

    def _end_overdue(self, now_s: float) -> None:
        for knock in list(self._knocks.values()):
            if knock.until_s > now_s:
                return
            self._drop(knock)

    def _forget(self, knock: Knock) -> None:
        del self._knocks[knock.socket]
        others = self._of_address[str(knock.address[0])]
        del others[knock.socket]
        if not others:
            del self._of_address[str(knock.address[0])]
        self._bytes -= len(knock.first)
        self._selector.unregister(knock.socket)

    def _drop(self, knock: Knock) -> None:
        self._forget(knock)
        knock.socket.close()


def _describe_first(first: bytes) -> str:
    """Return what is wrong with the beginning of a connection."""
    if first[0] == _TLS_HANDSHAKE:
        return "it speaks TLS, and this port does not: set [dicom.tls], or turn TLS off there"
    if first[0] != _REQUEST:
        return "it does not speak DICOM"
    return "its request for an association has a length that no request has"
