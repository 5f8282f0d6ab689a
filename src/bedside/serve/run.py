"""Starts the doors of a configuration, and ends them in order on a signal."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bedside.serve.config import ServeSettings
from bedside.serve.logs import configure_logs
from bedside.system import signals
from bedside.system.atomic import output_errors
from bedside.version import __version__

if TYPE_CHECKING:
    from bedside.dicom_node.node import DicomNode
    from bedside.dicom_node.ups.service import PerformerService
    from bedside.http_api.dicomweb.intake import Intake
    from bedside.service.audit import AuditLog
    from bedside.service.engine import Engine
    from bedside.service.jobs import JobStore
    from bedside.service.observer import Observer
    from bedside.service.telemetry import Telemetry

# The thread that answers waits this long for one that computes, at every turn it takes: with
# Python's 5 ms, a refusal of a few turns takes 20.
_SWITCH_S = 0.0005


def serve(settings: ServeSettings, *, on_notice: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, in the main thread.

    A first signal stops new work and waits `drain_s` for what was taken; a second one ends at
    once.

    Args:
        settings: What is served.
        on_notice: Called with sentences for the person who starts it.

    Raises:
        UsageError: If an address cannot be listened on.
        BundleError: If a model has no bundle.
        BackendError: If a package is missing.
    """
    from bedside.http_api.server import HealthServer, HttpServer
    from bedside.service.engine import Engine
    from bedside.service.jobs import JobStore
    from bedside.service.segment_jobs import SegmentJobs

    stopped = threading.Event()
    _raise_open_files()
    sys.setswitchinterval(_SWITCH_S)
    with contextlib.ExitStack() as stack:
        stack.callback(configure_logs().close)
        stack.enter_context(signals.handed_over(stopped.set))
        engine = stack.enter_context(Engine(settings.engine))
        observer = stack.enter_context(_opened_observer(settings, engine))
        health = HealthServer(engine, settings.door, observer=observer)
        stack.callback(health.close)
        store = None if settings.state is None else stack.enter_context(JobStore(settings.state))
        performers = stack.enter_context(_opened_performers(settings, engine))
        node = stack.enter_context(_opened_node(settings, engine, store, performers))
        jobs = None if store is None else stack.enter_context(SegmentJobs(store, engine))
        http = HttpServer(
            engine, settings.door, observer=observer, jobs=jobs, intake=_find_intake(node),
            folder=_make_spool(settings.state),
        )  # fmt: skip
        stack.callback(http.close)
        on_notice(f"Serving {len(engine.names)} models on {http.address}")
        on_notice(f"Health on {health.address}/health")
        if node is not None:
            _start_node(node, on_notice)
        if performers is not None and settings.worklist is not None:
            performers.start()
            on_notice(f"Performing work items of {settings.worklist.url}")
        engine.start()
        if jobs is not None:
            jobs.start()
        stopped.wait()
        on_notice("Stopping: no new work is taken.")
        if performers is not None:
            performers.stop()
        if node is not None:
            node.close(patience_s=settings.drain_s)
        if jobs is not None:
            jobs.close()
        engine.drain(settings.drain_s)
        http.close(patience_s=settings.drain_s)


@contextlib.contextmanager
def _opened_observer(settings: ServeSettings, engine: "Engine") -> Iterator["Observer"]:
    """Open what notes requests, with the audit log and the collector of a configuration."""
    from bedside.service.observer import Observer

    with (
        _opened_audit(settings.audit) as audit,
        _opened_telemetry(settings, engine) as telemetry,
    ):
        yield Observer(engine, audit=audit, telemetry=telemetry)


@contextlib.contextmanager
def _opened_audit(path: Path | None) -> Iterator["AuditLog | None"]:
    """Open the audit log of a configuration, if it has one; it tells of start and end."""
    if path is None:
        yield None
        return
    from bedside.service.audit import AuditLog

    with AuditLog(path) as audit:
        audit.add("started", version=__version__)
        yield audit
        audit.add("stopped")


@contextlib.contextmanager
def _opened_telemetry(settings: ServeSettings, engine: "Engine") -> Iterator["Telemetry | None"]:
    """Open what sends to the collector of a configuration, if it has one."""
    if settings.telemetry is None:
        yield None
        return
    from bedside.service.telemetry import open_telemetry

    with open_telemetry(settings.telemetry, engine) as telemetry:
        yield telemetry


@contextlib.contextmanager
def _opened_node(
    settings: ServeSettings,
    engine: "Engine",
    store: "JobStore | None",
    performers: "PerformerService | None",
) -> Iterator["DicomNode | None"]:
    """Open the DICOM node of a configuration, if it has one; it hears of work to be canceled."""
    if settings.dicom is None or store is None:
        yield None
        return
    from bedside.dicom_node.node import DicomNode

    is_dimse = settings.worklist is not None and settings.worklist.is_dimse
    cancel = performers.cancel_soon if performers is not None and is_dimse else None
    with DicomNode(settings.dicom, engine, store, cancel_work=cancel) as node:
        yield node


@contextlib.contextmanager
def _opened_performers(
    settings: ServeSettings, engine: "Engine"
) -> Iterator["PerformerService | None"]:
    """Open the performers of a configuration, if it has a worklist."""
    if settings.worklist is None or settings.state is None:
        yield None
        return
    from bedside.dicom_node.ups.service import open_performers

    folder, with_node = settings.state / "worklist", settings.dicom is not None
    with open_performers(settings.worklist, engine, folder, with_node=with_node) as performers:
        yield performers


def _start_node(node: "DicomNode", on_notice: Callable[[str], None]) -> None:
    """Begin to receive DICOM."""
    node.start()
    host, port = node.server.address
    on_notice(f"Receiving DICOM as {node.ae_title} on {host}, port {port}")


def _find_intake(node: "DicomNode | None") -> "Intake | None":
    """Return where instances of DICOMweb go, if there is a node."""
    if node is None:
        return None
    from bedside.serve.storing import NodeIntake

    return NodeIntake(node.files)


def _make_spool(state: Path | None) -> Path | None:
    """Make the folder for bodies of requests, beside the jobs that they may become."""
    if state is None:
        return None
    spool = state / "requests"
    with output_errors(spool):
        spool.mkdir(mode=0o700, exist_ok=True)
    return spool


def _raise_open_files() -> None:
    """Allow as many open files as the system lets this process have: connections are files."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
