"""Series of a DICOMweb archive, which OHIF names by their UIDs."""

from pathlib import Path
from typing import Any

import requests

from bedside.errors import LimitError, MessageError
from bedside.http_api.dicomweb.instances import is_uid
from bedside.http_api.dicomweb.multipart import MultipartLimits, MultipartReader, read_related_type
from bedside.http_api.dicomweb.spool import DICOM, PartSpool
from bedside.http_api.failures import RequestError

# Seconds to connect, and without a byte.
_TIMEOUT_S = (10, 60)
_CHUNK = 2**18
_STUDY = "0020000D"


class Archive:
    """An archive that is asked by QIDO-RS and WADO-RS.

    Args:
        url: Its root, such as "http://127.0.0.1:8042/dicom-web".
        max_bytes: Largest series.
    """

    def __init__(self, url: str, *, max_bytes: int) -> None:
        self._url = url.rstrip("/")
        self._limits = MultipartLimits(parts=20_000, part_bytes=max_bytes, total_bytes=max_bytes)

    def fetch(self, series_uid: str, folder: Path) -> int:
        """Write the instances of a series to a folder.

        Args:
            series_uid: Its SeriesInstanceUID.
            folder: An empty folder.

        Returns:
            Their size in bytes.

        Raises:
            RequestError: If the archive has no such series, or does not answer as it should.
            LimitError: If the series is too large.
        """
        try:
            with requests.Session() as session:
                study_uid = self._find_study(session, series_uid)
                path = f"studies/{study_uid}/series/{series_uid}"
                # As they are stored: nothing has to be decompressed for this.
                accept = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
                with self._get(session, path, accept, stream=True) as response:
                    return self._write(response, folder)
        except (requests.RequestException, ValueError, LookupError, TypeError) as error:
            if isinstance(error, LimitError):
                raise
            raise RequestError(
                502, f"the archive does not answer as DICOMweb does ({type(error).__name__}). See "
                "archive_url in the table [http] of the configuration.",
            ) from error  # fmt: skip

    def _find_study(self, session: requests.Session, series_uid: str) -> str:
        """Return the study of a series."""
        query = {"SeriesInstanceUID": series_uid}
        with self._get(session, "series", "application/dicom+json", params=query) as response:
            found = response.json() if response.status_code == 200 else []
        if not found:
            raise RequestError(404, "the archive has no series with this UID.")
        study_uid = found[0][_STUDY]["Value"][0]
        if not is_uid(study_uid):
            raise MessageError("the study of the series is no UID.")
        return str(study_uid)

    def _get(
        self, session: requests.Session, path: str, accept: str, **options: Any
    ) -> requests.Response:
        response = session.get(
            f"{self._url}/{path}", headers={"Accept": accept}, timeout=_TIMEOUT_S, **options
        )
        response.raise_for_status()
        return response

    def _write(self, response: requests.Response, folder: Path) -> int:
        """Write the parts of a response."""
        related = read_related_type(response.headers.get("Content-Type", ""))
        if related is None:
            raise MessageError("the answer is not multipart/related.")
        with PartSpool(folder) as spool:
            reader = MultipartReader(related.boundary, spool, self._limits)
            for chunk in response.iter_content(_CHUNK):
                reader.feed(chunk)
            reader.close()
        return spool.n_bytes
