"""Events of work items, over a WebSocket: somebody asks that one be cancelled, or cancels it.

Source:
    PS3.18 11.13, PS3.4 CC.2.4.
"""

import json
import random
import threading
from collections.abc import Callable
from pathlib import Path

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from bedside.dicom_node.sending.delivery import pause_s
from bedside.dicom_node.sending.destination import RetryPolicy, Tls
from bedside.dicom_node.ups.work_item import CANCELED

_STATE_REPORT, _CANCEL_REQUESTED = 1, 2
_UID, _EVENT_TYPE, _STATE = "00001000", "00001002", "00741000"
_LOOK_S = 0.5
_MAX_BYTES = 1 << 20


def read_cancelled(message: str | bytes) -> str | None:
    """Return the UID of the work item that an event asks to cancel, or says is canceled.

    Args:
        message: The event; None is returned for any other, and for what is no event.
    """
    try:
        event = json.loads(message)
        event = event[0] if isinstance(event, list) else event
        uid, kind = _value(event, _UID), _value(event, _EVENT_TYPE)
        is_canceled = int(kind) == _STATE_REPORT and _value(event, _STATE) == CANCELED
        return str(uid) if is_canceled or int(kind) == _CANCEL_REQUESTED else None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None


class EventListener:
    """A thread that listens to a channel of events, and connects again whenever it breaks.

    Args:
        on_cancel: Called with the UID of each work item to cancel.
        token_file: File with a bearer token.
        tls: Certificates for "wss:".
    """

    def __init__(
        self, on_cancel: Callable[[str], None], *, token_file: Path | None, tls: Tls
    ) -> None:
        self._on_cancel, self._token_file, self._tls = on_cancel, token_file, tls
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._channel, self._thread = "", threading.Thread(target=self._run, name="UPS events")
        self.is_listening = threading.Event()

    def listen(self, channel: str) -> None:
        """Begin to listen; called again, it changes nothing.

        Args:
            channel: Its address.
        """
        with self._lock:
            if not self._channel:
                self._channel = channel
                self._thread.start()

    def close(self) -> None:
        """End."""
        self._stop.set()
        with self._lock:
            is_started = bool(self._channel)
        if is_started:
            self._thread.join()

    def _run(self) -> None:
        policy, failures = RetryPolicy(first_s=0.5, longest_s=30), 0
        while not self._stop.is_set():
            try:
                self._listen_once()
                failures = 0
            except (OSError, WebSocketException):  # also a handshake that is refused
                failures += 1
            self.is_listening.clear()
            self._stop.wait(pause_s(policy, failures, random.random()))

    def _listen_once(self) -> None:
        """Listen until the channel is closed."""
        headers = {}
        if self._token_file is not None:
            token = self._token_file.read_text(encoding="ascii").strip()
            headers["Authorization"] = f"Bearer {token}"
        context = self._tls.open_context() if self._channel.startswith("wss:") else None
        with connect(
            self._channel, ssl=context, additional_headers=headers, proxy=None,
            max_size=_MAX_BYTES, open_timeout=10,
        ) as channel:  # fmt: skip
            self.is_listening.set()
            while not self._stop.is_set():
                try:
                    uid = read_cancelled(channel.recv(timeout=_LOOK_S))
                except TimeoutError:
                    continue
                if uid is not None:
                    self._on_cancel(uid)


def _value(event: dict[str, dict[str, list[str]]], tag: str) -> str:
    return event[tag]["Value"][0]
