"""A work item as a performer needs it, and the messages that change one; all pure functions.

Source:
    PS3.4 annex CC, tables CC.2.5-3 (attributes) and CC.2.1-1 (change of state); IHE RAD AIW-I.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence

from bedside.dicom_node.sending.instance import Instance
from bedside.errors import FormatError

SCHEDULED, IN_PROGRESS = "SCHEDULED", "IN PROGRESS"
COMPLETED, CANCELED = "COMPLETED", "CANCELED"

_STATE_REPORT, _CANCEL_REQUESTED = 1, 2

# It becomes a part of addresses, so it is checked.
_UID = re.compile(r"[0-9.]{1,64}")

Code = tuple[str, str, str]
"""Value, scheme and meaning."""

CANCELED_ON_REQUEST: Code = ("110513", "DCM", "Discontinued for unspecified reason")
FAILED: Code = ("110501", "DCM", "Equipment failure")
_UNNAMED_STATION: Code = ("BEDSIDE", "99BEDSIDE", "bedside")
_UNNAMED_WORK: Code = ("SEGMENTATION", "99BEDSIDE", "Segmentation")


@dataclass(frozen=True)
class InputSeries:
    """A series that a work item is about.

    Attributes:
        study_instance_uid: Its study.
        series_instance_uid: Its UID.
        sop_instance_uids: The images of it that are meant; none for all.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uids: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkItem:
    """A work item.

    Attributes:
        uid: Its SOP Instance UID.
        state: Procedure Step State.
        label: Procedure Step Label: what is to be done, for people.
        worklist: Worklist Label.
        codes: Values of the scheduled work item codes, with scheme: "121726^DCM".
        stations: Values of the scheduled station name codes.
        is_ready: Whether its inputs are complete.
        inputs: The series it is about.
    """

    uid: str
    state: str
    label: str
    worklist: str
    codes: tuple[str, ...]
    stations: tuple[str, ...]
    is_ready: bool
    inputs: tuple[InputSeries, ...]


def read_work_item(dataset: Dataset) -> WorkItem:
    """Return a work item.

    Args:
        dataset: As a worklist sends it.

    Raises:
        FormatError: If it lacks a UID or its state, or a UID is none.
    """
    uid, state = _uid(dataset, "SOPInstanceUID"), _text(dataset, "ProcedureStepState")
    if not state:
        raise FormatError("a work item has no Procedure Step State.")
    return WorkItem(
        uid=uid,
        state=state,
        label=_text(dataset, "ProcedureStepLabel"),
        worklist=_text(dataset, "WorklistLabel"),
        codes=_codes(dataset, "ScheduledWorkitemCodeSequence"),
        stations=tuple(
            code.partition("^")[0] for code in _codes(dataset, "ScheduledStationNameCodeSequence")
        ),
        is_ready=_text(dataset, "InputReadinessState") in ("", "READY"),
        inputs=tuple(
            InputSeries(
                _uid(item, "StudyInstanceUID"),
                _uid(item, "SeriesInstanceUID"),
                tuple(
                    _uid(reference, "ReferencedSOPInstanceUID")
                    for reference in item.get("ReferencedSOPSequence") or []
                ),
            )
            for item in dataset.get("InputInformationSequence") or []
        ),
    )


def asks_to_cancel(event_type: int, information: Dataset) -> bool:
    """Whether an event asks that a work item be canceled, or says that it is (PS3.4 CC.2.4)."""
    is_canceled = _text(information, "ProcedureStepState") == CANCELED
    return event_type == _CANCEL_REQUESTED or (event_type == _STATE_REPORT and is_canceled)


def make_state(state: str, transaction_uid: str) -> Dataset:
    """Return the information of a change of state.

    Args:
        state: The new one.
        transaction_uid: The key of the performer; whoever has it may change the work item.
    """
    dataset = Dataset()
    dataset.TransactionUID = transaction_uid
    dataset.ProcedureStepState = state
    return dataset


def make_progress(part: float, text: str = "") -> Dataset:
    """Return an update of the progress.

    Args:
        part: Part that is done, in [0, 1].
        text: What is being done.
    """
    progress = Dataset()
    progress.ProcedureStepProgress = f"{min(max(part, 0.0), 1.0) * 100:.0f}"
    if text:
        progress.ProcedureStepProgressDescription = text[:1024]
    return _one(ProcedureStepProgressInformationSequence=progress)


def make_discontinuation(code: Code, text: str, now: datetime) -> Dataset:
    """Return an update that says why a work item is not performed; `CANCELED` comes after it.

    Args:
        code: The reason.
        text: The reason in words.
        now: The time, with its zone.
    """
    progress = Dataset()
    progress.ReasonForCancellation = text[:10240]
    progress.ProcedureStepCancellationDateTime = _moment(now)
    progress.ProcedureStepDiscontinuationReasonCodeSequence = DicomSequence([_code(code)])
    return _one(ProcedureStepProgressInformationSequence=progress)


def make_results(
    item: Dataset, outputs: Sequence[Instance], *, begin: datetime, end: datetime
) -> Dataset:
    """Return the update that names results; without it no work item may be completed.

    Args:
        item: The work item, whose scheduled codes are those that were performed.
        outputs: The files that were stored.
        begin: When work on it began, with its zone.
        end: When it ended.
    """
    performed = Dataset()
    performed.PerformedProcedureStepStartDateTime = _moment(begin)
    performed.PerformedProcedureStepEndDateTime = _moment(end)
    performed.PerformedStationNameCodeSequence = _same_or(
        item, "ScheduledStationNameCodeSequence", _UNNAMED_STATION
    )
    performed.PerformedWorkitemCodeSequence = _same_or(
        item, "ScheduledWorkitemCodeSequence", _UNNAMED_WORK
    )
    performed.OutputInformationSequence = DicomSequence(
        [_reference(series, outputs) for series in _series(outputs)]
    )
    return _one(UnifiedProcedureStepPerformedProcedureSequence=performed)


def _series(outputs: Sequence[Instance]) -> list[tuple[str, str]]:
    pairs = {(each.study_instance_uid, each.series_instance_uid): None for each in outputs}
    return list(pairs)


def _reference(series: tuple[str, str], outputs: Sequence[Instance]) -> Dataset:
    """A reference to the results of one series."""
    dataset, items = Dataset(), []
    dataset.TypeOfInstances = "DICOM"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = series
    for each in outputs:
        if (each.study_instance_uid, each.series_instance_uid) == series:
            item = Dataset()
            item.ReferencedSOPClassUID = each.sop_class_uid
            item.ReferencedSOPInstanceUID = each.sop_instance_uid
            items.append(item)
    dataset.ReferencedSOPSequence = DicomSequence(items)
    return dataset


def _same_or(item: Dataset, keyword: str, code: Code) -> DicomSequence:
    scheduled = list(item.get(keyword) or [])
    return DicomSequence(scheduled or [_code(code)])


def _code(code: Code) -> Dataset:
    dataset = Dataset()
    dataset.CodeValue, dataset.CodingSchemeDesignator, dataset.CodeMeaning = code
    return dataset


def _codes(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    return tuple(
        f"{_text(item, 'CodeValue')}^{_text(item, 'CodingSchemeDesignator')}"
        for item in dataset.get(keyword) or []
    )


def _one(**items: Dataset) -> Dataset:
    """A dataset with sequences of one item."""
    dataset = Dataset()
    for keyword, item in items.items():
        setattr(dataset, keyword, DicomSequence([item]))
    return dataset


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "")


def _uid(dataset: Dataset, keyword: str) -> str:
    uid = _text(dataset, keyword)
    if not _UID.fullmatch(uid):
        raise FormatError(f"a work item has no {keyword}, or what it has is no UID.")
    return uid


def _moment(time: datetime) -> str:
    return time.strftime("%Y%m%d%H%M%S.%f%z")
