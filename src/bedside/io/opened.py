"""An opened image, and who drew labels on it."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from bedside.volume import ImageSequence


@dataclass(frozen=True)
class Source:
    """An image, opened.

    Attributes:
        path: Its file; of a DICOM series its folder, or its first file; of an image in memory
            what errors call it.
        kind: The name of its format in `bedside.io.formats`.
        sequence: Its frames.
        header: What a result in the same format needs to know: for DICOM a `DicomInstances`,
            for NIfTI, MetaImage and NRRD a `NiftiGrid`, for a picture, and for NRRD without
            a place in the patient, None.
    """

    path: Path
    kind: str
    sequence: ImageSequence
    header: Any


@dataclass(frozen=True)
class Algorithm:
    """Who drew the labels, as a DICOM SEG names it.

    Attributes:
        name: Name of the bundle.
        version: Version of the bundle.
        sha256: Hash of the bundle.
        moment: Date and time in the file: the time of writing, or "source" for the time of the
            image itself, which makes the bytes the same whenever it is written.
        untrained: Whether its weights are random, so that its labels mean nothing.
    """

    name: str
    version: str
    sha256: str
    moment: datetime | Literal["now", "source"] = "now"
    untrained: bool = False
