"""Bodies of requests on disk: streamed, capped, under a deadline; a zip is unpacked.

Files get names of their own, so no name that was sent reaches the disk or a message.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from bedside.errors import InputError, UsageError
from bedside.http_api.failures import RequestError
from bedside.http_api.receiving import Spool, check_length, stream_body
from bedside.http_api.settings import HttpSettings
from bedside.http_api.zips import is_zip, unpack_zip
from bedside.system.unfinished import scratch_folder

MOST_FILES = 20_000
"""Files of one request, or of one zip."""

_FLUSH_BYTES = 2**18
_MOST_FIELD_BYTES = 2**16
_NAME = "image"
_SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,8}){1,2}$")

Run = Callable[[Callable[[], Any]], Awaitable[Any]]


@dataclass(frozen=True)
class Upload:
    """What a request has brought.

    Attributes:
        path: The image; a folder if there were several files, or a zip, or none.
        n_bytes: Of all files, as they were sent; 0 if there are none.
        fields: Other fields of the form, by name.
        suffix: End of the name of the last file, such as ".nii.gz"; empty if it has none.
    """

    path: Path
    n_bytes: int
    fields: dict[str, str] = field(default_factory=dict)
    suffix: str = ""


@contextlib.asynccontextmanager
async def receive_upload(
    request: Request,
    settings: HttpSettings,
    *,
    spool: Spool,
    folder: Path,
    run: Run,
    files: str = "file",
    required: bool = True,
) -> AsyncIterator[Upload]:
    """Receive the image of a request on disk; removed at the end of the block.

    Args:
        request: Its body is multipart with files in one field, or one file itself.
        settings: Limits.
        spool: Disk that is left.
        folder: Where files of requests are.
        run: Runs blocking work in a thread.
        files: Name of the field with files.
        required: Whether there must be a file.

    Raises:
        RequestError: If it is too large, too slow, malformed, or has no file.
        BusyError: If there is no room on the disk.
        CancelledError: If the client leaves.
        FormatError: If a zip is damaged or not to be trusted.
    """
    most = settings.upload_mb * 2**20
    check_length(request, most)
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder(folder))
        sink = _Sink(scratch, run, spool)
        try:
            body = stream_body(request, settings, most=most)
            fields = await _receive(request, sink, body, files)
            if required and not sink.n_bytes:
                raise RequestError(400, f'there is no image. Send it in the field "{files}".')
            path = sink.path()
            if path.is_file() and is_zip(path):
                limit = settings.unpacked_mb * 2**20
                async with spool.unpacking:
                    path = await run(lambda: _unpack(path, scratch, limit, sink.take))
            yield Upload(path, sink.n_bytes, fields, sink.suffix)
        except (InputError, UsageError) as error:
            raise type(error)(_forget_place(str(error), scratch)) from error
        finally:
            sink.close()
            await run(stack.close)


def _unpack(packed: Path, folder: Path, max_bytes: int, take: Callable[[int], None]) -> Path:
    """Return the folder of the files of a zip, which is removed."""
    unpacked = folder / "unpacked"
    unpack_zip(packed, unpacked, max_bytes=max_bytes, max_files=MOST_FILES, take=take)
    packed.unlink()
    return unpacked


def _forget_place(message: str, folder: Path) -> str:
    """Return a message with files as the client can know them."""
    for place in ("files", "unpacked"):
        message = message.replace(f"{folder / place}/", "")
        message = message.replace(str(folder / place), "the folder sent")
    return message


async def _receive(
    request: Request, sink: "_Sink", body: AsyncIterator[bytes], files: str
) -> dict[str, str]:
    """Write the body to the sink; return the other fields of a form."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind == b"multipart/form-data":
        boundary = options.get(b"boundary")
        if not boundary:
            raise RequestError(400, "the multipart body names no boundary.")
        form = _Form(boundary, sink, files)
        try:
            async for chunk in body:
                form.write(chunk)
                await sink.flush()
            form.finish()
        except FormParserError as error:
            raise RequestError(400, "the multipart body is malformed.") from error
        await sink.flush(at_least=1)
        return form.fields
    if kind == b"application/x-www-form-urlencoded":
        raise RequestError(415, f'send the image as multipart/form-data in the field "{files}".')
    async for chunk in body:
        if chunk and not sink.count:
            sink.begin()
        sink.add(chunk)
        await sink.flush()
    await sink.flush(at_least=1)
    return {}


class _Sink:
    """Files that are being received."""

    def __init__(self, folder: Path, run: Run, spool: Spool) -> None:
        self.n_bytes = self.count = self._n_taken = 0
        self.suffix = ""
        self._folder, self._run, self._spool = folder / "files", run, spool
        self._folder.mkdir()
        self._waiting: list[tuple[Any, list[bytes]]] = []
        self._n_waiting = 0

    def begin(self, name: str = "") -> None:
        """Begin a file; of its name only the end is kept, if it is one."""
        self.count += 1
        found = _SUFFIX.search(name)
        self.suffix = found[0] if found else ""
        if self.count > MOST_FILES:
            raise RequestError(413, f"there are more than {MOST_FILES} files. Send fewer.")
        self._waiting.append((self._folder / f"{_NAME}_{self.count:05d}", []))

    def add(self, data: bytes) -> None:
        """Add to the file begun last."""
        self.take(len(data))
        self.n_bytes += len(data)
        if data:
            self._waiting[-1][1].append(data)
            self._n_waiting += len(data)

    def take(self, n_bytes: int) -> None:
        """Count bytes on the disk, which `close` gives back.

        Raises:
            BusyError: If there is no room for them.
        """
        self._spool.take(n_bytes)
        self._n_taken += n_bytes

    async def flush(self, *, at_least: int = _FLUSH_BYTES) -> None:
        """Write what waits to disk, if it is that much; in a thread, as disks can be slow."""
        if self._n_waiting >= at_least or (len(self._waiting) > 1 and at_least == 1):
            waiting, self._n_waiting = self._waiting, 0
            self._waiting = [(waiting[-1][0], [])]
            await self._run(lambda: _append(waiting))

    def close(self) -> None:
        """Forget what waits, and give the disk back."""
        self._waiting = []
        self._spool.give_back(self._n_taken)

    def path(self) -> Path:
        """The only file, or the folder of several or none."""
        if self.count != 1 or not self.n_bytes:
            return self._folder
        return (self._folder / f"{_NAME}_00001").rename(self._folder / _NAME)


def _append(waiting: list[tuple[Any, list[bytes]]]) -> None:
    for path, chunks in waiting:
        with open(path, "ab") as file:
            file.writelines(chunks)


class _Form:
    """A multipart form: files go to the sink, other fields are kept if they are short."""

    def __init__(self, boundary: bytes, sink: _Sink, files: str) -> None:
        self.fields: dict[str, str] = {}
        self._sink, self._files = sink, files
        self._name = ""
        self._header, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._field = b""
        self._n_fields = 0
        self._is_over = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_header,
                "on_header_value": self._add_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_data,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def write(self, chunk: bytes) -> None:
        """Parse more of the body."""
        self._parser.write(chunk)

    def finish(self) -> None:
        """Check that the body is complete.

        Raises:
            RequestError: If it is not.
        """
        if not self._is_over:
            raise RequestError(400, "the multipart body ends before its last boundary.")

    def _begin_part(self) -> None:
        self._headers = {}
        self._field = b""

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _begin_data(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name == self._files:
            self._sink.begin(options.get(b"filename", b"").decode("utf-8", "replace"))

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == self._files:
            self._sink.add(data[start:end])
            return
        self._field += data[start:end]
        self._n_fields += end - start
        if self._n_fields > _MOST_FIELD_BYTES:
            raise RequestError(413, f'the fields other than "{self._files}" are too long.')

    def _end_part(self) -> None:
        if self._name != self._files:
            self._n_fields += len(self._name) + 1
            self.fields[self._name] = self._field.decode("utf-8", "replace")

    def _end(self) -> None:
        self._is_over = True
