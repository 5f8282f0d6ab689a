"""Cache of preprocessed cases on disk, memory-mapped.

An entry is named by a hash of all that it depends on: the steps and the input's size, the
case, and size and time of every file of it. So a stale entry is never found, only left
behind; the folder may be removed at any time. Images are kept in half precision.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bedside.datasets import Case
from bedside.spec import DeploymentSpec, to_mapping
from bedside.system.atomic import write_text, written_atomically
from bedside.training.example import Example
from bedside.version import __version__

# Raised when an entry is written otherwise; the version of bedside stands for the steps' code.
_FORMAT = 1


def load_cached(
    case: Case,
    spec: DeploymentSpec,
    *,
    folder: Path,
    load: Callable[[Case, DeploymentSpec], list[Example]],
) -> list[Example]:
    """Examples of a case from the cache, or loaded and cached.

    Several processes may share a folder: files appear whole, and the list of them last.

    Args:
        case: What to read.
        spec: The deployment, with preprocessing and labels.
        folder: The cache.
        load: How to read the case where it is not there.

    Returns:
        Its examples, with images in half precision, from the first time on, and pixels that
        stay on disk until they are used.

    Raises:
        OutputError: If the folder cannot be written to.
    """
    entry = folder / name_entry(case, spec)
    manifest = entry.with_suffix(".json")
    if not manifest.exists():
        examples = load(case, spec)
        for index, example in enumerate(examples):
            _write(_part(entry, index, "image"), example.image.astype(np.float16))
            _write(_part(entry, index, "truth"), example.truth)
        about = {"case": case.case_id, "examples": len(examples)}
        write_text(manifest, json.dumps(about))
    count = json.loads(manifest.read_text(encoding="utf-8"))["examples"]
    return [
        Example(*(np.load(_part(entry, index, kind), mmap_mode="r") for kind in ("image", "truth")))
        for index in range(count)
    ]


def name_entry(case: Case, spec: DeploymentSpec) -> str:
    """Hash all that the examples of a case depend on."""
    content = {
        "format": _FORMAT,
        "bedside": __version__,
        "preprocess": to_mapping(spec.preprocess),
        "input": to_mapping(spec.input),
        "axes": spec.model.spatial_dims,
        "labels": [label.value for label in spec.labels],
        "case": {
            field.name: list(_describe(getattr(case, field.name)))
            for field in dataclasses.fields(case)
        },
    }
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _describe(value: Any) -> Iterator[Any]:
    """Content of a field of a case; of files, with their size and time."""
    if isinstance(value, tuple | list):
        for item in value:
            yield from _describe(item)
    elif isinstance(value, Path):
        files = sorted(value.rglob("*")) if value.is_dir() else [value]
        for file in files:
            status = file.stat()
            yield [str(file.resolve()), status.st_size, status.st_mtime_ns]
    else:
        yield repr(value)


def _part(entry: Path, index: int, kind: str) -> Path:
    return entry.with_name(f"{entry.name}-{index}-{kind}.npy")


def _write(path: Path, array: np.ndarray) -> None:
    with written_atomically(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
