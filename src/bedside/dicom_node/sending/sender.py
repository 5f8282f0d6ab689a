"""Sends results on: deliveries in the store of jobs, a thread for each destination.

A destination that is down keeps only its own deliveries waiting. Each step is on disk before it is
taken, so after a kill the files of an unfinished one are asked for before they are sent again.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydicom.uid import generate_uid

from bedside.dicom_node.sending.delivery import (
    Answer,
    Delivery,
    FileReply,
    Finding,
    Presence,
    State,
    Step,
    after_asking,
    after_sending,
    next_step,
    pause_s,
    worst_answer,
)
from bedside.dicom_node.sending.destination import Destination, DicomDestination
from bedside.dicom_node.sending.instance import Instance, read_instance
from bedside.dicom_node.sending.transport import Transport
from bedside.errors import (
    BedsideError,
    ClosedError,
    FormatError,
    OutputError,
    StaleJobError,
    UsageError,
)
from bedside.service.jobs import Job, JobStore

_OPEN = (State.WAITING, State.SENDING, State.SENT)
_WAIT_S = 0.5


def open_transport(destination: Destination) -> Transport:
    """Return what sends to a destination; the library for its protocol is loaded.

    Raises:
        SpecError: If its certificates cannot be read.
    """
    if isinstance(destination, DicomDestination):
        from bedside.dicom_node.sending.dimse import DimseTransport

        return DimseTransport(destination)
    from bedside.dicom_node.sending.stow import WebTransport

    return WebTransport(destination)


class Sender:
    """Sends what is ordered, until it is closed.

    Args:
        store: Where deliveries are.
        destinations: Where to; their names are unique.
        on_change: Called with each delivery after each step, by the thread of its destination.
        clock: Seconds since 1970.

    Raises:
        UsageError: If two destinations have one name.
        SpecError: If certificates of a destination cannot be read.
    """

    def __init__(
        self,
        store: JobStore,
        destinations: Sequence[Destination],
        *,
        on_change: Callable[[Delivery], None] = lambda delivery: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._on_change, self._clock = store, on_change, clock
        self._destinations = {destination.name: destination for destination in destinations}
        if len(self._destinations) != len(destinations):
            raise UsageError("two destinations have the same name. Rename one.")
        self._transports = {
            name: open_transport(destination) for name, destination in self._destinations.items()
        }
        self._failures = dict.fromkeys(self._destinations, 0)  # in a row, by destination
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def order(self, key: str, files: Sequence[Path], destination: str) -> Delivery:
        """Return the delivery of files, which is on disk; ordered again, it stays as it is.

        Args:
            key: Of the job whose results they are.
            files: DICOM files whose bytes do not change any more.
            destination: Its name.

        Raises:
            UsageError: If there is no such destination.
        """
        if destination not in self._destinations:
            known = ", ".join(self._destinations) or "none"
            raise UsageError(f'there is no destination "{destination}"; there is: {known}.')
        delivery = Delivery(key, destination, tuple(files), created_s=self._clock())
        job, _ = self._store.add(_kind(destination), key, _pack(delivery), state=State.WAITING)
        return _unpack(job)

    def find(self, key: str, destination: str) -> Delivery | None:
        """Return a delivery as it is, or None."""
        job = self._store.find(_kind(destination), key)
        return None if job is None else _unpack(job)

    def is_done(self, delivery: Delivery) -> bool:
        """Whether the destination has the files, as far as it can be asked."""
        can_ask = self._transports[delivery.destination].can_ask
        return delivery.state is State.CONFIRMED or (delivery.state is State.SENT and not can_ask)

    def retry(self, key: str, destination: str) -> Delivery | None:
        """Begin a delivery that was given up anew; return it, or None if there is none."""
        job = self._store.find(_kind(destination), key)
        if job is None or job.state != State.FAILED:
            return None if job is None else _unpack(job)
        old = _unpack(job)
        delivery = Delivery(old.key, old.destination, old.files, created_s=self._clock())
        return self._keep(job, delivery, is_held=False)[1]

    def remove_ended(self, *, older_s: float) -> int:
        """Remove deliveries that have ended, which could then be ordered anew; return how many.

        Args:
            older_s: Seconds since they ended, at least. Their jobs must be gone before.
        """
        removed = 0
        for name, transport in self._transports.items():
            ended = [State.CONFIRMED, State.FAILED]
            if not transport.can_ask:
                ended.append(State.SENT)
            removed += self._store.remove(_kind(name), ended, older_s=older_s)
        return removed

    def start(self) -> None:
        """Begin to send, with a thread for each destination."""
        for name in self._destinations:
            thread = threading.Thread(target=self._serve, args=(name,), name=f"send to {name}")
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """End after the steps in progress; what is left is continued by the next sender."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for transport in self._transports.values():
            transport.close()

    def __enter__(self) -> "Sender":
        """Return the sender; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the sender."""
        self.close()

    def step(self, destination: str, *, wait_s: float = 0.0) -> Delivery | None:
        """Take the next step of a delivery that is due, if there is one.

        Args:
            destination: Its name.
            wait_s: How long to wait for one.

        Returns:
            The delivery after the step; None if none is due.
        """
        can_ask = self._transports[destination].can_ask
        states = _OPEN if can_ask else _OPEN[:2]
        job = self._store.claim(_kind(destination), states, wait_s=wait_s)
        if job is None:
            return None
        try:
            delivery = self._advance(job, _unpack(job), can_ask=can_ask)
        except StaleJobError:  # a report that came by itself has changed it
            changed = self._store.get(job.id)
            return None if changed is None else _unpack(changed)
        self._on_change(delivery)
        return delivery

    def receive_report(self, transaction_uid: str, found: Finding) -> None:
        """Take a report of storage commitment that came on an association of the archive's own.

        Args:
            transaction_uid: Of the request.
            found: What it says.
        """
        while True:
            try:
                self._take_report(transaction_uid, found)
            except StaleJobError:  # changed since it was read: read again
                continue
            return

    def _take_report(self, transaction_uid: str, found: Finding) -> None:
        for name, destination in self._destinations.items():
            for job in self._store.list(_kind(name), _OPEN, limit=10**6):
                if transaction_uid and job.payload["transaction_uid"] == transaction_uid:
                    delivery = after_asking(
                        _unpack(job), found, policy=destination.retry,
                        now_s=self._clock(), jitter=random.random(),
                    )  # fmt: skip
                    self._on_change(self._keep(job, delivery, is_held=False)[1])
                    return

    def _advance(self, job: Job, delivery: Delivery, *, can_ask: bool) -> Delivery:
        transport = self._transports[delivery.destination]
        limits: dict[str, Any] = {"policy": self._destinations[delivery.destination].retry}
        try:
            instances = [read_instance(path) for path in delivery.files]
        except FormatError as error:
            failed = replace(delivery, state=State.FAILED, why=str(error))
            return self._keep(job, failed, is_held=False)[1]
        if next_step(delivery, can_ask=can_ask) is Step.SEND:
            job, delivery = self._keep(job, replace(delivery, state=State.SENDING), is_held=True)
            left = [file for file in instances if file.sop_instance_uid not in delivery.stored]
            replies = _send(transport, left)
            limits |= {"now_s": self._clock(), "jitter": random.random()}
            is_down = worst_answer(replies)[0] in (Answer.LATER, Answer.UNKNOWN)
            delivery = after_sending(delivery, replies, **limits)
        else:
            named = replace(delivery, transaction_uid=str(generate_uid()))
            job, delivery = self._keep(job, named, is_held=True)
            found = _ask(transport, instances, delivery.transaction_uid)
            limits |= {"now_s": self._clock(), "jitter": random.random()}
            is_down = found.presence is Presence.UNKNOWN
            delivery = after_asking(delivery, found, **limits)
        self._failures[delivery.destination] = (
            self._failures[delivery.destination] + 1 if is_down else 0
        )
        return self._keep(job, delivery, is_held=False)[1]

    def _keep(self, job: Job, delivery: Delivery, *, is_held: bool) -> tuple[Job, Delivery]:
        """Put a delivery on disk; a full disk is waited for, since what was sent was sent."""
        while True:
            try:
                job = self._store.move(
                    job,
                    delivery.state,
                    payload=_pack(delivery),
                    reason=delivery.why,
                    due=delivery.due_s,
                    keep=is_held,
                )
            except OutputError:
                if self._stop.wait(_WAIT_S):
                    raise
            else:
                return job, delivery

    def _serve(self, name: str) -> None:
        """Take steps; pause while the destination cannot be reached."""
        policy = self._destinations[name].retry
        while not self._stop.is_set():
            try:
                if self.step(name, wait_s=_WAIT_S) is None:
                    continue
            except ClosedError:
                return
            except BedsideError:  # as of a full disk: tried again
                self._stop.wait(_WAIT_S)
                continue
            if failures := self._failures[name]:
                self._stop.wait(pause_s(policy, failures, random.random()))


def _send(transport: Transport, instances: Sequence[Instance]) -> list[FileReply]:
    """Send files; a fault of a library must not stop the deliveries after this one."""
    try:
        return transport.send(instances) if instances else []
    except Exception as error:  # noqa: BLE001 whatever it is, nobody knows what arrived
        why = f"{type(error).__name__} (a fault of bedside)"
        return [FileReply(each.sop_instance_uid, Answer.UNKNOWN, why) for each in instances]


def _ask(transport: Transport, instances: Sequence[Instance], transaction_uid: str) -> Finding:
    """Ask for files; a fault of a library is no answer."""
    try:
        return transport.ask(instances, transaction_uid)
    except Exception as error:  # noqa: BLE001
        return Finding(Presence.UNKNOWN, f"{type(error).__name__} (a fault of bedside)")


def _kind(destination: str) -> str:
    return f"delivery to {destination}"


def _pack(delivery: Delivery) -> dict[str, Any]:
    """A delivery as JSON."""
    return asdict(delivery) | {"files": [str(path) for path in delivery.files]}


def _unpack(job: Job) -> Delivery:
    """The delivery of a job."""
    payload: Mapping[str, Any] = job.payload
    return Delivery(
        key=job.key,
        destination=payload["destination"],
        files=tuple(Path(path) for path in payload["files"]),
        created_s=payload["created_s"],
        due_s=job.due,
        state=State(job.state),
        attempts=payload["attempts"],
        checks=payload["checks"],
        stored=tuple(payload["stored"]),
        transaction_uid=payload["transaction_uid"],
        why=job.reason,
        warnings=tuple(payload["warnings"]),
    )
