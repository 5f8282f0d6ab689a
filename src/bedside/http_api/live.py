"""WebSocket `/stream`: frames in as they come, events and masks out.

A client sends a text, `{"shape": [height, width]}` or `[height, width, 3]`, and then each frame as
a binary message: its pixels, uint8 row by row, with its time in seconds before them, float64
little endian, if the client has one. What comes back is as in `bedside.stream.websocket`: an event
as JSON, followed by the labels, deflated, if it has "labels".
"""

import asyncio
import contextlib
import json
import math
import struct
import threading
import time
import zlib
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query
from starlette.websockets import WebSocket, WebSocketDisconnect

from bedside.errors import BedsideError, ClosedError, FormatError, printable
from bedside.http_api.door import Door
from bedside.service.admission import Lane, Place
from bedside.service.engine import Engine
from bedside.stream.event import Event
from bedside.stream.live import LiveStream

_TIME = struct.Struct("<d")
_MOST_BYTES = 2**25
_MOST_TEXT = 1024
_TRY_AGAIN, _REFUSED = 1013, 1008
_IDLE_S = 300.0
_LOOK_S = 0.2
_LEVEL = 1

Messages = tuple[str | bytes, ...]


def make_router(door: Door) -> APIRouter:
    """Return the router."""
    router, engine = APIRouter(), door.engine

    @router.websocket("/stream")
    async def stream(
        socket: WebSocket,
        model: str,
        deadline_ms: Annotated[float, Query(gt=0, le=10_000)] = 33.0,
    ) -> None:
        await socket.accept()
        try:
            engine.bundle(model)
            place = engine.reserve(model, lane=Lane.FRAME, deadline_s=math.inf)
        except BedsideError as error:
            await _close(socket, error)
            return
        session = _Session(engine, model, place, deadline_ms=deadline_ms)
        try:
            await _serve(socket, session)
        except WebSocketDisconnect:
            pass
        except BedsideError as error:
            await _close(socket, error)
        finally:
            session.close()

    return router


class _Session:
    """A stream in a thread of its own.

    Args:
        engine: Has the model.
        model: Name of the model.
        place: Of this stream.
        deadline_ms: For each frame.
    """

    def __init__(self, engine: Engine, model: str, place: Place, *, deadline_ms: float) -> None:
        self._engine, self._model, self._place = engine, model, place
        self._deadline_ms = deadline_ms
        self._loop = asyncio.get_running_loop()
        self._closing = threading.Event()
        self._live: LiveStream | None = None
        self._latest: Messages | None = None
        self._failure: Exception | None = None
        self._changed = asyncio.Event()
        self.shape: tuple[int, ...] = ()
        self.heard_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="bedside live", daemon=True)
        self._thread.start()

    def take_text(self, text: str) -> None:
        """Take the shape of the frames that follow.

        Raises:
            FormatError: If it is none.
        """
        try:
            shape = json.loads(text[:_MOST_TEXT])["shape"]
            sizes = tuple(int(size) for size in shape)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise FormatError('the text is no shape: send {"shape": [height, width]}.') from error
        sound = len(sizes) == 2 or (len(sizes) == 3 and sizes[2] == 3)
        if not sound or min(sizes) < 1 or math.prod(sizes) > _MOST_BYTES:
            raise FormatError(
                f"the shape is {sizes}; expected height and width, and 3 for colours, of at most "
                f"{_MOST_BYTES} pixels."
            )
        self.shape = sizes

    def take_frame(self, data: bytes) -> None:
        """Take a frame; one that waits is dropped.

        Raises:
            FormatError: If it is not as long as its shape says.
            BedsideError: If the stream has failed.
        """
        expected = math.prod(self.shape) if self.shape else -1
        if len(data) not in (expected, expected + _TIME.size):
            raise FormatError(
                f"the frame has {len(data)} bytes; its shape {self.shape} needs {expected}, and 8 "
                "for its time."
            )
        time_s = time.monotonic()
        if len(data) > expected:
            (time_s,) = _TIME.unpack_from(data)
        pixels = np.frombuffer(data, np.uint8, expected, len(data) - expected)
        if self._live is not None and not self._closing.is_set():
            self._live.offer(pixels.reshape(self.shape), time_s)

    async def next_messages(self) -> Messages:
        """Wait for the latest event.

        Raises:
            BedsideError: If the stream has failed.
        """
        while self._latest is None:
            self._changed.clear()
            if self._failure is not None:
                raise self._failure
            await self._changed.wait()
        messages, self._latest = self._latest, None
        return messages

    def close(self) -> None:
        """End the stream."""
        self._closing.set()

    def _run(self) -> None:
        try:
            with (
                self._place,
                self._engine.model(self._model) as model,
                model.stream(deadline_ms=self._deadline_ms) as live,
            ):
                self._live = live
                self._tell(self._offer, (json.dumps({"state": "ready"}),))
                self._take_events(live)
        except Exception as error:  # noqa: BLE001 - raised where the socket is served
            self._tell(self._fail, error)

    def _take_events(self, live: LiveStream) -> None:
        while not self._closing.is_set():
            if self._engine.admission.is_closed:
                raise ClosedError("the server is being stopped.")
            event = live.take(_LOOK_S)
            if event is not None:
                self._tell(self._offer, _write(event))

    def _tell(self, call: Callable[[Any], None], value: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(call, value)

    def _offer(self, messages: Messages) -> None:
        self._latest = messages
        self._changed.set()

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._changed.set()


async def _serve(socket: WebSocket, session: _Session) -> None:
    """Pass frames and events on until one side ends."""
    tasks = [
        asyncio.create_task(_receive_all(socket, session)),
        asyncio.create_task(_send_all(socket, session)),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _receive_all(socket: WebSocket, session: _Session) -> None:
    while True:
        try:
            async with asyncio.timeout(_IDLE_S):
                message = await socket.receive()
        except TimeoutError as error:
            raise FormatError(f"there was no frame for {_IDLE_S:.0f} s.") from error
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code") or 1005)
        if message.get("bytes") is not None:
            session.take_frame(message["bytes"])
        else:
            session.take_text(message.get("text") or "")


async def _send_all(socket: WebSocket, session: _Session) -> None:
    while True:
        for message in await session.next_messages():
            if isinstance(message, str):
                await socket.send_text(message)
            else:
                await socket.send_bytes(message)


def _write(event: Event) -> Messages:
    told: Messages = (json.dumps(event.to_mapping()),)
    if event.labels is not None:
        told += (zlib.compress(event.labels.tobytes(), _LEVEL),)
    return told


async def _close(socket: WebSocket, error: BedsideError) -> None:
    """Send an error, and close."""
    kind = type(error).__name__
    code = _TRY_AGAIN if kind in ("BusyError", "ClosedError") else _REFUSED
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        text = json.dumps({"error": {"type": kind, "message": printable(error)}})
        await socket.send_text(text)
        await socket.close(code, kind)
