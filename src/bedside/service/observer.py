"""What a server tells of itself: logs, metrics, the audit log. Nothing of a patient is in them.

Only what this program made itself is told: routes as they are declared and not as they were asked
for, names of models that are served, names of keys, numbers.
"""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bedside.errors import OutputError
from bedside.service.answered import SECONDS, Answered
from bedside.service.audit import AuditLog
from bedside.service.engine import Engine
from bedside.service.telemetry import Telemetry

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_log = logging.getLogger("bedside.serve")


class Observer:
    """Notes what a server does.

    Args:
        engine: Its counts are among the metrics.
        audit: Gets a line for each request that changes or segments something; None for none.
        telemetry: Sends what is noted to a collector; None for none.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        audit: AuditLog | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self._engine, self._audit, self._telemetry = engine, audit, telemetry
        self._audit_fault: OutputError | None = None
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "bedside_requests", "Requests that were answered.", ("method", "route", "status"),
            registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "bedside_request_seconds", "Time from the head of a request to its answer.",
            ("route",), buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.registry.register(self)

    @property
    def audit_fault(self) -> OutputError | None:
        """Why a line may be missing in the audit log; the server is then not ready."""
        return self._audit_fault or (None if self._audit is None else self._audit.fault)

    def note_answer(self, answered: Answered) -> None:
        """Note a request that was answered."""
        left = 101 if answered.method == "WEBSOCKET" else 499
        status = str(answered.status or left)
        self._requests.labels(answered.method, answered.route, status).inc()
        self._seconds.labels(answered.route).observe(answered.seconds)
        _log.info(
            "%s %s %s in %.0f ms%s%s", answered.method, answered.route, status,
            1e3 * answered.seconds, f", model {answered.model}" if answered.model else "",
            f", for {answered.client}" if answered.client else "",
        )  # fmt: skip
        if self._telemetry is not None:
            self._telemetry.note_answer(answered)
        if self._audit is not None and answered.method not in ("GET", "HEAD", "OPTIONS"):
            sha256 = self._engine.bundle(answered.model).sha256 if answered.model else None
            try:
                self._audit.add(
                    "request", method=answered.method, route=answered.route, status=int(status),
                    ms=round(1e3 * answered.seconds, 1), model=answered.model or None,
                    bundle_sha256=sha256, client=answered.client or None,
                )  # fmt: skip
            except OutputError as error:
                self._audit_fault = error
                _log.error("the audit log cannot be written: %s", type(error).__name__)

    def text(self) -> bytes:
        """Return the metrics as Prometheus reads them."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)

    def collect(self) -> "Iterator[Metric]":
        """Yield the counts of the engine, for Prometheus."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        counts = self._engine.admission.counts
        for name, text in (("running", "Images at work."), ("waiting", "Images that wait.")):
            gauge = GaugeMetricFamily(f"bedside_{name}", text, labels=["lane"])
            for lane, each in counts.items():
                gauge.add_metric([lane.name.lower()], getattr(each, name))
            yield gauge
        for name, text in (("refused", "Images refused for lack of room."),
                           ("finished", "Images done.")):  # fmt: skip
            counter = CounterMetricFamily(f"bedside_{name}", text, labels=["lane"])
            for lane, each in counts.items():
                counter.add_metric([lane.name.lower()], getattr(each, name))
            yield counter
        loaded = GaugeMetricFamily("bedside_model_bytes", "Memory of loaded models, estimated.",
                                   labels=["model"])  # fmt: skip
        for model, n_bytes in self._engine.loaded.items():
            loaded.add_metric([model], n_bytes)
        yield loaded
