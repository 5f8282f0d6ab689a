"""Results sent by STOW-RS, and asked for by QIDO-RS. Requests and answers are pure functions."""

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from bedside.dicom_node.sending.delivery import (
    Answer,
    FileReply,
    Finding,
    Presence,
    summarize,
)
from bedside.dicom_node.sending.destination import WebDestination
from bedside.dicom_node.sending.exchange import Exchange, HttpReply, HttpRequest
from bedside.dicom_node.sending.instance import Instance
from bedside.dicom_node.sending.statuses import judge_storage
from bedside.errors import LimitError, PeerError, UnansweredError

DICOM_JSON = "application/dicom+json"
_PIECE_BYTES = 1 << 18

# Tags of the answer to STOW-RS, PS3.18 10.5.3.
_FAILED, _FAILURE_REASON = "00081198", "00081197"
_STORED, _WARNING_REASON = "00081199", "00081196"
_UID_OF_ITEM, _SOP_INSTANCE_UID = "00081155", "00080018"
# Answers that say nothing of the files, but of the service, the address or the token.
_LATER = frozenset({401, 403, 404, 407, 408, 425, 429, 502, 503, 504})


class WebTransport:
    """A destination that speaks DICOMweb.

    Args:
        peer: The destination.

    Raises:
        SpecError: If its certificates cannot be read.
    """

    def __init__(self, peer: WebDestination) -> None:
        self._peer = peer
        self._exchange = Exchange(
            connect_s=peer.connect_s, token_file=peer.token_file, tls=peer.tls.open_context()
        )

    @property
    def can_ask(self) -> bool:
        """Whether the destination can be asked for files."""
        return self._peer.confirm != "none"

    def send(self, instances: Sequence[Instance]) -> list[FileReply]:
        """Return the answer to each file, all sent in one request.

        Args:
            instances: The files.
        """
        request = make_stow_request(self._peer.url, instances)
        try:
            reply = self._exchange.send(request, deadline_s=self._peer.deadline_s)
        except PeerError as error:
            return _all(instances, Answer.LATER, str(error))
        except (UnansweredError, LimitError) as error:
            return _all(instances, Answer.UNKNOWN, str(error))
        return read_stow_reply(reply, instances)

    def ask(self, instances: Sequence[Instance], transaction_uid: str) -> Finding:
        """Return which files the destination has.

        Args:
            instances: The files.
            transaction_uid: Not used; an answer to QIDO-RS comes at once.
        """
        presences = {}
        try:
            for instance in instances:
                request = make_qido_request(self._peer.url, instance)
                reply = self._exchange.send(request, deadline_s=self._peer.deadline_s)
                presences[instance.sop_instance_uid] = read_qido_reply(reply, instance)
        except (PeerError, UnansweredError, LimitError) as error:
            return Finding(Presence.UNKNOWN, str(error))
        return summarize("QIDO-RS", presences)

    def close(self) -> None:
        """Close the connections."""
        self._exchange.close()


def make_stow_request(url: str, instances: Sequence[Instance]) -> HttpRequest:
    """Return a request that stores files, as they are on disk.

    Args:
        url: Root of the DICOMweb services.
        instances: The files.
    """
    boundary = secrets.token_hex(16)  # random, so that no file holds it
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    end = f"--{boundary}--\r\n".encode()
    sizes = [os.path.getsize(instance.path) for instance in instances]

    def content() -> Iterator[bytes]:
        parts = (chain([head], _read(instance), [b"\r\n"]) for instance in instances)
        return chain(chain.from_iterable(parts), [end])

    return HttpRequest(
        "POST",
        f"{url.rstrip('/')}/studies",
        headers={
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Accept": DICOM_JSON,
        },
        content=content,
        length=sum(sizes) + len(instances) * (len(head) + 2) + len(end),
    )


def read_stow_reply(reply: HttpReply, instances: Sequence[Instance]) -> list[FileReply]:
    """Return what an answer says of each file.

    Success of the request is no success of a file: with 202, those not named are unknown.

    Args:
        reply: The answer.
        instances: The files that were sent.

    Source:
        PS3.18 10.5.3.
    """
    if reply.status in _LATER:
        return _all(instances, Answer.LATER, f"STOW-RS: HTTP {reply.status}")
    named = _read_named(reply)
    if reply.status == 200:
        otherwise = (Answer.STORED, "")
    elif reply.status == 202:
        otherwise = (Answer.UNKNOWN, "HTTP 202 does not name the file")
    elif reply.status == 409 or reply.status >= 500:
        otherwise = (Answer.RETRY, f"STOW-RS: HTTP {reply.status}")
    else:
        otherwise = (Answer.REFUSED, f"STOW-RS: HTTP {reply.status}")
    return [
        named.get(instance.sop_instance_uid, FileReply(instance.sop_instance_uid, *otherwise))
        for instance in instances
    ]


def make_qido_request(url: str, instance: Instance) -> HttpRequest:
    """Return a request that asks for one instance.

    Args:
        url: Root of the DICOMweb services.
        instance: The file.
    """
    series = f"studies/{instance.study_instance_uid}/series/{instance.series_instance_uid}"
    return HttpRequest(
        "GET",
        f"{url.rstrip('/')}/{series}/instances",
        headers={"Accept": DICOM_JSON},
        params={"SOPInstanceUID": instance.sop_instance_uid},
    )


def read_qido_reply(reply: HttpReply, instance: Instance) -> Presence:
    """Return whether an answer names an instance.

    Args:
        reply: The answer.
        instance: The file that was asked for.
    """
    if reply.status in (204, 404):  # some say so of a series that they do not have
        return Presence.ABSENT
    matches = _parse(reply.body)
    if reply.status not in (200, 206) or not isinstance(matches, list):
        return Presence.UNKNOWN
    uids = {_text(match, _SOP_INSTANCE_UID) for match in matches}
    return Presence.PRESENT if instance.sop_instance_uid in uids else Presence.ABSENT


def _read_named(reply: HttpReply) -> dict[str, FileReply]:
    """What is said of instances by name."""
    report = _parse(reply.body)
    if isinstance(report, list) and report:
        report = report[0]
    found: dict[str, FileReply] = {}
    for item in _items(report, _STORED):
        uid = _text(item, _UID_OF_ITEM)
        warning = _number(item, _WARNING_REASON)
        found[uid] = judge_storage(uid, warning)
        if found[uid].answer is not Answer.STORED:  # it was stored, whatever code it came with
            found[uid] = FileReply(uid, Answer.STORED, f"warning ({warning:04X})")
    for item in _items(report, _FAILED):
        uid = _text(item, _UID_OF_ITEM)
        found[uid] = judge_storage(uid, _number(item, _FAILURE_REASON) or 0x0110)
    return found


def _all(instances: Sequence[Instance], answer: Answer, why: str) -> list[FileReply]:
    return [FileReply(instance.sop_instance_uid, answer, why) for instance in instances]


def _read(instance: Instance) -> Iterator[bytes]:
    with open(instance.path, "rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _parse(body: bytes) -> Any:
    """The JSON of an answer; None if it has none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _items(dataset: Any, tag: str) -> list[Any]:
    values = _values(dataset, tag)
    return [value for value in values if isinstance(value, dict)]


def _values(dataset: Any, tag: str) -> list[Any]:
    element = dataset.get(tag) if isinstance(dataset, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _text(dataset: Any, tag: str) -> str:
    values = _values(dataset, tag)
    return values[0] if values and isinstance(values[0], str) else ""


def _number(dataset: Any, tag: str) -> int:
    values = _values(dataset, tag)
    return values[0] if values and isinstance(values[0], int) else 0
