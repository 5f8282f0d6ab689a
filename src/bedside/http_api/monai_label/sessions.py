"""Sessions: images that a client sends once and has segmented several times."""

import contextlib
import shutil
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bedside.errors import ClosedError, LimitError
from bedside.system.unfinished import remove, scratch_folder

MAX_EXPIRY_S = 3600
"""Longest time that an unused session is kept."""

MAX_SESSIONS = 200


@dataclass
class Session:
    """A session.

    Attributes:
        id: A random id, which only its client knows.
        path: Its image: a file, or a folder of files.
        n_bytes: Their size.
        created: When it began, in seconds since 1970.
        used: When it was used last.
        expiry_s: How long it is kept unused.
        users: Requests that read its image now.
    """

    id: str
    path: Path
    n_bytes: int
    created: float
    used: float
    expiry_s: float
    users: int = 0

    @property
    def described(self) -> dict[str, Any]:
        """The session in JSON, with MONAI Label's names."""
        return {
            "name": self.id,
            "image": self.id,
            "meta": {},
            "create_ts": int(self.created),
            "last_access_ts": int(self.used),
            "expiry": int(self.expiry_s),
        }


@dataclass
class Sessions:
    """All sessions, for any number of threads; close them at the end.

    If there is no room for a new one, the one that was unused for longest goes.

    Attributes:
        folder: Where their own folder is made.
        max_bytes: Size of their images together.
        clock: Seconds since 1970.
    """

    folder: Path
    max_bytes: int
    clock: Callable[[], float] = time.time
    # Used longest ago first.
    _sessions: OrderedDict[str, Session] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _own: Path | None = None
    _is_closed: bool = False

    def add(self, path: Path, *, expiry_s: float = 0.0) -> Session:
        """Begin a session with an image.

        Args:
            path: Its file, or a folder of its files; moved.
            expiry_s: How long it is kept unused; 0 for as long as possible.

        Raises:
            LimitError: If there is no room for it.
            ClosedError: If the server is being stopped.
        """
        name, n_bytes = str(uuid.uuid4()), _measure(path)
        expiry_s = min(expiry_s or MAX_EXPIRY_S, MAX_EXPIRY_S)
        with self._lock:
            self._make_room(n_bytes)
            target = self._open_folder() / name
            shutil.move(path, target)
            now = self.clock()
            session = Session(name, target, n_bytes, now, now, expiry_s)
            self._sessions[name] = session
        return session

    def find(self, session_id: str, *, touch: bool = False) -> Session | None:
        """Return a session; None if there is none, or it has expired.

        Args:
            session_id: Its id.
            touch: Count this as use.
        """
        with self._lock:
            self._remove_expired()
            session = self._sessions.get(session_id)
            if session is not None and touch:
                self._touch(session)
            return session

    @contextlib.contextmanager
    def using(self, session_id: str) -> Iterator[Session | None]:
        """Keep a session within a block; None if there is none."""
        with self._lock:
            self._remove_expired()
            session = self._sessions.get(session_id)
            if session is not None:
                session.users += 1
                self._touch(session)
        try:
            yield session
        finally:
            if session is not None:
                with self._lock:
                    session.users -= 1
                    if self._sessions.get(session.id) is not session and not session.users:
                        remove(session.path)

    def remove(self, session_id: str) -> Session | None:
        """End a session; return it, or None if there is none."""
        with self._lock:
            session = self._sessions.get(session_id)
            if session is not None:
                self._drop(session)
            return session

    def close(self) -> None:
        """End all sessions."""
        with self._lock:
            self._is_closed = True
            self._sessions.clear()
            self._stack.close()

    def _open_folder(self) -> Path:
        if self._is_closed:
            raise ClosedError("the server is being stopped and takes no more images.")
        if self._own is None:
            self._own = self._stack.enter_context(scratch_folder(self.folder))
        return self._own

    def _make_room(self, n_bytes: int) -> None:
        self._remove_expired()
        while len(self._sessions) >= MAX_SESSIONS or self._n_bytes() + n_bytes > self.max_bytes:
            idle = next((each for each in self._sessions.values() if not each.users), None)
            if idle is None:
                raise LimitError(
                    f"the image has {n_bytes / 2**20:.0f} MiB, and the images of all sessions may "
                    f"have {self.max_bytes / 2**20:.0f} MiB. Remove a session, or send less."
                )
            self._drop(idle)

    def _n_bytes(self) -> int:
        return sum(session.n_bytes for session in self._sessions.values())

    def _touch(self, session: Session) -> None:
        session.used = self.clock()
        self._sessions.move_to_end(session.id)

    def _remove_expired(self) -> None:
        now = self.clock()
        for session in list(self._sessions.values()):
            if not session.users and now - session.used > session.expiry_s:
                self._drop(session)

    def _drop(self, session: Session) -> None:
        """Forget a session; its files go with its last user."""
        del self._sessions[session.id]
        if not session.users:
            remove(session.path)


def _measure(path: Path) -> int:
    """Return the size of a file, or of the files in a folder: of a zip, what was in it."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
