"""The HTTP door as a server: a socket, a thread, an orderly end."""

import socket
import threading
from typing import TYPE_CHECKING

from bedside.errors import BackendError, UsageError, install_command
from bedside.http_api.app import create_app
from bedside.http_api.settings import HttpSettings

if TYPE_CHECKING:
    from bedside.service.engine import Engine

_BACKLOG = 1024
_FRAME_BYTES = 64 * 2**20


class HttpServer:
    """Answers HTTP in a thread of its own, from construction until `close`.

    Args:
        engine: Segments; closed by the caller, after this.
        settings: Address and limits.

    Attributes:
        address: Where it listens, such as "http://127.0.0.1:8077".

    Raises:
        UsageError: If the address cannot be listened on.
        BackendError: If what serves HTTP is not installed.
    """

    def __init__(self, engine: "Engine", settings: HttpSettings) -> None:
        try:
            import uvicorn
        except ImportError as error:
            raise BackendError(
                f"HTTP needs packages that are missing: {install_command('serve')}"
            ) from error
        app = create_app(engine, settings)
        self._socket = _listen(settings.host, settings.port)
        host, port = self._socket.getsockname()[:2]
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        # Their messages have addresses and paths in them: none is logged.
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, proxy_headers=False,
            ws="websockets-sansio", ws_max_size=_FRAME_BYTES, ws_per_message_deflate=False,
            lifespan="on",
        )  # fmt: skip
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
