"""The files of a pack of evidence: each as bytes, made of a bundle and what lies beside it."""

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from bedside.bundle import Bundle
from bedside.bundle.store import read_members
from bedside.errors import FormatError
from bedside.evaluation.looks import hash_part, read_looks
from bedside.runtime.table import BACKENDS
from bedside.spec.reading import to_mapping
from bedside.system.regular_files import read_regular
from bedside.system.revision import find_commit
from bedside.system.strict_json import read_json
from bedside.version import __version__

CONFORMANCE = "dicom-conformance.md"
EVALUATION = "evaluation/"
"""Where in a pack the files of `bedside evaluate` are."""

_EVALUATED = (
    "evaluation.json", "evaluation.csv", "evaluation.md", "robustness.json", "robustness.md",
    "robustness.svg",
)  # fmt: skip
_OF_CARD = {
    "test.json": (
        "structures", "test_cases", "unit", "units", "split_unit", "patients", "limits"
    ),
    "robustness.json": ("robustness",),
    "confidence.json": ("confidence",),
    "certificates.json": ("precisions",),
}  # fmt: skip
_WHY_ABSENT = {
    "test.json": "the card has no accuracy on test patients",
    "robustness.json": "the card has none; measure it with bedside evaluate --robustness",
    "confidence.json": "the card has none: the bundle is not calibrated, or was not measured since",
    "certificates.json": "the card certifies no backend; measure them with bedside certify",
}


def write_json(value: Any) -> bytes:
    """JSON with sorted keys; equal values give equal bytes."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def describe(content: bytes) -> dict[str, Any]:
    """Hash and size of a file."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def derive(content: bytes, bundle: Bundle) -> tuple[dict[str, bytes], dict[str, str]]:
    """Files of a pack that follow from the bundle alone.

    Args:
        content: The bundle's file.
        bundle: The bundle, read from it.

    Returns:
        Content by name, and for each file that there is none of the reason.
    """
    members = read_members(content, str(bundle.path))
    card = read_json(members["card.json"])
    files = {
        "card.json": members["card.json"],
        "hashes.json": write_json(_hash_parts(content, members, bundle)),
        "data.json": write_json(_describe_data(card, bundle)),
    }
    absent = {}
    for name, keys in _OF_CARD.items():
        if card.get(keys[0]):
            files[name] = write_json({key: card[key] for key in keys if key in card})
        else:
            absent[name] = _WHY_ABSENT[name]
    return files, absent


def _hash_parts(content: bytes, members: Mapping[str, bytes], bundle: Bundle) -> dict[str, Any]:
    return {
        **describe(content),
        "name": bundle.spec.name,
        "version": bundle.spec.version,
        "manifest_sha256": bundle.manifest_sha256,
        "parts": {name: describe(part) for name, part in members.items()},
        "signed_by": [each.fingerprint for each in bundle.signatures],
    }


def _describe_data(card: Mapping[str, Any], bundle: Bundle) -> dict[str, Any]:
    """Data and split; patients by hash, as the ledger of looks names a test part."""
    return {
        **{key: card[key] for key in ("data", "source", "license", "relabel") if key in card},
        "split": {
            part: {"count": len(patients), "hash": hash_part(patients)}
            for part, patients in bundle.split.items()
        },
    }


def select_looks(ledger: Path, bundle: Bundle) -> bytes:
    """Lines of a ledger that concern a bundle: of its file, or of its test part.

    Raises:
        FormatError: If the ledger is damaged.
    """
    part = hash_part(bundle.split["test"])
    looks = [
        each for each in read_looks(ledger) if bundle.sha256 == each.sha256 or part == each.part
    ]
    lines = (json.dumps(to_mapping(each), sort_keys=True, allow_nan=False) for each in looks)
    return "".join(f"{line}\n" for line in lines).encode()


def describe_versions() -> dict[str, Any]:
    """Versions of bedside, Python, the system, and the installed runtimes."""
    runtimes = {}
    for backend in BACKENDS:
        try:
            runtimes[backend.name] = metadata.version(backend.package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "bedside": __version__,
        "commit": find_commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "runtimes": runtimes,
    }


def read_conformance() -> bytes:
    """The DICOM conformance statement of this version."""
    return (Path(__file__).parent / CONFORMANCE).read_bytes()


def read_evaluation(folder: Path, bundle: Bundle) -> dict[str, bytes]:
    """What `bedside evaluate` wrote into a folder about a bundle.

    Raises:
        FormatError: If there is nothing, or it is of another bundle.
    """
    found = {name: read_regular(folder / name) for name in _EVALUATED if (folder / name).is_file()}
    about = {name: content for name, content in found.items() if name.endswith(".json")}
    if not about:
        raise FormatError(f"{folder} has no evaluation.json and no robustness.json.")
    for name, content in about.items():
        try:
            sha256 = read_json(content)["bundle"]["sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(
                f"{folder / name} is not what bedside evaluate writes: {error}."
            ) from error
        if sha256 != bundle.sha256:
            raise FormatError(
                f"{folder / name} is of a bundle with sha256 {sha256}; this one has "
                f"{bundle.sha256}. Evaluate this bundle."
            )
    return {EVALUATION + name: content for name, content in found.items()}
