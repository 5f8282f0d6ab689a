"""Messages of storage commitment: the request, and the report that answers it."""

from collections.abc import Sequence

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence

from bedside.dicom_node.sending.delivery import Finding, Presence
from bedside.dicom_node.sending.instance import Instance

PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"
"""The well-known instance that requests are sent to."""

_ALL_ARE_THERE = 1


def make_request(instances: Sequence[Instance], transaction_uid: str) -> Dataset:
    """Return the information of a request for storage commitment.

    Args:
        instances: The files.
        transaction_uid: Name of the request, unique.

    Source:
        PS3.4 table J.3-1.
    """
    request = Dataset()
    request.TransactionUID = transaction_uid
    items = []
    for instance in instances:
        item = Dataset()
        item.ReferencedSOPClassUID = instance.sop_class_uid
        item.ReferencedSOPInstanceUID = instance.sop_instance_uid
        items.append(item)
    request.ReferencedSOPSequence = DicomSequence(items)
    return request


def read_report(event_type: int, report: Dataset) -> tuple[str, Finding]:
    """Return what a report of storage commitment says.

    Args:
        event_type: 1 if all are there, 2 if some are missing.
        report: The information of the event.

    Returns:
        Transaction UID, and which files are there.

    Source:
        PS3.4 table J.3-2.
    """
    transaction_uid = str(report.get("TransactionUID", ""))
    missing = report.get("FailedSOPSequence") or []
    there = tuple(
        str(item.ReferencedSOPInstanceUID)
        for item in report.get("ReferencedSOPSequence") or []
        if "ReferencedSOPInstanceUID" in item
    )
    if event_type == _ALL_ARE_THERE and not missing:
        return transaction_uid, Finding(Presence.PRESENT, there=there)
    reasons = sorted({f"{int(item.get('FailureReason') or 0):04X}" for item in missing})
    files = "1 file" if len(missing) == 1 else f"{len(missing)} files"
    why = f"storage commitment fails for {files} ({', '.join(reasons) or 'no reason'})"
    return transaction_uid, Finding(Presence.ABSENT, why, there)
