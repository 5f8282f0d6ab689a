"""Images and label maps together with their place: numpy only."""

from bedside.volume.change import Change
from bedside.volume.cine import Box, Cine, LabelMap
from bedside.volume.geometry import Geometry
from bedside.volume.volume import Orientation, Volume, find_orientation, stack_volume

__all__ = [
    "Box",
    "Change",
    "Cine",
    "Geometry",
    "LabelMap",
    "Orientation",
    "Volume",
    "find_orientation",
    "stack_volume",
]
