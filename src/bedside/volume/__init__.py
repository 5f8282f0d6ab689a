"""Images and label maps with their geometry; numpy only."""

from bedside.volume.change import Change
from bedside.volume.geometry import (
    Geometry,
    Space,
    check_right_angles,
    corners_apart,
    is_unit_grid,
    scale_geometry,
)
from bedside.volume.image_sequence import Box, ImageSequence, LabelMap, split_spacing
from bedside.volume.orientation import Orientation, find_orientation
from bedside.volume.uneven import SliceBlock, UnevenSlices

__all__ = [
    "Box", "Change", "Geometry", "ImageSequence", "LabelMap", "Orientation", "SliceBlock", "Space",
    "UnevenSlices", "check_right_angles", "corners_apart", "find_orientation", "is_unit_grid",
    "scale_geometry", "split_spacing",
]  # fmt: skip
