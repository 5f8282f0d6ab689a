"""A scanner and a viewer over OpenIGTLink, in a process of their own: `python -m` this module.

It is the other end of `wire.measure_wire`. Its arguments are a file of frames, how many are sent,
and how many a second. It prints the port at which it sends them, reads that at which masks come,
and prints what it has sent, and at the end what it has seen, each as a line of JSON.
"""

import json
import sys
import time
from array import array

import numpy as np

from bedside.igtl import Fault, IgtlClient, IgtlServer, Image, Message
from bedside.volume import Geometry

FIRST_S = 1.0
SPACING_MM = (0.3, 0.3)
_WAIT_S = 30.0


class _Seen:
    """What the viewer has seen, with the times at which frames were sent.

    Args:
        count: Frames that will be sent.
        fps: Frames a second.
    """

    def __init__(self, count: int, fps: float) -> None:
        self._fps = fps
        self.sent_s = np.full(count, np.nan)
        self.sent = 0
        self.frames, self.age_frames = array("q"), array("q")
        self.latency_ms, self.age_ms = array("d"), array("d")
        self.picture_ms = array("d")

    def take(self, item: Message | Fault) -> None:
        """Note a mask, or the frame that it belongs to."""
        now, sent = time.perf_counter(), self.sent
        if isinstance(item, Fault) or not isinstance(item.content, Image):
            return
        number = round((item.time_s - FIRST_S) * self._fps)
        if not item.device.endswith(" mask"):
            self.picture_ms.append(1e3 * (now - self.sent_s[number]))
            return
        if self.frames:
            self.age_ms.append(1e3 * (now - self.sent_s[self.frames[-1]]))
        self.frames.append(number)
        self.latency_ms.append(1e3 * (now - self.sent_s[number]))
        self.age_frames.append(sent - 1 - number)


def play(server: IgtlServer, frames: np.ndarray, seen: _Seen, fps: float) -> None:
    """Send frames, (N, C, H, W), over and over against the clock."""
    affine = np.diag([1.0, *SPACING_MM, 1.0])
    geometry = Geometry((1, *frames.shape[2:]), affine, space="LPS")
    begin = time.perf_counter()
    for number in range(len(seen.sent_s)):
        time.sleep(max(begin + number / fps - time.perf_counter(), 0.0))
        image = Image(frames[number % len(frames)][:, None], geometry)
        seen.sent_s[number] = time.perf_counter()
        seen.sent = number + 1
        server.send(Message(image, "probe", FIRST_S + number / fps))
    until = time.monotonic() + _WAIT_S
    while server.counts[0].waiting and time.monotonic() < until:
        time.sleep(0.002)


def main(path: str, count: int, fps: float) -> None:
    """Send frames and look at masks until their server ends."""
    frames, seen = np.load(path), _Seen(count, fps)
    with IgtlServer(0) as server:
        _tell(port=server.port)
        with IgtlClient(int(input()), on_item=seen.take) as viewer:
            if not (server.wait_client(_WAIT_S) and viewer.wait_connected(_WAIT_S)):
                raise TimeoutError("the stream has not connected")
            play(server, frames, seen, fps)
            _tell(sent=count, dropped=server.counts[0].dropped)
            input()
            while viewer.connected:
                time.sleep(0.002)
    _tell(
        frames=seen.frames.tolist(), latency_ms=seen.latency_ms.tolist(),
        age_ms=seen.age_ms.tolist(), age_frames=seen.age_frames.tolist(),
        picture_ms=seen.picture_ms.tolist(),
    )  # fmt: skip


def _tell(**values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
