"""Images that are segmented later: accepted on disk, worked off, fetched when done.

As many are worked on at a time as the server takes volumes: one, unless it has cores and memory for
more. All go behind images that somebody waits for.

FOLDER/input...      the image, until it is segmented
FOLDER/report.json   measurements and warnings
FOLDER/mask          the labels, if they were asked for
FOLDER/error.json    why it failed
"""

import contextlib
import json
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bedside.errors import (
    BedsideError,
    BusyError,
    CancelledError,
    ClosedError,
    InputError,
    OutputError,
    StaleJobError,
    UsageError,
)
from bedside.io.formats import find_label_format
from bedside.io.opened import Source
from bedside.service.admission import Lane, Place
from bedside.service.engine import Engine
from bedside.service.jobs import Job, JobStore
from bedside.service.opening import open_wanted
from bedside.service.wanted import Wanted, in_service_words, write_report
from bedside.system.atomic import output_errors, sync_folder, write_bytes, write_text

KIND = "segment"
RECEIVING, QUEUED, DONE, FAILED, CANCELLED = "receiving", "queued", "done", "failed", "cancelled"
REPORT = "json"
"""The format of a job that wants no mask."""

_log = logging.getLogger("bedside.jobs")

_MOST_ATTEMPTS = 2
_LOOK_S, _BUSY_S, _REPORT_S, _CLEAN_S = 0.5, 0.2, 0.2, 60.0
_RECEIVING_S = 3600.0


class SegmentJobs:
    """Accepts and works off jobs; close it before its engine and its store.

    Args:
        store: Where they are.
        engine: Segments.
        most: Jobs that may wait.
        keep_s: Seconds for which a job is kept after its end.
    """

    def __init__(
        self, store: JobStore, engine: Engine, *, most: int = 200, keep_s: float = 86400.0
    ) -> None:
        self._store, self._engine, self._most, self._keep_s = store, engine, most, keep_s
        self._closing = threading.Event()
        self._places: set[Place] = set()
        self._threads = [
            threading.Thread(target=self._run, name="bedside jobs", daemon=True)
            for _ in range(engine.settings.volumes)
        ]

    def start(self) -> None:
        """Begin to work, with what an earlier run has left."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Abandon the jobs in progress, which the next start begins anew."""
        self._closing.set()
        for place in tuple(self._places):
            place.cancel()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def __enter__(self) -> "SegmentJobs":
        """Return the jobs; they are closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the jobs."""
        self.close()

    def check_room(self) -> None:
        """Return if one more job may come.

        Raises:
            BusyError: If too many wait.
        """
        waiting = self._store.count().get((KIND, QUEUED), 0)
        if waiting >= self._most:
            raise BusyError(
                f"{waiting} jobs wait, which is the most. Try again later.", retry_after_s=30.0
            )

    def begin(self, wanted: Wanted, key: str | None) -> tuple[Job, bool]:
        """Return the job of a key, and whether it lacks its image.

        Args:
            wanted: What it is to do.
            key: Of the client, who may send a job again without having it done twice; None for
                one of its own.

        Raises:
            UsageError: If there is a job of this key that is to do something else.
        """
        unique = secrets.token_hex(16) if key is None else f"{wanted.client} {key}"
        job, _ = self._store.add(KIND, unique, asdict(wanted), state=RECEIVING)
        if Wanted.from_mapping(job.payload) != wanted:
            raise UsageError("there is a job of this Idempotency-Key that is to do something else.")
        return job, job.state == RECEIVING

    def accept(self, job: Job, image: Path) -> Job:
        """Take the image of a job; once this returns it is on disk.

        Args:
            job: As `begin` has returned it.
            image: A file or a folder, which is moved.

        Raises:
            OutputError: If it cannot be written.
        """
        folder = self._store.folder(job)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True, mode=0o700)
        # Its name is what the report calls the image.
        target = folder / f"input-{secrets.token_hex(8)}" / "image"
        target.parent.mkdir()
        shutil.move(image, target)
        _sync(target)
        sync_folder(target.parent)
        try:
            payload = {**job.payload, "input": str(target.relative_to(folder))}
            return self._store.move(job, QUEUED, payload=payload)
        except StaleJobError:  # it was sent twice at the same time
            return self._store.get(job.id) or job

    def find(self, job_id: str, client: str) -> Job | None:
        """Return a job of a client, or None."""
        job = self._store.get(job_id)
        if job is None or job.kind != KIND or job.payload["client"] != client:
            return None
        return job

    def cancel(self, job: Job) -> Job:
        """Cancel a job that is not over; the one in progress ends at its next frame."""
        while job.state in (RECEIVING, QUEUED):
            try:
                job = self._store.move(job, CANCELLED, reason="cancelled by its client")
            except StaleJobError:
                job = self._store.get(job.id) or job
        self._drop_input(job)
        return job

    def files(self, job: Job) -> Mapping[str, Path]:
        """Return the files of a job that is over: "report", "mask", "error", as they are there."""
        folder = self._store.folder(job)
        names = {"report": "report.json", "mask": "mask", "error": "error.json"}
        return {key: folder / name for key, name in names.items() if (folder / name).is_file()}

    def step(self, *, wait_s: float = 0.0) -> Job | None:
        """Work off a job, if there is one.

        Returns:
            The job afterwards; None if there is none, or it waits for room.
        """
        job = self._store.claim(KIND, [QUEUED], wait_s=wait_s)
        if job is None:
            return None
        done: Job | None
        try:
            done = self._work_off(job)
        except (BusyError, ClosedError, OutputError):
            self._store.release(job)
            return None
        except StaleJobError:
            done = self._store.get(job.id)  # cancelled
        if done is not None:
            self._drop_input(done)
            _log.info("job %s is %s", done.id, done.state)
        return done

    def _run(self) -> None:
        cleaned_s = 0.0
        while not self._closing.is_set():
            try:
                if time.monotonic() - cleaned_s > _CLEAN_S:
                    cleaned_s = time.monotonic()
                    self._store.remove(KIND, [DONE, FAILED, CANCELLED], older_s=self._keep_s)
                    self._store.remove(KIND, [RECEIVING], older_s=_RECEIVING_S)
                if self.step(wait_s=_LOOK_S) is None:
                    self._closing.wait(_BUSY_S)
            except ClosedError:
                return
            except BedsideError as error:  # as of a full disk: tried again
                _log.warning("jobs wait: %s", type(error).__name__)
                self._closing.wait(_LOOK_S)

    def _work_off(self, job: Job) -> Job:
        """Segment the image of a job."""
        if job.attempts > _MOST_ATTEMPTS:
            return self._fail(job, "WorkerError", "it has ended the server twice.")
        folder, place = self._store.folder(job), None
        try:
            # Behind all that somebody waits for, whatever its size.
            place = self._engine.reserve(str(job.payload["model"]), lane=Lane.VOLUME)
            self._places.add(place)
            with place:
                if self._closing.is_set():
                    raise ClosedError("the server is being stopped.")
                payload = self._segment(job, folder, place)
        except CancelledError:
            if self._closing.is_set():
                raise ClosedError("the server is being stopped.") from None
            raise StaleJobError("the job was cancelled.") from None
        except (BusyError, ClosedError, OutputError, StaleJobError):
            raise
        except BedsideError as error:
            return self._fail(job, type(error).__name__, _forget_place(error, folder, job))
        except Exception as error:  # noqa: BLE001 - one job must not stop the others
            return self._fail(job, "ServerError", f"an unexpected error, {type(error).__name__}.")
        finally:
            self._places.discard(place)
        return self._store.move(job, DONE, payload=payload)

    def _segment(self, job: Job, folder: Path, place: Place) -> dict[str, Any]:
        """Write the results of a job; return its new payload."""
        wanted = Wanted.from_mapping(job.payload)
        source = open_wanted(self._engine, wanted, folder / str(job.payload["input"]))
        format_ = _choose_format(source, wanted.result)
        told_s = [0.0]

        def report(done: int) -> None:
            if time.monotonic() - told_s[0] > _REPORT_S:
                told_s[0] = time.monotonic()
                self._store.report(job, done / max(1, len(source.sequence)))

        result = self._engine.segment(
            wanted.model, source, place=place, force=wanted.force, on_frame=report
        )
        wanted.check_gate(result)
        write_text(folder / "report.json", write_report(result))
        if format_ != REPORT:
            write_bytes(folder / "mask", result.to_bytes(format_))
        return {**job.payload, "format": format_}

    def _fail(self, job: Job, kind: str, message: str) -> Job:
        folder = self._store.folder(job)
        write_text(
            folder / "error.json", json.dumps({"type": kind, "message": in_service_words(message)})
        )
        # The message may quote what is in the image, so it stays beside it.
        return self._store.move(job, FAILED, reason=kind)

    def _drop_input(self, job: Job) -> None:
        """Remove the image of a job that is over."""
        if job.state in (DONE, FAILED, CANCELLED):
            for path in self._store.folder(job).glob("input-*"):
                shutil.rmtree(path, ignore_errors=True)


def _sync(target: Path) -> None:
    """Put a file, or the files of a folder, on disk."""
    for path in (target, *(target.iterdir() if target.is_dir() else ())):
        if path.is_dir():
            sync_folder(path)
            continue
        with output_errors(path), path.open("rb") as file:
            os.fsync(file.fileno())


def _choose_format(source: Source, result: str) -> str:
    """Return the format of the mask.

    Raises:
        InputError: If the mask of this image cannot be in that format.
    """
    if result == REPORT:
        return REPORT
    try:
        return find_label_format(result, source.kind, source.path).name
    except UsageError as error:
        raise InputError("the image is not DICOM, so its mask cannot be. Ask for nifti.") from error


def _forget_place(error: BedsideError, folder: Path, job: Job) -> str:
    """Return a message with files as the client can know them."""
    place = folder / str(job.payload["input"])
    return str(error).replace(f"{place}/", "").replace(str(place), "image")
