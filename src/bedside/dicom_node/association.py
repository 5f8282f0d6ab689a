"""An association that a peer asked for: C-ECHO, C-STORE and reports of storage commitment.

One thread reads, writes objects to files as they come, and answers. A PDU has a largest size and
one deadline from its first byte to its last, a message a largest size and a least rate, and
silence a limit; what exceeds one, or has no meaning where it comes, ends the association.
"""

import contextlib
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bedside.dicom_node import upper_layer as ul
from bedside.dicom_node.commands import (
    C_CANCEL,
    C_ECHO,
    C_STORE,
    N_EVENT_REPORT,
    Command,
    make_answer,
    read_command,
)
from bedside.dicom_node.config import PeerLimits
from bedside.dicom_node.objects import PartialObject, ReceivedObject, make_file_meta
from bedside.errors import FormatError

LOGGER = logging.getLogger(__name__)
# A command is some hundred bytes; so is the data set of what is not C-STORE.
_COMMAND_BYTES = 2**16
# How long a peer may take to close its connection after a release.
_CLOSING_S = 1.0
_UNRECOGNIZED, _UNEXPECTED, _INVALID = 1, 2, 6  # reasons of PS3.8 table 9-26
_NO_SUCH_OPERATION, _CANNOT_UNDERSTAND = 0x0211, 0xC000


class PeerConnection(Protocol):
    """A connection whose request for an association has come.

    Attributes:
        socket: The connection.
        address: Of the peer: host, port, and more with IPv6.
    """

    socket: socket.socket
    address: tuple[Any, ...]


class Service(Protocol):
    """What the messages of an association are handed to."""

    def store_image(
        self,
        association: "Association",
        command: Command,
        received: ReceivedObject,
        *,
        context: str,
    ) -> tuple[int, str]:
        """Return status and comment of a C-STORE; the file is the service's from now on.

        Args:
            association: Where it came from.
            command: The command.
            received: The object.
            context: SOP class of the presentation context.
        """

    def take_report(self, command: Command, data: bytes, *, context: ul.AnsweredContext) -> int:
        """Return the status of an N-EVENT-REPORT."""

    def note_release(self, association: "Association") -> None:
        """Take note of a release."""

    def note_end(self, association: "Association") -> None:
        """Take note that an association has ended, however it did."""


@dataclass(frozen=True)
class Terms:
    """What all associations have in common.

    Attributes:
        limits: What a peer may take.
        folder: Where objects are written.
        supported: Transfer syntaxes of each SOP class.
        performed_by_peer: SOP classes whose SCP the peer may be.
        is_synced: Whether an object is on disk before it is handed on.
    """

    limits: PeerLimits
    folder: Path
    supported: Mapping[str, tuple[str, ...]]
    performed_by_peer: tuple[str, ...] = ()
    is_synced: bool = False


class _ViolationError(Exception):
    """What came has no meaning where it came.

    Args:
        reason: Of the A-ABORT.
        why: For a log.
    """

    def __init__(self, reason: int, why: str) -> None:
        super().__init__(why)
        self.reason = reason


class Association(threading.Thread):
    """An association; `start` accepts and serves it.

    Args:
        peer: The connection.
        request: What it asks for.
        terms: What all associations have in common.
        service: What messages are handed to.
        on_fault: Called with a sentence about why it was ended.

    Attributes:
        request: What was asked for.
        host: Address of the peer.
    """

    def __init__(
        self,
        peer: PeerConnection,
        request: ul.AssociationRequest,
        *,
        terms: Terms,
        service: Service,
        on_fault: Callable[[str], None],
    ) -> None:
        super().__init__(name="bedside dicom association", daemon=True)
        self.request, self.host = request, str(peer.address[0])
        self._socket, self._terms, self._limits = peer.socket, terms, terms.limits
        self._service, self._on_fault = service, on_fault
        answers = ul.answer_contexts(request, terms.supported)
        self._contexts = {each.number: each for each in answers if each.is_accepted}
        self._accept = ul.make_accept(
            request, answers, pdu_bytes=self._limits.pdu_bytes,
            performed_by_peer=terms.performed_by_peer,
        )  # fmt: skip
        # Zeroed pages that cost no memory until a peer fills them.
        self._buffer = memoryview(bytearray(ul.HEAD_BYTES + self._limits.pdu_bytes))
        self._filled = 0
        self._count = 0
        self._begin_message()

    def cut(self) -> None:
        """End the connection at once, from any thread."""
        with contextlib.suppress(OSError):
            # Not that of a TLS socket, which would go on without encryption.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def run(self) -> None:
        """Serve until the association has ended, and leave nothing of it."""
        try:
            self._send(self._accept)
            while self._serve_pdu():
                pass
        except _ViolationError as fault:
            self._on_fault(str(fault))
            self._abort(fault.reason)
        except FormatError as fault:
            self._on_fault(str(fault))
            self._abort(_INVALID)
        except TimeoutError as error:
            self._on_fault(str(error))
            self._abort(0)
        except OSError:
            self._on_fault("the connection was closed without a release")
        except Exception as error:  # noqa: BLE001 - a peer's fault must not end more than this
            LOGGER.error("an association ended with %s", type(error).__name__)
            self._abort(0)
        finally:
            self._socket.close()
            if self._part is not None:
                self._part.discard()
            self._service.note_end(self)

    def _begin_message(self) -> None:
        self._bytes, self._waited_s = 0, 0.0
        self._words = bytearray()
        self._command: tuple[int, Command] | None = None
        self._part: PartialObject | None = None

    def _serve_pdu(self) -> bool:
        """Read a PDU and serve what it brings; return whether another may come."""
        kind, body, end = self._read_pdu()
        if kind == ul.DATA:
            for context, control, piece in ul.read_pieces(body):
                self._take(context, control, piece)
        elif kind == ul.RELEASE:
            self._service.note_release(self)
            self._send(ul.make_released())
            self._await_close()
            return False
        elif kind == ul.ABORT:
            self._on_fault("the peer has aborted it")
            return False
        else:
            known = ul.REQUEST <= kind <= ul.RELEASED
            why = f"a PDU of type {kind:02X} came"
            raise _ViolationError(_UNEXPECTED if known else _UNRECOGNIZED, why)
        self._buffer[: self._filled - end] = self._buffer[end : self._filled]
        self._filled -= end
        return True

    def _read_pdu(self) -> tuple[int, memoryview, int]:
        """Return type and body of the next PDU, and where it ends in the buffer.

        Raises:
            OSError: If the connection was closed, or the time is over.
        """
        patience_s, why = self._patience()
        if patience_s <= 0:
            raise TimeoutError(why)
        if not self._filled:
            self._fill(time.monotonic() + patience_s, why)
        until_s, why = time.monotonic() + self._limits.pdu_s, "a PDU took longer than allowed"
        while self._filled < ul.HEAD_BYTES:
            self._fill(until_s, why)
        kind, _, length = struct.unpack_from(">BBI", self._buffer)
        if length > self._limits.pdu_bytes:
            why = f"a PDU claims {length} bytes; pdu_bytes is {self._limits.pdu_bytes}"
            raise _ViolationError(_INVALID, why)
        end = ul.HEAD_BYTES + length
        while self._filled < end:
            self._fill(until_s, why)
        return kind, self._buffer[ul.HEAD_BYTES : end], end

    def _patience(self) -> tuple[float, str]:
        """For how many seconds the next PDU is waited for, and why no longer."""
        limits = self._limits
        if not self._bytes:
            return limits.idle_s, f"it was silent for {limits.idle_s:g} s"
        # Only waiting counts: a disk that is slow is not the peer's fault.
        left_s = limits.pdu_s + self._bytes / (1024 * limits.kb_per_s) - self._waited_s
        return left_s, f"it sent less than {limits.kb_per_s:g} kB a second"

    def _fill(self, until_s: float, why: str) -> None:
        """Read what is there, at most up to the end of the buffer."""
        begun_s = time.monotonic()
        if until_s <= begun_s:
            raise TimeoutError(why)
        self._socket.settimeout(until_s - begun_s)
        try:
            count = self._socket.recv_into(self._buffer[self._filled :])
        except TimeoutError:
            raise TimeoutError(why) from None
        if self._bytes:
            self._waited_s += time.monotonic() - begun_s
        if count == 0:
            raise ConnectionError
        self._filled += count

    def _take(self, number: int, control: int, piece: memoryview) -> None:
        """Take one piece of a message."""
        context = self._contexts.get(number)
        if context is None:
            raise _ViolationError(_UNEXPECTED, "a message came on a context that is not accepted")
        self._bytes += len(piece) + 1
        is_command, is_last = control & 1, control & 2
        if bool(is_command) == (self._command is not None):
            raise _ViolationError(_UNEXPECTED, "a command or a data set came out of turn")
        stores = self._command is not None and self._command[1].field == C_STORE
        if self._bytes > (self._limits.object_mb * 2**20 if stores else _COMMAND_BYTES):
            raise _ViolationError(_INVALID, "a message is larger than allowed")
        if is_command:
            self._take_command(context, piece, is_last=bool(is_last))
        else:
            self._take_data(context, piece, is_last=bool(is_last))

    def _take_command(
        self, context: ul.AnsweredContext, piece: memoryview, *, is_last: bool
    ) -> None:
        self._words += piece
        if not is_last:
            return
        command = read_command(bytes(self._words))
        self._words = bytearray()
        self._command = (context.number, command)
        if command.field == C_STORE and command.has_data:
            self._count += 1
            self._part = PartialObject(
                self._terms.folder / f"{id(self):x}-{self._count}.dcm",
                make_file_meta(
                    sop_class=command.sop_class, sop_instance=command.sop_instance,
                    syntax=context.transfer_syntax,
                ),
                syntax=context.transfer_syntax,
            )  # fmt: skip
        elif not command.has_data:
            self._answer(context, command)

    def _take_data(self, context: ul.AnsweredContext, piece: memoryview, *, is_last: bool) -> None:
        assert self._command is not None
        number, command = self._command
        if number != context.number:
            raise _ViolationError(_UNEXPECTED, "a data set came on another context")
        if self._part is not None:
            self._part.write(piece)
        else:
            self._words += piece
        if is_last:
            self._answer(context, command)

    def _answer(self, context: ul.AnsweredContext, command: Command) -> None:
        """Serve a whole message, and send its answer."""
        part, words, self._part = self._part, bytes(self._words), None
        status, comment = _NO_SUCH_OPERATION, ""
        if command.field == C_ECHO:
            status = 0
        elif part is not None:
            received = part.finish(is_synced=self._terms.is_synced)
            status, comment = self._service.store_image(
                self, command, received, context=context.abstract_syntax
            )
        elif command.field == C_STORE:
            status, comment = _CANNOT_UNDERSTAND, "it came without a data set"
        elif command.field == N_EVENT_REPORT:
            status = self._service.take_report(command, words, context=context)
        self._begin_message()
        if command.field != C_CANCEL:
            self._send(ul.make_command(context.number, make_answer(command, status, comment)))

    def _send(self, data: bytes) -> None:
        """Send a PDU; a peer that does not take it in time loses its connection."""
        self._socket.settimeout(self._limits.pdu_s)
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise TimeoutError("it took no answer in time") from None

    def _await_close(self) -> None:
        """Let the peer close the connection first, for a moment."""
        with contextlib.suppress(OSError):
            self._socket.settimeout(_CLOSING_S)
            self._socket.recv(1)

    def _abort(self, reason: int) -> None:
        with contextlib.suppress(OSError):
            self._socket.settimeout(0.0)
            self._socket.send(ul.make_abort(reason))
