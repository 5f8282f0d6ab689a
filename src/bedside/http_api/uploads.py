"""Bodies of requests: streamed, capped, under a deadline; a zip is unpacked.

A small body stays in memory until there is a turn for it, so a request that is refused has cost no
disk and no thread; a larger one goes to disk as it comes. Files get names of their own, so no name
that was sent reaches the disk or a message.
"""

import contextlib
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
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
from bedside.system.regular_files import MemoryPath
from bedside.system.unfinished import scratch_folder

MOST_FILES = 20_000
"""Files of one request, or of one zip."""

# A body of so many bytes goes to disk; those of all requests together may have more before all do.
_MEMORY_BYTES, _MOST_IN_MEMORY, _FLUSH_BYTES = 2**20, 2**26, 2**16
_MOST_FIELD_BYTES = 2**16
_HEAD_BYTES = 4
_NAME, _FILES, _UNPACKED = "image", "files", "unpacked"
_SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,8}){1,2}$")

Run = Callable[[Callable[[], Any]], Awaitable[Any]]


class Upload:
    """What a request has brought.

    Args:
        sink: Holds the files.
        fields: Other fields of the form, by name.
        unpacked: The folder of the files of a zip; None if no zip was sent.

    Attributes:
        fields: The same.
        n_bytes: Of all files, as they were sent; 0 if there are none.
        n_files: Files that were sent one by one; 0 for a zip.
        suffix: End of the name of the last file, such as ".nii.gz"; empty if it has none.
    """

    def __init__(
        self, sink: "_Sink", fields: dict[str, str], *, unpacked: Path | None = None
    ) -> None:
        self.fields, self.n_bytes, self.suffix = fields, sink.n_bytes, sink.suffix
        self.n_files = 0 if unpacked else sink.count
        self._sink, self._unpacked = sink, unpacked

    @property
    def path(self) -> Path:
        """The image on disk; a folder if there were several files, or a zip, or none.

        It may have to be written first, so it is asked for in a thread.
        """
        return self._unpacked or self._sink.path()

    @property
    def source(self) -> Path:
        """The image as it is opened: in memory if it is small, else on disk; as `path` else."""
        content = None if self._unpacked else self._sink.content()
        return self.path if content is None else MemoryPath.of(content, _NAME)


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
    """Receive the image of a request; removed at the end of the block.

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
    sink = _Sink(folder, run, spool)
    try:
        body = stream_body(request, settings, most=most)
        fields = await _receive(request, sink, body, files)
        if required and not sink.n_bytes:
            raise RequestError(400, f'there is no image. Send it in the field "{files}".')
        unpacked = None
        if sink.count == 1 and is_zip(sink.head):
            limit = settings.unpacked_mb * 2**20
            async with spool.unpacking:
                unpacked = await run(lambda: _unpack(sink.path(), limit, sink.take))
        yield Upload(sink, fields, unpacked=unpacked)
    except (InputError, UsageError) as error:
        raise type(error)(sink.forget_place(str(error))) from error
    finally:
        await sink.close()


def _unpack(packed: Path, max_bytes: int, take: Callable[[int], None]) -> Path:
    """Return the folder of the files of a zip, which is removed."""
    unpacked = packed.parent.with_name(_UNPACKED)
    unpack_zip(packed, unpacked, max_bytes=max_bytes, max_files=MOST_FILES, take=take)
    packed.unlink()
    return unpacked


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
        return form.fields
    if kind == b"application/x-www-form-urlencoded":
        raise RequestError(415, f'send the image as multipart/form-data in the field "{files}".')
    async for chunk in body:
        if chunk and not sink.count:
            sink.begin()
        sink.add(chunk)
        await sink.flush()
    return {}


class _Sink:
    """Files that are being received: in memory, and on disk once they are large.

    Args:
        folder: Where a folder for them is made.
        run: Runs blocking work in a thread.
        spool: Counts their bytes.
    """

    def __init__(self, folder: Path, run: Run, spool: Spool) -> None:
        self.n_bytes = self.count = self._n_taken = self._n_waiting = 0
        self.suffix, self.head = "", b""
        self._parent, self._run, self._spool = folder, run, spool
        self._stack = contextlib.ExitStack()
        self._folder: Path | None = None
        self._writing = threading.Lock()
        self._waiting: list[tuple[str, list[bytes]]] = []

    def begin(self, name: str = "") -> None:
        """Begin a file; of its name only the end is kept, if it is one."""
        self.count += 1
        found = _SUFFIX.search(name)
        self.suffix = found[0] if found else ""
        if self.count > MOST_FILES:
            raise RequestError(413, f"there are more than {MOST_FILES} files. Send fewer.")
        self._waiting.append((f"{_NAME}_{self.count:05d}", []))

    def add(self, data: bytes) -> None:
        """Add to the file begun last."""
        self.take(len(data))
        self.n_bytes += len(data)
        if data:
            if self.count == 1 and len(self.head) < _HEAD_BYTES:
                self.head += data[:_HEAD_BYTES]
            self._waiting[-1][1].append(data)
            self._n_waiting += len(data)
            self._spool.in_memory += len(data)

    def take(self, n_bytes: int) -> None:
        """Count bytes, which `close` gives back.

        Raises:
            BusyError: If there is no room for them.
        """
        self._spool.take(n_bytes)
        self._n_taken += n_bytes

    async def flush(self) -> None:
        """Write what waits to disk, if it is much; in a thread, as disks can be slow."""
        most = _MEMORY_BYTES if self._spool.in_memory < _MOST_IN_MEMORY else _FLUSH_BYTES
        if self._n_waiting >= most:
            await self._run(self._write)

    def content(self) -> bytes | None:
        """The only file, if it is in memory."""
        is_whole = self._folder is None and self.count == 1 and self.n_bytes > 0
        return b"".join(self._waiting[0][1]) if is_whole else None

    def path(self) -> Path:
        """The only file, or the folder of several or none; what waits is written first."""
        self._write()
        assert self._folder is not None
        place = self._folder / _FILES
        if self.count != 1 or not self.n_bytes:
            return place
        target = place / _NAME
        with contextlib.suppress(FileNotFoundError):  # it was asked for before
            (place / f"{_NAME}_00001").rename(target)
        return target

    async def close(self) -> None:
        """Forget what waits, and give the disk back."""
        self._spool.in_memory -= self._n_waiting
        self._waiting, self._n_waiting = [], 0
        self._spool.give_back(self._n_taken)
        if self._folder is not None:
            await self._run(self._stack.close)

    def forget_place(self, message: str) -> str:
        """Return a message with files as the client can know them."""
        if self._folder is None:
            return message
        for place in (self._folder / _FILES, self._folder / _UNPACKED):
            message = message.replace(f"{place}/", "").replace(str(place), "the folder sent")
        return message

    def _write(self) -> None:
        """Write what waits, in a thread."""
        with self._writing:
            if self._folder is None:
                self._folder = self._stack.enter_context(scratch_folder(self._parent))
                (self._folder / _FILES).mkdir()
            waiting, n_bytes = self._waiting, self._n_waiting
            # A file that goes on keeps its name.
            self._waiting, self._n_waiting = [(name, []) for name, _ in waiting[-1:]], 0
            _append(self._folder / _FILES, waiting)
            self._spool.in_memory -= n_bytes


def _append(folder: Path, waiting: list[tuple[str, list[bytes]]]) -> None:
    for name, chunks in waiting:
        with (folder / name).open("ab") as file:
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
            raise RequestError(
                413, f'the fields other than "{self._files}" are too long. Send files in the field '
                f'"{self._files}".',
            )  # fmt: skip

    def _end_part(self) -> None:
        if self._name != self._files:
            self._n_fields += len(self._name) + 1
            self.fields[self._name] = self._field.decode("utf-8", "replace")

    def _end(self) -> None:
        self._is_over = True
