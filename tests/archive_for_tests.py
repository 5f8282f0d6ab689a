"""A DICOM archive in this process: takes files, is asked for them, and fails when it is told to."""

import contextlib
import socket
import threading
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pynetdicom import AE, StoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from bedside.io.source import Algorithm, open_source, write_labels
from bedside.report.areas import measure_areas
from bedside.report.dicom_sr import write_sr
from bedside.volume import Box, LabelMap
from dicom_makers import make_affine, make_slices, write_series
from makers import LABELS, make_dicom, make_fan, make_labels, make_region, write_dicom
from ports_for_tests import find_port

ALGORITHM = Algorithm("camus", "1.2", "ab" * 32, "source")


def write_results(folder: Path, *, frames: int = 2, tags: dict | None = None) -> list[Path]:
    """Write an image, and the SEG and the SR that bedside writes of it; return these two."""
    folder.mkdir(parents=True, exist_ok=True)
    image = make_dicom(make_fan(frames), regions=[make_region((0, 0, 63, 47))], tags=tags)
    source = open_source(write_dicom(image, folder / "image.dcm"))
    array = make_labels(frames)
    labels = LabelMap(array, source.sequence.spacing_mm)
    measured = measure_areas(labels, LABELS, region=Box(0, 0, *array.shape[1:]))
    seg, sr = folder / "segmentation.dcm", folder / "measurements.dcm"
    write_labels(labels, source, seg, labels_spec=LABELS, algorithm=ALGORITHM, format="dicom-seg")
    write_sr(measured, source, seg, sr, labels_spec=LABELS, algorithm=ALGORITHM, slices=False)
    return [seg, sr]


def write_scan_results(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Write an oblique CT with its SEG and SR; also return where label 1 lies, in mm."""
    affine = make_affine((0.8, 0.6, 0, 0, 0, -1))
    labels = np.zeros((6, 40, 50), np.uint8)
    labels[1:4, 5:15, 10:30], labels[2:6, 20:38, 35:48] = 1, 2
    files = write_series(make_slices(labels.astype(np.uint16), affine), folder / "ct")
    source = open_source(folder / "ct", files=files)
    found = np.rint(np.stack(list(source.sequence))[:, 0] + 1024).astype(np.uint8)
    image = LabelMap(found, source.sequence.spacing_mm)
    measured = measure_areas(
        image, LABELS, region=Box(0, 0, 40, 50), slice_mm=source.sequence.slice_spacing_mm
    )
    seg, sr = folder / "segmentation.dcm", folder / "measurements.dcm"
    write_labels(image, source, seg, labels_spec=LABELS, algorithm=ALGORITHM, format="dicom-seg")
    write_sr(measured, source, seg, sr, labels_spec=LABELS, algorithm=ALGORITHM, slices=True)
    index = np.argwhere(labels == 1)
    return [seg, sr], index @ affine[:3, :3].T + affine[:3, 3]


class Archive:
    """A storage SCP with C-FIND and storage commitment.

    Args:
        port: Where it listens; None for a free one.
        statuses: Statuses of the first C-STOREs; 0 after them.
        lose: Of the first C-STOREs, how many are kept but answered by a broken connection.
        hide: How often a question is answered with "not there" before the truth.
        before_answer: Called with "store" or "find" before each answer.
        report: Storage commitment: "same" association, or "later" when `send_reports` is called.
    """

    def __init__(
        self,
        *,
        port=None,
        statuses=(),
        lose=0,
        hide=0,
        report="same",
        contexts=None,
        before_answer=None,
        tls=None,
    ):
        self.port = port or find_port()
        self.statuses, self.lose, self.hide, self.report = list(statuses), lose, hide, report
        self._before_answer = before_answer or (lambda kind: None)
        self.received: Counter[str] = Counter()
        self.kept: dict[str, bytes] = {}
        self.open_reports: list[tuple[Dataset, int]] = []
        self._lock = threading.Lock()
        entity = AE(ae_title="ARCHIVE")
        entity.supported_contexts = contexts or StoragePresentationContexts
        for sop_class in (StudyRootQueryRetrieveInformationModelFind, Verification):
            entity.add_supported_context(sop_class)
        entity.add_supported_context(StorageCommitmentPushModel)
        self._server = entity.start_server(
            ("127.0.0.1", self.port),
            block=False,
            ssl_context=tls,
            evt_handlers=[
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_C_FIND, self._find),
                (evt.EVT_N_ACTION, self._commit),
            ],
        )

    def close(self):
        self._server.shutdown()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __contains__(self, uid):
        with self._lock:
            return uid in self.kept

    def _store(self, event):
        uid = str(event.request.AffectedSOPInstanceUID)
        with self._lock:
            self.received[uid] += 1
            status = self.statuses.pop(0) if self.statuses else 0
            if status == 0 or status >> 12 == 0xB:
                self.kept[uid] = event.encoded_dataset(include_meta=True)
            if self.lose:
                self.lose -= 1
                event.assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        self._before_answer("store")
        return status

    def _find(self, event):
        self._before_answer("find")
        if self._is_hidden():
            yield 0, None
            return
        uid = event.identifier.SOPInstanceUID
        if uid in self:
            match = Dataset()
            match.QueryRetrieveLevel = "IMAGE"
            match.SOPInstanceUID = uid
            yield 0xFF00, match
        yield 0, None

    def _commit(self, event):
        report = Dataset()
        report.TransactionUID = event.action_information.TransactionUID
        asked = event.action_information.ReferencedSOPSequence
        hidden = self._is_hidden()
        there, missing = [], []
        for item in asked:
            is_there = item.ReferencedSOPInstanceUID in self and not hidden
            (there if is_there else missing).append(item)
        for item in missing:
            item.FailureReason = 0x0112
        report.ReferencedSOPSequence = there
        if missing:
            report.FailedSOPSequence = missing
        kind = 2 if missing else 1
        if self.report == "same":

            def tell():
                with contextlib.suppress(RuntimeError):  # the other end was faster
                    event.assoc.send_n_event_report(
                        report, kind, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1"
                    )

            threading.Timer(0.05, tell).start()
        else:
            self.open_reports.append((report, kind))
        return 0, None

    def send_reports(self, port: int) -> None:
        """Send the reports that are due to a node, on an association of its own."""
        entity = AE(ae_title="ARCHIVE")
        entity.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = entity.associate("127.0.0.1", port, ext_neg=[role])
        assert association.is_established
        for report, kind in self.open_reports:
            status, _ = association.send_n_event_report(
                report, kind, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1"
            )
            assert status.Status == 0
        association.release()

    def _is_hidden(self) -> bool:
        with self._lock:
            self.hide -= 1
            return self.hide >= 0


def is_same_object(path: Path, received: bytes) -> bool:
    """Whether an object that was received is the one in a file: every element and pixel."""
    sent, got = dcmread(path), dcmread(BytesIO(received))
    if "PixelData" not in sent:
        return sent == got
    got["PixelData"].VR = sent["PixelData"].VR  # the default transfer syntax has OW only
    return sent == got and np.array_equal(sent.pixel_array, got.pixel_array)
