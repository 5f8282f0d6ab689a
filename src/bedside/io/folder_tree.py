"""The files of a folder and all folders below it, links included."""

import os
import stat
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from bedside.io.own_results import read_marker
from bedside.system.regular_files import name_kind

# System files and folders.
_JUNK = frozenset({
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
    "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found",
})  # fmt: skip


@dataclass
class FileList:
    """The files of a folder.

    Attributes:
        files: Regular files, each once, under the folder as it was named.
        skipped: Everything else as "name: reason", except hidden files and system files.
    """

    files: list[Path] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def list_files(root: Path) -> FileList:
    """List the regular files in a folder and below it.

    Links are followed last; each real folder and file is taken once, so links cannot form a
    loop. Results that the marker of their folder lists are left out. Only markers are opened.

    Args:
        root: The folder.
    """
    search = _Search(root)
    search.run()
    search.found.files.sort()
    return search.found


class _Search:
    """One search through a folder.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.found = FileList()
        real = os.path.realpath(root)
        self._above = {str(folder) for folder in Path(real).parents}
        # Folders to list, each with its real path; links are followed when none is left.
        self._folders = deque([(root, real)])
        self._links: deque[Path] = deque()
        # Real paths of folders and files.
        self._seen = {real}

    def run(self) -> None:
        """Search every folder, then follow one link after another."""
        while self._folders or self._links:
            if self._folders:
                self._list_folder(*self._folders.popleft())
            else:
                self._follow(self._links.popleft())

    def _skip(self, path: Path, why: str) -> None:
        self.found.skipped.append(f"{path} {why}.")

    def _list_folder(self, folder: Path, real: str) -> None:
        """Add the files of one folder."""
        try:
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries)
        except OSError as error:
            self._skip(folder, f"cannot be looked into: {error.strerror or error}")
            return
        results = read_marker(folder).intersection(names)
        if results:
            self._skip(folder, f"holds results of bedside: {', '.join(sorted(results))}")
        for name in names:
            if name not in results and not name.startswith(".") and name.lower() not in _JUNK:
                self._take(folder / name, os.path.join(real, name))

    def _take(self, path: Path, real: str) -> None:
        """Add one entry of a folder."""
        try:
            mode = path.lstat().st_mode
        except OSError as error:
            self._skip(path, f"cannot be read: {error.strerror or error}")
            return
        if stat.S_ISLNK(mode):
            self._links.append(path)
        else:
            self._sort(path, real, mode)

    def _sort(self, path: Path, real: str, mode: int) -> None:
        """Queue a folder, or add a file."""
        if stat.S_ISDIR(mode):
            self._seen.add(real)
            self._folders.append((path, real))
        elif stat.S_ISREG(mode):
            self._seen.add(real)
            self.found.files.append(path)
        else:
            self._skip(path, f"is {name_kind(mode)} and was not opened")

    def _follow(self, link: Path) -> None:
        """Add the target of a link, unless it is known already or contains the link itself."""
        try:
            real, mode = os.path.realpath(link), link.stat().st_mode
        except OSError as error:
            self._skip(link, f"is a link that leads nowhere: {error.strerror or error}")
            return
        if real in self._above:
            self._skip(link, f"is a link to {real}, which contains this folder; not followed")
        elif real in self._seen:
            self._skip(link, f"is a link to {real}, which is used once")
        else:
            self._sort(link, real, mode)
