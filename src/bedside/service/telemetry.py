"""Traces and metrics by OpenTelemetry, for whoever collects them with those of other servers.

They hold what the log holds: routes as they are declared, statuses, times, names of models. A trace
is of one request alone: what a client sends as the context of its own trace is not taken over, as
it is free text of the client.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bedside.errors import BackendError, SpecError, install_command
from bedside.service.answered import SECONDS, Answered
from bedside.service.engine import Engine
from bedside.version import __version__

_SCOPE = "bedside"


@dataclass(frozen=True)
class TelemetrySettings:
    """The table `[telemetry]`: where traces and metrics are sent, by OTLP over HTTP.

    Certificates and headers for the collector, such as a token, are read from the variables that
    OpenTelemetry has for them: `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_CERTIFICATE`.

    Attributes:
        endpoint: Root of the collector, such as "http://127.0.0.1:4318".
        traces: Whether a span is sent for each request.
        metrics: Whether metrics are sent.
        interval_s: Seconds between two sendings of metrics.
    """

    endpoint: str
    traces: bool = True
    metrics: bool = True
    interval_s: float = 60.0

    def __post_init__(self) -> None:
        """Check the address and the interval.

        Raises:
            SpecError: If one cannot mean anything.
        """
        if not self.endpoint.startswith(("http://", "https://")):
            raise SpecError(
                f'telemetry.endpoint is "{self.endpoint}"; expected an address such as '
                "http://127.0.0.1:4318."
            )
        if not 0 < self.interval_s < float("inf"):
            raise SpecError(f"interval_s is {self.interval_s}; expected seconds above 0.")


class Telemetry:
    """Sends spans and metrics, in threads of its own; close it at the end.

    No request waits for a collector: what it does not take in time is dropped.

    Args:
        engine: Its counts are among the metrics.
        spans: OpenTelemetry's processor of spans; None for no traces.
        metrics: OpenTelemetry's reader of metrics; None for none.

    Raises:
        BackendError: If OpenTelemetry is not installed.
    """

    def __init__(self, engine: Engine, *, spans: Any = None, metrics: Any = None) -> None:
        try:
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
        except ImportError as error:
            raise _not_installed() from error
        # Without `Resource.create`, which adds what it finds of the machine and the command.
        resource = Resource({"service.name": "bedside", "service.version": __version__})
        self._engine = engine
        self._tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        if spans is not None:
            self._tracers.add_span_processor(spans)
        self._tracer = None if spans is None else self._tracers.get_tracer(_SCOPE, __version__)
        readers = () if metrics is None else (metrics,)
        self._meters = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        meter = self._meters.get_meter(_SCOPE, __version__)
        self._seconds = meter.create_histogram(
            "http.server.request.duration", "s", "Time from the head of a request to its answer.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )  # fmt: skip
        for name, text in (("running", "Images at work."), ("waiting", "Images that wait.")):
            meter.create_observable_gauge(
                f"bedside.images.{name}", [self._observe(name)], "{image}", text
            )
        for name, text in (("refused", "Images refused for lack of room."),
                           ("finished", "Images done.")):  # fmt: skip
            meter.create_observable_counter(
                f"bedside.images.{name}", [self._observe(name)], "{image}", text
            )

    def note_answer(self, answered: Answered) -> None:
        """Note a request that was answered."""
        facts: dict[str, str | int] = {
            "http.request.method": answered.method,
            "http.route": answered.route,
            "http.response.status_code": answered.status,
        }
        if answered.model:
            facts["bedside.model"] = answered.model
        self._seconds.record(answered.seconds, facts)
        if self._tracer is not None:
            self._add_span(answered, facts)

    def close(self) -> None:
        """Send what is left, for some seconds at the most, and end the threads."""
        self._tracers.shutdown()
        self._meters.shutdown(timeout_millis=5_000)

    def __enter__(self) -> "Telemetry":
        """Return the telemetry; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the telemetry."""
        self.close()

    def _add_span(self, answered: Answered, facts: Mapping[str, str | int]) -> None:
        """Add a span of a request that is over."""
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind, StatusCode

        assert self._tracer is not None
        end_ns = time.time_ns()
        span = self._tracer.start_span(
            f"{answered.method} {answered.route}", Context(), SpanKind.SERVER, facts,
            start_time=end_ns - int(answered.seconds * 1e9),
        )  # fmt: skip
        if answered.status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(end_ns)

    def _observe(self, name: str) -> Any:
        """Return what reads a count of each lane."""
        from opentelemetry.metrics import Observation

        def read(_: object) -> Iterable[Observation]:
            for lane, counts in self._engine.admission.counts.items():
                yield Observation(getattr(counts, name), {"lane": lane.name.lower()})

        return read


def open_telemetry(settings: TelemetrySettings, engine: Engine) -> Telemetry:
    """Return what sends to a collector; threads begin.

    Args:
        settings: The table `[telemetry]`.
        engine: Whose counts are sent.

    Raises:
        BackendError: If OpenTelemetry or its exporter is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise _not_installed() from error
    root = settings.endpoint.rstrip("/")
    spans = BatchSpanProcessor(OTLPSpanExporter(f"{root}/v1/traces")) if settings.traces else None
    reader = None
    if settings.metrics:
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(f"{root}/v1/metrics"), 1e3 * settings.interval_s
        )
    return Telemetry(engine, spans=spans, metrics=reader)


def _not_installed() -> BackendError:
    return BackendError(
        "OpenTelemetry is not installed, for [telemetry]. Install it with: "
        f"{install_command('otel')}"
    )
