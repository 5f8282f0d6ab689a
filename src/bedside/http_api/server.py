"""The HTTP door as a server: a socket, a thread, an orderly end."""

import math
import socket
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedside.errors import BackendError, UsageError, install_command
from bedside.http_api.app import create_app
from bedside.http_api.routers import HEALTH, ROUTERS
from bedside.http_api.settings import HttpSettings, TlsSettings

if TYPE_CHECKING:
    from bedside.http_api.dicomweb.intake import Intake
    from bedside.service.engine import Engine
    from bedside.service.observer import Observer
    from bedside.service.segment_jobs import SegmentJobs

_BACKLOG = 1024
_FRAME_BYTES = 64 * 2**20


class HttpServer:
    """Answers HTTP in a thread of its own, from construction until `close`.

    Args:
        engine: Segments; closed by the caller, after this.
        settings: Address and limits.
        observer: Notes what is answered; None for one of its own.
        jobs: Works off what is accepted for later; None for no jobs.
        folder: Where files of requests are; None for the system's own place.
        routers: What it answers to.
        intake: Where instances go that DICOMweb stores; None if no node takes them.

    Attributes:
        address: Where it listens, such as "http://127.0.0.1:8077".

    Raises:
        UsageError: If the address cannot be listened on.
        BackendError: If what serves HTTP is not installed.
    """

    def __init__(
        self,
        engine: "Engine",
        settings: HttpSettings,
        *,
        observer: "Observer | None" = None,
        jobs: "SegmentJobs | None" = None,
        folder: Path | None = None,
        routers: Sequence[str] = ROUTERS,
        intake: "Intake | None" = None,
    ) -> None:
        try:
            import uvicorn
        except ImportError as error:
            raise BackendError(
                f"HTTP needs packages that are missing: {install_command('serve')}"
            ) from error
        from bedside.http_api.connections import IDLE_S, Connections

        app = create_app(
            engine, settings, observer=observer, jobs=jobs, folder=folder, routers=routers,
            intake=intake,
        )  # fmt: skip
        self.connections = Connections(settings)
        # Their messages have addresses and paths in them: none is logged.
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, proxy_headers=False,
            ws="websockets-sansio", ws_max_size=_FRAME_BYTES, ws_per_message_deflate=False,
            lifespan="on", timeout_keep_alive=math.floor(IDLE_S),
            http=self.connections.make,  # type: ignore[arg-type]
            **_tls_options(settings.tls),
        )  # fmt: skip
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f"the certificate cannot be used: {error.strerror or error}. See http.tls."
            ) from error
        self._socket = _listen(settings.host, settings.port)
        host, port = self._socket.getsockname()[:2]
        scheme = "http" if settings.tls is None else "https"
        self.address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="bedside http", daemon=True
        )
        self._thread.start()

    def close(self, *, patience_s: float = 0.0) -> None:
        """Take no more connections, and end once the requests in progress are answered.

        Args:
            patience_s: Seconds after which they are cut off.
        """
        self._server.config.timeout_graceful_shutdown = max(1, round(patience_s))
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


class HealthServer(HttpServer):
    """Answers for health, in a thread of its own, whatever the other listeners do.

    Args:
        engine: Whose health.
        settings: Address and limits of the HTTP door.
        observer: Whose metrics are shown; None for those of this listener alone.
    """

    def __init__(
        self, engine: "Engine", settings: HttpSettings, *, observer: "Observer | None" = None
    ) -> None:
        own = HttpSettings(
            host=settings.health_host, port=settings.health_port, hosts=settings.hosts,
            upload_mb=1, header_s=settings.header_s, half_open=64, connections=128,
        )  # fmt: skip
        super().__init__(engine, own, observer=observer, routers=HEALTH)


def _tls_options(tls: TlsSettings | None) -> dict[str, Any]:
    """Return the certificate as uvicorn takes it."""
    if tls is None:
        return {}
    client = {} if tls.client_ca is None else {
        "ssl_ca_certs": tls.client_ca, "ssl_cert_reqs": ssl.CERT_REQUIRED,
    }  # fmt: skip
    return {"ssl_certfile": tls.certificate, "ssl_keyfile": tls.private_key, **client}


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound; several addresses of a name: the first that works."""
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = infos[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host} port {port}: {error.strerror or error}. Choose another port."
        ) from error
    return bound
