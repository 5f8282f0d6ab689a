"""The files that keep the fastest way to run a bundle on this machine.

The first choice stays, also if another process has timed at the same moment, so that the same
image gives the same mask in every later run. Without a choice, a second file holds the time of the
last try.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bedside.bundle import Bundle
from bedside.runtime.execution_modes import ExecutionMode
from bedside.runtime.machine import fingerprint
from bedside.system.atomic import write_text, write_text_once
from bedside.version import __version__

try:
    import fcntl
except ImportError:  # Windows: two first uses at once may both take their time
    fcntl = None  # type: ignore[assignment]

_SCHEMA_VERSION = 2
# A machine that was too busy to find an answer is asked again after so long.
PAUSE_S = 3600.0
# Another process that looks for the same answer is waited for, but not for ever.
_PATIENCE_S, _POLL_S = 20.0, 0.05


class ChoiceFile:
    """The file of the fastest way for one bundle, machine and number of threads.

    Args:
        folder: Where such files are.
        bundle: What is run.
        modes: The ways that may be chosen.
        threads: Threads of one call.
    """

    def __init__(
        self, folder: Path, bundle: Bundle, modes: Sequence[ExecutionMode], *, threads: int
    ) -> None:
        self._modes = tuple(modes)
        parts = [bundle.sha256, fingerprint(), __version__, str(threads), str(sorted(modes))]
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        self.path = folder / f"{bundle.sha256[:16]}-{key}.json"

    def read(self) -> ExecutionMode | None:
        """Return the kept choice; None if there is none, or the file is damaged."""
        try:
            kept = json.loads(self.path.read_text("utf-8"))
            mode = (kept["backend"], kept["precision"])
            sound = kept["schema_version"] == _SCHEMA_VERSION and mode in self._modes
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return mode if sound else None

    def keep(
        self, chosen: ExecutionMode, facts: Mapping[str, Any], *, replace: bool = False
    ) -> ExecutionMode:
        """Keep a choice, unless another process has kept one meanwhile.

        Args:
            chosen: What was found.
            facts: Further content of the file, for people.
            replace: Write it whatever was there before.

        Returns:
            What is written there now, which is what to run.

        Raises:
            OutputError: If it cannot be written.
        """
        record = {
            "schema_version": _SCHEMA_VERSION,
            "backend": chosen[0],
            "precision": chosen[1],
            **facts,
        }
        text = json.dumps(record, indent=1) + "\n"
        if not replace:
            if write_text_once(self.path, text):
                return chosen
            if (first := self.read()) is not None:
                return first
        write_text(self.path, text)  # over what was there, or is damaged
        return chosen

    def was_tried(self, *, now: Callable[[], float] = time.time) -> bool:
        """Whether timing had no result within the last hour."""
        try:
            passed_s = now() - self._tried.stat().st_mtime
        except OSError:
            return False
        return 0 <= passed_s < PAUSE_S

    def note_try(self) -> None:
        """Record that timing had no result now.

        Raises:
            OutputError: If that cannot be written.
        """
        write_text(self._tried, "")

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Lock the file, so that no two processes time the same bundle at once.

        Two that time together disturb each other. The system releases the lock when a process ends.

        Yields:
            Whether a choice can be stored here and no other process is timing; False if the
            folder cannot be written to, or another took too long.
        """
        with contextlib.ExitStack() as stack:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context(self.path.with_suffix(".lock").open("a"))
            except OSError:
                yield False
                return
            yield _lock(lock.fileno())

    @property
    def _tried(self) -> Path:
        return self.path.with_suffix(".tried")


def _lock(handle: int) -> bool:
    """Lock an open file; False if another process kept it all the time."""
    begin = time.monotonic()
    while fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() - begin > _PATIENCE_S:
                return False
            time.sleep(_POLL_S)
        except OSError:  # a file system without locks: the first file written still counts
            return True
        else:
            return True
    return True
