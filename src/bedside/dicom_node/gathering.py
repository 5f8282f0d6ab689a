"""A series that is being received: its images on disk, and what is known of it."""

import contextlib
import hashlib
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pydicom.filereader import read_file_meta_info
from pydicom.uid import ImplicitVRLittleEndian

from bedside.dicom_node.completeness import Known
from bedside.dicom_node.header import ImageHeader, read_header
from bedside.dicom_node.objects import META_HEAD_BYTES, dataset_offset
from bedside.dicom_node.series import IMAGES, Series
from bedside.errors import FormatError
from bedside.io.dicom.head import HEAD_BYTES
from bedside.service.jobs import Job
from bedside.system.atomic import sync_folder

_BLOCK_BYTES = 2**20


class Gathering:
    """A series that is being received, for any number of threads that hold its lock.

    Args:
        job: Its job, which is received.
        folder: Folder of the job.
        can_ask: Whether somebody knows how many images it has.
        syncs_each: Whether each image is on disk when it was placed.
        clock: Seconds, as from `time.monotonic`.

    Attributes:
        job: Its job.
        series: The job's payload.
        lock: Held by whoever changes it.
        is_closed: Whether it takes no more images, and another round would.
        counted: How many images its sender has counted; None if unknown.
    """

    def __init__(
        self,
        job: Job,
        folder: Path,
        *,
        can_ask: bool,
        syncs_each: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.job, self.series = job, Series.from_payload(job.payload)
        self.lock = threading.Lock()
        self.is_closed = False
        self.counted: int | None = None
        self._images = folder / IMAGES
        self._images.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._can_ask, self._syncs_each, self._clock = can_ask, syncs_each, clock
        self._users: set[int] = set()
        self._is_released = False
        self._changed_s = clock()
        self._asked_s: float | None = None
        self._count = 0
        self._are_whole = True
        self._series_images = 0
        self._acquisitions: dict[str, tuple[int, int]] = {}
        self._unsynced: list[str] = []
        for path in self._images.glob("*.dcm"):
            self._unsynced.append(path.name)
            with contextlib.suppress(FormatError):
                self._note(_read_stored_header(path))

    @property
    def known(self) -> Known:
        """What is known of it now."""
        now_s = self._clock()
        return Known(
            images=self._count,
            named=self._named(),
            is_named_whole=self._series_images > 0,
            are_whole=self._are_whole,
            is_open=bool(self._users),
            is_released=self._is_released,
            idle_s=now_s - self._changed_s,
            can_ask=self._can_ask,
            counted=self.counted,
            asked_s=math.inf if self._asked_s is None else now_s - self._asked_s,
        )

    def compare(self, header: ImageHeader, path: Path) -> bool | None:
        """Return whether an image is there with the same content; None if it is not there."""
        return compare_image(self._images, header, path)

    def place(self, header: ImageHeader, path: Path, user: int) -> None:
        """Take an image that is not there.

        Args:
            header: What it says of itself.
            path: Its file, on the same disk; it stays.
            user: The association.

        Raises:
            OSError: If it cannot be written.
        """
        name = image_name(header.sop_instance_uid)
        os.link(path, self._images / name)
        if self._syncs_each:
            sync_folder(self._images)
        else:
            self._unsynced.append(name)
        self._note(header)
        self._users.add(user)
        self._changed_s, self._asked_s, self._is_released = self._clock(), None, False

    @property
    def is_synced(self) -> bool:
        """Whether all images are on disk."""
        return not self._unsynced

    def sync(self) -> None:
        """Put the images on disk that are there; more may come meanwhile.

        Raises:
            OSError: If the disk fails.
        """
        names = self._unsynced[:]
        for name in names:
            with (self._images / name).open("rb") as file:
                os.fsync(file.fileno())
        if names:
            sync_folder(self._images)
            sync_folder(self._images.parent)
        del self._unsynced[: len(names)]

    def link_earlier(self, images: Path) -> None:
        """Take the images of the round before, those that are not there."""
        for path in sorted(images.glob("*.dcm")):
            target = self._images / path.name
            if not target.exists():
                header = _read_stored_header(path)
                os.link(path, target)
                self._note(header)
        sync_folder(self._images)

    def end(self, user: int, *, is_released: bool) -> bool:
        """Take note that an association has ended; return whether it brought images."""
        if user not in self._users:
            return False
        self._users.discard(user)
        self._changed_s, self._is_released = self._clock(), is_released
        return True

    def mark_asked(self, counted: int | None) -> None:
        """Take note of what the sender has answered; None if it has not."""
        self._asked_s, self.counted = self._clock(), counted

    @property
    def are_whole(self) -> bool:
        """Whether each image has several frames, and so is an image by itself."""
        return self._are_whole

    def _note(self, header: ImageHeader) -> None:
        self._count += 1
        self._are_whole = self._are_whole and header.frames > 1
        self._series_images = max(self._series_images, header.series_images or 0)
        number, named = self._acquisitions.get(header.acquisition, (0, 0))
        named = max(named, header.acquisition_images or 0)
        self._acquisitions[header.acquisition] = (number + 1, named)

    def _named(self) -> int | None:
        """How many images the header names: of the series, or of each acquisition seen."""
        if self._series_images:
            return self._series_images
        if self._acquisitions and all(named for _, named in self._acquisitions.values()):
            return sum(max(number, named) for number, named in self._acquisitions.values())
        return None


def image_name(sop_instance_uid: str) -> str:
    """Return the name of an image's file, which does not tell its UID."""
    return hashlib.sha256(sop_instance_uid.encode()).hexdigest()[:32] + ".dcm"


def compare_image(images: Path, header: ImageHeader, path: Path) -> bool | None:
    """Return whether an image is in a folder with the same content; None if it is not there."""
    try:
        with (
            (images / image_name(header.sop_instance_uid)).open("rb") as there,
            path.open("rb") as new,
        ):
            for file in (there, new):  # meta information names the version that wrote it
                file.seek(dataset_offset(file.read(META_HEAD_BYTES)))
            while block := there.read(_BLOCK_BYTES):
                if block != new.read(_BLOCK_BYTES):
                    return False
            return not new.read(1)
    except FileNotFoundError:
        return None


def _read_stored_header(path: Path) -> ImageHeader:
    """Read the head of a file that the node has written."""
    meta = read_file_meta_info(path)
    with path.open("rb") as file:
        file.seek(META_HEAD_BYTES + meta.FileMetaInformationGroupLength)
        head = file.read(HEAD_BYTES)
    return read_header(head, is_implicit=meta.TransferSyntaxUID == ImplicitVRLittleEndian)
