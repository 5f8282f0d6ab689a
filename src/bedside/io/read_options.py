"""How files are opened: which of several images in one, and whether they are trusted.

Light on purpose: the command line imports it, and reads no image to answer `--help`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bedside.io.dicom.options import DicomOptions

if TYPE_CHECKING:
    from bedside.io.discovery import DiscoveredImages
    from bedside.io.source import Source


@dataclass(frozen=True)
class Limits:
    """What decoding one file may take.

    Attributes:
        memory_mb: Memory in MiB, beside that of the libraries, and the most that the decoded
            frames may be.
        deadline_s: Seconds.
        ceiling_bytes: Resident memory that this process and the one that decodes must not
            exceed together; None for no ceiling.
    """

    memory_mb: int = 2048
    deadline_s: float = 60.0
    ceiling_bytes: int | None = None


@dataclass(frozen=True)
class ReadOptions:
    """How every file of a run is opened.

    Attributes:
        select: Which time or channel of a file that has several, counted from 1, such as
            (("time", 3),).
        untrusted: What a file from outside the machine may take to decode, in a process of
            its own; None to decode in this one.
        dicom: What to do where DICOM headers leave something open.
        third_axis: Whether the third axis of NIfTI, NRRD and MetaImage is "time" or "space";
            "auto" to go by the file and the bundle.
    """

    select: tuple[tuple[str, int], ...] = ()
    untrusted: Limits | None = None
    dicom: DicomOptions = field(default_factory=DicomOptions)
    third_axis: Literal["auto", "time", "space"] = "auto"

    def open(self, path: Path, *, files: Sequence[Path] = ()) -> "Source":
        """Open one file, or one DICOM series; one that looks like a label map gets a warning.

        Args:
            path: The file, or what stands for the series.
            files: Those of the series, as `bedside.io.discovery.find_sources` lists them.

        Raises:
            FormatError: If it is not a file that can be read, or is damaged.
            LimitError: If it is not trusted and takes more than it may.
            BackendError: If it is not trusted and this system cannot limit a process.
        """
        from bedside.io.third_axis import state_third_axis

        return state_third_axis(self._open(path, files=files), self.third_axis)

    def _open(self, path: Path, *, files: Sequence[Path]) -> "Source":
        if self.untrusted is None:
            from bedside.io.label_maps import doubt_labels
            from bedside.io.source import open_source

            return doubt_labels(
                open_source(path, files=files, select=dict(self.select), dicom=self.dicom)
            )
        from bedside.io.sandbox.parent import open_untrusted

        return open_untrusted(
            path, files=files, select=dict(self.select), dicom=self.dicom, limits=self.untrusted
        )

    def find(self, path: Path) -> "DiscoveredImages":
        """List what there is to segment at a path, as `bedside.io.discovery.find_sources` does.

        Raises:
            FormatError: If it is not there, or is a folder without an image.
            LimitError: If it is not trusted and takes more than it may.
            BackendError: If it is not trusted and this system cannot limit a process.
        """
        if self.untrusted is None:
            from bedside.io.discovery import find_sources

            return find_sources(path)
        from bedside.io.sandbox.parent import find_untrusted

        return find_untrusted(path, limits=self.untrusted)
