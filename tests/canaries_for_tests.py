"""Words that stand for a patient, and a server in a process of its own whose log is read."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from servers_for_tests import PATIENCE_S

NAME, ID, WORD = "Canary^Yellow", "CANARY-0815", "canary4711"
UID = "1.2.826.0.1.471147114711"
CANARIES = re.compile(r"canary|471147114711", re.IGNORECASE)


@contextlib.contextmanager
def logged_server(
    folder: Path, config: str
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """Start a server in a folder; at the end of the block it is told to end, and ends well.

    Yields:
        Its process, and what returns its log.
    """
    (folder / "serve.toml").write_text(config)
    path = folder / "log.txt"
    command = [sys.executable, "-m", "bedside", "serve", "--config", "serve.toml"]
    with path.open("w+") as log:
        process = subprocess.Popen(command, cwd=folder, stderr=log, env={**os.environ, "HOME": "/"})
        try:
            yield process, path.read_text
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
            process.wait()
