"""Frames by WebRTC: a page or an encoder sends them here (WHIP), the latest is taken."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any
from urllib.parse import urlsplit

from bedside.errors import BackendError, ClosedError, FormatError, UsageError, install_command
from bedside.igtl.connection import LOCAL
from bedside.stream.network import delay_pixels
from bedside.stream.protocol import Frame
from bedside.stream.slot import LatestSlot

DEFAULT_PORT = 8889
_BODY_BYTES = 64 * 1024
_REQUEST_S, _SILENT_S, _LOOK_S = 10.0, 5.0, 1.0
_REASONS = {200: "OK", 201: "Created", 400: "Bad Request", 405: "Method Not Allowed"}


class WebRtcFrames:
    """Frames of a video that a peer sends by WebRTC, decoded as they come.

    The peer posts its offer to http://HOST:PORT/whip, as OBS and GStreamer do, and gets the answer;
    a later peer takes the place of one before. No server is asked for addresses (no STUN or TURN).
    Frames are taken out of the receiver as they come, and the latest replaces one that waits, so no
    queue grows. A peer that goes, or is silent for 5 s, is told by an error in place of a frame.

    Args:
        port: Where offers are taken; 0 for any that is free.
        host: Address of this machine at which they are: by default only this machine can connect.

    Attributes:
        connects: Videos that have begun.

    Raises:
        UsageError: If the port cannot be opened.
        BackendError: If aiortc is not installed.

    Source:
        RFC 9725 (WHIP), of which trickled candidates are left out.
    """

    def __init__(self, port: int = DEFAULT_PORT, *, host: str = LOCAL) -> None:
        self._rtc = _import_aiortc()
        try:
            listener = socket.create_server((host, port))
        except (OSError, OverflowError) as error:
            raise UsageError(f"cannot listen at {host}:{port}: {error}.") from error
        self.port: int = listener.getsockname()[1]
        self.connects = 0
        self._slot, self._begin = LatestSlot(), time.monotonic()
        self._peer: Any = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="bedside webrtc", daemon=True
        )
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, sock=listener))

    def __iter__(self) -> Iterator[tuple[Frame, float]]:
        """Yield frames with the times of their arrival, until `close`."""
        while not self._slot.closed:
            found = self._slot.get(_LOOK_S)
            if found is not None:
                self._slot.finish(processed=True)
                yield found.payload, found.arrived_s

    @property
    def dropped(self) -> int:
        """Frames that were not taken before the next came."""
        return self._slot.counts.dropped

    def close(self) -> None:
        """End the video, and the iteration; a second time does nothing."""
        if self._slot.closed:
            return
        self._slot.close()
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _end(self) -> None:
        self._server.close()
        if self._peer is not None:
            await self._peer.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        status, body = 400, b""
        try:
            async with asyncio.timeout(_REQUEST_S):
                status, body = await self._answer(reader)
        except (TimeoutError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass  # it was no request
        kind = "Content-Type: application/sdp\r\nLocation: /whip\r\n" if body else ""
        head = f"HTTP/1.1 {status} {_REASONS[status]}\r\n{kind}Content-Length: {len(body)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        """Read a request; return the status, and the body of the response."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines[1:])
        headers = {name.lower(): value.strip() for name, _, value in fields}
        method = lines[0].partition(" ")[0]
        if method == "DELETE":
            if self._peer is not None:
                await self._peer.close()
            return 200, b""
        if method != "POST":
            return 405, b""
        size = int(headers.get("content-length", ""))
        # A page of another origin cannot send this type without being asked for.
        if not 0 < size <= _BODY_BYTES or headers.get("content-type") != "application/sdp":
            return 400, b""
        return 201, await self._connect((await reader.readexactly(size)).decode())

    async def _connect(self, offer: str) -> bytes:
        """Take up an offer; return the answer.

        Raises:
            ValueError: If it is none.
        """
        rtc = self._rtc
        peer = rtc.RTCPeerConnection(rtc.RTCConfiguration(iceServers=[]))

        @peer.on("track")  # type: ignore[untyped-decorator]
        def receive(track: Any) -> None:
            if track.kind == "video":
                task = self._loop.create_task(self._take_all(peer, track))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        try:
            await peer.setRemoteDescription(rtc.RTCSessionDescription(sdp=offer, type="offer"))
            if not any(each.kind == "video" for each in peer.getTransceivers()):
                raise ValueError("there is no video in it")
            await peer.setLocalDescription(await peer.createAnswer())
        except Exception as error:  # the parser's errors share no base
            await peer.close()
            raise ValueError("it is no offer") from error
        before, self._peer = self._peer, peer
        if before is not None:
            await before.close()
        answer: str = peer.localDescription.sdp
        return answer.encode()

    async def _take_all(self, peer: Any, track: Any) -> None:
        """Take frames out of the receiver as they come, so that its queue stays empty."""
        self.connects += 1
        is_silent = False
        while True:
            try:
                frame = await asyncio.wait_for(track.recv(), _SILENT_S)
            except TimeoutError:
                if not is_silent:
                    self._put(FormatError(f"nothing came by WebRTC for {_SILENT_S:g} s."))
                is_silent = True
            except self._rtc.mediastreams.MediaStreamError:
                break
            else:
                is_silent = False
                self._put(delay_pixels(frame))
        if peer is self._peer:
            self._put(FormatError("the peer of WebRTC has gone."))

    def _put(self, found: Frame) -> None:
        arrived_s = time.monotonic() - self._begin
        with contextlib.suppress(ClosedError):  # nobody takes it any more
            self._slot.put(found, arrived_s, arrived_s)


def open_webrtc(address: str, *, listen: str = LOCAL) -> WebRtcFrames:
    """Wait for a peer at "webrtc://:PORT"; the port is 8889 if none is named.

    Args:
        address: The address.
        listen: Address of this machine at which offers are taken.

    Raises:
        UsageError: If it is no such address, or the port cannot be opened.
        BackendError: If aiortc is not installed.
    """
    try:
        parts = urlsplit(address)
        port = DEFAULT_PORT if parts.port is None else parts.port
    except ValueError as error:
        raise UsageError(f"{address} is no address: {error}.") from error
    if parts.scheme != "webrtc" or parts.hostname or parts.path.strip("/"):
        raise UsageError(f"{address} is no address to wait at; expected webrtc://:PORT.")
    return WebRtcFrames(port, host=listen)


def _import_aiortc() -> Any:
    try:
        import aiortc
    except ImportError as error:
        raise BackendError(
            "aiortc is not installed, which receives WebRTC. Install it with: "
            f"{install_command('webrtc')}"
        ) from error
    return aiortc
