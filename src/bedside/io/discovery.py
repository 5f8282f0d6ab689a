"""What there is to segment in a folder."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bedside.errors import FormatError
from bedside.io.detect import EXPECTED, detect_format, holds_no_image


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
        detect_format(path)
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
                kind = detect_format(file)
            except FormatError as error:
                skipped.append(str(error))
                continue
            if holds_no_image(file):
                skipped.append(f"{file} holds no image (an index, a report or a mask).")
            else:
                (dicom if kind == "dicom" else paths).append(file)
    files = _find_series(path, dicom, paths, skipped) if dicom else {}
    if not paths:
        seen = f"{len(skipped)} other files" if skipped else "no files"
        raise FormatError(f"{path} holds no image that can be read, and {seen}; {EXPECTED}.")
    return Found(tuple(sorted(paths)), tuple(sorted(skipped)), files)


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
