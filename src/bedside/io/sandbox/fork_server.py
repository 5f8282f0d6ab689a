"""The process that `Decoders` keeps: it has imported all readers, and forks a child a request.

It has one thread and decodes nothing itself, so a child begins as clean as a new interpreter, in
milliseconds. Requests come over a socket, each with a socket of its own, on which the child's
exit status goes back. If the other end of that is closed, the child is killed; if the first one
is, all are.
"""

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import struct
import sys
import tempfile
from typing import Any

from bedside.io.formats import FORMATS
from bedside.io.sandbox.child import answer_request, import_readers

LENGTH = struct.Struct("<Q")
"""How the length of a request is written."""

STATUS = struct.Struct("<i")
"""How an exit code is written; negative for a signal."""

_NICENESS = 5


def main() -> int:
    """Serve requests from the socket whose number is the first argument."""
    control = socket.socket(fileno=int(sys.argv[1]))
    # Ctrl-C reaches the whole group of processes; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_readers(*FORMATS)
    _import_codecs()
    # What is here now stays: collections in children would only copy it.
    gc.collect()
    gc.freeze()
    # What strangers send may take long to decode: answers, streams and networks go first.
    os.nice(_NICENESS)
    _Server(control).run()
    return 0


def _import_codecs() -> None:
    """Import what numpy and pydicom load only when it is needed, where it is installed."""
    for name in ("numpy.ma", "pydicom.pixels", "openjpeg", "jpeg_ls", "PIL.Image"):
        with contextlib.suppress(ImportError):
            __import__(name)


class _Server:
    """Forks children and tells how they end.

    Args:
        control: Where requests come from.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, waking = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(waking, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        self._selector.register(control, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)

    def run(self) -> None:
        """Serve until the other end is closed."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._control:
                    if not self._take():
                        self._kill_all()
                        return
                elif key.fileobj == self._woken:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._woken, 4096)
                    self._reap()
                elif key.data in self._children:
                    # Nobody waits for this child any more.
                    os.kill(key.data, signal.SIGKILL)
                    self._selector.unregister(key.fileobj)

    def _take(self) -> bool:
        """Take a request and fork its child; return whether there was one."""
        head, numbers, _, _ = socket.recv_fds(self._control, LENGTH.size, 1, socket.MSG_WAITALL)
        if len(head) < LENGTH.size or len(numbers) != 1:
            return False
        answer = socket.socket(fileno=numbers[0])
        payload = _read(self._control, LENGTH.unpack(head)[0])
        if payload is None:
            return False
        child = os.fork()
        if not child:
            _decode(json.loads(payload))
        self._children[child] = answer
        self._selector.register(answer, selectors.EVENT_READ, child)
        return True

    def _reap(self) -> None:
        """Report the children that have ended."""
        while self._children:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                return
            answer = self._children.pop(child)
            with contextlib.suppress(KeyError):
                self._selector.unregister(answer)
            with contextlib.suppress(OSError):
                answer.sendall(STATUS.pack(os.waitstatus_to_exitcode(status)))
            answer.close()

    def _kill_all(self) -> None:
        for child in self._children:
            os.kill(child, signal.SIGKILL)


def _decode(request: dict[str, Any]) -> None:
    """Answer a request, in a child, and end it."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ["TMPDIR"] = request["folder"]
        tempfile.tempdir = None
        answer_request(request)
        code = 0
    finally:
        os._exit(code)


def _read(control: socket.socket, length: int) -> bytes | None:
    """Read so many bytes; None if the other end is closed before."""
    found = bytearray()
    while len(found) < length:
        piece = control.recv(min(length - len(found), 2**20))
        if not piece:
            return None
        found += piece
    return bytes(found)


if __name__ == "__main__":
    sys.exit(main())
