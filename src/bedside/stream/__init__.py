"""Live streams: a mask of the latest frame, with its age, within a deadline.

`LiveStream` segments frames as they arrive; `Model.stream` opens one. `protocol` defines sources
of frames and receivers of events.
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
