"""An opened image, and the algorithm that labels it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bedside.volume import ImageSequence

if TYPE_CHECKING:  # reading an image needs no specs
    from bedside.spec.confidence import Confidences


@dataclass(frozen=True)
class Source:
    """An opened image.

    Attributes:
        path: The file; for a DICOM series its folder or first file; for an image in memory its
            name in error messages.
        kind: Its format in `bedside.io.formats`.
        sequence: Its frames.
        header: What results in the same format need: `DicomInstances` for DICOM, `NiftiGrid` for
            NIfTI, MetaImage and NRRD with a place in the patient, else None.
        files: The files that were named; empty if unknown.
        opened_with: Options of `ReadOptions` that change what is read, where they differ from
            the defaults.
    """

    path: Path
    kind: str
    sequence: ImageSequence
    header: Any
    files: tuple[Path, ...] = ()
    opened_with: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Algorithm:
    """The algorithm that drew the labels, as DICOM names it, and how sure it is of them.

    Attributes:
        name: Name of the bundle.
        version: Version of the bundle.
        sha256: Hash of the bundle.
        moment: Date and time in the file: the time of writing, or "source" for that of the image,
            which makes the bytes reproducible.
        untrained: Whether its weights are random and its labels meaningless.
        confidence: How sure it is of each structure of this image, by name; empty if unknown.
        frame_confidence: The same of each frame; empty for the slices of a scan.
    """

    name: str
    version: str
    sha256: str
    moment: datetime | Literal["now", "source"] = "now"
    untrained: bool = False
    confidence: "Confidences" = field(default_factory=dict)
    frame_confidence: "tuple[Confidences, ...]" = ()
