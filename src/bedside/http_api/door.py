"""What the routers of the HTTP door share: the engine, uploads, work in threads."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from starlette.requests import Request
from starlette.types import Scope

from bedside.http_api.guard import EARLY_PATH
from bedside.http_api.receiving import Spool, check_length
from bedside.http_api.settings import HttpSettings
from bedside.http_api.uploads import Upload, receive_upload
from bedside.service.admission import Place
from bedside.service.engine import Engine
from bedside.service.observer import Observer
from bedside.service.segment_jobs import SegmentJobs

if TYPE_CHECKING:
    from bedside.http_api.dicomweb.intake import Intake

Answer = TypeVar("Answer")

# Besides the work that was admitted: short work, such as unpacking.
_SPARE_THREADS = 4


class Door:
    """What routers need.

    Args:
        engine: Segments.
        settings: Limits.
        observer: Notes what is answered.
        jobs: Works off what is accepted for later; None for no jobs.
        folder: Where files of requests are; None for the system's own place.
        intake: Where instances go that DICOMweb stores; None if no node takes them.
    """

    def __init__(
        self,
        engine: Engine,
        settings: HttpSettings,
        *,
        observer: Observer,
        jobs: SegmentJobs | None = None,
        folder: Path | None = None,
        intake: "Intake | None" = None,
    ) -> None:
        self.engine, self.observer, self.jobs = engine, observer, jobs
        self.settings = settings
        self.intake = intake
        self.folder = folder or Path(tempfile.gettempdir())
        self.spool = Spool(settings.spool_mb * 2**20)
        self._threads = ThreadPoolExecutor(
            engine.admission.capacity + _SPARE_THREADS, thread_name_prefix="bedside http"
        )

    @contextlib.asynccontextmanager
    async def receive(
        self, request: Request, *, files: str = "file", required: bool = True
    ) -> AsyncIterator[Upload]:
        """Receive the image of a request on disk, unpacked; removed at the end of the block.

        Args:
            request: Its body is multipart with the image in one field, or the image itself.
            files: Name of that field.
            required: Whether there must be an image.

        Raises:
            RequestError: If it is too large, too slow, or malformed.
            BusyError: If there is no room on the disk.
            CancelledError: If the client leaves.
        """
        async with receive_upload(
            request,
            self.settings,
            spool=self.spool,
            folder=self.folder,
            run=self.run,
            files=files,
            required=required,
        ) as upload:
            yield upload

    def check_room(self, request: Request, model: str) -> int:
        """Return the length that a request states, if there is room for its image now.

        Who has no place need not send anything.

        Raises:
            NoModelError: If there is no such model.
            RequestError: If it is too long.
            BusyError: If there is no room for more work.
            ClosedError: If the server is being stopped.
        """
        n_bytes = check_length(request, self.settings.upload_mb * 2**20)
        self.engine.check(model, n_bytes=n_bytes)
        return n_bytes

    def refuse_early(self, scope: Scope) -> None:
        """Refuse an image without room before its request is parsed, which takes twice as long.

        Most requests of an overloaded server end here; the others are checked by their route.

        Raises:
            RequestError: If it is too long.
            BusyError: If there is no room for more work.
            ClosedError: If the server is being stopped.
        """
        if scope["type"] == "http" and scope["path"] == EARLY_PATH and scope["method"] == "POST":
            request = Request(scope)
            if (model := request.query_params.get("model")) in self.engine.names:
                self.check_room(request, model)

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """Run blocking work in a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def run_in_place(
        self, request: Request, place: Place, work: Callable[[Place], Answer]
    ) -> Answer:
        """Run work when its place has its turn, and cancel it when the client leaves.

        Args:
            request: Whose body was read to its end.
            place: Of this work; left at the end.
            work: Takes the place, which it checks now and then.

        Raises:
            CancelledError: If the client has left, or the server is being stopped.
            DeadlineError: If the time of the place is over.
        """

        def enter() -> Answer:
            with place:
                return work(place)

        leaving = asyncio.create_task(_await_disconnect(request, place))
        try:
            return await self.run(enter)
        except asyncio.CancelledError:
            place.cancel()
            raise
        finally:
            leaving.cancel()

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


async def _await_disconnect(request: Request, place: Place) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    place.cancel()
