"""The child process of `bedside.io.sandbox.parent`, which decodes a file under limits.

It reads a request as JSON from stdin, writes its answer to the folder named there, and ends. The
parent checks everything that it writes.
"""

import contextlib
import errno
import importlib
import json
import math
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bedside.errors import BedsideError
from bedside.io.detect import detect_format
from bedside.io.dicom.options import DicomOptions
from bedside.io.discovery import find_sources
from bedside.io.formats import FORMATS
from bedside.io.label_maps import warn_of_labels
from bedside.io.sandbox.serialize import serialize
from bedside.io.source import open_source
from bedside.system.signals import end_with_parent

_GRACE_S = 2


def main() -> int:
    """Answer the request on stdin.

    Returns:
        0; the answer in the folder holds the result or the error.
    """
    answer_request(json.loads(sys.stdin.read()))
    return 0


def answer_request(request: Mapping[str, Any]) -> None:
    """Write the answer to a request into its folder, under its limits."""
    folder, path = Path(request["folder"]), Path(request["path"])
    _end_with_parent(float(request["deadline_s"]))
    memory_bytes = int(request["memory_bytes"])
    try:
        answer = _find(path, memory_bytes) if "find" in request else _open(request, folder)
    except Exception as error:  # noqa: BLE001 - the parent has nothing but this answer
        answer = {"error": _describe(error, path, memory_bytes)}
    (folder / "answer.json").write_text(json.dumps(answer), "utf-8")


def _open(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Decode a file or a series into the folder."""
    path, files = Path(request["path"]), [Path(file) for file in request["files"]]
    kind = "dicom" if files or path.is_dir() else detect_format(path)
    import_readers(kind)
    _cap_memory(int(request["memory_bytes"]))
    source = open_source(
        path, files=files, select=request["select"], dicom=DicomOptions(**request["dicom"])
    )
    return serialize(warn_of_labels(source), folder)


def _find(path: Path, memory_bytes: int) -> dict[str, Any]:
    """List the images in a folder."""
    import_readers(*FORMATS)
    _cap_memory(memory_bytes)
    found = find_sources(path)
    return {
        "paths": [str(each) for each in found.paths],
        "skipped": found.skipped,
        "notes": found.notes,
        "files": {str(key): [str(each) for each in own] for key, own in found.files.items()},
    }


def import_readers(*kinds: str) -> None:
    """Import readers before memory is limited, so that the limit is for decoding alone."""
    for kind in kinds:
        for name in FORMATS[kind].modules:
            importlib.import_module(name)


def _end_with_parent(deadline_s: float) -> None:
    """Kill this process at the deadline or with its parent, even if a decoder hangs."""
    signal.setitimer(signal.ITIMER_REAL, deadline_s + _GRACE_S)
    end_with_parent()


def _cap_memory(memory_bytes: int) -> None:
    """Limit memory beyond the present use, and the size of files written."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, memory_bytes)
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + memory_bytes)


def _lower(limit: int, value: int) -> None:
    """Set a limit, but never above the present one."""
    _, hard = resource.getrlimit(limit)
    allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (allowed, allowed))


def _describe(error: Exception, path: Path, memory_bytes: int) -> dict[str, Any]:
    """Return the error of a file: that it is too large, if a limit caused it."""
    if _is_limit(error):
        limit = math.ceil(memory_bytes / 2**20)
        message = (
            f"{path} takes more than {limit} MiB to decode. If you trust it, raise "
            "--untrusted-mb and --max-ram, or leave --untrusted out."
        )
        return {"type": "LimitError", "message": message}
    if isinstance(error, BedsideError):
        return {"type": type(error).__name__, "message": str(error)}
    return {"type": "FormatError", "message": f"{path} cannot be decoded: {error}."}


def _is_limit(error: BaseException | None) -> bool:
    """Whether an error, or its cause, is about memory or file size."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, MemoryError):
            return True
        if isinstance(error, OSError) and error.errno in (errno.EFBIG, errno.ENOMEM):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    sys.exit(main())
