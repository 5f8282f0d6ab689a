"""Options for DICOM headers that are incomplete; no heavy imports."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DicomOptions:
    """Options for incomplete headers; by default such files are refused.

    Attributes:
        gaps: "refuse" a scan with missing slices, or with uneven ones that may be incomplete; or
            "interpolate": missing slices are marked as unknown, and uneven ones count as complete.
        values_are_hu: Whether stored values of CT are Hounsfield units if the header does not say
            how to rescale them.
    """

    gaps: Literal["refuse", "interpolate"] = "refuse"
    values_are_hu: bool = False
