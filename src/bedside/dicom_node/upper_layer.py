"""PDUs of the DICOM upper layer as the side that accepts associations reads and writes them.

What comes from a peer is checked as it is read: lengths, types, identifiers.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bedside.errors import FormatError
from bedside.io.dicom.head import is_uid
from bedside.version import __version__

REQUEST, ACCEPT, REJECT, DATA, RELEASE, RELEASED, ABORT = range(1, 8)
"""Types of PDUs."""

HEAD_BYTES = 6
"""Type and length, with which each PDU begins."""

IMPLEMENTATION_UID = "2.25.59993209225253691581002153727578439315"
"""Implementation Class UID of this program; ours, under the root of UUIDs."""

IMPLEMENTATION_VERSION = f"BEDSIDE_{__version__}"[:16]

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
# Types of the items of a request and of its answer, PS3.8 tables 9-12 to 9-19, PS3.7 annex D.
_APPLICATION, _CONTEXT, _ANSWERED, _ABSTRACT, _TRANSFER = 0x10, 0x20, 0x21, 0x30, 0x40
_USER, _LONGEST, _IMPLEMENTATION, _ROLE, _VERSION = 0x50, 0x51, 0x52, 0x54, 0x55
_FIXED_BYTES, _MOST_CONTEXTS = 68, 128
_ACCEPTED, _NO_ABSTRACT_SYNTAX, _NO_TRANSFER_SYNTAX = 0, 3, 4


@dataclass(frozen=True)
class ProposedContext:
    """A presentation context that a peer proposes.

    Attributes:
        number: Its odd number.
        abstract_syntax: UID of the SOP class.
        transfer_syntaxes: UIDs, in the peer's order.
    """

    number: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True)
class AssociationRequest:
    """What an A-ASSOCIATE-RQ says.

    Attributes:
        version: Bits of the versions of the protocol that the peer speaks.
        called_ae: AE title that is called, without its padding.
        calling_ae: AE title of the peer.
        application_context: UID.
        contexts: What is proposed.
        pdu_bytes: Longest PDU that the peer takes; 0 for any.
        roles: For each SOP class with a role selection, whether the peer is SCU, and SCP.
        titles: Both AE titles and what follows them, as they came.
    """

    version: int
    called_ae: str
    calling_ae: str
    application_context: str
    contexts: tuple[ProposedContext, ...]
    pdu_bytes: int = 0
    roles: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    titles: bytes = b""


@dataclass(frozen=True)
class AnsweredContext:
    """The answer to a proposed presentation context.

    Attributes:
        number: Its number.
        abstract_syntax: UID of the SOP class.
        transfer_syntax: UID of the one that is accepted; any of those proposed if none is.
        result: 0 if it is accepted, else the reason of PS3.8 table 9-18.
    """

    number: int
    abstract_syntax: str
    transfer_syntax: str
    result: int = _ACCEPTED

    @property
    def is_accepted(self) -> bool:
        """Whether messages may come on it."""
        return self.result == _ACCEPTED


def read_request(pdu: bytes) -> AssociationRequest:
    """Return what an A-ASSOCIATE-RQ says.

    Args:
        pdu: The whole PDU, of the length that it claims.

    Raises:
        FormatError: If it is not sound.
    """
    body = memoryview(pdu)[HEAD_BYTES:]
    if len(body) < _FIXED_BYTES:
        raise FormatError("a request for an association is too short.")
    (version,) = struct.unpack_from(">H", body)
    application, pdu_bytes = "", 0
    contexts: dict[int, ProposedContext] = {}
    roles: dict[str, tuple[bool, bool]] = {}
    for kind, item in _items(body[_FIXED_BYTES:]):
        if kind == _APPLICATION:
            application = _uid(item)
        elif kind == _CONTEXT:
            context = _read_context(item)
            if context.number in contexts or len(contexts) == _MOST_CONTEXTS:
                raise FormatError("a request has a presentation context twice, or too many.")
            contexts[context.number] = context
        elif kind == _USER:
            pdu_bytes, roles = _read_user(item)
    if not application or not contexts:
        raise FormatError("a request proposes no presentation context.")
    return AssociationRequest(
        version, _title(body[4:20]), _title(body[20:36]), application, tuple(contexts.values()),
        pdu_bytes=pdu_bytes, roles=roles, titles=bytes(body[4:_FIXED_BYTES]),
    )  # fmt: skip


def answer_contexts(
    request: AssociationRequest, supported: Mapping[str, Sequence[str]]
) -> list[AnsweredContext]:
    """Return the answer to each proposed presentation context.

    The first transfer syntax of the peer's list that is supported is accepted.

    Args:
        request: What is proposed.
        supported: Transfer syntaxes of each SOP class.
    """
    answers = []
    for each in request.contexts:
        known = supported.get(each.abstract_syntax)
        fitting = [one for one in each.transfer_syntaxes if known is not None and one in known]
        result = _NO_ABSTRACT_SYNTAX if known is None else _NO_TRANSFER_SYNTAX
        syntax = (fitting or each.transfer_syntaxes)[0]
        answer = _ACCEPTED if fitting else result
        answers.append(AnsweredContext(each.number, each.abstract_syntax, syntax, answer))
    return answers


def make_accept(
    request: AssociationRequest,
    answers: Sequence[AnsweredContext],
    *,
    pdu_bytes: int,
    performed_by_peer: Sequence[str] = (),
) -> bytes:
    """Return an A-ASSOCIATE-AC.

    Args:
        request: What it answers.
        answers: Of its presentation contexts.
        pdu_bytes: Longest PDU that we take.
        performed_by_peer: SOP classes whose SCP the peer may be, if it asks for that role.
    """
    user = _item(_LONGEST, struct.pack(">I", pdu_bytes))
    user += _item(_IMPLEMENTATION, IMPLEMENTATION_UID.encode())
    for sop_class in performed_by_peer:
        if request.roles.get(sop_class, (False, False))[1]:
            uid = sop_class.encode()
            user += _item(_ROLE, struct.pack(">H", len(uid)) + uid + b"\0\1")
    user += _item(_VERSION, IMPLEMENTATION_VERSION.encode())
    body = struct.pack(">HH", 1, 0) + request.titles
    body += _item(_APPLICATION, APPLICATION_CONTEXT.encode())
    for each in answers:
        syntax = _item(_TRANSFER, each.transfer_syntax.encode())
        body += _item(_ANSWERED, struct.pack(">BBBB", each.number, 0, each.result, 0) + syntax)
    return _pdu(ACCEPT, body + _item(_USER, user))


def make_reject(result: int, source: int, reason: int) -> bytes:
    """Return an A-ASSOCIATE-RJ, with the numbers of PS3.8 table 9-21."""
    return _pdu(REJECT, struct.pack(">BBBB", 0, result, source, reason))


def make_abort(reason: int) -> bytes:
    """Return an A-ABORT of the service provider, with a reason of PS3.8 table 9-26."""
    return _pdu(ABORT, struct.pack(">BBBB", 0, 0, 2, reason))


def make_released() -> bytes:
    """Return an A-RELEASE-RP."""
    return _pdu(RELEASED, bytes(4))


def make_command(context: int, command: bytes) -> bytes:
    """Return a P-DATA-TF with a whole command, which is short.

    Args:
        context: Number of the presentation context.
        command: The command set.
    """
    return _pdu(DATA, struct.pack(">IBB", len(command) + 2, context, 3) + command)


def read_pieces(body: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield the pieces of a P-DATA-TF: presentation context, control header, content.

    Args:
        body: The PDU without its head.

    Raises:
        FormatError: If it is not sound.
    """
    at, end = 0, len(body)
    if end == 0:
        raise FormatError("a PDU has no piece of a message.")
    while at < end:
        if end - at < HEAD_BYTES:
            raise FormatError("a piece of a message is cut off.")
        length, context, control = struct.unpack_from(">IBB", body, at)
        if not 2 <= length <= end - at - 4:
            raise FormatError("a piece of a message is longer than its PDU.")
        yield context, control, body[at + HEAD_BYTES : at + 4 + length]
        at += 4 + length


def _items(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    at = 0
    while at < len(data):
        if len(data) - at < 4:
            raise FormatError("an item of a request for an association is cut off.")
        kind, _, length = struct.unpack_from(">BBH", data, at)
        at += 4 + length
        if at > len(data):
            raise FormatError("an item of a request for an association is cut off.")
        yield kind, data[at - length : at]


def _read_context(item: memoryview) -> ProposedContext:
    if len(item) < 4 or item[0] % 2 == 0:
        raise FormatError("a presentation context has no valid number.")
    found = [(kind, _uid(data)) for kind, data in _items(item[4:])]
    abstract = [uid for kind, uid in found if kind == _ABSTRACT]
    transfer = tuple(uid for kind, uid in found if kind == _TRANSFER)
    if len(abstract) != 1 or not transfer:
        raise FormatError("a presentation context has no SOP class or no transfer syntax.")
    return ProposedContext(item[0], abstract[0], transfer)


def _read_user(item: memoryview) -> tuple[int, dict[str, tuple[bool, bool]]]:
    """Return the longest PDU, and the roles for each SOP class."""
    pdu_bytes, roles = 0, {}
    for kind, data in _items(item):
        if kind == _LONGEST and len(data) == 4:
            (pdu_bytes,) = struct.unpack(">I", data)
        elif kind == _ROLE:
            if len(data) < 4 or struct.unpack_from(">H", data)[0] != len(data) - 4:
                raise FormatError("a role selection is cut off.")
            roles[_uid(data[2:-2])] = (data[-2] == 1, data[-1] == 1)
    return pdu_bytes, roles


def _uid(data: memoryview) -> str:
    text = bytes(data).rstrip(b"\0 ").decode("ascii", "replace")
    if not is_uid(text):
        raise FormatError("a request for an association has a UID that is none.")
    return text


def _title(data: memoryview) -> str:
    return bytes(data).decode("ascii", "replace").strip("\0 ")


def _item(kind: int, data: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(data)) + data


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBI", kind, 0, len(body)) + body
