"""What status codes of storage mean for a file: stored, try again, or refused."""

from bedside.dicom_node.sending.delivery import Answer, FileReply

_WARNINGS = {
    0xB000: "changed some of its elements",
    0xB006: "discarded some of its elements",
    0xB007: "says that it does not fit its SOP class",
}
_MAY_PASS = {0x0110: "processing failure", 0x0213: "resource limitation"}
_REFUSALS = {
    0x0117: "invalid SOP instance",
    0x0122: "SOP class not supported",
    0x0124: "not authorized",
}
# Classes of codes, by their upper byte or digit (PS3.4 table B.2-1).
_OUT_OF_RESOURCES, _MISMATCH, _NOT_UNDERSTOOD = 0xA7, 0xA9, 0xC
_DUPLICATE = 0x0111


def judge_storage(sop_instance_uid: str, status: int) -> FileReply:
    """Return what a status of C-STORE, or a reason of STOW-RS, means.

    Texts of the peer are left out: they may hold what must not be logged.

    Args:
        sop_instance_uid: Of the file.
        status: The code.

    Source:
        PS3.4 B.2.3 and PS3.7 annex C; an instance that is there already is one that is stored.

    Example:
        >>> judge_storage("1.2", 0xA700)
        FileReply(sop_instance_uid='1.2', answer=<Answer.RETRY: 'retry'>, why='out of resources (A700)')
    """  # noqa: E501
    code = f"({status:04X})"
    if status in (0, _DUPLICATE):
        return FileReply(sop_instance_uid, Answer.STORED)
    if status in _WARNINGS:
        return FileReply(sop_instance_uid, Answer.STORED, f"it {_WARNINGS[status]} {code}")
    if status in _MAY_PASS:
        return FileReply(sop_instance_uid, Answer.RETRY, f"{_MAY_PASS[status]} {code}")
    if status >> 8 == _OUT_OF_RESOURCES:
        return FileReply(sop_instance_uid, Answer.RETRY, f"out of resources {code}")
    if status in _REFUSALS:
        return FileReply(sop_instance_uid, Answer.REFUSED, f"{_REFUSALS[status]} {code}")
    if status >> 8 == _MISMATCH:
        return FileReply(sop_instance_uid, Answer.REFUSED, f"does not match its SOP class {code}")
    if status >> 12 == _NOT_UNDERSTOOD:
        return FileReply(sop_instance_uid, Answer.REFUSED, f"not understood {code}")
    return FileReply(sop_instance_uid, Answer.RETRY, f"failure {code}")
