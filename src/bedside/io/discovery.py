"""Discovery of the images in a folder."""

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
    """The images in a folder.

    Attributes:
        paths: One per case, sorted: a file, or for a DICOM series its folder, or its first file
            where it shares the folder.
        skipped: Other files, each as "name: reason".
        files: The files of each path that is a DICOM series, for `open_source`.
        notes: Why images of one DICOM series are several cases, in sentences for the user.
    """

    paths: tuple[Path, ...]
    skipped: tuple[str, ...]
    files: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def outside(self, output: Path) -> "DiscoveredImages":
        """Return what does not lie in the output folder; the rest is listed as skipped.

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
    """List the images at a path: the file itself, or every image in a folder and below it.

    Formats are recognised by content. Links are followed, each real file is taken once. Files
    that are no image, results of this program, and label maps (by name and by content) are
    skipped and listed, except hidden files and system files. Single DICOM images that form a
    stack are one case, as are those that follow each other in time and the parts of a
    concatenation; localizers, screen captures, dose reports and renderings are skipped if there
    are other images.

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
    """Return the format of a file, and the reason if it is not an image to segment."""
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
        # The folder searched names its images only if they are one series.
        name = folder if alone and (folder != root or cases == 1) else scan[0]
        # "." has no name to call a case by.
        series[name if name.name else name.resolve()] = scan
    paths += [*lone, *series]
    return series, list(groups.notes)
