"""Untrusted files, decoded in a child process with a memory limit and a deadline.

The child is `bedside.io.sandbox.child`. Its answer is numbers, texts and headers in files
(`bedside.io.sandbox.serialize`), which are checked here; nothing is unpickled.
"""

import contextlib
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bedside import errors
from bedside.errors import (
    BackendError,
    FormatError,
    InputError,
    KilledError,
    LimitError,
    MemoryLimitError,
    UsageError,
)
from bedside.io.dicom.options import DicomOptions
from bedside.io.discovery import DiscoveredImages
from bedside.io.given import DatasetPath
from bedside.io.opened import Source
from bedside.io.sandbox.limits import Limits
from bedside.system.process_memory import resident_bytes
from bedside.system.regular_files import MemoryPath
from bedside.system.unfinished import scratch_folder

MODULE = "bedside.io.sandbox.child"
"""The module that is run as the child."""

# Room for the names of half a million files.
_MAX_ANSWER_BYTES = 2**26
# Memory of a child before it decodes anything (measured: 73 MB), and the least for decoding.
_CHILD_BYTES = 85 * 10**6
_LEAST_BYTES = 16 * 10**6
# The child decodes one file: thread pools would only take address space.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
}


def open_untrusted(
    path: Path,
    *,
    files: Sequence[Path] = (),
    select: Mapping[str, int] | None = None,
    dicom: DicomOptions | None = None,
    limits: Limits | None = None,
) -> Source:
    """Open a file as `bedside.io.source.open_source` does, in a separate process.

    All frames are decoded at once, to an unnamed file that disappears with the source. Nothing is
    left behind if the child dies.

    Args:
        path: The file, or the name of a DICOM series.
        files: As `open_source`.
        select: As `open_source`.
        dicom: As `open_source`.
        limits: Limits for decoding; the defaults of `Limits` if None.

    Raises:
        FormatError: If it is not a supported image, or its decoder crashed.
        LimitError: If decoding exceeds the limits.
        InputError: As its reader raises it.
        BackendError: If this system cannot limit a process.
    """
    from bedside.io.sandbox.serialize import deserialize

    request = {
        "select": dict(select or {}),
        "dicom": asdict(dicom or DicomOptions()),
    }
    with _child_answer(request, path, limits or Limits(), files=files) as (answer, folder):
        return deserialize(answer, folder, path)


def find_untrusted(path: Path, *, limits: Limits | None = None) -> DiscoveredImages:
    """List images as `bedside.io.discovery.find_sources` does, in a separate process.

    Raises:
        FormatError: As `find_sources`, or if a file crashes its reader.
        LimitError: If the search exceeds the limits.
        BackendError: If this system cannot limit a process.
    """
    path = Path(path)
    with _child_answer({"find": True}, path, limits or Limits()) as (answer, _):
        root = path.absolute()

        def place(text: Any) -> Path:
            below = Path(str(text)).relative_to(root)
            if ".." in below.parts:
                raise ValueError(f"{below} is not below it")
            return path / below

        def told(key: str) -> tuple[str, ...]:
            return tuple(str(text).replace(str(root), str(path)) for text in answer[key])

        return DiscoveredImages(
            tuple(place(each) for each in answer["paths"]),
            told("skipped"),
            {place(key): tuple(map(place, files)) for key, files in answer["files"].items()},
            told("notes"),
        )


@contextlib.contextmanager
def _child_answer(
    request: Mapping[str, Any], path: Path, limits: Limits, *, files: Sequence[Path] = ()
) -> Iterator[tuple[dict[str, Any], Path]]:
    """Yield a child's answer about a path, and the folder with its files.

    An error in the block counts as a malformed answer.
    """
    if importlib.util.find_spec("resource") is None:
        raise BackendError("this system cannot limit a process; --untrusted needs Linux or macOS.")
    # Locked: other runs remove folders that nobody holds.
    with scratch_folder(Path(tempfile.gettempdir())) as folder:
        named = (path, *files)
        placed = [_place(each, folder / f"given_{n:05d}") for n, each in enumerate(named)]
        limited = {
            "path": placed[0],
            "files": placed[1:],
            "folder": str(folder),
            "memory_bytes": _allow_memory(path, limits),
            "deadline_s": limits.deadline_s,
        }
        _run_child({**request, **limited}, path, folder, limits)
        answer = _read_answer(folder, path)
        names = dict(zip(placed, named, strict=True))
        if "error" in answer:
            _raise_error(answer["error"], names)
        try:
            if "warnings" in answer:
                texts = [str(text) for text in answer["warnings"]]
                answer["warnings"] = [_restore_names(text, names) for text in texts]
            yield answer, folder
        except Exception as error:
            raise FormatError(
                f"{path}: its decoder answered what cannot be meant ({error}). Do not trust it."
            ) from error


def _place(path: Path, target: Path) -> str:
    """Return the path for the child; bytes in memory are written to its folder."""
    if not isinstance(path, MemoryPath):
        return str(path.absolute())
    if isinstance(path, DatasetPath):
        raise UsageError(f"{path} has been read already; --untrusted takes its file or its bytes.")
    # The name of a series has no bytes itself.
    target.write_bytes(path.content or b"")
    return str(target)


def _allow_memory(path: Path, limits: Limits) -> int:
    """Return the number of bytes that decoding may take."""
    allowed = limits.memory_mb * 2**20
    if limits.ceiling_bytes is None:
        return allowed
    taken = resident_bytes() + _CHILD_BYTES
    if limits.ceiling_bytes < taken + _LEAST_BYTES:
        smallest = math.ceil((taken + _LEAST_BYTES) / 1e6)
        raise MemoryLimitError(
            f"{path}: decoding in a separate process takes at least {smallest} MB, more than "
            f"the {limits.ceiling_bytes / 1e6:.0f} MB allowed. Allow more with --max-ram."
        )
    return min(allowed, limits.ceiling_bytes - taken)


def _run_child(request: dict[str, Any], path: Path, folder: Path, limits: Limits) -> None:
    """Run the child until it ends or reaches the deadline."""
    start = limits.start or _start_interpreter
    try:
        code = start(request, folder, limits.deadline_s)
    except TimeoutError:
        raise _too_long(path, limits) from None
    if code == -signal.SIGALRM:
        raise _too_long(path, limits)
    if code == -signal.SIGKILL:
        raise KilledError(
            f"{path}: its decoder was killed, perhaps because memory ran out. "
            "The file may be malicious."
        )
    if code != 0:
        how = f"of {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        raise FormatError(f"{path}: its decoder died {how}. The file is damaged or malicious.")


def child_environment() -> dict[str, str]:
    """Return the environment of a process that decodes."""
    root = str(Path(errors.__file__).parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(paths)}


def _start_interpreter(request: Mapping[str, Any], folder: Path, deadline_s: float) -> int:
    """Run the child in an interpreter of its own; see `bedside.io.sandbox.limits.Start`."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**child_environment(), "TMPDIR": str(folder)},
    )
    try:
        child.communicate(json.dumps(request).encode(), timeout=deadline_s)
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    finally:
        child.kill()
        child.wait()
    return child.returncode


def _too_long(path: Path, limits: Limits) -> LimitError:
    return LimitError(
        f"{path}: decoding takes more than {limits.deadline_s:g} s. If you trust it, raise "
        "--untrusted-s, or leave --untrusted out."
    )


def _read_answer(folder: Path, path: Path) -> dict[str, Any]:
    """Return the child's answer."""
    file = folder / "answer.json"
    try:
        if file.stat().st_size > _MAX_ANSWER_BYTES:
            raise ValueError("too long")
        answer = json.loads(file.read_bytes())
        if not isinstance(answer, dict):
            raise ValueError("no mapping")
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"{path}: its decoder gave no answer ({error}).") from error
    return answer


def _raise_error(error: Any, names: Mapping[str, Path]) -> None:
    """Raise the child's error, if it is an error about input.

    Args:
        error: Its type and message.
        names: Names of files here, by their paths in the child.
    """
    kind = getattr(errors, str(error.get("type", "")), None)
    message = _restore_names(str(error.get("message", ""))[:4000], names)
    if not (isinstance(kind, type) and issubclass(kind, InputError)):
        kind = FormatError
    raise kind(message)


def _restore_names(text: str, names: Mapping[str, Path]) -> str:
    """Return a text of the child with the names that files have here."""
    for absolute, path in names.items():
        text = text.replace(absolute, str(path))
        if isinstance(path, MemoryPath):
            text = text.replace(Path(absolute).name, path.name)
    return text
