"""The list of cases: read from a manifest or named after the files of a folder; shards of it."""

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NoReturn, TypeVar

from bedside.batch.object_store import join_url, read_object
from bedside.bundle.shipped import is_bundle_path
from bedside.errors import FormatError, SpecError, UsageError
from bedside.spec.reading import from_mapping
from bedside.system.regular_files import open_regular
from bedside.system.store_url import store_url

_Item = TypeVar("_Item")

# What every file system takes as the name of a folder, and no shell or URL changes.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?<!\.)")
_ID_RULE = (
    "expected 1 to 100 letters, digits, dots, hyphens and underscores, the first a letter or "
    "a digit, the last no dot"
)
# Names that Windows keeps for devices, and those of our own files beside the cases.
_TAKEN = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|results.*\.jsonl", re.IGNORECASE)
_MAX_LINE_BYTES = 2**20


@dataclass(frozen=True)
class Case:
    """One image to segment, with the name of its results.

    Attributes:
        id: Its name, and its folder below the output.
        source: Its file, or the folder of a DICOM series.
        channels: Further files of the same scan, one a channel.
        model: Path or name of its bundle; None for the default bundle.
        files: Those of the DICOM series that the source stands for; empty if it is one file,
            or a folder with nothing but one series.
        third_axis: Whether its third axis is "time" or "space"; None for the setting of the run.
        pixel_spacing_mm: (row, column) distance of its pixels, where the file does not say it;
            None for the setting of the run.
        urls: Objects of the source and the channels if they are in a store; `source` and
            `channels` are then their names, to be fetched into some folder.
    """

    id: str
    source: Path
    channels: tuple[Path, ...] = ()
    model: str | None = None
    files: tuple[Path, ...] = ()
    third_axis: Literal["auto", "time", "space"] | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    urls: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Where its source is, for people."""
        return self.urls[0] if self.urls else str(self.source)


@dataclass(frozen=True)
class _Line:
    """One line of a manifest."""

    id: str
    source: str
    channels: tuple[str, ...] = ()
    model: str | None = None
    third_axis: Literal["auto", "time", "space"] | None = None
    pixel_spacing_mm: tuple[float, float] | None = None


def read_manifest(path: Path) -> tuple[Case, ...]:
    """Read a manifest, JSON lines of `id` and `source`.

    Where needed a line has `channels`, `model`, `third_axis` and `pixel_spacing_mm` too. Paths in
    it are relative to its own folder. Empty lines are passed over.

    Raises:
        FormatError: If the manifest cannot be read or has no case, or if a line is no such
            JSON, or its id is taken or no safe name for a folder; the line is named.
    """
    path = Path(path)
    if (url := store_url(path)) is not None:
        folder = url.rpartition("/")[0]
        lines = read_object(url).splitlines()
        return _read_cases(lines, url, lambda line: _locate_objects(line, folder))
    try:
        with open_regular(path) as file:
            return _read_cases(file, str(path), lambda line: _locate_files(line, path.parent))
    except OSError as error:
        raise FormatError(f"cannot read the manifest {path}: {error.strerror or error}.") from error


def _read_cases(
    lines: Iterable[bytes], name: str, locate: Callable[[_Line], Case]
) -> tuple[Case, ...]:
    """Read the lines of a manifest, with a function that finds what they name."""
    cases: dict[str, Case] = {}
    for number, content in enumerate(lines, start=1):
        if not content.strip():
            continue
        case = _read_line(content, locate, where=f"{name}, line {number}")
        # Upper and lower case are one folder on some file systems.
        if case.id.lower() in cases:
            raise FormatError(
                f'{name}, line {number}: id "{case.id}" is taken by an earlier line '
                "(upper and lower case count as one). Give each case an id of its own."
            )
        cases[case.id.lower()] = case
    if not cases:
        raise FormatError(f"the manifest {name} has no case; expected a line of JSON for each.")
    return tuple(cases.values())


def name_cases(
    paths: Sequence[Path], root: Path, *, files: Mapping[Path, tuple[Path, ...]] | None = None
) -> tuple[Case, ...]:
    """Name each image of a folder after itself, as a path without suffix below that folder.

    A file keeps its suffix where two would share a name, or where its results would hold the
    results of another. Where that does not tell them apart, as for the folder of a series with
    other images below it, a number is added: no two cases share a folder, or hold one another's,
    whether or not a file system tells capitals from small letters.

    Args:
        paths: The images: files, and folders of a series.
        root: The folder.
        files: The files of each path that is a series.

    Example:
        >>> [case.id for case in name_cases([Path("d/a.png"), Path("d/b.png")], Path("d"))]
        ['a', 'b']
        >>> [case.id for case in name_cases([Path("d/a.png"), Path("d/a/b.png")], Path("d"))]
        ['a.png', 'a/b']
        >>> [case.id for case in name_cases([Path("d/a"), Path("d/a/b.png")], Path("d"))]
        ['a-2', 'a/b']
    """
    whole = [path.relative_to(root) for path in paths]
    # A folder's name, that of a series, may be a UID with dots: it has no suffix.
    short = [
        name if path.is_dir() else name.with_name(name.name.split(".")[0] or name.name)
        for name, path in zip(whole, paths, strict=True)
    ]
    above = {_fold(folder) for path in short for folder in path.parents}
    counts = Counter(map(_fold, short))
    wanted = [
        name if counts[_fold(name)] == 1 and _fold(name) not in above else full
        for name, full in zip(short, whole, strict=True)
    ]
    names = _set_apart(wanted)
    series = files or {}
    return tuple(
        Case(name.as_posix(), path, files=series.get(path, ()))
        for name, path in zip(names, paths, strict=True)
    )


def _set_apart(names: Sequence[Path]) -> list[Path]:
    """Add numbers to names that are taken, or that contain others as folders."""
    above = {_fold(folder) for name in names for folder in name.parents}
    taken: set[str] = set()
    apart = []
    for name in names:
        free, number = name, 1
        while _fold(free) in taken or _fold(free) in above or _TAKEN.fullmatch(free.as_posix()):
            number += 1
            free = name.with_name(f"{name.name}-{number}")
        taken.add(_fold(free))
        apart.append(free)
    return apart


def _fold(name: Path) -> str:
    """The name on a file system that ignores case."""
    return unicodedata.normalize("NFC", name.as_posix()).casefold()


def read_shard(text: str) -> tuple[int, int]:
    """Read "2/5", the second of five shards, or "env:INDEX/5", which counts from 0.

    Raises:
        UsageError: If it has another form, or there is no such variable.
    """
    place, _, count = text.rpartition("/")
    first = 1
    if place.startswith("env:"):
        name, first = place.removeprefix("env:"), 0
        if (place := os.environ.get(name, "")) == "":
            raise UsageError(
                f'shard is "{text}", and the variable {name} is not set. An indexed Job of '
                "Kubernetes sets JOB_COMPLETION_INDEX."
            )
    if not all(re.fullmatch(r"[0-9]{1,9}", part) for part in (place, count)):
        raise UsageError(_shard_form(text, place))
    number = int(place) + 1 - first
    if not 1 <= number <= int(count):
        raise UsageError(_shard_form(text, place))
    return number, int(count)


def _shard_form(text: str, place: str) -> str:
    seen = f" ({place} in the variable)" if text.startswith("env:") else ""
    return (
        f'shard is "{text}"{seen}; expected i/n such as 1/4, with i from 1 to n, or env:NAME/n, '
        "with a variable from 0 to n - 1."
    )


def take_shard(items: Sequence[_Item], number: int, count: int) -> tuple[_Item, ...]:
    """Take every `count`-th item, from the `number`-th on.

    Shards of one list are disjoint, complete, and as even as can be; lines added at the end
    of a manifest move none of those before.

    Args:
        items: All of them.
        number: Which shard, counted from 1.
        count: How many shards.

    Example:
        >>> [take_shard("abcde", number, 2) for number in (1, 2)]
        [('a', 'c', 'e'), ('b', 'd')]
    """
    return tuple(items[number - 1 :: count])


def _read_line(content: bytes, locate: Callable[[_Line], Case], *, where: str) -> Case:
    """Read one line of a manifest.

    Raises:
        FormatError: If it does not fit.
    """
    if len(content) > _MAX_LINE_BYTES:
        raise FormatError(f"{where} has {len(content)} bytes; at most {_MAX_LINE_BYTES} are read.")
    try:
        mapping = json.loads(
            content.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_refuse
        )
        line = from_mapping(_Line, mapping)
    except (ValueError, RecursionError) as error:
        text = str(error) if isinstance(error, SpecError) else f"no JSON: {error}."
        raise FormatError(
            f'{where}: {text} Write {{"id": "a", "source": "a.nii.gz"}}, and where needed '
            '"channels": [...], "model", "third_axis" and "pixel_spacing_mm": [row, column].'
        ) from error
    if not _ID.fullmatch(line.id) or _TAKEN.fullmatch(line.id):
        raise FormatError(f"{where}: id {line.id!r} cannot name a folder; {_ID_RULE}.")
    if not all((line.source, *line.channels)) or "\0" in "".join((line.source, *line.channels)):
        raise FormatError(f"{where}: a path is empty or holds a zero byte.")
    try:
        return locate(line)
    except FormatError as error:
        raise FormatError(f"{where}: {error}") from error


def _locate_files(line: _Line, folder: Path) -> Case:
    """The case of a line whose paths are relative to a folder."""
    return Case(
        line.id, folder / line.source, tuple(folder / channel for channel in line.channels),
        _find_model(line.model, folder),
        third_axis=line.third_axis, pixel_spacing_mm=line.pixel_spacing_mm,
    )  # fmt: skip


def _locate_objects(line: _Line, folder: str) -> Case:
    """The case of a line whose objects are named relative to a URL.

    Raises:
        FormatError: If a name is that of no object.
    """
    urls = tuple(join_url(folder, name) for name in (line.source, *line.channels))
    names = [Path(PurePosixPath(url).name) for url in urls]
    return Case(
        line.id, names[0], tuple(names[1:]), line.model,
        third_axis=line.third_axis, pixel_spacing_mm=line.pixel_spacing_mm, urls=urls,
    )  # fmt: skip


def _find_model(model: str | None, folder: Path) -> str | None:
    """Resolve a path to a file next to the manifest if it exists; otherwise keep the name."""
    if model is None or not is_bundle_path(model) or not (folder / model).is_file():
        return model
    return str(folder / model)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"it has the number {name}")
