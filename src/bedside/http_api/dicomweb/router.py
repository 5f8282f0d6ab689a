"""`POST /dicom-web/studies`: instances are stored (STOW-RS, PS3.18, 10.5)."""

import secrets
from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bedside.errors import FormatError
from bedside.http_api.dicomweb.answers import (
    CANNOT_UNDERSTAND,
    OTHER_STUDY,
    OUT_OF_RESOURCES,
    Outcome,
    answer,
    choose_type,
)
from bedside.http_api.dicomweb.instances import read_ids
from bedside.http_api.dicomweb.intake import Intake, StoreIntake
from bedside.http_api.dicomweb.receiving import receive_parts
from bedside.http_api.door import Door
from bedside.http_api.failures import RequestError
from bedside.http_api.image_store import ImageStore
from bedside.io.dicom.head import is_uid


def make_router(door: Door) -> APIRouter:
    """Return the router."""
    router = APIRouter(prefix="/dicom-web", tags=["DICOMweb"])
    intake, folder = door.intake, door.settings.image_store
    if intake is None and folder:
        intake = StoreIntake(ImageStore(Path(folder)))

    @router.post("/studies", summary="Store instances (STOW-RS).")
    async def store(request: Request) -> Response:
        return await _store(door, intake, request, study_uid="")

    @router.post("/studies/{study_uid}", summary="Store instances of a study (STOW-RS).")
    async def store_study(request: Request, study_uid: str) -> Response:
        if not is_uid(study_uid):
            raise RequestError(400, "the study in the address is no UID.")
        return await _store(door, intake, request, study_uid=study_uid)

    return router


async def _store(
    door: Door, intake: Intake | None, request: Request, *, study_uid: str
) -> Response:
    """Receive all parts of a request on disk, then store them one by one."""
    if intake is None:
        raise RequestError(
            501, "this server stores no instances. Set image_store, a folder, in the table [http] "
            "of its configuration, or configure a DICOM node.",
        )  # fmt: skip
    kind = choose_type(request.headers.get("accept"))
    async with receive_parts(door, request) as parts:
        if not parts:
            raise RequestError(400, "the message has no parts.")
        keeper = _Keeper(intake, study_uid)
        outcomes = await door.run(lambda: keeper.keep_all(parts))
    return answer(outcomes, kind)


class _Keeper:
    """Stores the instances of one request.

    Args:
        intake: Where they go.
        study_uid: The study that they must be of; empty for any.
    """

    def __init__(self, intake: Intake, study_uid: str) -> None:
        self._intake, self._study_uid = intake, study_uid
        # Above the addresses that number associations of DICOM.
        self._association = 2**64 + secrets.randbits(64)

    def keep_all(self, parts: Sequence[Path | None]) -> list[Outcome]:
        """Store all that can be stored; each part has its outcome."""
        try:
            return [self._keep(part) for part in parts]
        finally:
            self._intake.finish(self._association)

    def _keep(self, part: Path | None) -> Outcome:
        if part is None:
            return Outcome(None, CANNOT_UNDERSTAND)
        try:
            ids = read_ids(part)
        except FormatError:
            return Outcome(None, CANNOT_UNDERSTAND)
        if self._study_uid and ids.study_instance_uid != self._study_uid:
            return Outcome(ids, OTHER_STUDY)
        try:
            failure = self._intake.store(part, ids, association=self._association)
        except OSError:  # also OutputError
            failure = OUT_OF_RESOURCES
        return Outcome(ids, failure)
