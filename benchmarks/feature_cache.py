"""Features of images, kept in a folder under the hash of all that they follow from.

A benchmark that was broken off goes on where it was, and one that only lays out its tables anew
runs no network: what is read, drawn and described is the same as long as bundle, images and code of
the descriptions are.
"""

import hashlib
import inspect
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from bedside.bundle import Bundle
from bedside.datasets import Case
from bedside.evaluation import calibration, gate_images, planted, planted_chance
from bedside.pipeline import coarse, confidence, gate, gate_views
from bedside.pipeline.logits import draw_masks, softmax
from bedside.spec import to_mapping
from bedside.system.atomic import write_bytes

CODE = (
    coarse, planted, planted_chance, softmax, draw_masks, confidence.describe_coarse,
    confidence.find_edges, confidence._compare_neighbours, confidence._list_neighbours,
    calibration.draw_case, calibration._count, calibration._measure, gate_views,
    gate.slice_window, gate_images,
)  # fmt: skip
"""Modules and functions that features follow from."""

Arrays = dict[str, np.ndarray]


def hash_inputs(
    bundle: Bundle, cases: Iterable[Case], *, also: object = "", folder: Path | None = None
) -> str:
    """Hash of a bundle's network and steps, of the files of cases, and of the code.

    Args:
        bundle: Gate, confidence and card do not count.
        cases: Images and truths.
        also: What else the features follow from, such as names of artefacts.
        folder: A folder whose files count too.
    """
    found = hashlib.sha256(bundle.read_graph("f32"))
    found.update("".join(map(inspect.getsource, CODE)).encode())
    found.update(json.dumps([to_mapping(bundle.spec), also], sort_keys=True).encode())
    paths = sorted(folder.iterdir()) if folder is not None else []
    for case in cases:
        paths += [*case.images, case.truth]
        found.update(f"{case.case_id} {case.person}".encode())
    for path in paths:
        found.update(path.name.encode())
        if path.is_file():
            found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def remember(folder: Path, name: str, key: str, make: Callable[[], Arrays]) -> Arrays:
    """Arrays of a file of the folder, which is written if it is not there.

    Args:
        folder: Of all kept features; it is made.
        name: Beginning of the file's name, for people.
        key: Of `hash_inputs`.
        make: Works out the arrays.
    """
    path = folder / f"{name}-{key[:24]}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.savez_compressed(content, **make())
        write_bytes(path, content.getvalue())
    with np.load(path, allow_pickle=False) as kept:
        return dict(kept)
