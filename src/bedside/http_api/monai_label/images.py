"""Where the image of a request may be: in a session, sent with it, stored here, in an archive."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bedside.errors import InputError
from bedside.http_api.failures import RequestError
from bedside.http_api.image_store import ImageStore, StoredImage
from bedside.http_api.monai_label.sessions import Session, Sessions
from bedside.http_api.uploads import Upload
from bedside.io.dicom.head import is_uid
from bedside.system.unfinished import scratch_folder

if TYPE_CHECKING:
    from bedside.http_api.monai_label.archive import Archive

# A series of an archive may grow: it is asked for again after this.
_FETCHED_S = 300.0


@dataclass(frozen=True)
class Images:
    """The places of images.

    Attributes:
        sessions: Images sent before, and those fetched from the archive.
        folder: Where series are fetched to.
        store: Images that are kept; None if none are.
        archive: Series by their UIDs; None if there is no archive.
    """

    sessions: Sessions
    folder: Path
    store: ImageStore | None = None
    archive: "Archive | None" = None
    _fetched: dict[str, str] = field(default_factory=dict)

    def bring(self, upload: Upload, session_id: str, image_id: str) -> str:
        """Return the session of an image; one that is in the archive only is fetched into one.

        Args:
            upload: What came with the request.
            session_id: The session that it names, or empty.
            image_id: The image that it names, or empty.

        Raises:
            RequestError: If the archive does not have it, or does not answer.
            LimitError: If the image is too large.
        """
        if session_id or upload.n_bytes or self.archive is None or not is_uid(image_id):
            return session_id
        if self.store is not None and self.store.find(image_id) is not None:
            return session_id
        fetched = self.sessions.find(self._fetched.get(image_id, ""))
        if fetched is None:
            fetched = self._fetched_from(self.archive, image_id)
        return fetched.id

    @contextlib.contextmanager
    def keep(self, upload: Upload, session_id: str, image_id: str) -> Iterator[Path]:
        """Keep the image of a request within a block: of a session, sent with it, or stored.

        Raises:
            RequestError: If there is none.
        """
        with self.sessions.using(session_id) as session:
            if session is not None:
                path = session.path
            elif upload.n_bytes:
                path = upload.path
            elif self.store is not None and image_id and not session_id:
                path = find_image(self.store, image_id).path
            elif session_id:
                raise no_session()
            else:
                raise RequestError(
                    404, "there is no image: neither sent, nor of a session, nor stored here."
                )
            with _unnamed(path):
                yield path

    def _fetched_from(self, archive: "Archive", series_uid: str) -> Session:
        """Fetch a series into a session, and forget those that are over."""
        with scratch_folder(self.folder) as scratch:
            folder = scratch / "series"
            folder.mkdir()
            archive.fetch(series_uid, folder)
            session = self.sessions.add(folder, expiry_s=_FETCHED_S)
        for uid, session_id in list(self._fetched.items()):
            if self.sessions.find(session_id) is None:
                self._fetched.pop(uid, None)
        self._fetched[series_uid] = session.id
        return session


def find_image(store: ImageStore, image_id: str) -> StoredImage:
    """Return an image of a store.

    Raises:
        RequestError: If there is none.
    """
    found = store.find(image_id) if image_id else None
    if found is None:
        raise RequestError(404, "there is no image with this id.")
    return found


def no_session() -> RequestError:
    """Return the error for a session that is not there."""
    return RequestError(404, "there is no such session, or it has expired. Send the image again.")


@contextlib.contextmanager
def _unnamed(path: Path) -> Iterator[None]:
    """Raise errors of an image without its path, which only the server knows."""
    try:
        yield
    except InputError as error:
        text = str(error).replace(f"{path}/", "").replace(str(path), "the image")
        raise type(error)(text) from error
