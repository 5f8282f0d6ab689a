"""Frames that keep coming: a mask of the latest one, with its age, before a deadline.

`LiveStream` segments frames as they arrive; `Model.stream` opens one. `protocol` is what sources
of frames and sinks of events implement.
"""

from bedside.stream.event import Beat, Event, Measurement, State
from bedside.stream.live import Counts, LiveStream
from bedside.stream.protocol import Frame, FrameSource, Sink
from bedside.stream.run import run_stream

__all__ = [
    "Beat",
    "Counts",
    "Event",
    "Frame",
    "FrameSource",
    "LiveStream",
    "Measurement",
    "Sink",
    "State",
    "run_stream",
]
