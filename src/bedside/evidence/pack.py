"""A pack of evidence for one bundle: a folder of plain files under a manifest of their hashes.

The bundle itself and the ids of its patients are not in it, only their hashes, so a pack may go to
people who may not have either. What follows from the bundle is worked out again when a pack is
verified; the rest is bound by the manifest.
"""

import datetime
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedside.bundle import Bundle
from bedside.bundle.keys import sign_message
from bedside.bundle.signature import MEMBER, write_signatures
from bedside.errors import BundleError, UsageError
from bedside.evaluation.looks import find_ledger
from bedside.evidence.contents import (
    CONFORMANCE,
    EVALUATION,
    derive,
    describe,
    describe_versions,
    read_conformance,
    read_evaluation,
    select_looks,
    write_json,
)
from bedside.evidence.sbom import NAME as SBOM
from bedside.evidence.sbom import write_sbom
from bedside.system.atomic import made_folder, output_errors, write_bytes
from bedside.system.regular_files import read_regular
from bedside.system.unfinished import part_folder
from bedside.version import __version__

MANIFEST = "manifest.json"
LOOKS = "looks.jsonl"
VERSIONS = "versions.json"
SIGNATURE = MEMBER
SCHEMA_VERSION = 1
CONTEXT = b"bedside evidence signature v1\0"
"""What precedes the hash of a manifest where it is signed."""


@dataclass(frozen=True)
class Beside:
    """What goes into a pack beside the bundle.

    Attributes:
        evaluations: Folders that `bedside evaluate` wrote about this bundle.
        ledger: Ledger of looks at test patients; None for that of the working folder's project.
        key: PEM file of the private key that signs the pack; None to sign nothing.
    """

    evaluations: tuple[Path, ...] = ()
    ledger: Path | None = None
    key: Path | None = None


def write_pack(
    bundle: Bundle, folder: Path, beside: Beside, *, ask_password: Callable[[], bytes]
) -> dict[str, Any]:
    """Write a pack into a new folder, whole or not at all.

    Args:
        bundle: What it is about.
        folder: The folder; it must not be there yet, or be empty.
        beside: What goes into it beside the bundle.
        ask_password: Gives the password of an encrypted key.

    Returns:
        The manifest.

    Raises:
        UsageError: If the folder is not empty.
        FormatError: If an evaluation or the ledger is refused.
        KeyFileError: If the key cannot sign.
        BackendError: If what writes the list of software, or signs, is not installed.
        OutputError: If it cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already; a pack is never replaced. Choose another -o.")
    files, absent = _collect(bundle, beside)
    manifest = _make_manifest(bundle, files, absent)
    written = {**files, MANIFEST: write_json(manifest)}
    if beside.key is not None:
        signed = sign_message(message_of(manifest), beside.key, ask_password=ask_password)
        written[SIGNATURE] = write_signatures([signed])
    with output_errors(folder), made_folder(folder.parent), part_folder(folder.parent) as part:
        whole = part / "pack"
        for name, content in written.items():
            write_bytes(whole / name, content)
        whole.replace(folder)
    return manifest


def hash_manifest(manifest: Mapping[str, Any]) -> str:
    """Hash of a manifest without its own entry "sha256"."""
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(write_json(content)).hexdigest()


def message_of(manifest: Mapping[str, Any]) -> bytes:
    """What is signed of a pack."""
    return CONTEXT + bytes.fromhex(hash_manifest(manifest))


def _collect(bundle: Bundle, beside: Beside) -> tuple[dict[str, bytes], dict[str, str]]:
    """Contents of all files, and the reason for each that there is none of."""
    created = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    content = read_regular(bundle.path)
    if hashlib.sha256(content).hexdigest() != bundle.sha256:
        raise BundleError(f"{bundle.path} was changed while it was read. Start again.")
    files, absent = derive(content, bundle)
    files[SBOM] = write_sbom(bundle, created=created)
    files[VERSIONS] = write_json(describe_versions())
    files[CONFORMANCE] = read_conformance()
    ledger = beside.ledger or find_ledger(Path.cwd())
    if beside.ledger is not None or ledger.is_file():
        # Opened first, as a ledger that was named and is missing is an error.
        read_regular(ledger)
        files[LOOKS] = select_looks(ledger, bundle)
    else:
        absent[LOOKS] = "no ledger of looks was found; name it with --ledger"
    for folder in beside.evaluations:
        files.update(read_evaluation(folder, bundle))
    if not beside.evaluations:
        absent[EVALUATION] = "no folder of bedside evaluate was named with --evaluation"
    return files, absent


def _make_manifest(
    bundle: Bundle, files: Mapping[str, bytes], absent: Mapping[str, str]
) -> dict[str, Any]:
    manifest: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "bedside": __version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "bundle": {
            "file": bundle.path.name,
            "name": bundle.spec.name,
            "version": bundle.spec.version,
            "sha256": bundle.sha256,
            "manifest_sha256": bundle.manifest_sha256,
        },
        "files": {name: describe(content) for name, content in files.items()},
        "absent": dict(absent),
    }
    return {**manifest, "sha256": hash_manifest(manifest)}
