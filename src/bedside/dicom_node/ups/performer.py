"""Performs work items: finds one, claims it, fetches, segments, sends the results, completes it.

Each step is in the store of jobs before and after it is taken. The transaction UID, which is the
key to a claimed work item, is there before the claim; so a performer that is killed goes on with
what it had claimed, and one with the same store goes on with what another had.

    claiming -> claimed -> segmented -> sending -> stored -> completed
                                    or lost (to another performer), canceled, failed
"""

import contextlib
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydicom.uid import generate_uid

from bedside.dicom_node.sending.delivery import State as DeliveryState
from bedside.dicom_node.sending.delivery import pause_s
from bedside.dicom_node.sending.destination import RetryPolicy
from bedside.dicom_node.sending.instance import read_instance
from bedside.dicom_node.sending.sender import Sender
from bedside.dicom_node.ups.cancellations import Cancellations
from bedside.dicom_node.ups.inputs import ImageService
from bedside.dicom_node.ups.work_item import (
    CANCELED,
    CANCELED_ON_REQUEST,
    COMPLETED,
    FAILED,
    IN_PROGRESS,
    Code,
    WorkItem,
    make_discontinuation,
    make_progress,
    make_results,
    read_work_item,
)
from bedside.dicom_node.ups.worklist import Worklist
from bedside.errors import (
    BedsideError,
    BusyError,
    CancelledError,
    ClosedError,
    ConflictError,
    FormatError,
    OutputError,
    PeerError,
    StaleJobError,
    UnansweredError,
)
from bedside.service.jobs import Job, JobStore
from bedside.system.atomic import output_errors
from bedside.system.unfinished import part_folder

KIND = "work item"
END_STATES = ("completed", "lost", "canceled", "failed")
OPEN_STATES = ("claiming", "claimed", "segmented", "sending", "stored")
Work = Callable[[WorkItem, Path, Path, Callable[[float], None]], None]
"""Segments the images in a folder and writes DICOM files into another; reports the part done."""

# Work that ended the process so often is not tried again.
_MOST_ATTEMPTS = 3
_PROGRESS_S = 2.0
# Work items of others may fill many pages before the first that fits.
_MOST_PAGES = 20


@dataclass(frozen=True)
class PerformerSettings:
    """What a performer performs, and for whom.

    Attributes:
        destination: Name of the destination for results.
        ae_title: Who subscribes to events of work items; each process needs its own.
        wants: Which work items it takes.
        retry: Pauses while the worklist or the images cannot be reached, and when to give up.
        page: How many work items the worklist is asked for at a time.
        look_s: Pause before the worklist is asked again, where it had nothing to do.
    """

    destination: str
    ae_title: str = "BEDSIDE"
    wants: Callable[[WorkItem], bool] = field(default=lambda item: True)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    page: int = 50
    look_s: float = 5.0


class Performer:
    """Performs work items one at a time, in one thread.

    Args:
        store: Where work items, results and deliveries are; several performers may share it.
        worklist: Of this performer alone.
        images: Where inputs are fetched, of this performer alone.
        sender: What sends results; it runs by itself.
        work: What segments.
        settings: What is performed.
        cancellations: Requests to cancel, shared by the performers of a process.
        on_channel: Called with the address of the channel of events.
    """

    def __init__(
        self,
        store: JobStore,
        worklist: Worklist,
        images: ImageService,
        sender: Sender,
        work: Work,
        settings: PerformerSettings,
        cancellations: Cancellations | None = None,
        on_channel: Callable[[str], None] = lambda channel: None,
    ) -> None:
        self._store, self._worklist, self._images = store, worklist, images
        self._sender, self._work, self._settings = sender, work, settings
        self._cancellations = cancellations or Cancellations()
        self._on_channel = on_channel
        self._look_s = 0.0
        self._steps: dict[str, Callable[[Job, str], Job]] = {
            "claiming": self._claim,
            "claimed": self._segment,
            "segmented": self._order,
            "sending": self._await_delivery,
            "stored": self._complete,
        }

    def step(self, *, wait_s: float = 0.0) -> Job | None:
        """Take the next step of a work item, or of a new one.

        Args:
            wait_s: How long to wait for one that is due.

        Returns:
            The job of the work item after the step; None if there is nothing to do.

        Raises:
            PeerError: If the worklist cannot be reached when one is looked for.
            UnansweredError: If it does not answer then.
            FormatError: If what it answers is no list of work items.
        """
        job = self._store.claim(KIND, OPEN_STATES)
        if job is None:
            if time.monotonic() >= self._look_s:
                self._look_s = time.monotonic() + self._settings.look_s
                if self._find():
                    self._look_s = 0.0
            job = self._store.claim(KIND, OPEN_STATES, wait_s=wait_s)
        if job is None:
            return None
        try:
            done = self._steps[job.state](job, job.payload["transaction_uid"])
        except StaleJobError:
            return self._store.get(job.id)
        except BedsideError as error:
            return self._later(job, str(error))
        if done.state not in OPEN_STATES:
            self._cancellations.forget(done.key)
        return done

    def _find(self) -> bool:
        """Put a work item into the store that may be claimed; return whether there is one."""
        for page in range(_MOST_PAGES):
            found = self._worklist.search(self._settings.page, page * self._settings.page)
            items = [item for item in map(_read, found) if item is not None and self._wants(item)]
            random.shuffle(items)  # performers that look at one time claim different ones
            for item in items:
                payload = {"transaction_uid": str(generate_uid())}
                _, is_new = self._store.add(KIND, item.uid, payload, state="claiming")
                if is_new:
                    return True
            if len(found) < self._settings.page:
                break
        return False

    def _wants(self, item: WorkItem) -> bool:
        return item.is_ready and bool(item.inputs) and self._settings.wants(item)

    def _claim(self, job: Job, transaction_uid: str) -> Job:
        try:
            self._worklist.change_state(job.key, IN_PROGRESS, transaction_uid)
        except ConflictError:
            # A claim whose answer was lost looks like one that came too late: the key decides.
            if job.attempts == 1 or not self._is_ours(job.key, transaction_uid):
                return self._store.move(job, "lost", reason="another performer has it")
        begun = datetime.now(UTC).astimezone().isoformat()
        payload = {**job.payload, "begun": begun, "pauses": 0}
        return self._store.move(job, "claimed", payload=payload)

    def _is_ours(self, uid: str, transaction_uid: str) -> bool:
        """Whether a work item is claimed with this key."""
        try:
            self._worklist.update(uid, make_progress(0.0), transaction_uid)
        except ConflictError:
            return False
        return True

    def _segment(self, job: Job, transaction_uid: str) -> Job:
        """Fetch and segment; results appear in one rename."""
        uid, folder = job.key, self._store.folder(job)
        if job.attempts - _pauses(job) > _MOST_ATTEMPTS:
            return self._discontinue(job, FAILED, f"it ended {_MOST_ATTEMPTS} attempts", "failed")
        try:
            self._subscribe(uid)
            item = read_work_item(self._worklist.retrieve(uid))
            if item.state != IN_PROGRESS:
                raise ConflictError(f"the work item is {item.state}.")
            if not (folder / "results").exists():
                self._write_results(item, folder, transaction_uid)
            self._cancellations.commit(uid)
        except CancelledError as error:
            if not self._cancellations.is_requested(uid):  # the server is being stopped
                return self._later(job, str(error))
            return self._discontinue(job, CANCELED_ON_REQUEST, "canceled on request", "canceled")
        except ConflictError as error:
            return self._discontinue(job, CANCELED_ON_REQUEST, str(error), "canceled")
        except (PeerError, UnansweredError, BusyError, ClosedError, OutputError):
            raise
        except BedsideError as error:
            why = str(error).replace(f"{folder}{os.sep}", "")
            return self._discontinue(job, FAILED, why, "failed")
        except Exception as error:  # noqa: BLE001 - one work item must not stop the others
            why = f"{type(error).__name__} (a fault of bedside)"
            return self._discontinue(job, FAILED, why, "failed")
        return self._store.move(job, "segmented")

    def _subscribe(self, uid: str) -> None:
        """Have requests to cancel sent here; a worklist without events cannot ask for that."""
        try:
            self._on_channel(self._worklist.subscribe(uid, self._settings.ae_title))
        except (PeerError, UnansweredError, ConflictError):
            return

    def _write_results(self, item: WorkItem, folder: Path, transaction_uid: str) -> None:
        said_s = time.monotonic()

        def report(part: float) -> None:
            nonlocal said_s
            self._cancellations.check(item.uid)
            if time.monotonic() - said_s >= _PROGRESS_S:
                said_s = time.monotonic()
                try:
                    self._worklist.update(item.uid, make_progress(part), transaction_uid)
                except (PeerError, UnansweredError):  # the work is worth more than its progress
                    return

        folder.mkdir(parents=True, exist_ok=True)
        with output_errors(folder), part_folder(folder) as part:
            for number, series in enumerate(item.inputs):
                (inputs := part / "inputs" / str(number)).mkdir(parents=True)
                self._images.fetch(
                    series, inputs, check=lambda: self._cancellations.check(item.uid)
                )
            (results := part / "results").mkdir()
            self._work(item, part / "inputs", results, report)
            self._cancellations.check(item.uid)
            for path in results.rglob("*.dcm"):
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            os.rename(results, folder / "results")

    def _order(self, job: Job, _: str) -> Job:
        files = self._results(job)
        if files:
            self._sender.order(job.id, files, self._settings.destination)
        return self._store.move(job, "sending" if files else "stored")

    def _await_delivery(self, job: Job, _: str) -> Job:
        delivery = self._sender.find(job.id, self._settings.destination)
        if delivery is None:
            return self._store.move(job, "segmented")
        if delivery.state is DeliveryState.FAILED:
            why = f"the results were not stored: {delivery.why}"
            return self._discontinue(job, FAILED, why, "failed")
        if self._sender.is_done(delivery):
            return self._store.move(job, "stored")
        pause = min(5.0, 0.02 * 2.0 ** min(job.attempts, 20))
        return self._store.move(job, "sending", due=time.time() + pause)

    def _complete(self, job: Job, transaction_uid: str) -> Job:
        outputs = [read_instance(path) for path in self._results(job)]
        try:
            item = self._worklist.retrieve(job.key)
            end, begin = (
                datetime.now(UTC).astimezone(),
                datetime.fromisoformat(job.payload["begun"]),
            )
            results = make_results(item, outputs, begin=begin, end=end)
            results.update(make_progress(1.0))
            self._worklist.update(job.key, results, transaction_uid)
            self._worklist.change_state(job.key, COMPLETED, transaction_uid)
        except ConflictError as error:
            # Only who has the key can complete it: it was this job, whose answer was lost.
            state = str(self._worklist.retrieve(job.key).get("ProcedureStepState"))
            if state != COMPLETED:
                why = f"it cannot be completed, its state is {state}: {error}"
                return self._store.move(job, "failed", reason=why)
        return self._store.move(job, "completed")

    def _discontinue(self, job: Job, code: Code, why: str, state: str) -> Job:
        """Return a work item as canceled: DICOM has no other end for what was begun."""
        with contextlib.suppress(ConflictError):  # canceled already, by whoever asked for it
            discontinue(self._worklist, job, code, why)
        return self._store.move(job, state, reason=why)

    def _later(self, job: Job, why: str) -> Job:
        """Try again after a pause, which is no attempt, or give up."""
        policy = self._settings.retry
        if time.time() - job.created > policy.give_up_after_s:
            return self._store.move(job, "failed", reason=f"given up: {why}")
        due = time.time() + pause_s(policy, job.attempts, random.random())
        payload = {**job.payload, "pauses": _pauses(job) + 1}
        return self._store.move(job, job.state, payload=payload, reason=why, due=due)

    def _results(self, job: Job) -> Sequence[Path]:
        return sorted((self._store.folder(job) / "results").rglob("*.dcm"))


def discontinue(worklist: Worklist, job: Job, code: Code, why: str) -> None:
    """Record why a claimed work item is not performed, and cancel it.

    Args:
        worklist: Where it is.
        job: Its job.
        code: The reason.
        why: The reason in words.

    Raises:
        ConflictError: If it is not claimed with the key of the job any more.
        PeerError: If the worklist cannot be reached.
        UnansweredError: If no whole answer came.
    """
    transaction_uid = job.payload["transaction_uid"]
    now = datetime.now(UTC).astimezone()
    worklist.update(job.key, make_discontinuation(code, why, now), transaction_uid)
    worklist.change_state(job.key, CANCELED, transaction_uid)


def _pauses(job: Job) -> int:
    """How many of the attempts were not made."""
    return int(job.payload.get("pauses", 0))


def _read(dataset: Any) -> WorkItem | None:
    """A work item; None if it is none, which must not hide the others."""
    try:
        return read_work_item(dataset)
    except FormatError:
        return None
