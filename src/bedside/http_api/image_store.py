"""Images and their labels in a folder, by ids that other programs choose.

    FOLDER/IMAGE/image.json         its id, and what is known of it
    FOLDER/IMAGE/image/...          its files: one, or the instances of a DICOM series
    FOLDER/IMAGE/labels/TAG.json    a label: its suffix, and what is known of it
    FOLDER/IMAGE/labels/TAG...      its file

Names of folders and files are hashes, so that no id, such as that of a patient, has to be a path.
Files appear whole, and are on disk when their sender is answered.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bedside.errors import UsageError
from bedside.system.atomic import output_errors, sync_folder, write_text
from bedside.system.unfinished import is_part, part_folder, remove

_MOST_CHARACTERS = 1024
_FREE_BYTES = 2**30


@dataclass(frozen=True)
class StoredLabel:
    """A label of an image.

    Attributes:
        path: Its file.
        suffix: Of the file that was sent, such as ".nii.gz".
        info: What was sent with it.
    """

    path: Path
    suffix: str
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredImage:
    """An image.

    Attributes:
        id: What the program that sent it calls it.
        path: Its file, or the folder of its files.
        suffix: Of the file that was sent, such as ".nii.gz"; ".dcm" for a series.
        info: What was sent with it.
        labels: Its labels by their tags.
    """

    id: str
    path: Path
    suffix: str
    info: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, StoredLabel] = field(default_factory=dict)


class ImageStore:
    """Images in a folder, for any number of threads; 1 GiB of its disk stays free.

    Args:
        folder: Where they are; made when the first one comes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def add_image(
        self, image_id: str, path: Path, *, suffix: str, info: Mapping[str, Any] | None = None
    ) -> None:
        """Add an image, in the place of one with this id; its labels go.

        Args:
            image_id: Its id.
            path: Its file, or a folder of its files; copied.
            suffix: Of its name.
            info: What is known of it; JSON.

        Raises:
            UsageError: If the id is empty or too long.
            OutputError: If it cannot be written.
        """
        target = self._place(image_id)
        with self._writing(path), part_folder(self.folder) as part:
            new = part / "new"
            files = new / "image"
            files.mkdir(parents=True)
            if path.is_dir():
                shutil.copytree(path, files, dirs_exist_ok=True)
            else:
                shutil.copyfile(path, files / f"image{suffix}")
            for file in files.iterdir():
                _sync(file)
            sync_folder(files)
            _write_json(new / "image.json", {"id": image_id, "suffix": suffix, "info": info or {}})
            old = self.folder / f".part-{secrets.token_hex(8)}"
            with contextlib.suppress(FileNotFoundError):
                target.rename(old)
            new.rename(target)
            sync_folder(self.folder)
            remove(old)

    def add_instance(self, series_uid: str, instance_uid: str, path: Path) -> None:
        """Add an instance to a DICOM series, whose UID is the id of the image.

        Args:
            series_uid: Its SeriesInstanceUID.
            instance_uid: Its SOPInstanceUID; one that is there already is replaced.
            path: Its file; linked or copied.

        Raises:
            UsageError: If an id is empty or too long.
            OutputError: If it cannot be written.
        """
        target = self._place(series_uid)
        name = f"{_hash(instance_uid)}.dcm"
        with self._writing(path):
            (target / "image").mkdir(parents=True, exist_ok=True)
            if not (target / "image.json").exists():
                about = {"id": series_uid, "suffix": ".dcm", "info": {}}
                _write_json(target / "image.json", about)
                sync_folder(target)
                sync_folder(self.folder)
            part = target / f".part-{secrets.token_hex(8)}"
            try:
                try:
                    os.link(path, part)
                except OSError:  # another disk, or one without links
                    shutil.copyfile(path, part)
                _sync(part)
                part.replace(target / "image" / name)
                sync_folder(target / "image")
            finally:
                part.unlink(missing_ok=True)

    def find(self, image_id: str) -> StoredImage | None:
        """Return an image; None if there is none with this id."""
        return self._read(self._place(image_id))

    def remove_image(self, image_id: str) -> bool:
        """Remove an image and its labels; return whether it was there."""
        with self._writing():
            place = self._place(image_id)
            was_there = place.exists()
            remove(place)
        return was_there

    def add_label(
        self, image_id: str, tag: str, path: Path, *, suffix: str, info: Mapping[str, Any]
    ) -> bool:
        """Add a label to an image, in the place of one with this tag.

        Returns:
            Whether there is such an image.

        Raises:
            UsageError: If the tag is empty or too long.
            OutputError: If it cannot be written.
        """
        place = self._place(image_id)
        if self._read(place) is None:
            return False
        with self._writing(path), part_folder(self.folder) as part:
            folder = place / "labels"
            folder.mkdir(exist_ok=True)
            name = _hash(tag)
            shutil.copyfile(path, part / name)
            _sync(part / name)
            (part / name).replace(folder / name)
            sync_folder(folder)
            _write_json(folder / f"{name}.json", {"tag": tag, "suffix": suffix, "info": dict(info)})
        return True

    def update_info(self, image_id: str, info: Mapping[str, Any], *, tag: str = "") -> bool:
        """Add to what is known of an image, or of its label with a tag; return if it is there."""
        place = self._place(image_id)
        path = place / "labels" / f"{_hash(tag)}.json" if tag else place / "image.json"
        with self._writing():
            stated = _read_json(path)
            if stated is None:
                return False
            _write_json(path, {**stated, "info": {**stated["info"], **info}})
        return True

    def remove_label(self, image_id: str, tag: str) -> bool:
        """Remove a label; return whether it was there."""
        folder = self._place(image_id) / "labels"
        path = folder / f"{_hash(tag)}.json"
        was_there = path.exists()
        with self._writing():
            path.unlink(missing_ok=True)
            (folder / _hash(tag)).unlink(missing_ok=True)
        return was_there

    def __iter__(self) -> Iterator[StoredImage]:
        """List the images, in no order."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                image = None if is_part(entry.name) else self._read(Path(entry.path))
                if image is not None:
                    yield image

    def _place(self, image_id: str) -> Path:
        return self.folder / _hash(image_id)

    def _read(self, place: Path) -> StoredImage | None:
        stated = _read_json(place / "image.json")
        if stated is None:
            return None
        labels = {}
        for path in sorted((place / "labels").glob("*.json")):
            label = _read_json(path)
            if label is not None:
                labels[label["tag"]] = StoredLabel(
                    path.with_suffix(""), label["suffix"], label["info"]
                )
        files = place / "image"
        single = files / f"image{stated['suffix']}"
        path = single if single.exists() else files
        if path is files and not any(files.iterdir()):
            return None  # its first instance is being stored
        return StoredImage(stated["id"], path, stated["suffix"], stated["info"], labels)

    @contextlib.contextmanager
    def _writing(self, path: Path | None = None) -> Iterator[None]:
        """Make the folder, and make sure that there is room for a file or a folder of files."""
        with output_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if path is not None:
                files = path.iterdir() if path.is_dir() else [path]
                n_bytes = sum(file.stat().st_size for file in files)
                if shutil.disk_usage(self.folder).free < n_bytes + _FREE_BYTES:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            yield


def _hash(text: str) -> str:
    """Return a name for an id.

    Raises:
        UsageError: If it is empty or too long.
    """
    if not text or len(text) > _MOST_CHARACTERS:
        raise UsageError(f"an id has {len(text)} characters; expected 1 to {_MOST_CHARACTERS}.")
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        stated: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stated


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content))


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
