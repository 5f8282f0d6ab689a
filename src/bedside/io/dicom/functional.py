"""Functional groups of multi-frame files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset

PLACE_GROUPS: Mapping[str, tuple[str, str]] = {
    "PlanePositionSequence": ("ImagePositionPatient", "PlanePositionVolumeSequence"),
    "PlaneOrientationSequence": ("ImageOrientationPatient", "PlaneOrientationVolumeSequence"),
}
"""Groups that place a frame in the patient: their attribute, and the group of a volume's frame."""

_VOLUME_ATTRIBUTES = {
    "ImagePositionPatient": "ImagePositionVolume",
    "ImageOrientationPatient": "ImageOrientationVolume",
}


@dataclass(frozen=True)
class FrameGroups:
    """The functional groups of one frame.

    Attributes:
        header: The header of the file.
        own: The groups of this frame.
        shared: The groups of all frames.
    """

    header: Any = field(repr=False)
    own: Any = field(repr=False)
    shared: Any = field(repr=False)

    def find(self, keyword: str) -> Any:
        """Return the item of a group, of this frame or shared; None if there is none."""
        found = self.own.get(keyword) or self.shared.get(keyword)
        return found[0] if found else None

    def read(self, group: str, keyword: str) -> Any:
        """Return an attribute of a group; None if it is missing or empty."""
        item = self.find(group)
        value = None if item is None else item.get(keyword)
        return None if value in (None, "") else value

    def place(self, group: str, *, in_patient: bool) -> Any:
        """Return position or orientation, in the patient or in the transducer's volume."""
        keyword, volume = PLACE_GROUPS[group]
        if in_patient:
            return self.read(group, keyword)
        return self.read(volume, _VOLUME_ATTRIBUTES[keyword])


def list_groups(dataset: Any, frames: int) -> list[FrameGroups]:
    """Return the groups of each frame of a file.

    Args:
        dataset: Its header.
        frames: How many frames it has.

    Returns:
        One per frame; empty if the file does not have them for every frame.
    """
    own = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    if len(own) != frames:
        return []
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    return [FrameGroups(dataset, each, shared) for each in own]


def find_frame_of_reference(header: Any) -> str | None:
    """Return the frame of reference of the patient, else of the volume."""
    found = header.get("FrameOfReferenceUID") or header.get("VolumeFrameOfReferenceUID")
    return str(found) if found else None
