"""Objects of C-STORE on their way from the network to a file, piece by piece, as they come."""

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import ImplicitVRLittleEndian

from bedside.dicom_node.upper_layer import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
from bedside.io.dicom.head import HEAD_BYTES

_PREAMBLE = bytes(128) + b"DICM"
# What is kept in memory: most headers are shorter.
_KEPT_BYTES = 2**15


@dataclass
class ReceivedObject:
    """A data set in a file, as it came.

    Attributes:
        path: The file, with file meta information; removed by whoever takes the object.
        head: The first bytes of the data set; see `read_head` for more of them.
        is_implicit: Whether it has no value representations.
        error: Why it could not be written; the rest of it was thrown away.
    """

    path: Path
    head: bytes = b""
    is_implicit: bool = False
    error: OSError | None = None

    def read_head(self) -> bytes:
        """Return the first `HEAD_BYTES` of the data set, or all."""
        with self.path.open("rb") as file:
            file.seek(dataset_offset(file.read(META_HEAD_BYTES)))
            return file.read(HEAD_BYTES)


class PartialObject:
    """A file that is being written.

    Args:
        path: The file.
        meta: What stands in front of the data set.
        syntax: UID of its transfer syntax.
    """

    def __init__(self, path: Path, meta: bytes, *, syntax: str) -> None:
        self._object = ReceivedObject(path, is_implicit=syntax == ImplicitVRLittleEndian)
        self._head = bytearray()
        self._handle: int | None = None
        with self._failing():
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._write(meta)

    def write(self, data: memoryview) -> None:
        """Write a piece of the data set, unless an earlier one could not be written."""
        if len(self._head) < _KEPT_BYTES:
            self._head += data[: _KEPT_BYTES - len(self._head)]
        self._write(data)

    def finish(self, *, is_synced: bool) -> ReceivedObject:
        """Close the file, on disk if asked for."""
        if self._handle is not None and is_synced:
            with self._failing():
                os.fdatasync(self._handle)
        self._close()
        self._object.head = bytes(self._head)
        return self._object

    def discard(self) -> None:
        """Close and remove the file."""
        self._close()
        self._object.path.unlink(missing_ok=True)

    def _write(self, data: bytes | memoryview) -> None:
        if self._handle is not None:
            with self._failing():
                view = memoryview(data)
                while view:
                    view = view[os.write(self._handle, view) :]

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Keep an error for the answer; what follows is thrown away."""
        try:
            yield
        except OSError as error:
            self._object.error = error
            self._close()

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def make_file_meta(*, sop_class: str, sop_instance: str, syntax: str) -> bytes:
    """Return what stands in front of the data set in a file: preamble and meta information.

    Args:
        sop_class: UID of the SOP class.
        sop_instance: UID of the instance.
        syntax: UID of the transfer syntax.

    Source:
        PS3.10, 7.1.
    """
    version = IMPLEMENTATION_VERSION.encode()
    group = struct.pack("<HH2sHI", 2, 1, b"OB", 0, 2) + b"\0\1"
    for element, uid in ((2, sop_class), (3, sop_instance), (16, syntax), (18, IMPLEMENTATION_UID)):
        group += _short(element, b"UI", uid.encode("ascii", "replace"), b"\0")
    group += _short(19, b"SH", version, b" ")
    return _PREAMBLE + _short(0, b"UL", struct.pack("<I", len(group)), b"") + group


def dataset_offset(file_head: bytes) -> int:
    """Return where the data set begins in a file that `make_file_meta` begins.

    Args:
        file_head: The first `META_HEAD_BYTES` of the file.
    """
    (length,) = struct.unpack_from("<I", file_head, META_HEAD_BYTES - 4)
    return META_HEAD_BYTES + int(length)


META_HEAD_BYTES = len(_PREAMBLE) + 12
"""Preamble, and the length of the meta information that follows."""


def _short(element: int, vr: bytes, value: bytes, pad: bytes) -> bytes:
    value += pad * (len(value) % 2)
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value
