"""Options for opening files.

Light, because the command line imports it for `--help`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bedside.errors import UsageError
from bedside.io.dicom.options import DicomOptions
from bedside.io.sandbox.limits import Limits

if TYPE_CHECKING:
    from bedside.io.discovery import DiscoveredImages
    from bedside.io.given import Given
    from bedside.io.opened import Source

__all__ = ["Limits", "ReadOptions"]


@dataclass(frozen=True)
class ReadOptions:
    """How the files of a run are opened.

    Attributes:
        select: Which time or channel of a file that has several, counted from 1, such as
            (("time", 3),).
        untrusted: Limits for decoding in a separate process; None to decode in this one.
        dicom: Options for DICOM headers that are incomplete.
        third_axis: Whether the third axis of NIfTI, NRRD and MetaImage is "time" or "space";
            "auto" to go by the file and the bundle.
        pixel_spacing_mm: (row, column) in mm for files without a trusted spacing, such as
            pictures; None to go by the file.
    """

    select: tuple[tuple[str, int], ...] = ()
    untrusted: Limits | None = None
    dicom: DicomOptions = field(default_factory=DicomOptions)
    third_axis: Literal["auto", "time", "space"] = "auto"
    pixel_spacing_mm: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Check the spacing.

        Raises:
            UsageError: If it is not above 0 and finite.
        """
        if not all(0 < each < math.inf for each in self.pixel_spacing_mm or ()):
            raise UsageError(
                f"the pixel spacing given is {self.pixel_spacing_mm}; expected mm above 0, such as "
                "0.2 0.2 for rows and columns."
            )

    def open(self, given: "Given | Sequence[Given]", *, files: Sequence[Path] = ()) -> "Source":
        """Open one file or one DICOM series, with a warning if it looks like a label map.

        Args:
            given: The file or the series, in any form that
                `bedside.io.source.open_source` takes.
            files: The files of the series, as `bedside.io.discovery.find_sources` lists them.

        Raises:
            GeometryError: If its pixel spacing is not the stated one.
            FormatError: If it is not a supported image, or is damaged.
            LimitError: If decoding exceeds the limits.
            BackendError: If there are limits and this system cannot enforce them.
        """
        from bedside.io.given import name_given

        path, listed = name_given(given)
        return self.complete(self._open(path, files or listed))

    def complete(self, source: "Source") -> "Source":
        """An open image with the third axis and the pixel spacing that are stated here.

        Raises:
            FormatError: If its file says that frames follow in time, and the user space.
            GeometryError: If its pixels are not as far apart as stated.
        """
        from bedside.io.pixel_spacing import state_pixel_spacing
        from bedside.io.third_axis import state_third_axis

        source = state_third_axis(source, self.third_axis)
        source = state_pixel_spacing(source, self.pixel_spacing_mm)
        return replace(source, opened_with={**source.opened_with, **self.stated()})

    def stated(self) -> dict[str, Any]:
        """The options that change what is read, where they differ from the defaults."""
        given: dict[str, Any] = {
            "select": dict(self.select),
            "third_axis": self.third_axis,
            "pixel_spacing_mm": self.pixel_spacing_mm,
            "gaps": self.dicom.gaps,
            "values_are_hu": self.dicom.values_are_hu,
        }
        usual: dict[str, Any] = {
            "select": {},
            "third_axis": "auto",
            "pixel_spacing_mm": None,
            "gaps": "refuse",
        }
        return {key: value for key, value in given.items() if value != usual.get(key, False)}

    def _open(self, path: Path, files: Sequence[Path]) -> "Source":
        if self.untrusted is None:
            from bedside.io.label_maps import warn_of_labels
            from bedside.io.source import open_source

            return warn_of_labels(
                open_source(path, files=files, select=dict(self.select), dicom=self.dicom)
            )
        from bedside.io.sandbox.parent import open_untrusted

        opened = open_untrusted(
            path, files=files, select=dict(self.select), dicom=self.dicom, limits=self.untrusted
        )
        return replace(opened, files=tuple(files) or (() if path.is_dir() else (path,)))

    def find(self, path: Path) -> "DiscoveredImages":
        """List the images at a path, as `bedside.io.discovery.find_sources` does.

        Raises:
            FormatError: If it is not there, or is a folder without an image.
            LimitError: If decoding exceeds the limits.
            BackendError: If there are limits and this system cannot enforce them.
        """
        if self.untrusted is None:
            from bedside.io.discovery import find_sources

            return find_sources(path)
        from bedside.io.sandbox.parent import find_untrusted

        return find_untrusted(path, limits=self.untrusted)
