"""One association of pynetdicom, with limits that pynetdicom does not have.

pynetdicom waits for each piece of a PDU by itself, so that a byte a second keeps it waiting for
ever, and reserves what a PDU claims to hold. Here a PDU has a largest size and one deadline.
"""

import contextlib
import logging
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pynetdicom import AE
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationSocket

from bedside.dicom_node.config import PeerLimits
from bedside.dicom_node.objects import ObjectReceiver

LOGGER = logging.getLogger(__name__)
_HEAD_BYTES, _PROTOCOL_VERSION = 6, 1
# A peer that is silent for so long is looked at less often, at most by that.
_IDLE_S, _LONGEST_LOOK_MS = 1.0, 20.0


class PeerConnection(Protocol):
    """A connection whose request for an association has come.

    Attributes:
        socket: The connection.
        address: Of the peer: host, port, and more with IPv6.
        first: What was read of it: one whole PDU.
    """

    socket: socket.socket
    address: tuple[Any, ...]
    first: bytes


class NodeAssociation(Association):
    """An association that was asked for; `start` begins it.

    Args:
        entity: Our application entity; its timeouts are taken.
        peer: The connection.
        limits: What a peer may take.
        folder: Where objects are written.
        contexts: What is accepted.
        handlers: Called at pynetdicom's events.
        on_end: Called at its end, in its thread, however it ends.
    """

    def __init__(
        self,
        entity: AE,
        peer: PeerConnection,
        *,
        limits: PeerLimits,
        folder: Path,
        contexts: list[PresentationContext],
        handlers: list[tuple[Any, Callable[..., Any]]],
        on_end: Callable[["NodeAssociation"], None],
    ) -> None:
        super().__init__(entity, MODE_ACCEPTOR)
        self._on_end = on_end
        self._server = None
        self.peer_socket = peer.socket
        self.dul = _Provider(self)
        self.acse_timeout, self.network_timeout = entity.acse_timeout, entity.network_timeout
        self.receiver = self.dimse = ObjectReceiver(self, limits=limits, folder=folder)
        self.set_socket(LimitedSocket(self, peer, limits=limits))
        self.acceptor.maximum_length = limits.pdu_bytes
        self.acceptor.ae_title = entity.ae_title
        self.acceptor.address_info = AddressInformation.from_tuple(peer.socket.getsockname())
        self.acceptor.implementation_class_uid = entity.implementation_class_uid
        self.acceptor.implementation_version_name = entity.implementation_version_name
        self.acceptor.supported_contexts = contexts
        self.requestor.address_info = AddressInformation.from_tuple(peer.address)
        for event, handler in handlers:
            self.bind(event, handler)

    def run_reactor(self) -> None:
        """Run until the association has ended, and leave nothing of it."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - a peer's fault must not end more than this
            LOGGER.warning("an association ended with %s", type(error).__name__)
        finally:
            self.dul.kill_dul()
            self.cut()
            self.dul.join()
            self.peer_socket.close()
            self.receiver.discard()
            self._on_end(self)
            # They refer to each other in circles, of which thousands would wait to be collected.
            for each in (self.acse, self.dul, self.acceptor, self.requestor):
                vars(each).clear()
            del self.receiver._assoc

    def cut(self) -> None:
        """End the connection at once, from any thread."""
        with contextlib.suppress(OSError):
            self.peer_socket.shutdown(socket.SHUT_RDWR)


def is_sound_request(data: bytes) -> bool:
    """Whether a request for an association can be understood.

    pynetdicom waits for the next one if it cannot, with two threads, until its time is over.

    Args:
        data: The whole PDU.
    """
    request = A_ASSOCIATE_RQ()
    try:
        request.decode(data)
        request.to_primitive()
    except Exception:  # noqa: BLE001 - pynetdicom raises many kinds
        return False
    return bool(request.protocol_version == _PROTOCOL_VERSION)


class _Provider(DULServiceProvider):
    """The thread that reads and writes; what it raises would end in a traceback with data."""

    def run_reactor(self) -> None:
        """Run until the connection has ended, or what came has no meaning."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - the association sees that this thread ended
            LOGGER.warning("a connection ended with %s", type(error).__name__)


class LimitedSocket(AssociationSocket):
    """The connection as pynetdicom reads and writes it.

    Args:
        association: Whose connection it is.
        peer: The connection.
        limits: What a peer may take.
    """

    def __init__(
        self, association: Association, peer: PeerConnection, *, limits: PeerLimits
    ) -> None:
        super().__init__(association, client_socket=peer.socket)
        peer.socket.settimeout(limits.pdu_s)
        self._limits = limits
        self._ahead = memoryview(peer.first)
        self._until_s = 0.0
        self._active_s = time.monotonic()
        # `select`, which pynetdicom uses, takes no descriptor above 1023.
        self._poll = select.poll()
        self._poll.register(peer.socket, select.POLLIN)

    @property
    def ready(self) -> bool:
        """Whether there is something to read, a closed connection included."""
        if self._ahead:
            return True
        if self.socket is None or not self._is_connected:
            return False
        idle_s = time.monotonic() - self._active_s - _IDLE_S
        try:
            # pynetdicom asks a thousand times a second.
            return bool(self._poll.poll(min(max(0.0, 20 * idle_s), _LONGEST_LOOK_MS)))
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # the connection is closed
            return False

    def recv(self, nr_bytes: int) -> bytearray:
        """Read the head of a PDU, or then its body.

        Args:
            nr_bytes: How many bytes; 6 of a head.

        Returns:
            So many, or fewer if the connection was closed.

        Raises:
            OSError: If the PDU is longer than allowed, or its time is over.
        """
        self._active_s = time.monotonic()
        is_head = nr_bytes == _HEAD_BYTES and self._until_s <= 0
        if is_head:
            self._until_s = self._active_s + self._limits.pdu_s
        if nr_bytes > self._limits.pdu_bytes and not self._ahead:
            raise OSError("a PDU is longer than allowed")
        taken = bytearray(nr_bytes)
        n_ahead = min(nr_bytes, len(self._ahead))
        taken[:n_ahead], self._ahead = self._ahead[:n_ahead], self._ahead[n_ahead:]
        n_read = n_ahead + self._fill(memoryview(taken)[n_ahead:])
        if not is_head:
            self._until_s = 0.0
        return taken[:n_read] if n_read < nr_bytes else taken

    def send(self, bytestream: bytes) -> None:
        """Send a PDU; a peer that does not take it in time loses its connection."""
        if self.socket is not None:
            self.socket.settimeout(self._limits.pdu_s)
            self._active_s = time.monotonic()
        super().send(bytestream)

    def _fill(self, view: memoryview) -> int:
        """Read until a buffer is full, the connection closed, or the time of the PDU over."""
        n_read = 0
        while n_read < len(view):
            left_s = self._until_s - time.monotonic()
            if left_s <= 0 or self.socket is None:
                raise TimeoutError("a PDU took longer than allowed")
            self.socket.settimeout(left_s)
            count = self.socket.recv_into(view[n_read:])
            if count == 0:
                break
            n_read += count
        return n_read
