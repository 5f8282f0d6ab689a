"""Images of a work item, fetched by WADO-RS straight to disk, from one configured service only.

Addresses that a work item states are not followed: they would let a worklist send this machine,
with its token, anywhere.
"""

import os
from collections.abc import Callable, Mapping
from email.message import Message
from pathlib import Path
from typing import BinaryIO

import httpx
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from bedside.dicom_node.sending.destination import WebDestination
from bedside.dicom_node.sending.exchange import Exchange, HttpRequest
from bedside.dicom_node.sending.instance import read_instance
from bedside.dicom_node.ups.work_item import InputSeries
from bedside.errors import FormatError, PeerError, UnansweredError

_ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_NOT_NOW = frozenset({401, 403, 407, 408, 425, 429, 502, 503, 504})


class ImageService:
    """A DICOMweb service that images are fetched from, for one thread at a time.

    Args:
        service: Where it is.
        max_bytes: Limit for each series.

    Raises:
        SpecError: If its certificates cannot be read.
    """

    def __init__(self, service: WebDestination, *, max_bytes: int = 4 << 30) -> None:
        self._service, self._max_bytes = service, max_bytes
        self._exchange = Exchange(
            connect_s=service.connect_s,
            token_file=service.token_file,
            tls=service.tls.open_context(),
        )

    def fetch(
        self, series: InputSeries, folder: Path, *, check: Callable[[], None] = lambda: None
    ) -> list[Path]:
        """Return the files of a series, written into a folder.

        Args:
            series: What to fetch.
            folder: Where to; it is there and empty.
            check: Called for each piece; what it raises ends the work.

        Raises:
            PeerError: If the service cannot be reached, or refuses.
            UnansweredError: If no whole answer came.
            LimitError: If the series is too long.
            FormatError: If it is not there, or something else comes.
        """
        root = f"{self._service.url.rstrip('/')}/studies/{series.study_instance_uid}"
        url = f"{root}/series/{series.series_instance_uid}"
        urls = [f"{url}/instances/{uid}" for uid in series.sop_instance_uids] or [url]
        parts = PartWriter(folder, check=check)
        try:
            for each in urls:
                request = HttpRequest("GET", each, headers={"Accept": _ACCEPT})
                reply = self._exchange.send(
                    request,
                    deadline_s=self._service.deadline_s,
                    max_bytes=self._max_bytes,
                    receive=parts.receive,
                )
                _check_status(reply.status)
                parts.end()
        finally:
            parts.close()
        return _checked(parts.paths, series)

    def close(self) -> None:
        """Close the connections."""
        self._exchange.close()


class PartWriter:
    """Writes the parts of multipart answers as files, however they are cut into pieces.

    Args:
        folder: Where to.
        check: Called for each piece.

    Attributes:
        paths: The files so far.
    """

    def __init__(self, folder: Path, *, check: Callable[[], None] = lambda: None) -> None:
        self._folder, self._check = folder, check
        self.paths: list[Path] = []
        self._file: BinaryIO | None = None
        self._parser: MultipartParser | None = None

    def receive(self, headers: Mapping[str, str] | httpx.Headers, piece: bytes) -> None:
        """Take a piece of an answer.

        Raises:
            FormatError: If it is not multipart.
        """
        self._check()
        if self._parser is None:
            self._parser = MultipartParser(
                _boundary(headers.get("Content-Type", "")),
                {
                    "on_part_begin": self._begin,
                    "on_part_data": self._write,
                    "on_part_end": self._end,
                },
            )
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise FormatError(f"images come in a damaged multipart answer: {error}") from error

    def end(self) -> None:
        """End an answer; the next one may follow.

        Raises:
            FormatError: If it ended in the middle of a part.
        """
        self._parser = None
        if self._file is not None:
            raise FormatError("an answer with images ends in the middle of one.")

    def close(self) -> None:
        """Close a file that is open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        path = self._folder / f"{len(self.paths):06d}.dcm"
        self._file = path.open("xb")
        self.paths.append(path)

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])

    def _end(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self.close()


def _boundary(content_type: str) -> str:
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_maintype() != "multipart" or not isinstance(boundary, str):
        raise FormatError(f'images come as "{content_type[:80]}" instead of multipart/related.')
    return boundary


def _check_status(status: int) -> None:
    if status == 200:
        return
    if status in _NOT_NOW:
        raise PeerError(f"the image service answers HTTP {status}")
    if status >= 500:
        raise UnansweredError(f"the image service answers HTTP {status}")
    raise FormatError(f"the image service has no such series (HTTP {status}).")


def _checked(paths: list[Path], series: InputSeries) -> list[Path]:
    """Refuse files of another series: they may be of another patient."""
    uids = set()
    for path in paths:
        instance = read_instance(path)
        found = (instance.study_instance_uid, instance.series_instance_uid)
        if found != (series.study_instance_uid, series.series_instance_uid):
            raise FormatError("the image service sends images of another series.")
        uids.add(instance.sop_instance_uid)
    missing = set(series.sop_instance_uids) - uids
    if missing or not uids:
        lacking = "1 image" if len(missing) == 1 else f"{len(missing) or 'all'} images"
        raise FormatError(f"the image service lacks {lacking} of a series.")
    return paths
