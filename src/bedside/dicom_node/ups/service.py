"""Performers as threads, and the thread that hears of requests to cancel."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bedside.dicom_node.sending.destination import Tls, WebDestination
from bedside.dicom_node.sending.sender import Sender
from bedside.dicom_node.ups.cancellations import Cancellations
from bedside.dicom_node.ups.config import WorklistSettings
from bedside.dicom_node.ups.engine_work import EngineWork
from bedside.dicom_node.ups.events import EventListener
from bedside.dicom_node.ups.inputs import ImageService
from bedside.dicom_node.ups.performer import (
    END_STATES,
    KIND,
    Performer,
    PerformerSettings,
    Work,
    discontinue,
)
from bedside.dicom_node.ups.ups_dimse import DimseService, DimseWorklist
from bedside.dicom_node.ups.ups_rs import WebWorklist, WorklistService
from bedside.dicom_node.ups.work_item import CANCELED_ON_REQUEST
from bedside.dicom_node.ups.worklist import Worklist
from bedside.errors import (
    BedsideError,
    ClosedError,
    ConflictError,
    OutputError,
    PeerError,
    UnansweredError,
)
from bedside.service.engine import Engine
from bedside.service.jobs import Job, JobStore

LOGGER = logging.getLogger("bedside.worklist")

_WAIT_S, _CLEAN_S = 0.5, 600.0
# Before results leave; the lock of `Cancellations` has the last word.
_CAN_BE_CANCELED = ("claiming", "claimed")


@dataclass(frozen=True)
class Peers:
    """Whom performers talk to.

    Attributes:
        worklist: Where work items are.
        images: Where their inputs are fetched.
    """

    worklist: WorklistService | DimseService
    images: WebDestination


class PerformerService:
    """Performs the work items of a worklist, until it is closed.

    Args:
        store: Where work items, results and deliveries are.
        peers: Whom it talks to.
        sender: What sends results; it is started by whoever made it.
        work: What segments; called by several threads.
        settings: What is performed.
        threads: How many work items at a time.
        keep_s: Seconds for which ended work items are kept, with images and results.
        on_step: Called with the job of a work item after each step.

    Raises:
        SpecError: If certificates cannot be read.
    """

    def __init__(
        self,
        store: JobStore,
        peers: Peers,
        sender: Sender,
        work: Work,
        settings: PerformerSettings,
        *,
        threads: int = 1,
        keep_s: float = 86400.0,
        on_step: Callable[[Job], None] = lambda job: None,
    ) -> None:
        self._store, self._peers, self._on_step = store, peers, on_step
        self._sender = sender
        self._cancellations = Cancellations()
        self._stop, self._keep_s = threading.Event(), keep_s
        service = peers.worklist
        self.events = _open_events(service, self._cancel)
        self._worklists = [_open_worklist(service) for _ in range(threads)]
        self._images = [ImageService(peers.images) for _ in range(threads)]
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(
                    Performer(
                        store, worklist, images, sender, work, settings, self._cancellations,
                        self._listen,
                    ),
                ),
                name=f"work items {number}",
            )
            for number, (worklist, images) in enumerate(
                zip(self._worklists, self._images, strict=True)
            )
        ]  # fmt: skip

        self._cleaner = threading.Thread(target=self._clean, name="work items that ended")

    def start(self) -> None:
        """Begin to perform."""
        for thread in (*self._threads, self._cleaner):
            thread.start()

    def stop(self) -> None:
        """Begin no further step, and return at once."""
        self._stop.set()

    def close(self) -> None:
        """End after the steps in progress; the next start goes on with what is left."""
        self.stop()
        for thread in (*self._threads, self._cleaner):
            if thread.is_alive():
                thread.join()
        self.events.close()
        for worklist, images in zip(self._worklists, self._images, strict=True):
            worklist.close()
            images.close()

    def __enter__(self) -> "PerformerService":
        """Return the service; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the service."""
        self.close()

    def _listen(self, channel: str) -> None:
        """Listen to a channel of events; over DIMSE there is none, they come to the node."""
        if channel:
            self.events.listen(channel)

    def _run(self, performer: Performer) -> None:
        while not self._stop.is_set():
            try:
                job = performer.step(wait_s=_WAIT_S)
            except ClosedError:
                return
            except BedsideError:  # the worklist is away: it is asked again
                self._stop.wait(_WAIT_S)
                continue
            if job is not None:
                self._on_step(job)

    def _clean(self) -> None:
        """Remove what was kept for long enough: it is of patients."""
        while not self._stop.is_set():
            with suppress(OutputError, ClosedError):  # a full disk: tried again
                self._store.remove(KIND, END_STATES, older_s=self._keep_s)
                self._sender.remove_ended(older_s=self._keep_s)
            self._stop.wait(_CLEAN_S)

    def cancel_soon(self, uid: str) -> None:
        """Cancel a work item in a thread of its own, as whoever asks may wait for the answer."""
        threading.Thread(target=self._cancel_quietly, args=(uid,), daemon=True).start()

    def _cancel_quietly(self, uid: str) -> None:
        with suppress(OutputError, ClosedError):  # the server is being stopped
            self._cancel(uid)

    def _cancel(self, uid: str) -> None:
        """Cancel a work item at once, whatever the thread that works on it is doing."""
        job = self._store.find(KIND, uid)
        if job is None or job.state not in _CAN_BE_CANCELED or not self._cancellations.request(uid):
            return
        worklist = _open_worklist(self._peers.worklist)
        try:
            discontinue(worklist, job, CANCELED_ON_REQUEST, "canceled on request")
        except (ConflictError, PeerError, UnansweredError):  # the performer tries too
            return
        finally:
            worklist.close()


def _log_step(job: Job) -> None:
    LOGGER.info("work item %s is %s", job.id, job.state)  # our id: its UID is not logged


def _open_worklist(service: WorklistService | DimseService) -> Worklist:
    """Return a worklist for one thread."""
    return WebWorklist(service) if isinstance(service, WorklistService) else DimseWorklist(service)


def _open_events(
    service: WorklistService | DimseService, on_cancel: Callable[[str], None]
) -> EventListener:
    """Return what listens to events; none come over DIMSE, so it is never begun there."""
    if isinstance(service, WorklistService):
        return EventListener(on_cancel, token_file=service.token_file, tls=service.tls)
    return EventListener(on_cancel, token_file=None, tls=Tls())


def find_peers(settings: WorklistSettings, *, with_node: bool = False) -> Peers:
    """Return whom a configuration names.

    Args:
        settings: The table `[worklist]`.
        with_node: Whether there is a DICOM node, which events over DIMSE come to.

    Raises:
        SpecError: If an address is none.
    """
    service: WorklistService | DimseService
    if settings.is_dimse:
        found = DimseService.from_url(
            settings.url, calling_ae_title=settings.ae_title, query=settings.query, tls=settings.tls
        )
        service = replace(found, with_events=with_node)
    else:
        service = WorklistService(
            settings.url,
            query=settings.query,
            transaction_in=settings.transaction_in,
            bodies=settings.bodies,
            token_file=settings.token_file,
            tls=settings.tls,
        )
    images = WebDestination(
        "images",
        settings.images_url or settings.url,
        token_file=settings.token_file,
        tls=settings.tls,
    )
    return Peers(service, images)


@contextmanager
def open_performers(
    settings: WorklistSettings,
    engine: Engine,
    folder: Path,
    *,
    with_node: bool = False,
    on_step: Callable[[Job], None] | None = None,
) -> Iterator[PerformerService]:
    """Open the performers of a configuration; they are closed at the end of the block.

    Args:
        settings: The table `[worklist]`.
        engine: What segments.
        folder: Where work items and results are kept.
        with_node: Whether there is a DICOM node, whose `cancel_work` is `cancel_soon`.
        on_step: Called with the job of a work item after each step; None to log its state.

    Yields:
        The service, to be started.

    Raises:
        NoModelError: If there is no model of a name.
        SpecError: If certificates cannot be read, or an address is none.
        OutputError: If nothing can be written to the folder.
    """
    for name in settings.models.values():
        engine.bundle(name)
    work = EngineWork(engine, settings.models, with_sr=settings.with_sr)
    (destination,) = settings.destinations
    performed = PerformerSettings(
        destination.name,
        settings.ae_title,
        wants=work.wants,
        retry=settings.retry,
        look_s=settings.look_s,
    )
    peers = find_peers(settings, with_node=with_node)
    with (
        JobStore(folder) as store,
        Sender(store, settings.destinations) as sender,
        PerformerService(
            store,
            peers,
            sender,
            work,
            performed,
            threads=settings.at_once,
            keep_s=settings.keep_s,
            on_step=on_step or _log_step,
        ) as performers,
    ):
        sender.start()
        yield performers
