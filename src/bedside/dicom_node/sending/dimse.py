"""Results sent by C-STORE, and asked for by C-FIND or storage commitment."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, evt
from pynetdicom.presentation import PresentationContext

from bedside.dicom_node.sending.association import associate
from bedside.dicom_node.sending.commitment import (
    PUSH_MODEL_INSTANCE,
    make_request,
    read_report,
)
from bedside.dicom_node.sending.delivery import (
    Answer,
    FileReply,
    Finding,
    Presence,
    summarize,
)
from bedside.dicom_node.sending.destination import DicomDestination
from bedside.dicom_node.sending.instance import Instance
from bedside.dicom_node.sending.statuses import judge_storage
from bedside.errors import PeerError

# pynetdicom makes these names at run time, where no type checker sees them.
VERIFICATION = "1.2.840.10008.1.1"
COMMITMENT = "1.2.840.10008.1.20.1"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"

_PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_PENDING = (0xFF00, 0xFF01)
_REQUEST_COMMITMENT = 1


class DimseTransport:
    """A destination that speaks DIMSE.

    Args:
        peer: The destination.
    """

    def __init__(self, peer: DicomDestination) -> None:
        self._peer = peer

    @property
    def can_ask(self) -> bool:
        """Whether the destination can be asked for files."""
        return self._peer.confirm != "none"

    def send(self, instances: Sequence[Instance]) -> list[FileReply]:
        """Return the answer to each file, all sent on one association.

        Args:
            instances: The files.
        """
        replies: list[FileReply] = []
        try:
            with associate(self._peer, storage_contexts(instances)) as association:
                for instance in instances:
                    replies.append(_store(association, instance))
        except PeerError as error:
            return [_unsent(instance, str(error)) for instance in instances]
        return replies

    def ask(self, instances: Sequence[Instance], transaction_uid: str) -> Finding:
        """Return which files the destination has.

        Args:
            instances: The files.
            transaction_uid: Of a storage commitment.
        """
        try:
            if self._peer.confirm == "commitment":
                return self._commit(instances, transaction_uid)
            return self._find(instances)
        except PeerError as error:
            return Finding(Presence.UNKNOWN, str(error))

    def close(self) -> None:
        """Do nothing: an association ends with its block."""

    def _find(self, instances: Sequence[Instance]) -> Finding:
        """Ask by C-FIND for each file."""
        with associate(self._peer, [build_context(FIND), build_context(VERIFICATION)]) as peer:
            if not _is_accepted(peer, FIND):
                return Finding(Presence.UNKNOWN, "it does not answer C-FIND")
            return summarize(
                "C-FIND",
                {instance.sop_instance_uid: _find_one(peer, instance) for instance in instances},
            )

    def _commit(self, instances: Sequence[Instance], transaction_uid: str) -> Finding:
        """Ask for storage commitment, and wait a moment for the report on this association."""
        arrived = threading.Event()
        reports: list[Finding] = []

        def receive(uid: str, found: Finding) -> None:
            if uid == transaction_uid:
                reports.append(found)
                arrived.set()

        contexts = [build_context(COMMITMENT), build_context(VERIFICATION)]
        handlers = [(evt.EVT_N_EVENT_REPORT, report_handler(receive))]
        with associate(self._peer, contexts, handlers=handlers) as peer:
            if not _is_accepted(peer, COMMITMENT):
                return Finding(Presence.UNKNOWN, "it does not take requests for storage commitment")
            status, _ = peer.send_n_action(
                make_request(instances, transaction_uid),
                _REQUEST_COMMITMENT,
                COMMITMENT,
                PUSH_MODEL_INSTANCE,
            )
            if status.get("Status") != 0:
                return Finding(Presence.UNKNOWN, _describe("storage commitment", status))
            arrived.wait(self._peer.report_wait_s)
        return reports[0] if reports else Finding(Presence.REPORTED_LATER)


def report_handler(
    receive: Callable[[str, Finding], None],
) -> Callable[[Any], tuple[int, None]]:
    """Return a handler of N-EVENT-REPORT for reports of storage commitment.

    The node that takes images needs it too: archives report on associations of their own.

    Args:
        receive: Called with the transaction UID and what the report says.
    """

    def handle(event: Any) -> tuple[int, None]:
        receive(*read_report(event.event_type, event.event_information))
        return 0, None

    return handle


def storage_contexts(instances: Sequence[Instance]) -> list[PresentationContext]:
    """Return the presentation contexts that files can be sent in.

    Each is offered as it is encoded; without compression also in the default transfer syntax,
    which every peer takes.

    Args:
        instances: The files.
    """
    pairs: dict[tuple[str, str], None] = {}
    for instance in instances:
        pairs[instance.sop_class_uid, instance.transfer_syntax_uid] = None
        if instance.transfer_syntax_uid in _PLAIN:
            pairs[instance.sop_class_uid, ImplicitVRLittleEndian] = None
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in pairs]
    return [*contexts, build_context(VERIFICATION)]


def _store(association: Any, instance: Instance) -> FileReply:
    """Send one file."""
    accepted = {
        str(context.transfer_syntax[0])
        for context in association.accepted_contexts
        if context.abstract_syntax == instance.sop_class_uid
    }
    if not association.is_established:
        return _unsent(instance, "the association ended before it")
    if not accepted:
        return FileReply(instance.sop_instance_uid, Answer.REFUSED, "its SOP class is not accepted")
    try:
        # As it is on disk, or else decoded and encoded as it is accepted.
        as_is = instance.transfer_syntax_uid in accepted
        status = association.send_c_store(instance.path if as_is else dcmread(instance.path))
    except (AttributeError, ValueError) as error:
        why = f"it cannot be encoded as it is accepted: {error}"
        return FileReply(instance.sop_instance_uid, Answer.REFUSED, why)
    if "Status" not in status:
        why = "the association ended before the answer"
        return FileReply(instance.sop_instance_uid, Answer.UNKNOWN, why)
    return judge_storage(instance.sop_instance_uid, status.Status)


def _find_one(association: Any, instance: Instance) -> Presence:
    """Ask for one file by C-FIND."""
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = instance.study_instance_uid
    query.SeriesInstanceUID = instance.series_instance_uid
    query.SOPInstanceUID = instance.sop_instance_uid
    if not association.is_established:
        return Presence.UNKNOWN
    found, last = False, None
    for status, match in association.send_c_find(query, FIND):
        last = status.get("Status")
        if last in _PENDING and match is not None:
            found |= match.get("SOPInstanceUID") == instance.sop_instance_uid
    if last != 0:
        return Presence.UNKNOWN
    return Presence.PRESENT if found else Presence.ABSENT


def _unsent(instance: Instance, why: str) -> FileReply:
    return FileReply(instance.sop_instance_uid, Answer.LATER, why)


def _is_accepted(association: Any, sop_class: str) -> bool:
    return any(context.abstract_syntax == sop_class for context in association.accepted_contexts)


def _describe(what: str, status: Dataset) -> str:
    code = status.get("Status")
    return f"{what}: no answer" if code is None else f"{what}: status {code:04X}"
