"""Asks a sender how many images a series has, by C-FIND or QIDO-RS."""

import contextlib
import json
from collections.abc import Callable

from pydicom import Dataset

from bedside.dicom_node.config import Sender
from bedside.dicom_node.series import Series

_DEADLINE_S = 5.0
_KEYWORD = "NumberOfSeriesRelatedInstances"
_PENDING = (0xFF00, 0xFF01)
# Series Instance UID and Number of Series Related Instances in DICOM JSON.
_SERIES, _COUNT = "0020000E", "00201209"


def count_images(sender: Sender, series: Series, *, our_ae_title: str) -> int | None:
    """Return how many images a sender says that a series has, or None if it does not say.

    Args:
        sender: Whom to ask.
        series: The series.
        our_ae_title: Our AE title.
    """
    ask: Callable[[Sender, Series, str], int | None]
    ask = _find if sender.method == "c-find" else _query
    try:
        return ask(sender, series, our_ae_title)
    except Exception:  # noqa: BLE001 - whatever a peer answers, nothing is known then
        return None


def _find(sender: Sender, series: Series, our_ae_title: str) -> int | None:
    from pynetdicom import build_context
    from pynetdicom.sop_class import (  # type: ignore[attr-defined]
        StudyRootQueryRetrieveInformationModelFind as Find,
    )

    from bedside.dicom_node.sending.association import associate
    from bedside.dicom_node.sending.destination import DicomDestination

    peer = DicomDestination(
        name=sender.calling_ae, host=sender.host, port=sender.port,
        ae_title=sender.ae_title or sender.calling_ae, calling_ae_title=our_ae_title,
        connect_s=_DEADLINE_S, deadline_s=_DEADLINE_S,
    )  # fmt: skip

    def answers(level: str, keyword: str) -> list[Dataset]:
        query = Dataset()
        query.QueryRetrieveLevel = level
        query.StudyInstanceUID = series.study_instance_uid
        query.SeriesInstanceUID = series.series_instance_uid
        setattr(query, keyword, None)
        found = association.send_c_find(query, Find)
        return [answer for status, answer in found if status.Status in _PENDING]

    with associate(peer, [build_context(Find)]) as association:
        told = [
            _read(answer.get(_KEYWORD))
            for answer in answers("SERIES", _KEYWORD)
            if answer.get("SeriesInstanceUID") == series.series_instance_uid
        ]
        if told and told[0] is None:  # an archive need not know the number
            return len(answers("IMAGE", "SOPInstanceUID")) or None
    return told[0] if told else None


def _query(sender: Sender, series: Series, _our_ae_title: str) -> int | None:
    from bedside.dicom_node.sending.exchange import Exchange, HttpRequest

    request = HttpRequest(
        "GET",
        f"{sender.url.rstrip('/')}/studies/{series.study_instance_uid}/series",
        headers={"Accept": "application/dicom+json"},
        params={"SeriesInstanceUID": series.series_instance_uid, "includefield": _COUNT},
    )
    with contextlib.closing(Exchange(connect_s=_DEADLINE_S)) as exchange:
        reply = exchange.send(request, deadline_s=_DEADLINE_S)
    for found in json.loads(reply.body):
        if found[_SERIES]["Value"] == [series.series_instance_uid]:
            return _read(found[_COUNT]["Value"][0])
    return None


def _read(value: object) -> int | None:
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdigit() else None
