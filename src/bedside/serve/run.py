"""Starts the doors of a configuration, and ends them in order on a signal."""

import threading
from collections.abc import Callable

from bedside.serve.config import ServeSettings
from bedside.system import signals


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
    from bedside.http_api.server import HttpServer
    from bedside.service.engine import Engine

    stopped = threading.Event()
    with signals.handed_over(stopped.set), Engine(settings.engine) as engine:
        http = HttpServer(engine, settings.http)
        on_notice(f"Serving {len(engine.names)} models on {http.address}")
        engine.start()
        stopped.wait()
        on_notice("Stopping: no new work is taken.")
        engine.close(patience_s=settings.drain_s)
        http.close()
