"""The DICOM node: receives series, segments them, sends results on; started and drained."""

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from bedside.dicom_node.config import DicomSettings
from bedside.dicom_node.counting import count_images
from bedside.dicom_node.files import FileReceiver
from bedside.dicom_node.forwarding import Forwarder
from bedside.dicom_node.intake import Intake
from bedside.dicom_node.segmenting import SeriesSegmenter
from bedside.dicom_node.series import CONFIRMED, FAILED, KIND, SEGMENTED, Series
from bedside.dicom_node.server import DicomServer
from bedside.errors import BedsideError
from bedside.service.engine import Engine
from bedside.service.jobs import Job, JobStore

LOGGER = logging.getLogger(__name__)
# How often old series are looked for, and how long the one in progress may take at the least.
_CLEAN_S, _SERIES_S = 60.0, 10.0


class DicomNode:
    """A node that listens; close it at the end.

    with DicomNode(settings, engine, store) as node:
        node.start()

    Args:
        settings: The table `[dicom]`.
        engine: What segments.
        store: Where series are kept; the only node of this store.
        on_event: Called with sentences about series, without anything of a patient.
        cancel_work: As of `DicomServer`.

    Attributes:
        server: What listens.
        files: Takes images that come another way.
        ae_title: Our AE title.

    Raises:
        UsageError: If the address cannot be listened on.
        OutputError: If nothing can be written to the store.
        SpecError: If a route names no model of the engine, or certificates cannot be read.
    """

    def __init__(
        self,
        settings: DicomSettings,
        engine: Engine,
        store: JobStore,
        *,
        on_event: Callable[[str], None] = LOGGER.info,
        cancel_work: Callable[[str], None] | None = None,
    ) -> None:
        self._settings, self._store, self.ae_title = settings, store, settings.ae_title
        for route in settings.route:
            engine.bundle(route.model)  # refuses a name that is none
        count = partial(count_images, our_ae_title=settings.ae_title)
        self._forwarder = Forwarder(store, settings, on_event=on_event)
        self._segmenter = SeriesSegmenter(
            store, engine, settings, on_segmented=self._forwarder.forward, on_event=on_event
        )
        self._intake = Intake(store, settings, count=count, on_event=on_event)
        self.server = DicomServer(
            settings, self._intake, store.path / "spool",
            receive_report=self._forwarder.receive_report if settings.archive else None,
            cancel_work=cancel_work,
        )  # fmt: skip
        self.files = FileReceiver(
            self._intake, store.path / "spool", free_mb=settings.limits.free_mb,
            called_ae=settings.ae_title,
        )  # fmt: skip
        self._closing = threading.Event()
        self._cleaner = threading.Thread(
            target=self._clean, name="bedside dicom cleaner", daemon=True
        )

    def start(self) -> None:
        """Begin to listen, and continue what an earlier run has left."""
        self._forwarder.start()
        self._segmenter.start()
        self._intake.start()
        self._cleaner.start()
        self.server.start()

    def close(self, *, patience_s: float = 0.0) -> None:
        """Accept nothing more, end what is in progress, and leave the rest for the next start.

        Args:
            patience_s: Seconds that associations may still take, and then the series that is
                being segmented.
        """
        with ExitStack() as stack:  # all of it, also if one fails
            stack.callback(self._forwarder.close)
            stack.callback(self._segmenter.close, patience_s=max(patience_s, _SERIES_S))
            stack.callback(self._intake.close)
            stack.callback(self.server.close, patience_s=patience_s)
            self._closing.set()
        if self._cleaner.is_alive():
            self._cleaner.join()

    def __enter__(self) -> "DicomNode":
        """Return the node; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the node."""
        self.close()

    def _clean(self) -> None:
        """Remove old series, now and then."""
        while not self._closing.wait(_CLEAN_S):
            try:
                self.remove_old()
            except BedsideError as error:  # as of a full disk: tried again
                LOGGER.warning("old series stay: %s", type(error).__name__)

    def remove_old(self) -> None:
        """Remove series that were kept for long enough, and what is known of their deliveries.

        Results that no archive has taken stay, whatever their age.
        """
        done = [CONFIRMED, FAILED]
        if not self._settings.archives:
            done.append(SEGMENTED)

        def is_unsent(job: Job) -> bool:
            return job.state == FAILED and bool(Series.from_payload(job.payload).results)

        self._store.remove(KIND, done, older_s=self._settings.keep_s, keep=is_unsent)
        self._forwarder.remove_sent()
