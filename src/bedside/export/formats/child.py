"""Converters and runtimes that need a Python environment of their own, run as its processes.

The scripts that run there, `litert_child.py` and `rknn_child.py`, do not import this package.
Tensors go through pipes as raw numbers: a block is its size in 8 bytes and its content.
"""

import contextlib
import json
import os
import struct
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from bedside.errors import BackendError, ExportError, last_line
from bedside.export.formats.format import Options
from bedside.runtime.contract import GraphSession

_DEADLINE_S = 1800


@dataclass(frozen=True)
class Environment:
    """A Python with packages that cannot be installed beside this one's.

    Attributes:
        name: Format that it converts to.
        python: Its interpreter.
        script: What it runs.
    """

    name: str
    python: Path
    script: Path

    def command(self, *arguments: str | Path) -> list[str]:
        """Command that runs the script, from any folder."""
        told = (str(each.resolve()) if isinstance(each, Path) else each for each in arguments)
        # Not resolved: the Python of an environment is a link, and found by the place of the link.
        return [str(self.python.absolute()), "-I", str(self.script), *told]

    def versions(self) -> dict[str, str]:
        """Versions of the packages that take part.

        Raises:
            BackendError: If they are not installed there.
        """
        try:
            found: dict[str, str] = json.loads(self.call("versions"))
        except (ExportError, ValueError) as error:
            raise BackendError(
                f"{self.python} has no converter to {self.name} ({error})."
            ) from error
        return found

    def call(self, *arguments: str | Path) -> str:
        """Run the script to its end; returns the last line that it printed.

        Raises:
            ExportError: If it fails, with the last line of what it said.
        """
        try:
            # Toolkits leave files of theirs in the folder that they are run in.
            with tempfile.TemporaryDirectory() as scratch:
                done = subprocess.run(
                    self.command(*arguments),
                    capture_output=True,
                    timeout=_DEADLINE_S,
                    check=False,
                    cwd=scratch,
                )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ExportError(f"{self.name}'s Python did not answer: {error}") from error
        if done.returncode:
            last = last_line(done.stderr.decode(errors="replace"))
            raise ExportError(f"{self.name} cannot convert the network: {last}")
        return last_line(done.stdout.decode(errors="replace"), otherwise="")


def find_environment(name: str, script: str, *, named: Path | None, variable: str) -> Environment:
    """The environment of a format, by an option or a variable of the environment.

    Args:
        name: The format.
        script: File beside this one that runs there.
        named: Python that was named by the option; None if none was.
        variable: Variable that may name one.

    Raises:
        BackendError: If none was named, or it is not there.
    """
    chosen = named or os.environ.get(variable)
    if not chosen:
        raise BackendError(
            f"the converter to {name} lives in an environment of its own, and none was named. "
            f"Name the Python of one that has it with --{name}-python, or in {variable}."
        )
    if not Path(chosen).is_file():
        raise BackendError(f"there is no Python at {chosen}.")
    return Environment(name, Path(chosen), Path(__file__).with_name(script))


class ChildSession(GraphSession):
    """A model in a runtime of another environment, one call after another.

    Args:
        environment: Where it runs; its name is that of the runtime.
        arguments: Arguments of the script, which answers with the shapes of the network.
        options: Precision and threads.
    """

    backend = "child"

    def __init__(
        self, environment: Environment, arguments: Sequence[str | Path], options: Options
    ) -> None:
        scratch = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            environment.command(*arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=scratch.name,
        )
        self.backend = environment.name
        self._end = weakref.finalize(self, _end, self._process, scratch)
        self._lock = threading.Lock()
        shapes = json.loads(self._read_block() or b"{}")
        super().__init__(
            self._process,
            takes=tuple(shapes["takes"])[1:],
            gives=tuple(shapes["gives"])[1:],
            precision=options.precision,
            threads=options.threads,
        )

    def _run(self, network: Any, image: np.ndarray, logits: np.ndarray) -> None:
        with self._lock:
            try:
                network.stdin.write(image.tobytes())
                network.stdin.flush()
            except OSError:
                self._fail()
            block = self._read_block()
        logits[...] = np.frombuffer(block, np.float32).reshape(logits.shape)

    def close(self) -> None:
        """End the other process once a call under way is done."""
        super().close()
        with self._lock:
            self._end()

    def _read_block(self) -> bytes:
        stdout = cast(Any, self._process.stdout)
        size = stdout.read(8)
        if len(size) < 8:
            self._fail()
        block: bytes = stdout.read(struct.unpack("<q", size)[0])
        return block

    def _fail(self) -> None:
        """Raise the last message of the other process.

        Raises:
            BackendError: Always.
        """
        _, said = self._process.communicate()
        last = last_line(said.decode(errors="replace"))
        raise BackendError(f"{self.backend} cannot run this model: {last}")


def _end(process: "subprocess.Popen[bytes]", scratch: tempfile.TemporaryDirectory[str]) -> None:
    """End the other process, close its pipes, and remove what it left in its folder."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.terminate()
    process.wait()
    scratch.cleanup()
