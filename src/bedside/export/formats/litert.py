"""LiteRT, formerly TensorFlow Lite, `model.tflite`, in a Python environment of its own.

Its converter cannot be installed beside torch's other tools, so another Python converts and runs,
with the script `litert_child.py`.
"""

import contextlib
import json
import os
import struct
import subprocess
import tempfile
import threading
import weakref
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from bedside.errors import BackendError, ExportError, last_line
from bedside.export.formats.format import Converter, Options
from bedside.export.formats.torch import save_program
from bedside.export.programs import TorchProgram
from bedside.runtime.contract import GraphSession

PYTHON_VARIABLE = "BEDSIDE_LITERT_PYTHON"
_CHILD = Path(__file__).with_name("litert_child.py")
_DEADLINE_S = 1800


class LitertSession(GraphSession):
    """A model in LiteRT's interpreter, which runs in a process of the other environment.

    Tensors go through pipes as raw numbers, one call after another.

    Args:
        python: Python of that environment.
        model: The `.tflite` file.
        options: Precision and threads.
    """

    backend = "litert"

    def __init__(self, python: Path, model: Path, options: Options) -> None:
        command = [str(python), "-I", str(_CHILD), "run", str(model), str(options.threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._end = weakref.finalize(self, _end, self._process)
        self._lock = threading.Lock()
        shapes = json.loads(self._read_block() or b"{}")
        super().__init__(
            self._process,
            takes=tuple(shapes["takes"])[1:],
            gives=tuple(shapes["gives"])[1:],
            precision=options.precision,
            threads=options.threads,
        )
        self.invoke_ms = 0.0
        """Time of the last call inside the interpreter, without the pipes."""

    def _run(self, network: Any, image: np.ndarray, logits: np.ndarray) -> None:
        with self._lock:
            try:
                network.stdin.write(image.tobytes())
                network.stdin.flush()
            except OSError:
                self._fail()
            block = self._read_block()
        self.invoke_ms = struct.unpack("<d", block[:8])[0]
        logits[...] = np.frombuffer(block[8:], np.float32).reshape(logits.shape)

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
        raise BackendError(f"litert cannot run this model: {last}")


def make_converter(options: Options) -> Converter:
    """The converter to LiteRT in the environment that was named.

    Raises:
        BackendError: If none was named, or LiteRT is not installed in it.
    """
    python = _find_python(options)
    versions = _ask(python)
    return Converter(
        convert=partial(_convert, python=python),
        open=partial(_open, python=python, options=options),
        made_with=versions,
        runs_in=f"ai-edge-litert {versions['ai-edge-litert']}",
    )


def _find_python(options: Options) -> Path:
    named = options.litert_python or os.environ.get(PYTHON_VARIABLE)
    if not named:
        raise BackendError(
            "the converter to litert lives in an environment of its own, and none was named. Name "
            "the Python of one that has litert-torch with --litert-python, or in "
            f"{PYTHON_VARIABLE}."
        )
    if not Path(named).is_file():
        raise BackendError(f"there is no Python at {named}.")
    return Path(named)


def _ask(python: Path) -> dict[str, str]:
    """Versions of the packages in the other environment."""
    try:
        versions: dict[str, str] = json.loads(_call(python, "versions"))
    except (ExportError, ValueError) as error:
        raise BackendError(f"{python} has no converter to litert ({error}).") from error
    return versions


def _convert(program: TorchProgram, folder: Path, *, python: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "program.pt2"
        save_program(program, source)
        _call(python, "convert", str(source), str(folder / "model.tflite"))


def _open(folder: Path, *, python: Path, options: Options) -> LitertSession:
    return LitertSession(python, folder / "model.tflite", options)


def _call(python: Path, *arguments: str) -> str:
    """Run the script in the other environment; returns the last line that it printed."""
    try:
        done = subprocess.run(
            [str(python), "-I", str(_CHILD), *arguments],
            capture_output=True,
            timeout=_DEADLINE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ExportError(f"litert's Python did not answer: {error}") from error
    if done.returncode:
        last = last_line(done.stderr.decode(errors="replace"))
        raise ExportError(f"litert cannot convert the network: {last}")
    return last_line(done.stdout.decode(errors="replace"), otherwise="")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the other process, and close its pipes."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.terminate()
    process.wait()
