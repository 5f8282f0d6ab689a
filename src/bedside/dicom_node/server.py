"""The server: C-ECHO and C-STORE, one answer an object once it is on disk."""

import io
import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from pydicom.filereader import read_dataset
from pydicom.uid import ImplicitVRLittleEndian

from bedside.dicom_node.association import Association, Terms
from bedside.dicom_node.commands import Command
from bedside.dicom_node.config import DicomSettings
from bedside.dicom_node.contexts import COMMITMENT, UPS_EVENT, accepted_syntaxes
from bedside.dicom_node.gate import Gate, Knock
from bedside.dicom_node.header import read_header, scan_header
from bedside.dicom_node.intake import Arrival, Intake, Origin
from bedside.dicom_node.notices import Notices, plain_title
from bedside.dicom_node.objects import ReceivedObject
from bedside.dicom_node.sending.commitment import read_report
from bedside.dicom_node.sending.delivery import Finding
from bedside.dicom_node.upper_layer import (
    APPLICATION_CONTEXT,
    AnsweredContext,
    AssociationRequest,
    make_reject,
    read_request,
)
from bedside.dicom_node.ups.work_item import asks_to_cancel
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

COMMENTS = {
    Arrival.DIFFERENT: "another image with this SOP Instance UID is here; it stays",
    Arrival.OTHER_STUDY: "its series belongs to another study here",
}
_NOT_ANNOUNCED = "its SOP class or instance UID is not that of the command"
_PROCESSING_FAILURE = 0x0110
# Result, source and reason of A-ASSOCIATE-RJ, PS3.8 table 9-21.
_NO_CONTEXT, _NO_CALLING_TITLE, _NO_CALLED_TITLE = (1, 1, 2), (1, 1, 3), (1, 1, 7)
_NO_VERSION, _NO_ROOM = (1, 2, 2), (2, 3, 2)


class DicomServer:
    """Listens, and hands images to an intake.

    Args:
        settings: The table `[dicom]`.
        intake: Takes images.
        folder: For objects that are on their way; on the disk of the intake.
        receive_report: Called with reports of storage commitment; None to take none.
        cancel_work: Called with the UID of each work item that a worklist asks to cancel; None to
            take no events of work items.

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
        cancel_work: Callable[[str], None] | None = None,
    ) -> None:
        self._settings, self._intake = settings, intake
        self._receive_report, self._cancel_work = receive_report, cancel_work
        self._limits = settings.limits
        self._notices = Notices()
        self._lock = threading.Lock()
        self._associations: set[Association] = set()
        with ExitStack() as stack:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._folder = stack.enter_context(scratch_folder(folder))
            supported = accepted_syntaxes(
                with_reports=receive_report is not None, with_events=cancel_work is not None
            )
            self._terms = Terms(
                settings.limits, self._folder, supported,
                performed_by_peer=tuple({COMMITMENT, UPS_EVENT} & supported.keys()),
                is_synced=settings.on_disk == "image",
            )  # fmt: skip
            self._gate = Gate(
                settings.host,
                settings.port,
                settings.limits,
                on_request=self._begin,
                notices=self._notices,
                tls=None if settings.tls is None else settings.tls.open_context(),
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

    def store_image(
        self, association: Association, command: Command, received: ReceivedObject, *, context: str
    ) -> tuple[int, str]:
        """Return status and comment of a C-STORE; what is acknowledged is kept."""
        try:
            if command.sop_class != context:
                status, comment = WRONG_CLASS, _NOT_ANNOUNCED
            else:
                status, comment = self._place(association, command, received)
        except FormatError as error:
            status, comment = CANNOT_UNDERSTAND, str(error).rstrip(".")
        except (OSError, BedsideError) as error:
            LOGGER.error("an image cannot be stored: %s", type(error).__name__)
            status, comment = OUT_OF_RESOURCES, "it cannot be written to the disk"
        finally:
            received.path.unlink(missing_ok=True)
        if status != SUCCESS:
            self._notices.warn(
                association.host, f"an image was refused with status {status:04X}: {comment}"
            )
        return status, comment

    def take_report(self, command: Command, data: bytes, *, context: AnsweredContext) -> int:
        """Take a report of storage commitment, or an event of a work item; return its status."""
        try:
            dataset = read_dataset(
                io.BytesIO(data), is_implicit_VR=context.transfer_syntax == ImplicitVRLittleEndian,
                is_little_endian=True,
            )  # fmt: skip
            if context.abstract_syntax == UPS_EVENT and self._cancel_work is not None:
                if asks_to_cancel(command.event_type, dataset):
                    self._cancel_work(command.sop_instance)
                return SUCCESS
            if context.abstract_syntax != COMMITMENT or self._receive_report is None:
                return _PROCESSING_FAILURE
            found = read_report(command.event_type, dataset)
        except Exception:  # noqa: BLE001 - pydicom raises many kinds for damaged data
            return _PROCESSING_FAILURE
        self._receive_report(*found)
        return SUCCESS

    def note_release(self, association: Association) -> None:
        """Take note of a release."""
        self._intake.end(id(association), is_released=True)

    def note_end(self, association: Association) -> None:
        """Take note that an association has ended."""
        self._intake.end(id(association), is_released=False)
        with self._lock:
            self._associations.discard(association)

    def _list(self) -> list[Association]:
        with self._lock:
            return list(self._associations)

    def _begin(self, knock: Knock) -> None:
        """Begin an association, or reject it, in the thread of the gate."""
        host = str(knock.address[0])
        try:
            request = read_request(knock.first)
        except FormatError as error:
            self._notices.warn(host, str(error))
            self._gate.refuse(knock)
            return
        rejected = self._find_objection(request, host)
        if rejected is not None:
            numbers, why = rejected
            self._notices.warn(host, f"an association was rejected: {why}")
            self._gate.refuse(knock, make_reject(*numbers))
            return
        knock.socket.setblocking(True)
        association = Association(
            knock, request, terms=self._terms, service=self,
            on_fault=lambda why: self._notices.warn(host, f"an association ended: {why}"),
        )  # fmt: skip
        with self._lock:
            self._associations.add(association)
        try:
            association.start()
        except RuntimeError:  # this process may have no more threads
            self.note_end(association)
            knock.socket.close()

    def _find_objection(
        self, request: AssociationRequest, host: str
    ) -> tuple[tuple[int, int, int], str] | None:
        """Return the numbers of a rejection, and why; None if a request is accepted."""
        settings, limits = self._settings, self._limits
        calling, called = plain_title(request.calling_ae), plain_title(request.called_ae)
        if not request.version & 1:
            return _NO_VERSION, "it speaks another version of the protocol"
        if request.application_context != APPLICATION_CONTEXT:
            return _NO_CONTEXT, "its application context is not that of DICOM"
        titles = [each.strip() for each in settings.calling_ae_titles]
        if titles and request.calling_ae not in titles:
            return _NO_CALLING_TITLE, f'"{calling}" is not listed in calling_ae_titles'
        if settings.require_called_ae_title and request.called_ae != settings.ae_title.strip():
            why = f'"{calling}" calls "{called}"; the title of this node is "{settings.ae_title}"'
            return _NO_CALLED_TITLE, why
        hosts = Counter(each.host for each in self._list())
        if hosts[host] >= limits.associations_per_address:
            limit = limits.associations_per_address
            return _NO_ROOM, f"its address has {limit} (associations_per_address)"
        if hosts.total() >= limits.associations:
            return _NO_ROOM, f"there are {limits.associations} (limits.associations)"
        return None

    def _place(
        self, association: Association, command: Command, received: ReceivedObject
    ) -> tuple[int, str]:
        if received.error is not None:
            raise received.error
        free_mb = self._limits.free_mb
        if shutil.disk_usage(self._folder).free < free_mb * 2**20:
            return OUT_OF_RESOURCES, f"less than {free_mb} MiB of the disk are free"
        header = scan_header(received.head, is_implicit=received.is_implicit) or read_header(
            received.read_head(), is_implicit=received.is_implicit
        )
        announced = (command.sop_class, command.sop_instance)
        if announced != (header.sop_class_uid, header.sop_instance_uid):
            return WRONG_CLASS, _NOT_ANNOUNCED
        request = association.request
        origin = Origin(id(association), request.calling_ae, request.called_ae)
        arrival = self._intake.receive(header, received.path, origin)
        return STATUSES[arrival], COMMENTS.get(arrival, "")
