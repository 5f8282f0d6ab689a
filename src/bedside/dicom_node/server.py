"""The server: C-ECHO and C-STORE, one answer an object once it is on disk."""

import logging
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pynetdicom import AE, _config, evt

from bedside.dicom_node.config import DicomSettings
from bedside.dicom_node.contexts import accepted_contexts
from bedside.dicom_node.gate import Gate, Knock
from bedside.dicom_node.header import ImageHeader, read_header
from bedside.dicom_node.intake import Arrival, Intake, Origin
from bedside.dicom_node.objects import ReceivedObject
from bedside.dicom_node.sending.delivery import Finding
from bedside.dicom_node.sending.dimse import report_handler
from bedside.dicom_node.transport import NodeAssociation, is_sound_request
from bedside.errors import BedsideError, FormatError
from bedside.system.unfinished import scratch_folder

LOGGER = logging.getLogger(__name__)

# Statuses of C-STORE, PS3.4 table B.2-1 and PS3.7 annex C.
SUCCESS, DUPLICATE, OUT_OF_RESOURCES = 0x0000, 0x0111, 0xA700
WRONG_CLASS, CANNOT_UNDERSTAND = 0xA900, 0xC000
STATUSES = {
    Arrival.NEW: SUCCESS,
    Arrival.IDENTICAL: SUCCESS,
    Arrival.DIFFERENT: DUPLICATE,
    Arrival.OTHER_STUDY: CANNOT_UNDERSTAND,
}
"""The answer to each arrival."""

# pynetdicom logs what queries ask for and what it receives.
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
_LIBRARY = logging.getLogger("pynetdicom")


class DicomServer:
    """Listens, and hands images to an intake.

    Args:
        settings: The table `[dicom]`.
        intake: Takes images.
        folder: For objects that are on their way; on the disk of the intake.
        receive_report: Called with reports of storage commitment; None to take none.

    Raises:
        UsageError: If the address cannot be listened on.
        OutputError: If the folder cannot be written to.
    """

    def __init__(
        self,
        settings: DicomSettings,
        intake: Intake,
        folder: Path,
        *,
        receive_report: Callable[[str, Finding], None] | None = None,
    ) -> None:
        self._settings, self._intake = settings, intake
        self._limits = limits = settings.limits
        self._entity = AE(ae_title=settings.ae_title)
        self._entity.maximum_associations = limits.associations
        self._entity.acse_timeout = limits.association_s
        self._entity.network_timeout = self._entity.dimse_timeout = limits.idle_s
        self._entity.require_calling_aet = list(settings.calling_ae_titles)
        self._entity.require_called_aet = settings.require_called_ae_title
        self._contexts = accepted_contexts(with_reports=receive_report is not None)
        self._handlers: list[tuple[Any, Callable[..., Any]]] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_RELEASED, self._release),
        ]
        if receive_report is not None:
            self._handlers.append((evt.EVT_N_EVENT_REPORT, report_handler(receive_report)))
        self._lock = threading.Lock()
        self._associations: set[NodeAssociation] = set()
        # Debug lines and tracebacks of the library quote what peers send.
        _LIBRARY.setLevel(logging.CRITICAL)
        with ExitStack() as stack:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._folder = stack.enter_context(scratch_folder(folder))
            self._gate = Gate(
                settings.host,
                settings.port,
                limits,
                on_request=self._begin,
                on_tick=self._cut_overdue,
            )
            self._stack = stack.pop_all()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are listened on."""
        return self._gate.address

    @property
    def half_open(self) -> int:
        """How many connections have no association."""
        return self._gate.half_open

    @property
    def associations(self) -> int:
        """How many associations there are, those that are ending included."""
        with self._lock:
            return len(self._associations)

    def start(self) -> None:
        """Begin to accept associations."""
        self._gate.start()

    def close(self, *, patience_s: float = 0.0) -> None:
        """Accept no more, wait for associations to end, then end them.

        Args:
            patience_s: Seconds that they may still take.
        """
        self._gate.close()
        until_s = time.monotonic() + patience_s
        while (left := self._list()) and time.monotonic() < until_s:
            left[0].join(0.05)
        for each in self._list():
            each.cut()
        for each in self._list():
            each.join()
        self._stack.close()

    def _list(self) -> list[NodeAssociation]:
        with self._lock:
            return list(self._associations)

    def _begin(self, knock: Knock) -> None:
        """Begin an association, in the thread of the gate."""
        if not is_sound_request(knock.first):
            self._gate.refuse(knock)
            return
        knock.socket.setblocking(True)
        try:
            association = NodeAssociation(
                self._entity,
                knock,
                limits=self._limits,
                folder=self._folder,
                contexts=self._contexts,
                handlers=self._handlers,
                on_end=self._end,
            )
        except OSError:  # the peer has gone
            knock.socket.close()
            return
        with self._lock:
            self._associations.add(association)
        try:
            association.start()
        except RuntimeError:  # this process may have no more threads
            self._end(association)
            knock.socket.close()

    def _release(self, event: Any) -> None:
        self._intake.end(id(event.assoc), is_released=True)

    def _end(self, association: NodeAssociation) -> None:
        self._intake.end(id(association), is_released=False)
        with self._lock:
            self._associations.discard(association)

    def _cut_overdue(self) -> None:
        """End associations whose object comes too slowly."""
        now_s = time.monotonic()
        for each in self._list():
            if each.receiver.is_overdue(now_s):
                each.cut()

    def _store(self, event: Any) -> int:
        """Answer a C-STORE; what is acknowledged is on disk."""
        try:
            received = event.assoc.receiver.take()
        except IndexError:
            return CANNOT_UNDERSTAND
        try:
            return self._place(event, received)
        except FormatError:
            return CANNOT_UNDERSTAND
        except (OSError, BedsideError) as error:
            LOGGER.error("an image cannot be stored: %s", type(error).__name__)
            return OUT_OF_RESOURCES
        finally:
            received.path.unlink(missing_ok=True)

    def _place(self, event: Any, received: ReceivedObject) -> int:
        if received.error is not None:
            raise received.error
        if shutil.disk_usage(self._folder).free < self._limits.free_mb * 2**20:
            return OUT_OF_RESOURCES
        header = read_header(received.head, is_implicit=received.is_implicit)
        if not _is_announced(event, header):
            return WRONG_CLASS
        requestor, request = event.assoc.requestor, event.assoc.requestor.primitive
        origin = Origin(
            id(event.assoc), requestor.ae_title.strip(), request.called_ae_title.strip()
        )
        return STATUSES[self._intake.receive(header, received.path, origin)]


def _is_announced(event: Any, header: ImageHeader) -> bool:
    """Whether an image is what its command and its presentation context say."""
    classes = (event.request.AffectedSOPClassUID, event.context.abstract_syntax)
    return (
        all(str(each) == header.sop_class_uid for each in classes)
        and str(event.request.AffectedSOPInstanceUID) == header.sop_instance_uid
    )
