"""Children that decode untrusted files, forked by a process that is kept: for servers."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bedside.errors import ClosedError, WorkerError
from bedside.io.sandbox.fork_server import LENGTH, STATUS
from bedside.io.sandbox.parent import child_environment

_MODULE = "bedside.io.sandbox.fork_server"
_MOST_TRIES = 2


class Decoders:
    """Starts children in milliseconds, for any number of threads; close it at the end.

    A child that a signal ends is started once more, as is the process that forks them.

    Example:
        `Limits(start=decoders.run)`
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._is_closed = False

    def start(self) -> None:
        """Start the process that forks, which takes a moment until it is ready."""
        with self._lock:
            self._connect()

    def run(self, request: Mapping[str, Any], folder: Path, deadline_s: float) -> int:
        """Run a child; see `bedside.io.sandbox.limits.Start`.

        Raises:
            TimeoutError: If it does not end in time; it is killed.
            WorkerError: If the process that forks dies twice.
            ClosedError: If this was closed.
        """
        code: int | None = None
        for _ in range(_MOST_TRIES):
            (folder / "answer.json").unlink(missing_ok=True)
            code = self._try(request, deadline_s)
            if code is not None and code >= 0:
                return code
        if code is None:
            raise WorkerError("the process that decodes files died twice. Try again.")
        return code

    def close(self) -> None:
        """End the process, and all children."""
        with self._lock:
            self._is_closed = True
            self._disconnect()

    @property
    def pid(self) -> int | None:
        """Process id of the process that forks; None before the first use."""
        return None if self._server is None else self._server.pid

    def _try(self, request: Mapping[str, Any], deadline_s: float) -> int | None:
        """Run a child; None if the process that forks is gone."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, self._lock:
                control = self._connect()
                try:
                    payload = json.dumps(dict(request)).encode()
                    socket.send_fds(control, [LENGTH.pack(len(payload))], [theirs.fileno()])
                    control.sendall(payload)
                except OSError:
                    self._disconnect()
                    return None
            ours.settimeout(deadline_s)
            # That our end is closed kills the child.
            try:
                status = ours.recv(STATUS.size, socket.MSG_WAITALL)
            except ConnectionError:
                status = b""
        if len(status) < STATUS.size:
            with self._lock:
                if self._control is control:
                    self._disconnect()
            return None
        code: int = STATUS.unpack(status)[0]
        return code

    def _connect(self) -> socket.socket:
        """Return the socket to the process that forks, started if need be."""
        if self._is_closed:
            raise ClosedError("the decoders were closed.")
        if self._control is None:
            ours, theirs = socket.socketpair()
            with theirs:
                self._server = subprocess.Popen(
                    [sys.executable, "-P", "-m", _MODULE, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=child_environment(),
                )
            self._control = ours
        return self._control

    def _disconnect(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._server is not None:
            with contextlib.suppress(OSError):
                self._server.kill()
            self._server.wait()
            self._server = None
