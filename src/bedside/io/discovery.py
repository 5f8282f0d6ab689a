"""What there is to segment in a folder."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bedside.errors import FormatError
from bedside.io.detect import detect_format, why_no_image
from bedside.io.folder_tree import list_files
from bedside.io.formats import FORMATS, expected
from bedside.io.label_maps import file_holds_labels, is_named_like_labels


@dataclass(frozen=True)
class DiscoveredImages:
    """What a folder holds.

    Attributes:
        paths: What can be opened, one a case, sorted: files, and for a DICOM series its
            folder, or its first file where it shares the folder.
        skipped: Files that cannot, each "name: why".
        files: The files of each path that is a DICOM series, for `open_source`.
        notes: Why images of one DICOM series are several cases, in sentences for a person.
    """

    paths: tuple[Path, ...]
    skipped: tuple[str, ...]
    files: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def outside(self, output: Path) -> "DiscoveredImages":
        """What does not lie in the folder that results go to; what lies in it is skipped.

        Raises:
            FormatError: If nothing is left.
        """
        place = os.path.realpath(output)
        kept = tuple(
            path for path in self.paths if not Path(os.path.realpath(path)).is_relative_to(place)
        )
        inside = set(self.paths) - set(kept)
        if not kept:
            raise FormatError(
                f"all {len(inside)} images found lie in the output folder {output}: "
                "choose another folder with -o."
            )
        said = (f"{path} lies in the output folder." for path in inside)
        return replace(self, paths=kept, skipped=tuple(sorted((*self.skipped, *said))))


def find_sources(path: Path) -> DiscoveredImages:
    """List what there is to segment: the file itself, or every image in a folder and below it.

    Files are told by their first bytes. Links are followed, each real file taken once. Left out
    are files that are no image, results of this program, and label maps: files that both have
    the name of one and hold one. All of these are listed, but for hidden files and what
    operating systems leave behind. Single DICOM images that lie in a stack are one case, as are
    those that follow each other in time and the parts of a concatenation; localizers, screen
    captures, dose reports and renderings are skipped, where there is anything else.

    Raises:
        FormatError: If `path` is not there, or is a folder without an image.
    """
    path = Path(path)
    if not path.is_dir():
        detect_format(path)
        return DiscoveredImages((path,), ())
    listed = list_files(path)
    paths: list[Path] = []
    dicom: list[Path] = []
    skipped = listed.skipped
    notes: list[str] = []
    for file in listed.files:
        kind, why = _look_at(file, path)
        if why is not None:
            skipped.append(why)
        else:
            (paths if FORMATS[kind].open_series is None else dicom).append(file)
    files: dict[Path, tuple[Path, ...]] = {}
    if dicom:
        files, notes = _find_series(path, dicom, paths, skipped)
    if not paths:
        seen = f"nothing else; {expected()}."
        if skipped:
            seen = f"{len(skipped)} other things, such as: {min(skipped)}"
        raise FormatError(f"{path} holds no image that can be read, and {seen}")
    return DiscoveredImages(tuple(sorted(paths)), tuple(sorted(skipped)), files, tuple(notes))


def _look_at(file: Path, root: Path) -> tuple[str, str | None]:
    """Find the format of a file, and why it is none to segment, if it is none."""
    try:
        kind = detect_format(file)
        why = why_no_image(file, kind)
        if why is not None:
            return kind, f"{file} holds no image: it {why}."
    except FormatError as error:
        return "", str(error)
    except OSError as error:
        return "", f"cannot read {file}: {error.strerror or error}."
    if is_named_like_labels(file.relative_to(root)) and file_holds_labels(file, kind):
        why = "is a label map, by its name and its values; name it by itself to segment it"
        return kind, f"{file} {why}."
    return kind, None


def _find_series(
    root: Path, dicom: Sequence[Path], paths: list[Path], skipped: list[str]
) -> tuple[dict[Path, tuple[Path, ...]], list[str]]:
    """Sort DICOM files into series and single images, and add each to `paths` once.

    Returns:
        The files of each series, and why images of one are several cases.
    """
    from bedside.io.dicom.groups import group_files

    groups = group_files(dicom)
    lone = [*groups.singles]
    if groups.scans or lone or paths:
        skipped += [f"{file} {why}." for file, why in groups.auxiliary.items()]
    else:
        lone += groups.auxiliary
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
    return series, list(groups.notes)
