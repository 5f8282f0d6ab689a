"""An association with a deadline for all of it; the limits of pynetdicom are for each answer.

A peer that sends a byte a second keeps pynetdicom waiting for ever. Here a timer shuts the socket
down at the deadline, which ends every wait there is.
"""

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.presentation import PresentationContext

from bedside.dicom_node.sending.destination import DicomDestination
from bedside.errors import PeerError

# Identifiers of patients are logged by default.
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False
_config.LOG_HANDLER_LEVEL = "none"
# A path is sent as it is on disk, in pieces, instead of being decoded and encoded again.
_config.STORE_SEND_CHUNKED_DATASET = True
_LOG = logging.getLogger("pynetdicom")
_PERMANENT = {7: "does not know the AE title that is called", 3: "does not know our AE title"}

Handlers = Sequence[tuple[Any, Callable[[Any], Any]]]


@contextmanager
def associate(
    peer: DicomDestination, contexts: Sequence[PresentationContext], *, handlers: Handlers = ()
) -> Iterator[Any]:
    """Hold an association that ends at the deadline of the peer at the latest.

    What is in progress then gets an empty status. The association is released at the end of the
    block, and aborted after an error.

    Args:
        peer: Whom to call, and how long everything may take.
        contexts: Presentation contexts to propose.
        handlers: Further event handlers.

    Yields:
        pynetdicom's association, established.

    Raises:
        PeerError: If there is none: nothing was sent.
    """
    entity = AE(ae_title=peer.calling_ae_title)
    entity.requested_contexts = list(contexts)
    entity.connection_timeout = entity.acse_timeout = min(peer.connect_s, peer.deadline_s)
    entity.dimse_timeout = entity.network_timeout = peer.deadline_s
    tls = None if peer.tls is None else (peer.tls.open_context(), peer.host)
    with _deadline(peer.deadline_s) as watch:
        association = entity.associate(
            peer.host,
            peer.port,
            ae_title=peer.ae_title,
            tls_args=tls,
            evt_handlers=[(evt.EVT_CONN_OPEN, watch), *handlers],
        )
        if not association.is_established:
            raise PeerError(_explain(association, peer))
        try:
            yield association
            if association.is_established:
                association.release()
        finally:
            if association.is_established:
                association.abort()


@contextmanager
def _deadline(seconds: float) -> Iterator[Callable[[Any], None]]:
    """Yield a handler of new connections; they are shut down once the time is over."""
    lock, sockets, expired = threading.Lock(), list[socket.socket](), False

    def watch(event: Any) -> None:
        connection = event.assoc.dul.socket.socket
        # Without it each answer waits for a delayed acknowledgement, 40 ms on Linux.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with lock:
            sockets.append(connection)
            if expired:
                _shut(connection)

    def expire() -> None:
        nonlocal expired
        with lock:
            expired = True
            for connection in sockets:
                _shut(connection)

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield watch
    finally:
        timer.cancel()


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # closed already
        _LOG.debug("a connection was closed before its deadline")


def _explain(association: Any, peer: DicomDestination) -> str:
    """Describe why there is no association."""
    where = f'"{peer.name}" ({peer.host}:{peer.port})'
    if association.is_rejected:
        reason = getattr(association.acceptor.primitive, "diagnostic", None)
        why = _PERMANENT.get(reason or 0, "has no room now or refuses associations")
        return f"{where} rejects the association: it {why}."
    return f"{where} cannot be reached, or does not answer as a DICOM node."
