"""Hashes that tie a report to its image and its labels, so that a case can be run again."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bedside.io.opened import Source
from bedside.system.regular_files import MemoryPath, open_regular

# Headers whose voxels lie in a file beside them: their own hash would not be that of the image.
_DETACHED_NAME = re.compile(r"\.(hdr|img|mhd|nhdr)(\.gz)?$", re.IGNORECASE)
_DETACHED_HEADER = {
    "metaimage": re.compile(rb"^ElementDataFile\s*=(?!\s*LOCAL\b)", re.MULTILINE),
    "nrrd": re.compile(rb"^data ?file:", re.MULTILINE | re.IGNORECASE),
}
_HEADER_BYTES = 2**16
_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class InputFacts:
    """The files of an image.

    Attributes:
        sha256: Hash of the file. Of several, that of their sorted hashes, each a line of
            hexadecimal digits, so that neither names nor order count.
        files: Number of files.
        bytes: Their size together.
    """

    sha256: str
    files: int
    bytes: int


def identify_input(source: Source) -> InputFacts | None:
    """Hash of the files that an image was read from.

    Returns:
        None for an image in memory, for one whose voxels lie beside its header, and if a file is
        no longer there.
    """
    paths = source.files
    if not paths or any(isinstance(path, MemoryPath) for path in paths):
        return None
    try:
        if any(_is_detached(path, source.kind) for path in paths):
            return None
        return hash_files(paths)
    except OSError:
        return None


def hash_files(paths: tuple[Path, ...]) -> InputFacts:
    """Hash of files; see `InputFacts`.

    Raises:
        OSError: If one cannot be read.
    """
    hashes, size = [], 0
    for path in paths:
        with open_regular(path) as file:
            found = hashlib.sha256()
            while block := file.read(_BLOCK_BYTES):
                found.update(block)
                size += len(block)
            hashes.append(found.hexdigest())
    together = hashlib.sha256("".join(f"{each}\n" for each in sorted(hashes)).encode())
    return InputFacts(hashes[0] if len(hashes) == 1 else together.hexdigest(), len(paths), size)


def hash_labels(labels: np.ndarray) -> str:
    """Hash of labels: of their shape, as in "3,48,64", a line feed, and a byte for each.

    Args:
        labels: (frames, H, W) uint8.
    """
    found = hashlib.sha256((",".join(map(str, labels.shape)) + "\n").encode())
    found.update(np.ascontiguousarray(labels, np.uint8).data)
    return found.hexdigest()


def _is_detached(path: Path, kind: str) -> bool:
    if kind not in ("nifti", *_DETACHED_HEADER):
        return False
    if _DETACHED_NAME.search(path.name):
        return True
    pattern = _DETACHED_HEADER.get(kind)
    if pattern is None:
        return False
    with open_regular(path) as file:
        return pattern.search(file.read(_HEADER_BYTES)) is not None
