"""Changes made to labels after the network, and oddities found in them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Change:
    """The effect of one step on one structure, over all frames of an image.

    Attributes:
        step: The step's or prior's name in the spec.
        label: Name of the structure.
        action: What was done; "reported" for an oddity that was left as it is,
            "skipped" where a step could not run.
        parts: Components or holes; 0 where they are not counted.
        size_px: Pixels or voxels that changed their label.
        size_mm2: The same in mm2, summed over frames; None where the scale is unknown, and
            for scans.
        size_ml: The same in ml, of a scan; None where the scale is unknown, and for frames.
        frames: Frames in which it happened; 1 for a scan that was taken whole.
        of_frames: Frames there are.
        text: All of this in a sentence for a person.
    """

    step: str
    label: str
    action: Literal["removed", "added", "exchanged", "reported", "skipped"]
    parts: int
    size_px: int
    size_mm2: float | None
    size_ml: float | None
    frames: int
    of_frames: int
    text: str
