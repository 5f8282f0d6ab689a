"""What a person may decide about DICOM files that leave something open; nothing heavy in here."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DicomOptions:
    """How to read what a header leaves open; by default such files are refused.

    Attributes:
        gaps: "refuse" a scan with missing slices, or with uneven ones of which it is not known
            whether they are complete; or "interpolate": what is missing is marked as unknown,
            and uneven slices are taken for complete.
        values_are_hu: Take the stored values of CT as Hounsfield units where the header
            does not say how to rescale them.
    """

    gaps: Literal["refuse", "interpolate"] = "refuse"
    values_are_hu: bool = False
