"""Images and label maps together with their place: numpy only."""

from bedside.volume.change import Change
from bedside.volume.cine import Box, Cine, LabelMap
from bedside.volume.geometry import Geometry, is_unit_grid
from bedside.volume.orientation import Orientation, find_orientation
from bedside.volume.uneven import SliceBlock, UnevenSlices

__all__ = [
    "Box",
    "Change",
    "Cine",
    "Geometry",
    "LabelMap",
    "Orientation",
    "SliceBlock",
    "UnevenSlices",
    "find_orientation",
    "is_unit_grid",
]
