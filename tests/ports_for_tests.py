"""TCP ports for peers that must be told theirs before they listen."""

import itertools
import os
import socket

# Below the ports that the system gives to whoever connects or binds to 0: one of those may be
# somebody else's a moment after it was found free.
_FIRST, _COUNT = 20_000, 12_000
_numbers = itertools.count(97 * os.getpid())


def find_port() -> int:
    """A TCP port that nobody listens on, and that no other process of these tests is told."""
    for number in itertools.islice(_numbers, _COUNT):
        port = _FIRST + number % _COUNT
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise OSError("no port is free")
