"""Segments series that are complete, and writes SEG and SR, each series once.

The results of a series appear in one rename, and its state changes then. SEG and SR follow from
the images and the bundle alone, to the byte, so a series that is segmented again after a kill
between the two is the same for whoever has received it.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bedside.dicom_node.config import DicomSettings
from bedside.dicom_node.images import segment_images
from bedside.dicom_node.routing import find_route
from bedside.dicom_node.series import COMPLETE, FAILED, IMAGES, KIND, RESULTS, SEGMENTED, Series
from bedside.errors import (
    BedsideError,
    BusyError,
    CancelledError,
    ClosedError,
    DeadlineError,
    OutputError,
)
from bedside.service.engine import Engine
from bedside.service.jobs import Job, JobStore
from bedside.system.atomic import output_errors, sync_folder, write_bytes
from bedside.system.unfinished import part_folder

LOGGER = logging.getLogger(__name__)

# A series during which the process ended so often is not tried again: it may be the cause.
_MOST_ATTEMPTS = 16
_WAIT_S, _BUSY_S = 0.5, 0.5
_LATER_S = 60.0
_TOO_LONG = "the server had no time for it; it is tried again"
_UID = re.compile(r"\d+(\.\d+){3,}")

# What says nothing of a series: it is left for later.
_LEFT = (BusyError, CancelledError, ClosedError, OutputError)


class SeriesSegmenter:
    """A thread that segments series, until it is closed.

    Args:
        store: Where series are.
        engine: What segments.
        settings: The table `[dicom]`.
        on_segmented: Called with each series that has results.
        on_event: Called with sentences about series, without anything of a patient.
    """

    def __init__(
        self,
        store: JobStore,
        engine: Engine,
        settings: DicomSettings,
        *,
        on_segmented: Callable[[Job], None],
        on_event: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._store, self._engine, self._settings = store, engine, settings
        self._on_segmented, self._on_event = on_segmented, on_event
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="bedside dicom segmenter", daemon=True
        )

    def start(self) -> None:
        """Begin to segment."""
        self._thread.start()

    def close(self, *, patience_s: float = 60.0) -> None:
        """End after the series in progress; what is left is segmented after the next start.

        Args:
            patience_s: Seconds that it may still take. After that it is left in progress, and
                ends when the engine is closed.
        """
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(patience_s)

    def step(self, *, wait_s: float = 0.0) -> Job | None:
        """Segment a series that is complete, if there is one.

        Args:
            wait_s: How long to wait for one.

        Returns:
            The series afterwards; None if there is none, or it was left for later.
        """
        job = self._store.claim(KIND, [COMPLETE], wait_s=wait_s)
        if job is None:
            return None
        try:
            done = self._segment(job)
        except (DeadlineError, *_LEFT) as error:
            self._on_event(f"series {job.id} waits: {type(error).__name__}")
            self._leave(job, is_tried=isinstance(error, DeadlineError))
            return None
        self._on_event(f"series {job.id} is {done.state}")
        if done.state == SEGMENTED:
            self._on_segmented(done)
        return done

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                if self.step(wait_s=_WAIT_S) is None:
                    self._closing.wait(_BUSY_S)
            except ClosedError:
                return
            except Exception as error:  # noqa: BLE001 - as of a full disk: tried again
                LOGGER.error("series wait to be segmented: %s", type(error).__name__)
                self._closing.wait(_WAIT_S)

    def _leave(self, job: Job, *, is_tried: bool) -> None:
        """Leave a series for later; a disk that is full is waited for, as the claim is on it."""
        while True:
            try:
                if is_tried:
                    due = time.time() + _LATER_S
                    self._store.move(job, COMPLETE, reason=_TOO_LONG, due=due)
                else:
                    self._store.release(job)
            except OutputError:
                if self._closing.wait(_WAIT_S):
                    raise
            else:
                return

    def _segment(self, job: Job) -> Job:
        """Segment a series, and return it in its new state.

        Raises:
            BusyError: If the server has no room for it now.
            ClosedError: If the server is being stopped.
            CancelledError: If it was, before the series was done.
            DeadlineError: If the server had no time for it.
            OutputError: If results cannot be written.
        """
        series = Series.from_payload(job.payload)
        route = find_route(series, self._settings.route)
        if route is None:
            why = f"no [[dicom.route]] fits it; its modality is {_code(series.modality)}"
            return self._store.move(job, FAILED, reason=why)
        if job.attempts > _MOST_ATTEMPTS:
            why = f"the server ended {_MOST_ATTEMPTS} times while it was segmented"
            return self._store.move(job, FAILED, reason=why)
        folder = self._store.folder(job)
        try:
            notes = self._write_results(folder, model=route.model)
        except (DeadlineError, *_LEFT):
            raise
        except BedsideError as error:
            return self._store.move(job, FAILED, reason=_explain(error, folder))
        except Exception as error:  # noqa: BLE001 - one series must not stop the others
            return self._store.move(
                job, FAILED, reason=f"{type(error).__name__} (a fault of bedside)"
            )
        files = sorted(folder.glob(f"{RESULTS}/*/*.dcm"))
        if self._settings.output is not None:
            _copy(files, self._settings.output / job.id)
        results = tuple(str(path.relative_to(folder)) for path in files)
        series = replace(series, model=route.model, results=results)
        return self._store.move(job, SEGMENTED, payload=series.to_payload(), reason=notes)

    def _write_results(self, folder: Path, *, model: str) -> str:
        """Segment the images of a series, and write their results.

        Returns:
            What was left out, for people.

        Raises:
            InputError: If no image can be segmented.
        """
        if (folder / RESULTS).exists():  # written before a kill
            return ""
        with output_errors(folder), part_folder(folder) as part:
            (results := part / RESULTS).mkdir()
            done = segment_images(
                self._engine, model, [folder / IMAGES], results,
                with_sr=self._settings.with_sr, on_busy=self._await_place,
            )  # fmt: skip
            for path in sorted(results.rglob("*.dcm")):
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            for each in (*results.iterdir(), results):
                sync_folder(each)
            os.rename(results, folder / RESULTS)
            sync_folder(folder)
        notes = [f"{done.refused} of {done.images} images were refused"] if done.refused else []
        if done.skipped:
            notes.append(f"{done.skipped} files are no scans")
        return "; ".join(notes)

    def _await_place(self) -> None:
        """Wait a moment for room in the server.

        Raises:
            ClosedError: If it is being stopped.
        """
        if self._closing.wait(_BUSY_S):
            raise ClosedError("the server is being stopped.")


def _copy(files: Sequence[Path], output: Path) -> None:
    """Copy results to a folder; a file that is there is complete."""
    for file in files:
        target = output / file.parent.name / file.name
        if not target.exists():
            write_bytes(target, file.read_bytes())


def _code(text: str) -> str:
    """Return a header's code without what no code has."""
    return "".join(each for each in text if each.isalnum() or each in " _")[:16] or "not stated"


def _explain(error: BedsideError, folder: Path) -> str:
    """Return the text of an error without paths and UIDs."""
    return _UID.sub("(UID)", str(error).replace(f"{folder}{os.sep}", ""))
