"""Series of a DICOMweb archive, which OHIF names by their UIDs."""

import time
from pathlib import Path

import httpx

from bedside.errors import LimitError, MessageError
from bedside.http_api.dicomweb.multipart import MultipartLimits, MultipartReader, read_related_type
from bedside.http_api.dicomweb.spool import DICOM, PartSpool
from bedside.http_api.failures import RequestError
from bedside.io.dicom.head import is_uid

# Seconds to connect, and without a byte.
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
# Seconds for a series: whoever sends a byte now and then is never silent.
_MOST_S = 600.0
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

    def fetch(self, series_uid: str, folder: Path) -> None:
        """Write the instances of a series to a folder.

        Args:
            series_uid: Its SeriesInstanceUID.
            folder: An empty folder.

        Raises:
            RequestError: If the archive has no such series, or does not answer as it should.
            LimitError: If the series is too large.
        """
        try:
            with httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as session:
                study_uid = self._find_study(session, series_uid)
                path = f"studies/{study_uid}/series/{series_uid}"
                # As they are stored: nothing has to be decompressed for this.
                accept = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
                with session.stream("GET", self._at(path), headers={"Accept": accept}) as response:
                    response.raise_for_status()
                    self._write(response, folder)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError) as error:
            if isinstance(error, LimitError):
                raise
            raise RequestError(
                502, f"the archive does not answer as DICOMweb does ({type(error).__name__}). See "
                "archive_url in the table [http] of the configuration.",
            ) from error  # fmt: skip

    def _find_study(self, session: httpx.Client, series_uid: str) -> str:
        """Return the study of a series."""
        response = session.get(
            self._at("series"), params={"SeriesInstanceUID": series_uid},
            headers={"Accept": "application/dicom+json"},
        )  # fmt: skip
        response.raise_for_status()
        found = response.json() if response.status_code == 200 else []
        if not found:
            raise RequestError(404, "the archive has no series with this UID.")
        study_uid = found[0][_STUDY]["Value"][0]
        if not is_uid(study_uid):
            raise MessageError("the study of the series is no UID.")
        return str(study_uid)

    def _at(self, path: str) -> str:
        return f"{self._url}/{path}"

    def _write(self, response: httpx.Response, folder: Path) -> None:
        """Write the parts of a response."""
        until = time.monotonic() + _MOST_S
        related = read_related_type(response.headers.get("Content-Type", ""))
        if related is None:
            raise MessageError("the answer is not multipart/related.")
        with PartSpool(folder) as spool:
            reader = MultipartReader(related.boundary, spool, self._limits)
            for chunk in response.iter_bytes():
                if time.monotonic() > until:
                    raise RequestError(504, f"the series was not there within {_MOST_S:g} s.")
                reader.feed(chunk)
            reader.close()
