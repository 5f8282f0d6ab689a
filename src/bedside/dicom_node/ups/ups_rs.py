"""A worklist over HTTP: UPS-RS (PS3.18 chapter 11)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydicom import Dataset

from bedside.dicom_node.sending.destination import Tls
from bedside.dicom_node.sending.exchange import Exchange, HttpReply, HttpRequest
from bedside.dicom_node.sending.stow import DICOM_JSON
from bedside.dicom_node.ups.work_item import SCHEDULED, make_state
from bedside.errors import ConflictError, FormatError, PeerError, SpecError, UnansweredError
from bedside.io.dicom.warnings import collected_warnings

# The service, the address or the token is at fault: nothing was done.
_NOT_NOW = frozenset({401, 403, 405, 407, 408, 415, 425, 429, 502, 503, 504})
_PLACES, _BODIES = ("query", "key", "body"), ("list", "object")
_CONFLICT = frozenset({400, 404, 409, 410})


@dataclass(frozen=True)
class WorklistService:
    """Where a worklist is.

    Attributes:
        url: Root of the service, such as "https://pacs/dicom-web".
        query: Attributes that work items must have, such as {"WorklistLabel": "AI"}.
        transaction_in: Where the transaction UID of an update is: "query" as the standard says
            (`?transaction-uid=UID`), "key" (`?UID`, Microsoft's server) or "body" (dcm4chee).
        bodies: Whether a dataset is sent in a "list", or alone as an "object".
        token_file: File with a bearer token, read for each request.
        connect_s: Limit for a connection.
        deadline_s: Limit for one request with its answer.
        tls: Certificates for https.
    """

    url: str
    query: Mapping[str, str] = field(default_factory=dict)
    transaction_in: str = "query"
    bodies: str = "list"
    token_file: Path | None = None
    connect_s: float = 10.0
    deadline_s: float = 30.0
    tls: Tls = field(default_factory=Tls)

    def __post_init__(self) -> None:
        """Refuse what is no address of a web service."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise SpecError(
                f'"{self.url}" is no address of a worklist; write it like '
                "https://pacs.example/dicom-web."
            )
        for name, known in (("transaction_in", _PLACES), ("bodies", _BODIES)):
            if getattr(self, name) not in known:
                raise SpecError(
                    f'{name} is "{getattr(self, name)}"; it is one of {", ".join(known)}.'
                )


class WebWorklist:
    """A worklist that speaks UPS-RS.

    Args:
        service: Where it is.

    Raises:
        SpecError: If its certificates cannot be read.
    """

    def __init__(self, service: WorklistService) -> None:
        self._service = service
        self._exchange = Exchange(
            connect_s=service.connect_s,
            token_file=service.token_file,
            tls=service.tls.open_context(),
        )

    def search(self, limit: int, offset: int = 0) -> list[Dataset]:
        """Return scheduled work items.

        Args:
            limit: At most so many.
            offset: How many to leave out at the beginning.

        Raises:
            PeerError: If the worklist cannot be reached, or refuses.
            UnansweredError: If no whole answer came.
            FormatError: If the answer is no list of datasets.
        """
        query = {"ProcedureStepState": SCHEDULED, **self._service.query, "limit": str(limit)}
        if offset:
            query["offset"] = str(offset)
        reply = self._ask("GET", "/workitems", params=query)
        if reply.status in (204, 404):  # some say so where nothing matches
            return []
        _check(reply)
        return _read_datasets(reply.body)[:limit]

    def retrieve(self, uid: str) -> Dataset:
        """Return one work item.

        Args:
            uid: Its UID.

        Raises:
            ConflictError: If there is none.
            PeerError: If the worklist cannot be reached, or refuses.
            UnansweredError: If no whole answer came.
            FormatError: If the answer is no dataset.
        """
        reply = self._ask("GET", f"/workitems/{uid}")
        _check(reply)
        datasets = _read_datasets(reply.body)
        if len(datasets) != 1:
            raise FormatError(f"a worklist answers with {len(datasets)} work items instead of one.")
        return datasets[0]

    def change_state(self, uid: str, state: str, transaction_uid: str) -> None:
        """Claim a work item, complete it, or cancel it.

        Args:
            uid: Its UID.
            state: "IN PROGRESS", "COMPLETED" or "CANCELED".
            transaction_uid: The key of the performer.

        Raises:
            ConflictError: If its state or the key forbids that.
            PeerError: If the worklist cannot be reached, or refuses.
            UnansweredError: If no whole answer came.
        """
        body = make_state(state, transaction_uid)
        _check(self._ask("PUT", f"/workitems/{uid}/state", body=body))

    def update(self, uid: str, changes: Dataset, transaction_uid: str) -> None:
        """Change attributes of a work item that was claimed.

        Args:
            uid: Its UID.
            changes: What is new; sequences replace those that were there.
            transaction_uid: The key of the performer.

        Raises:
            ConflictError: If its state or the key forbids that.
            PeerError: If the worklist cannot be reached, or refuses.
            UnansweredError: If no whole answer came.
        """
        body = Dataset()
        body.update(changes)
        params = {"transaction-uid": transaction_uid}
        if self._service.transaction_in == "key":
            params = {transaction_uid: ""}
        elif self._service.transaction_in == "body":
            params, body.TransactionUID = {}, transaction_uid
        _check(self._ask("POST", f"/workitems/{uid}", params=params, body=body))

    def subscribe(self, uid: str, ae_title: str) -> str:
        """Have events of a work item sent to an AE title.

        Args:
            uid: Its UID.
            ae_title: Who subscribes.

        Returns:
            The address of the channel of events, "ws:" or "wss:".

        Raises:
            ConflictError: If there is no such work item.
            PeerError: If the worklist cannot be reached, or takes no subscriptions.
            UnansweredError: If no whole answer came.
        """
        reply = self._ask("POST", f"/workitems/{uid}/subscribers/{ae_title}")
        _check(reply)
        return find_channel(self._service.url, ae_title, reply.headers.get("Content-Location", ""))

    def close(self) -> None:
        """Close the connections."""
        self._exchange.close()

    def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Dataset | None = None,
    ) -> HttpReply:
        headers = {"Accept": DICOM_JSON}
        content = b""
        if body is not None:
            headers["Content-Type"] = DICOM_JSON
            dataset = body.to_json_dict()
            sent = [dataset] if self._service.bodies == "list" else dataset
            content = json.dumps(sent).encode()
        request = HttpRequest(
            method,
            self._service.url.rstrip("/") + path,
            headers=headers,
            params=params or {},
            content=(lambda: [content]) if body is not None else None,
            length=len(content),
        )
        return self._exchange.send(request, deadline_s=self._service.deadline_s)


def find_channel(url: str, ae_title: str, stated: str) -> str:
    """Return the address of the channel of events.

    A server may state it, but only on its own host: a token goes there.

    Args:
        url: Root of the worklist.
        ae_title: Who subscribes.
        stated: What the answer to a subscription states; empty for nothing.

    Example:
        >>> find_channel("https://pacs/dicom-web", "BEDSIDE", "")
        'wss://pacs/dicom-web/subscribers/BEDSIDE'
    """
    own = urlsplit(url)
    scheme = "wss" if own.scheme == "https" else "ws"
    other = urlsplit(stated)
    if other.scheme == scheme and other.hostname == own.hostname:
        return stated
    path = f"{own.path.rstrip('/')}/subscribers/{ae_title}"
    return urlunsplit((scheme, own.netloc, path, "", ""))


def _check(reply: HttpReply) -> None:
    """Raise what an answer without success means."""
    if 200 <= reply.status < 300:
        return
    what = f"the worklist answers HTTP {reply.status}"
    warning = reply.headers.get("Warning", "")[:200]
    if reply.status in _CONFLICT:
        raise ConflictError(f"{what} {warning}".strip())
    if reply.status in _NOT_NOW:
        raise PeerError(f"{what} {warning}".strip())
    raise UnansweredError(f"{what} {warning}".strip())


def _read_datasets(body: bytes) -> list[Dataset]:
    """Datasets of an answer, which has one or a list."""
    try:
        found: Any = json.loads(body)
        rows = found if isinstance(found, list) else [found]
        with collected_warnings():  # which may quote patient data
            return [Dataset.from_json(row) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"a worklist answers with what is no DICOM JSON: {error}") from error
