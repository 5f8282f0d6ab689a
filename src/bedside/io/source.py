"""The door of the data way: any file that is understood, told by its bytes, not by its name."""

import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from bedside.errors import FormatError, UsageError
from bedside.io.dicom_options import DicomOptions
from bedside.io.metaimage import is_metaimage
from bedside.io.nrrd_header import is_nrrd
from bedside.io.select import choose_place
from bedside.spec import Label
from bedside.volume import Cine, LabelMap

Kind = Literal["dicom", "nifti", "picture", "metaimage", "nrrd"]

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
_EXPECTED = "expected DICOM (a file with DICM at byte 128), NIfTI, MetaImage, NRRD, PNG or JPEG"
# Storage classes without an image to segment: DICOMDIR, segmentations, reports, plans.
_NO_IMAGE = re.compile(
    rb"\x02\x00\x02\x00UI..(?:1\.2\.840\.10008\.1\.3\.10|"
    rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(?:66|88|11|9|104|481\.[3-9])(?:\.|\0|\x02))",
    re.DOTALL,
)


@dataclass(frozen=True)
class Source:
    """An image on disk, opened.

    Attributes:
        path: Its file; of a DICOM series its folder, or its first file.
        kind: "dicom", "nifti", "picture", "metaimage" or "nrrd".
        cine: Its frames.
        header: What a result in the same format needs to know: for DICOM a `DicomInstances`,
            for NIfTI, MetaImage and NRRD a `NiftiGrid`, for a picture, and for NRRD without
            a place in the patient, None.
    """

    path: Path
    kind: Kind
    cine: Cine
    header: Any


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        paths: What can be opened, one a case, sorted: files, and for a DICOM series its
            folder, or its first file where it shares the folder.
        skipped: Files that cannot, each "name: why".
        files: The files of each path that is a DICOM series, for `open_source`.
    """

    paths: tuple[Path, ...]
    skipped: tuple[str, ...]
    files: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Algorithm:
    """Who drew the labels, as a DICOM SEG tells it.

    Attributes:
        name: Name of the bundle.
        version: Version of the bundle.
        sha256: Hash of the bundle.
        moment: When, as the file is to say it: the time of writing, or "source" for the time
            of the image itself, which makes the bytes the same whenever it is written.
    """

    name: str
    version: str
    sha256: str
    moment: datetime | Literal["now", "source"] = "now"


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
            from bedside.io.dicom_series import open_series

            return Source(path, "dicom", *open_series(files, path=path, options=dicom))
        kind = _sniff(path)
        if kind == "dicom":
            from bedside.io.dicom_cine import open_dicom

            return Source(path, kind, *open_dicom(path, options=dicom, select=select))
        if kind == "nifti":
            from bedside.io.nifti import open_nifti

            return Source(path, kind, *open_nifti(path, select=select))
        if kind == "nrrd":
            from bedside.io.nrrd import open_nrrd

            return Source(path, kind, *open_nrrd(path, select=select))
        choose_place(select, {}, path)
        if kind == "metaimage":
            from bedside.io.metaimage import open_metaimage

            return Source(path, kind, *open_metaimage(path))
        from bedside.io.picture import open_picture

        return Source(path, kind, open_picture(path), None)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}.") from error


def find_sources(path: Path) -> Found:
    """List what there is to segment: the file itself, or every image in a folder and below it.

    Files are told by their first bytes. Hidden ones are passed over; others that are no
    image are skipped and listed. Single DICOM images that lie in a stack are one case; an
    image that only shows where a scan lies is skipped, where there is anything else.

    Raises:
        FormatError: If `path` is not there, or is a folder without an image.
    """
    path = Path(path)
    if not path.is_dir():
        _sniff(path)
        return Found((path,), ())
    paths: list[Path] = []
    dicom: list[Path] = []
    skipped: list[str] = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name.startswith("."):
                continue
            file = Path(folder, name)
            try:
                kind = _sniff(file)
            except FormatError as error:
                skipped.append(str(error))
                continue
            if _holds_no_image(file):
                skipped.append(f"{file} holds no image (an index, a report or a mask).")
            else:
                (dicom if kind == "dicom" else paths).append(file)
    files = _find_series(path, dicom, paths, skipped) if dicom else {}
    if not paths:
        seen = f"{len(skipped)} other files" if skipped else "no files"
        raise FormatError(f"{path} holds no image that can be read, and {seen}; {_EXPECTED}.")
    return Found(tuple(sorted(paths)), tuple(sorted(skipped)), files)


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
        algorithm: Who drew them.
        format: "dicom-seg", "dicom-labelmap", "nifti", "seg-nrrd" or "png".

    Returns:
        The file or folder written.

    Raises:
        UsageError: If the format is unknown, or is of DICOM and the source is not.
        OutputError: If it cannot be written.
    """
    target = Path(target)
    if format in DICOM_FORMATS:
        if source.kind != "dicom":
            raise UsageError(
                f"{source.path} is not DICOM, so its labels cannot be a DICOM SEG. "
                "Choose --format nifti, seg-nrrd or png."
            )
        from bedside.io.dicom_seg import write_seg

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
        from bedside.io.nifti import write_nifti

        grid = source.header if source.kind in _ON_NIFTI_GRID else None
        write_nifti(labels, target, grid=grid, geometry=source.cine.geometry)
        return target
    if format == "seg-nrrd":
        from bedside.io.seg_nrrd import write_seg_nrrd

        write_seg_nrrd(
            labels, target, cine=source.cine, labels_spec=labels_spec,
            made_by=f"{algorithm.name} {algorithm.version} sha256:{algorithm.sha256}",
        )  # fmt: skip
        return target
    if format == "png":
        from bedside.io.picture import write_pngs

        return write_pngs(labels, target, labels_spec=labels_spec)
    raise UsageError(f'format is "{format}"; choose one of {", ".join(SUFFIXES)}.')


def _find_series(
    root: Path, dicom: Sequence[Path], paths: list[Path], skipped: list[str]
) -> dict[Path, tuple[Path, ...]]:
    """Sort DICOM files into series and single images, and add each to `paths` once.

    Returns:
        The files of each series.
    """
    from bedside.io.dicom_groups import group_files

    groups = group_files(dicom)
    lone = [*groups.singles]
    if groups.scans or lone or paths:
        skipped += [
            f"{file} is a localizer: it shows where a scan lies." for file in groups.localizers
        ]
    else:
        lone += groups.localizers
    cases = len(paths) + len(lone) + len(groups.scans)
    holding = [file.parent for file in lone]
    holding += [folder for scan in groups.scans for folder in {file.parent for file in scan}]
    series: dict[Path, tuple[Path, ...]] = {}
    for scan in groups.scans:
        folder = scan[0].parent
        alone = holding.count(folder) == 1 and {file.parent for file in scan} == {folder}
        # The folder searched stands for all that is in it, unless that is one series.
        name = folder if alone and (folder != root or cases == 1) else scan[0]
        # "." has no name to call a case by.
        series[name if name.name else name.resolve()] = scan
    paths += [*lone, *series]
    return series


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


def _describe(path: Path, found: Found) -> str:
    """Name a case, and how many files it has."""
    return f"{path} ({len(found.files[path])} slices)" if path in found.files else str(path)


def tell_kind(path: Path) -> Kind:
    """Tell the kind of a file by its first bytes.

    Raises:
        FormatError: If it cannot be read, is empty, or is of no kind that is understood.
    """
    return _sniff(path)


def _sniff(path: Path) -> Kind:
    """Tell the kind of a file by its first bytes.

    Raises:
        FormatError: If it cannot be read, is empty, or is of no kind that is understood.
    """
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}.") from error
    if not head:
        raise FormatError(f"{path} is empty; {_EXPECTED}.")
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return "picture"
    if _is_nifti(_inflate_head(head) if head.startswith(b"\x1f\x8b") else head):
        return "nifti"
    if is_metaimage(head):
        return "metaimage"
    if is_nrrd(head):
        return "nrrd"
    raise FormatError(f"{path} is no image: it begins with {head[:12]!r}; {_EXPECTED}.")


def _inflate_head(head: bytes) -> bytes:
    """Inflate the first bytes of a gzip file, as far as they go."""
    try:
        return zlib.decompressobj(31).decompress(head, 1024)
    except zlib.error:
        return b""


def _is_nifti(head: bytes) -> bool:
    """Tell a NIfTI-1 or NIfTI-2 header, in either byte order, by its declared length."""
    return head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c")


def _holds_no_image(path: Path) -> bool:
    """Tell a DICOM file of a class without an image, by its file meta information, or a mask.

    A .seg.nrrd file is told by the first of the keys that name its segments.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if is_nrrd(head):
        return b"\nSegment0_" in head
    return _NO_IMAGE.search(head[132:1024]) is not None
