"""The Store Instances Response Module (PS3.18, Annex I) in JSON and in XML."""

import collections
import json
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from starlette.responses import Response

from bedside.http_api.dicomweb.instances import InstanceIds
from bedside.http_api.failures import RequestError

JSON, XML = "application/dicom+json", "application/dicom+xml"

# PS3.18, table I.2-2.
OUT_OF_RESOURCES = 0xA700
OTHER_STUDY = 0xA900
CANNOT_UNDERSTAND = 0xC000
_REASONS = {
    OUT_OF_RESOURCES: "no space",
    OTHER_STUDY: "of another study",
    CANNOT_UNDERSTAND: "not readable",
    0x0111: "unlike one of the same UID that is here",
    0x0122: "of a class that is not taken",
    0xC122: "in a transfer syntax that is not taken",
}

_TYPES = {
    JSON: JSON, "application/json": JSON, "application/*": JSON, "*/*": JSON,
    XML: XML, "application/xml": XML, "text/xml": XML,
}  # fmt: skip
_NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"


@dataclass(frozen=True)
class Outcome:
    """What became of a part of a request.

    Attributes:
        ids: Of the instance; None if they cannot be read.
        failure: Failure Reason of PS3.18; 0 if it is stored.
    """

    ids: InstanceIds | None
    failure: int = 0


def choose_type(accept: str | None) -> str:
    """Return the media type for an answer.

    Args:
        accept: The Accept header.

    Raises:
        RequestError: If it names none that can be sent.

    Example:
        >>> choose_type("application/dicom+xml, application/dicom+json;q=0.5")
        'application/dicom+xml'
    """
    weighed = [(_quality(part), part.partition(";")[0]) for part in (accept or "*/*").split(",")]
    for quality, kind in sorted(weighed, key=lambda each: -each[0]):
        found = _TYPES.get(kind.strip().lower())
        if found and quality > 0:
            return found
    raise RequestError(406, f"nothing that Accept names can be sent. Accept {JSON} or {XML}.")


def answer(outcomes: Sequence[Outcome], kind: str) -> Response:
    """Return the answer to a request whose parts came to this.

    It is 200 if all instances are stored, 202 if some are, and 409 if none is.

    Args:
        outcomes: One a part.
        kind: Media type.
    """
    failed = [each for each in outcomes if each.failure]
    dataset = make_module(outcomes)
    content = to_json(dataset) if kind == JSON else to_xml(dataset)
    headers = {"Cache-Control": "no-store"}
    if failed:
        headers["Warning"] = _warn(failed, len(outcomes))
    status = 200 if not failed else 409 if len(failed) == len(outcomes) else 202
    response = Response(content, status, headers=headers)
    # Clients compare it as a whole: no charset may follow.
    response.headers["Content-Type"] = kind
    return response


def make_module(outcomes: Sequence[Outcome]) -> Dataset:
    """Return the module: each part is in one of its sequences."""
    module = Dataset()
    # Instances cannot be retrieved here.
    module.RetrieveURL = None
    stored: list[Dataset] = []
    failed: list[Dataset] = []
    others: list[Dataset] = []
    for outcome in outcomes:
        item = Dataset()
        if outcome.ids is not None:
            item.ReferencedSOPClassUID = outcome.ids.sop_class_uid
            item.ReferencedSOPInstanceUID = outcome.ids.sop_instance_uid
        if outcome.failure:
            item.FailureReason = outcome.failure
            (others if outcome.ids is None else failed).append(item)
        else:
            item.RetrieveURL = None
            stored.append(item)
    if failed:
        module.FailedSOPSequence = failed
    if stored:
        module.ReferencedSOPSequence = stored
    if others:
        module.OtherFailuresSequence = others
    return module


def to_json(dataset: Dataset) -> bytes:
    """Return a data set in the DICOM JSON Model (PS3.18, Annex F)."""
    return json.dumps(dataset.to_json_dict()).encode()


def to_xml(dataset: Dataset) -> bytes:
    """Return a data set of texts, numbers and sequences as a Native DICOM Model (PS3.19, A.1)."""
    root = ElementTree.Element("NativeDicomModel", {"xmlns": _NAMESPACE, "xml:space": "preserve"})
    _add_attributes(root, dataset)
    return bytes(ElementTree.tostring(root, "utf-8", xml_declaration=True))


def _add_attributes(parent: ElementTree.Element, dataset: Dataset) -> None:
    for element in dataset:
        attributes = {"tag": f"{element.tag:08X}", "vr": element.VR}
        keyword = keyword_for_tag(element.tag)
        if keyword:
            attributes["keyword"] = keyword
        child = ElementTree.SubElement(parent, "DicomAttribute", attributes)
        if element.VR == "SQ":
            for number, item in enumerate(element.value, start=1):
                _add_attributes(ElementTree.SubElement(child, "Item", number=str(number)), item)
        elif not element.is_empty:
            values = [element.value] if element.VM == 1 else element.value
            for number, value in enumerate(values, start=1):
                ElementTree.SubElement(child, "Value", number=str(number)).text = str(value)


def _warn(failed: Sequence[Outcome], total: int) -> str:
    counts = collections.Counter(_REASONS.get(each.failure, "refused") for each in failed)
    reasons = ", ".join(f"{reason} ({count})" for reason, count in counts.items())
    return f'299 bedside "{len(failed)} of {total} instances were not stored: {reasons}"'


def _quality(part: str) -> float:
    for parameter in part.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
