"""Objects of C-STORE on their way from the network to disk, piece by piece, within limits.

pynetdicom keeps the pieces of a message in memory, however many there are. `ObjectReceiver` takes
the pieces of data sets out of its hands, writes them to a file, and gives it empty ones, so that it
still sees each message begin and end. What breaks a limit ends the association.
"""

import collections
import contextlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dsutils import create_file_meta
from pynetdicom.pdu_primitives import P_DATA

from bedside.dicom_node.config import PeerLimits
from bedside.io.dicom.head import HEAD_BYTES

# A command is some hundred bytes; so is the data set of what is not C-STORE, which is not accepted.
_COMMAND_BYTES = 2**16
# Messages that may wait for their turn; a peer that waits for answers has one.
_MOST_WAITING = 8


@dataclass
class ReceivedObject:
    """A data set in a file, as it came.

    Attributes:
        path: The file, with file meta information; removed by whoever takes the object.
        head: The first bytes of the data set.
        is_implicit: Whether it has no value representations.
        error: Why it could not be written; the rest of it was thrown away.
    """

    path: Path
    head: bytes = b""
    is_implicit: bool = False
    error: OSError | None = None


class ObjectReceiver(DIMSEServiceProvider):
    """What puts messages together, for one association.

    Args:
        association: The association.
        limits: What a peer may take.
        folder: Where objects are written; it exists.
    """

    def __init__(self, association: Any, *, limits: PeerLimits, folder: Path) -> None:
        super().__init__(association)
        self._limits, self._folder = limits, folder
        self._lock = threading.Lock()
        self._whole: collections.deque[ReceivedObject] = collections.deque()
        self._part: _PartialObject | None = None
        self._count = 0
        self._begun_s: float | None = None
        self._bytes = 0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the pieces of a PDU; called by pynetdicom in the thread that reads."""
        for context_id, data in primitive.presentation_data_value_list:
            if self._begun_s is None:
                self._begun_s, self._bytes = time.monotonic(), 0
            self._bytes += len(data)
            if not data or self._breaks_limit() or not self._take(context_id, data):
                # As pynetdicom treats a message that it cannot decode: A-ABORT.
                self.dul.event_queue.put("Evt19")
                return

    def take(self) -> ReceivedObject:
        """Return the data set of the C-STORE that is being served.

        Raises:
            IndexError: If it had none.
        """
        with self._lock:
            return self._whole.popleft()

    def is_overdue(self, now_s: float) -> bool:
        """Whether a message comes more slowly than the limits allow.

        Args:
            now_s: From `time.monotonic`.
        """
        begun_s = self._begun_s
        if begun_s is None:
            return False
        allowed_s = self._limits.pdu_s + self._bytes / (1024 * self._limits.kb_per_s)
        return now_s - begun_s > allowed_s

    def discard(self) -> None:
        """Remove what was received and not taken."""
        with self._lock:
            left, self._whole = list(self._whole), collections.deque()
            part, self._part = self._part, None
        if part is not None:
            left.append(part.finish())
        for each in left:
            each.path.unlink(missing_ok=True)

    def _breaks_limit(self) -> bool:
        message = self.message
        stores = isinstance(message, C_STORE_RQ)
        most = self._limits.object_mb * 2**20 if stores else _COMMAND_BYTES
        too_many = self.msg_queue.qsize() > _MOST_WAITING
        return self._bytes > most or too_many or self.is_overdue(time.monotonic())

    def _take(self, context_id: int, data: bytes) -> bool:
        """Take one piece; return whether it has a meaning here."""
        is_command, is_last = data[0] & 1, data[0] & 2
        if not is_command and isinstance(self.message, C_STORE_RQ):
            if not self._write(context_id, data):
                return False
            data = data[:1]
        elif not is_command and type(self.message) in (type(None), DIMSEMessage):
            return False  # a data set without a command
        if is_last and not is_command:
            self._finish()
        one = P_DATA()
        one.presentation_data_value_list.append((context_id, data))
        super().receive_primitive(one)
        if self.message is None:
            self._begun_s = None
        return True

    def _write(self, context_id: int, data: bytes) -> bool:
        """Write a piece of a data set; return False if it belongs nowhere."""
        if self._part is None:
            context = self._assoc._accepted_cx.get(context_id)
            with self._lock:
                is_busy = bool(self._whole)
            if context is None or is_busy:  # the next object came before the answer to this one
                return False
            self._part = _PartialObject(self._next_path())
            command = self.message.command_set  # type: ignore[union-attr]
            self._part.write_meta(
                create_file_meta(
                    sop_class_uid=command.AffectedSOPClassUID,
                    sop_instance_uid=command.AffectedSOPInstanceUID,
                    transfer_syntax=context.transfer_syntax[0],
                )
            )
        self._part.write(memoryview(data)[1:])
        return True

    def _finish(self) -> None:
        part, self._part = self._part, None
        if part is not None:
            whole = part.finish(is_synced=True)
            with self._lock:
                self._whole.append(whole)

    def _next_path(self) -> Path:
        self._count += 1
        return self._folder / f"{id(self):x}-{self._count}.dcm"


class _PartialObject:
    """A file that is being written.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._object = ReceivedObject(path)
        self._head = bytearray()
        self._handle: int | None = None
        with self._failing():
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def write_meta(self, meta: FileMetaDataset) -> None:
        """Write what stands in front of the data set."""
        buffer = DicomBytesIO()
        buffer.write(b"\0" * 128 + b"DICM")
        write_file_meta_info(buffer, meta)
        self._object.is_implicit = meta.TransferSyntaxUID == ImplicitVRLittleEndian
        self._write(buffer.getvalue())

    def write(self, data: memoryview) -> None:
        """Write a piece of the data set, unless an earlier one could not be written."""
        if len(self._head) < HEAD_BYTES:
            self._head += data[: HEAD_BYTES - len(self._head)]
        self._write(data)

    def _write(self, data: bytes | memoryview) -> None:
        if self._handle is not None:
            with self._failing():
                view = memoryview(data)
                while view:
                    view = view[os.write(self._handle, view) :]

    def finish(self, *, is_synced: bool = False) -> ReceivedObject:
        """Close the file, on disk if asked for."""
        if self._handle is not None:
            with self._failing():
                if is_synced:
                    os.fdatasync(self._handle)
        self._close()
        self._object.head = bytes(self._head)
        return self._object

    @contextlib.contextmanager
    def _failing(self) -> Any:
        """Keep an error for the answer; what follows is thrown away."""
        try:
            yield
        except OSError as error:
            self._object.error = error
            self._close()

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)
