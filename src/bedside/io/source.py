"""The door of the data way: any file that is understood, told by its bytes, not by its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from bedside.errors import BedsideError, FormatError, UsageError
from bedside.io.detect import Kind, detect_format
from bedside.io.dicom.options import DicomOptions
from bedside.io.discovery import DiscoveredImages, find_sources
from bedside.io.even_grid import find_even_grid
from bedside.io.open_file import open_file
from bedside.spec import Label
from bedside.volume import Geometry, ImageSequence, LabelMap

FORMATS = {
    "dicom": "dicom-seg",
    "nifti": "nifti",
    "picture": "png",
    "metaimage": "nifti",
    "nrrd": "seg-nrrd",
}
"""The format that labels are written in by default, for each kind of source."""

SUFFIXES = {
    "dicom-seg": ".dcm",
    "dicom-labelmap": ".dcm",
    "nifti": ".nii.gz",
    "seg-nrrd": ".seg.nrrd",
    "png": ".png",
}
"""The suffix of a file in each format of labels."""

DICOM_FORMATS = ("dicom-seg", "dicom-labelmap")
"""Formats that refer to their source image, which must be DICOM."""

_ON_NIFTI_GRID = ("nifti", "metaimage", "nrrd")


@dataclass(frozen=True)
class Source:
    """An image on disk, opened.

    Attributes:
        path: Its file; of a DICOM series its folder, or its first file.
        kind: "dicom", "nifti", "picture", "metaimage" or "nrrd".
        sequence: Its frames.
        header: What a result in the same format needs to know: for DICOM a `DicomInstances`,
            for NIfTI, MetaImage and NRRD a `NiftiGrid`, for a picture, and for NRRD without
            a place in the patient, None.
    """

    path: Path
    kind: Kind
    sequence: ImageSequence
    header: Any


@dataclass(frozen=True)
class Algorithm:
    """Who drew the labels, as a DICOM SEG tells it.

    Attributes:
        name: Name of the bundle.
        version: Version of the bundle.
        sha256: Hash of the bundle.
        moment: When, as the file is to say it: the time of writing, or "source" for the time
            of the image itself, which makes the bytes the same whenever it is written.
        untrained: Whether its weights are random, so that its labels mean nothing.
    """

    name: str
    version: str
    sha256: str
    moment: datetime | Literal["now", "source"] = "now"
    untrained: bool = False


def open_source(
    path: Path,
    *,
    files: Sequence[Path] = (),
    dicom: DicomOptions | None = None,
    select: Mapping[str, int] | None = None,
) -> Source:
    """Open one file, whatever its name, or one DICOM series.

    Args:
        path: A file; or the folder of a single DICOM series.
        files: The files of a series, as `find_sources` lists them for `path`.
        dicom: What to do where DICOM headers leave something open.
        select: Which time, channel or stack of a file that has several, counted from 1:
            {"time": 3}.

    Raises:
        FormatError: If it is not a file that can be read, or is damaged, or has several times
            or channels of which none is selected; or if it is a folder that holds several
            images, which are listed.
        GeometryError: If it is a series whose slices do not lie evenly.
    """
    path = Path(path)
    if path.is_dir() and not files:
        files = _only_series(path)
    try:
        if files:
            from bedside.io.dicom.series import open_series

            series = open_series(files, path=path, options=dicom, select=select)
            return Source(path, "dicom", *series)
        kind = detect_format(path)
        return Source(path, kind, *open_file(path, kind, dicom=dicom, select=select))
    except BedsideError:
        raise
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}.") from error


def default_format(source: Source) -> str:
    """Name the format of labels that is of the source's own kind."""
    return FORMATS[source.kind]


def write_labels(
    labels: LabelMap,
    source: Source,
    target: Path,
    *,
    labels_spec: tuple[Label, ...],
    algorithm: Algorithm,
    format: str,  # noqa: A002
) -> Path:
    """Write labels on the grid of their source, whole or not at all.

    Args:
        labels: (frames, height, width), on the source's grid.
        source: What was segmented.
        target: The file to write. Labels of several frames as "png" become a folder of
            this name without its suffix, one file a frame.
        labels_spec: Names, colours and codes of the labels.
        algorithm: Who drew them. What an untrained network drew is named so, structure by
            structure: a mask travels without its report.
        format: "dicom-seg", "dicom-labelmap", "nifti", "seg-nrrd" or "png".

    Returns:
        The file or folder written.

    Raises:
        UsageError: If the format is unknown, or is of DICOM and the source is not.
        OutputError: If it cannot be written.
    """
    target = Path(target)
    if algorithm.untrained:
        labels_spec = tuple(
            replace(label, name=f"{label.name[:50]} (untrained)") for label in labels_spec
        )
    if format in DICOM_FORMATS:
        if source.kind != "dicom":
            raise UsageError(
                f"{source.path} is not DICOM, so its labels cannot be a DICOM SEG. "
                "Choose --format nifti, seg-nrrd or png."
            )
        from bedside.io.dicom.seg import write_seg

        write_seg(
            labels,
            source,
            target,
            labels_spec=labels_spec,
            algorithm=algorithm,
            as_labelmap=format == "dicom-labelmap",
        )
        return target
    if format == "nifti":
        from bedside.io.nifti.file import write_nifti

        grid = source.header if source.kind in _ON_NIFTI_GRID else None
        even = find_even_grid(source.sequence)
        write_nifti(labels, target, grid=grid, geometry=source.sequence.geometry, even=even)
        return target
    if format == "seg-nrrd":
        from bedside.io.nrrd.seg import write_seg_nrrd

        write_seg_nrrd(
            labels, target, sequence=_place_film(source), labels_spec=labels_spec,
            made_by=f"{algorithm.name} {algorithm.version} sha256:{algorithm.sha256}",
        )  # fmt: skip
        return target
    if format == "png":
        from bedside.io.raster import write_pngs

        return write_pngs(labels, target, labels_spec=labels_spec)
    raise UsageError(f'format is "{format}"; choose one of {", ".join(SUFFIXES)}.')


def _only_series(folder: Path) -> tuple[Path, ...]:
    """Find the files of the only DICOM series of a folder.

    Raises:
        FormatError: If it holds something else, or several; they are listed.
    """
    found = find_sources(folder)
    if len(found.paths) == 1 and found.files:
        return found.files[found.paths[0]]
    listed = "; ".join(_describe(path, found) for path in found.paths[:8])
    more = f"; and {len(found.paths) - 8} more" if found.paths[8:] else ""
    raise FormatError(
        f"{folder} is a folder of {len(found.paths)} images and not of one DICOM series: "
        f"{listed}{more}. Name one of them, or give each series a folder."
    )


def _describe(path: Path, found: DiscoveredImages) -> str:
    """Name a case, and how many files it has."""
    return f"{path} ({len(found.files[path])} slices)" if path in found.files else str(path)


def _place_film(source: Source) -> ImageSequence:
    """Give frames in time the place that the third axis of their file has, to write them there."""
    sequence, grid = source.sequence, source.header
    if sequence.third_axis != "time" or grid is None or len(grid.shape) != 3:
        return sequence
    if source.kind not in ("nrrd", "metaimage"):
        return sequence
    frames, _, *plane = sequence.shape
    return replace(
        sequence, geometry=Geometry((frames, *plane), grid.affine[:, [2, 1, 0, 3]], space="RAS")
    )
