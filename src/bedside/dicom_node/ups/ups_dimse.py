"""A worklist over DIMSE: UPS Pull and UPS Watch (PS3.4 annex CC).

Events come to the DICOM node, by associations of the worklist; without a node there are none, and a
request to cancel does not arrive.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import build_context

from bedside.dicom_node.sending.association import associate
from bedside.dicom_node.sending.destination import DicomDestination, Tls
from bedside.dicom_node.ups.work_item import SCHEDULED, make_state
from bedside.errors import ConflictError, FormatError, PeerError, SpecError, UnansweredError

# The SOP class of every work item, and those of presentation contexts.
PUSH, WATCH, PULL = (f"1.2.840.10008.5.1.4.34.6.{number}" for number in (1, 2, 3))
_PLAIN, _ENCRYPTED = "dicom", "dicom+tls"

_RETURNED = (
    "SOPClassUID", "SOPInstanceUID", "ProcedureStepState", "InputReadinessState",
    "ProcedureStepLabel", "WorklistLabel", "ScheduledWorkitemCodeSequence",
    "ScheduledStationNameCodeSequence", "InputInformationSequence",
)  # fmt: skip
_PENDING = (0xFF00, 0xFF01)
_CHANGE_STATE, _SUBSCRIBE, _MESSAGE = 1, 3, 1
# Status codes of PS3.4 CC.2 and PS3.7 annex C; FE00 ends a search that was to end.
_WARNINGS = (0x0001, 0x0107, 0x0116, 0xB300, 0xB301, 0xB304, 0xB305, 0xB306, 0xFE00)
_CONFLICTS = frozenset({0x0112, *range(0xC300, 0xC320)})
_NOT_NOW = frozenset({0x0122, 0x0124, 0x0210, 0x0211, 0x0213, 0xA700})
_DEADLINE_S = 30.0


@dataclass(frozen=True)
class DimseService:
    """Where a worklist is.

    Attributes:
        peer: Whom to call.
        query: Attributes that work items must have, such as {"WorklistLabel": "AI"}.
        with_events: Whether there is a node that events of work items come to.
    """

    peer: DicomDestination
    query: Mapping[str, str] = field(default_factory=dict)
    with_events: bool = False

    @classmethod
    def from_url(
        cls, url: str, *, calling_ae_title: str, query: Mapping[str, str], tls: Tls
    ) -> "DimseService":
        """Return the service at an address.

        Args:
            url: "dicom://AE_TITLE@HOST:PORT", or "dicom+tls://" for an encrypted connection.
            calling_ae_title: Our AE title.
            query: As the attribute.
            tls: Certificates for an encrypted connection.

        Raises:
            SpecError: If it is no such address.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if (
            parts.scheme not in (_PLAIN, _ENCRYPTED)
            or not parts.hostname
            or not parts.username
            or port is None
        ):
            raise SpecError(
                f'"{url}" is no address of a worklist; write it like dicom://AE_TITLE@pacs:104.'
            )
        peer = DicomDestination(
            "worklist", parts.hostname, port, unquote(parts.username),
            calling_ae_title=calling_ae_title, confirm="none", deadline_s=_DEADLINE_S,
            tls=tls if parts.scheme == _ENCRYPTED else None,
        )  # fmt: skip
        return cls(peer, query)


class DimseWorklist:
    """A worklist that speaks DIMSE, as `Worklist` describes; each request is an association.

    Args:
        service: Where it is.
    """

    def __init__(self, service: DimseService) -> None:
        self._service = service

    def search(self, limit: int, offset: int = 0) -> list[Dataset]:
        """Return scheduled work items, at most `limit`, without the first `offset`.

        C-FIND has no pages: the worklist is asked to end once there are enough, and what it sends
        after that is dropped.

        Raises:
            PeerError: If the worklist cannot be reached, or refuses.
            UnansweredError: If no whole answer came.
        """
        query = Dataset()
        for keyword in _RETURNED:
            setattr(query, keyword, [] if keyword.endswith("Sequence") else "")
        query.ProcedureStepState = SCHEDULED
        for keyword, value in self._service.query.items():
            setattr(query, keyword, value)
        found: list[Dataset] = []
        with self._associated() as association:
            for status, item in association.send_c_find(query, PULL, msg_id=_MESSAGE):
                if status.get("Status") not in _PENDING:
                    _check(status)
                elif item is not None and len(found) < offset + limit:
                    found.append(item)
                    if len(found) == offset + limit:
                        association.send_c_cancel(_MESSAGE, query_model=PULL)
        return found[offset:]

    def retrieve(self, uid: str) -> Dataset:
        """Return one work item.

        Raises:
            ConflictError: If there is none.
            PeerError: If the worklist cannot be reached, or refuses.
            UnansweredError: If no whole answer came.
            FormatError: If the answer is no dataset.
        """
        with self._associated() as association:
            status, item = association.send_n_get(list(_RETURNED), PUSH, uid, meta_uid=PULL)
        _check(status)
        if item is None:
            raise FormatError("a worklist answers without a work item.")
        item.SOPInstanceUID = uid  # of the command, and perhaps not of the dataset
        return Dataset(item)

    def change_state(self, uid: str, state: str, transaction_uid: str) -> None:
        """Claim a work item, complete it, or cancel it.

        Raises:
            ConflictError: If its state or the key forbids that.
            PeerError: If the worklist cannot be reached, or refuses.
            UnansweredError: If no whole answer came.
        """
        information = make_state(state, transaction_uid)
        with self._associated() as association:
            status, _ = association.send_n_action(
                information, _CHANGE_STATE, PUSH, uid, meta_uid=PULL
            )
        _check(status)

    def update(self, uid: str, changes: Dataset, transaction_uid: str) -> None:
        """Change attributes of a work item that was claimed; sequences replace those before.

        Raises:
            ConflictError: If its state or the key forbids that.
            PeerError: If the worklist cannot be reached, or refuses.
            UnansweredError: If no whole answer came.
        """
        modifications = Dataset()
        modifications.update(changes)
        modifications.TransactionUID = transaction_uid
        with self._associated() as association:
            status, _ = association.send_n_set(modifications, PUSH, uid, meta_uid=PULL)
        _check(status)

    def subscribe(self, uid: str, ae_title: str) -> str:
        """Have events of a work item sent to an AE title, that of the node; return "", no channel.

        Raises:
            ConflictError: If there is no such work item, or the worklist does not know the title.
            PeerError: If there is no node, or the worklist cannot be reached, or refuses.
            UnansweredError: If no whole answer came.
        """
        if not self._service.with_events:
            raise PeerError("there is no node that events of work items could come to.")
        information = Dataset()
        information.ReceivingAE, information.DeletionLock = ae_title, "FALSE"
        with self._associated(WATCH) as association:
            status, _ = association.send_n_action(
                information, _SUBSCRIBE, PUSH, uid, meta_uid=WATCH
            )
        _check(status)
        return ""

    def close(self) -> None:
        """Do nothing: an association ends with its request."""

    @contextmanager
    def _associated(self, sop_class: str = PULL) -> Iterator[Any]:
        """Hold an association for UPS Pull or Watch.

        Raises:
            PeerError: If there is none, or the peer does not take it.
        """
        with associate(self._service.peer, [build_context(sop_class)]) as association:
            if not any(each.abstract_syntax == sop_class for each in association.accepted_contexts):
                raise PeerError(f"the worklist does not take {UID(sop_class).name}.")
            yield association


def _check(status: Dataset) -> None:
    """Raise what an answer without success means."""
    code = status.get("Status")
    if code is None:
        raise UnansweredError("the worklist did not answer.")
    if code == 0 or code in _WARNINGS:
        return
    what = f"the worklist answers with status {code:04X}"
    if code in _CONFLICTS:
        raise ConflictError(what)
    if code in _NOT_NOW:
        raise PeerError(what)
    raise UnansweredError(what)
