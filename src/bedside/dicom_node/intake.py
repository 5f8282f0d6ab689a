"""Takes images of series until each series is complete, and nothing twice.

The files are the record: an image is acknowledged once its file is in the folder of its job, under
a name that follows from its UID. After a restart, folders and jobs say where each series stands.
"""

import logging
import math
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import Enum
from pathlib import Path

from bedside.dicom_node.completeness import Step, Verdict, decide
from bedside.dicom_node.config import DicomSettings, Sender
from bedside.dicom_node.gathering import Gathering, compare_image
from bedside.dicom_node.header import ImageHeader
from bedside.dicom_node.series import (
    COMPLETE,
    FAILED,
    IMAGES,
    KIND,
    RECEIVED,
    Series,
    series_key,
)
from bedside.dicom_node.traits import ImageTraits
from bedside.errors import BedsideError, StaleJobError
from bedside.service.jobs import Job, JobStore
from bedside.system.boot import find_boot

LOGGER = logging.getLogger(__name__)
_TRY_AGAIN_S, _SILENT_S = 5.0, 30.0
_LOST = "the machine went down while its images came; send the series again"

Count = Callable[[Sender, Series], int | None]


class Arrival(Enum):
    """What became of an image.

    `IDENTICAL`: it was there before. `DIFFERENT`: another one with its UID is there, which stays.
    `OTHER_STUDY`: its series belongs to another study.
    """

    NEW = "new"
    IDENTICAL = "identical"
    DIFFERENT = "different"
    OTHER_STUDY = "other study"


@dataclass(frozen=True)
class Origin:
    """Where an image comes from.

    Attributes:
        association: Number of the association.
        calling_ae: AE title of the sender.
        called_ae: AE title that it called.
    """

    association: int
    calling_ae: str
    called_ae: str


class Intake:
    """Series that are being received; a thread decides when each is complete.

    Args:
        store: Where series are kept.
        settings: The table `[dicom]`.
        count: Asks a sender how many images a series has.
        on_event: Called with sentences about series, without anything of a patient.
    """

    def __init__(
        self,
        store: JobStore,
        settings: DicomSettings,
        *,
        count: Count,
        on_event: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._store, self._settings = store, settings
        self._count, self._on_event = count, on_event
        self._senders = {each.calling_ae: each for each in settings.sender}
        self._changed = threading.Condition()
        self._gatherings: dict[str, Gathering] = {}
        self._silent_until: dict[str, float] = {}
        self._dirty = False
        self._closing = False
        self._boot = find_boot() if settings.on_disk == "series" else ""
        for job in store.list(KIND, [RECEIVED], limit=10**6):
            if Series.from_payload(job.payload).boot in ("", find_boot()):
                self._open(job)
            else:
                self._give_up(job)
        self._thread = threading.Thread(target=self._run, name="bedside dicom intake", daemon=True)

    def start(self) -> None:
        """Begin to decide which series are complete."""
        self._thread.start()

    def close(self) -> None:
        """End the thread; series stay as they are."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def receive(self, header: ImageHeader, path: Path, origin: Origin) -> Arrival:
        """Take an image; it is on disk afterwards.

        Args:
            header: What it says of itself.
            path: Its file, on the disk of the store; it stays.
            origin: Where it comes from.

        Raises:
            OSError: If it cannot be written.
            OutputError: If it cannot be written.
        """
        while True:
            found = self._find(header, path, origin)
            if isinstance(found, Arrival):
                return found
            with found.lock:
                if found.is_closed:  # since it was found; by now it is not found any more
                    continue
                if found.series.study_instance_uid != header.study_instance_uid:
                    return Arrival.OTHER_STUDY
                same = found.compare(header, path)
                if same is None:
                    found.place(header, path, origin.association)
                is_decided = self._decide(found).step is not Step.WAIT
            if is_decided:  # most images change nothing, as their association goes on
                self._wake()
            return {None: Arrival.NEW, True: Arrival.IDENTICAL, False: Arrival.DIFFERENT}[same]

    def end(self, association: int, *, is_released: bool) -> None:
        """Take note that an association has ended."""
        with self._changed:
            gatherings = list(self._gatherings.values())
        ended = False
        for each in gatherings:
            with each.lock:
                ended |= each.end(association, is_released=is_released)
        if ended:
            self._wake()

    def _wake(self) -> None:
        with self._changed:
            self._dirty = True
            self._changed.notify_all()

    def _find(self, header: ImageHeader, path: Path, origin: Origin) -> Gathering | Arrival:
        """Return the round that takes an image, or what became of it in an earlier one."""
        uid = header.series_instance_uid
        with self._changed:
            if uid in self._gatherings:
                return self._gatherings[uid]
            latest = None
            while (job := self._store.find(KIND, series_key(uid, _round(latest) + 1))) is not None:
                latest = job
            if latest is None:
                return self._begin(header, origin, earlier=None)
            same = compare_image(self._store.folder(latest) / IMAGES, header, path)
            if same is not None:
                return Arrival.IDENTICAL if same else Arrival.DIFFERENT
            return self._reopen(latest) or self._begin(header, origin, earlier=latest)

    def _begin(self, header: ImageHeader, origin: Origin, *, earlier: Job | None) -> Gathering:
        """Begin a round of a series."""
        series = Series(
            study_instance_uid=header.study_instance_uid,
            series_instance_uid=header.series_instance_uid,
            **{each.name: getattr(header, each.name) for each in fields(ImageTraits)},
            calling_ae=origin.calling_ae,
            called_ae=origin.called_ae,
            round=_round(earlier) + 1,
            earlier="" if earlier is None else earlier.id,
            boot=self._boot,
        )
        job, _ = self._store.add(KIND, series.key, series.to_payload(), state=RECEIVED)
        if earlier is not None:
            self._on_event(
                f"series {job.id} takes images that came after series {earlier.id} was complete"
            )
        return self._open(job)

    def _reopen(self, job: Job) -> Gathering | None:
        """Take a series back that is complete, while nobody works on it yet."""
        if job.state not in (COMPLETE, RECEIVED) or job.owner is not None:
            return None
        payload = replace(Series.from_payload(job.payload), boot=self._boot).to_payload()
        try:
            return self._open(
                self._store.move(job, RECEIVED, payload=payload, reason="more images came")
            )
        except StaleJobError:
            return None

    def _open(self, job: Job) -> Gathering:
        """Open a series that is received, also one of before a restart."""
        series = Series.from_payload(job.payload)
        can_ask = series.calling_ae in self._senders
        gathering = Gathering(
            job, self._store.folder(job), can_ask=can_ask,
            syncs_each=self._settings.on_disk == "image",
        )  # fmt: skip
        earlier = self._store.get(series.earlier) if series.earlier else None
        if earlier is not None and not Series.from_payload(earlier.payload).are_whole:
            gathering.link_earlier(self._store.folder(earlier) / IMAGES)
        self._gatherings[series.series_instance_uid] = gathering
        return gathering

    def _give_up(self, job: Job) -> None:
        """Fail a series whose images may be lost or damaged; they come again with it."""
        shutil.rmtree(self._store.folder(job) / IMAGES, ignore_errors=True)
        self._store.move(job, FAILED, reason=_LOST)
        self._on_event(f"series {job.id} is {FAILED}: {_LOST}")

    def _run(self) -> None:
        while True:
            try:
                wait_s = self._decide_all()
            except Exception as error:  # noqa: BLE001 - the other series need this thread
                LOGGER.error("series wait to be complete: %s", type(error).__name__)
                wait_s = _TRY_AGAIN_S
            with self._changed:
                if self._closing:
                    return
                if not self._dirty:
                    self._changed.wait(wait_s)
                self._dirty = False

    def _decide_all(self) -> float:
        """Decide for each series; return the seconds until that is to be done again."""
        with self._changed:
            gatherings = list(self._gatherings.values())
        wait_s = 3600.0
        for each in gatherings:
            verdict = self._advance(each)
            if verdict.step is Step.ASK:
                self._ask(each)
                wait_s = 0.0
            wait_s = min(wait_s, verdict.wait_s)
        return wait_s

    def _decide(self, gathering: Gathering) -> Verdict:
        settings = self._settings
        return decide(gathering.known, settle_s=settings.settle_s, missing_s=settings.missing_s)

    def _advance(self, gathering: Gathering) -> Verdict:
        """Close a series that takes no more images; return what else is to be done with it."""
        with gathering.lock:
            verdict = self._decide(gathering)
        if verdict.step is Step.COMPLETE:  # without the lock, as more may come meanwhile
            try:
                gathering.sync()
            except OSError as error:  # a disk forgets what it could not write
                why = f"the disk failed with its images ({error.strerror}); send the series again"
                verdict = Verdict(Step.FAIL, why)
        with gathering.lock:
            if verdict.step is Step.COMPLETE and not gathering.is_synced:
                return Verdict(Step.WAIT, wait_s=0.0)
            if verdict.step in (Step.COMPLETE, Step.FAIL):
                return Verdict(Step.WAIT, wait_s=self._finish(gathering, verdict))
        return verdict

    def _ask(self, gathering: Gathering) -> None:
        """Ask the sender; images may come meanwhile, and then it is asked again."""
        before, sender = gathering.known.images, gathering.series.calling_ae
        counted = None
        if self._silent_until.get(sender, 0.0) < time.monotonic():
            counted = self._count(self._senders[sender], gathering.series)
            if counted is None:  # one that does not answer must not keep other series waiting
                self._silent_until[sender] = time.monotonic() + _SILENT_S
        with gathering.lock:
            if gathering.known.images == before:
                gathering.mark_asked(counted)

    def _finish(self, gathering: Gathering, verdict: Verdict) -> float:
        """Close a series that takes no more images; return the seconds until another attempt."""
        state = COMPLETE if verdict.step is Step.COMPLETE else FAILED
        known = gathering.known
        series = replace(gathering.series, images=known.images, are_whole=known.are_whole)
        try:
            job = self._store.move(
                gathering.job, state, payload=series.to_payload(), reason=verdict.why
            )
        except (OSError, BedsideError) as error:  # as of a full disk
            self._on_event(f"series {gathering.job.id} stays {RECEIVED}: {type(error).__name__}")
            return _TRY_AGAIN_S
        gathering.is_closed = True
        with self._changed:
            del self._gatherings[series.series_instance_uid]
        self._on_event(f"series {job.id} is {state}: {verdict.why}")
        return math.inf


def _round(job: Job | None) -> int:
    return 0 if job is None else Series.from_payload(job.payload).round
