"""Images that come to the node as files, such as by STOW-RS, and are received as by C-STORE."""

import os
import shutil
from pathlib import Path
from typing import BinaryIO

from pydicom.uid import ImplicitVRLittleEndian

from bedside.dicom_node.contexts import IMAGE_CLASSES, TRANSFER_SYNTAXES
from bedside.dicom_node.header import ImageHeader, read_header
from bedside.dicom_node.intake import Intake, Origin
from bedside.dicom_node.objects import make_file_meta
from bedside.dicom_node.server import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, STATUSES
from bedside.errors import BedsideError, FormatError
from bedside.io.dicom.bare import find_dataset, find_syntax
from bedside.io.dicom.head import HEAD_BYTES
from bedside.system.unfinished import part_file

# Failure reasons of PS3.18, table I.2-2.
CLASS_NOT_SUPPORTED, SYNTAX_NOT_SUPPORTED = 0x0122, 0xC122
_META_BYTES = 2**16


class FileReceiver:
    """Takes files for an intake, for any number of threads.

    Args:
        intake: Takes images.
        folder: For copies that are on their way; on the disk of the intake.
        free_mb: With less free disk than that, in MiB, files are refused.
        called_ae: Our AE title.
    """

    def __init__(self, intake: Intake, folder: Path, *, free_mb: int, called_ae: str) -> None:
        self._intake, self._folder = intake, folder
        self._free_bytes, self._called_ae = free_mb * 2**20, called_ae

    def store(self, path: Path, *, association: int, calling_ae: str) -> int:
        """Take an image.

        Args:
            path: Its file; it stays.
            association: What came together has one; unlike that of any other sender.
            calling_ae: What routes know the sender by.

        Returns:
            0 if it is safe on disk, else why it was refused: a status of C-STORE (PS3.4, B.2.3) or
            a failure reason of PS3.18.
        """
        try:
            if shutil.disk_usage(self._folder.parent).free < self._free_bytes:
                return OUT_OF_RESOURCES
            return self._store(path, Origin(association, calling_ae, self._called_ae))
        except FormatError:
            return CANNOT_UNDERSTAND
        except (OSError, BedsideError):
            return OUT_OF_RESOURCES

    def end(self, association: int) -> None:
        """Take note that no more images come together with those of this number."""
        self._intake.end(association, is_released=True)

    def _store(self, path: Path, origin: Origin) -> int:
        with path.open("rb") as file:
            head = file.read(_META_BYTES + HEAD_BYTES)
            syntax, start = find_syntax(head), find_dataset(head)
            if syntax not in TRANSFER_SYNTAXES:
                return SYNTAX_NOT_SUPPORTED
            header = read_header(head[start:], is_implicit=syntax == ImplicitVRLittleEndian)
            if header.sop_class_uid not in IMAGE_CLASSES:
                return CLASS_NOT_SUPPORTED
            file.seek(start)
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with part_file(self._folder / "image.dcm") as copy:
                _write(copy, header, syntax, file)
                return STATUSES[self._intake.receive(header, copy, origin)]


def _write(path: Path, header: ImageHeader, syntax: str, dataset: BinaryIO) -> None:
    """Write a file as the node writes those of C-STORE: with file meta information of its own."""
    meta = make_file_meta(
        sop_class=header.sop_class_uid, sop_instance=header.sop_instance_uid, syntax=syntax
    )
    with path.open("wb") as file:
        file.write(meta)
        shutil.copyfileobj(dataset, file)
        file.flush()
        os.fsync(file.fileno())
