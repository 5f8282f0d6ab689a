"""What went wrong with peers, for the log of whoever has to find out: each once in a while."""

import logging
import threading
import time
from collections.abc import Callable

LOGGER = logging.getLogger(__name__)
_PAUSE_S, _MOST = 60.0, 256
_LONGEST_TITLE = 16


class Notices:
    """Writes warnings about peers; one that repeats is counted, and written once a minute.

    They hold addresses, AE titles and numbers, and nothing of an image.

    Args:
        clock: Seconds, as from `time.monotonic`.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # When each was written last, and how often it came since.
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def warn(self, host: str, what: str) -> None:
        """Write a warning.

        Args:
            host: Address of the peer.
            what: A sentence about it.
        """
        now_s = self._clock()
        with self._lock:
            written_s, count = self._seen.get((host, what), (-_PAUSE_S, 0))
            if now_s - written_s < _PAUSE_S:
                self._seen[host, what] = (written_s, count + 1)
                return
            if len(self._seen) >= _MOST:  # an attack: what it brings is not remembered
                self._seen.clear()
            self._seen[host, what] = (now_s, 0)
        more = f" ({count} more times before)" if count else ""
        LOGGER.warning("%s: %s%s", host, what, more)


def plain_title(text: str) -> str:
    r"""Return an AE title as a log may hold it, which a peer can fill with anything.

    Example:
        >>> plain_title("CT 1"), plain_title("A\n2020 ERROR")
        ('CT 1', 'A?2020 ERROR')
    """
    return "".join(each if each.isprintable() else "?" for each in text)[:_LONGEST_TITLE]
