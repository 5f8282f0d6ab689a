"""Verifies a pack of evidence without a network: every hash, the bundle, the signatures."""

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedside.bundle import TrustedKeys, find_bundle, read_bundle
from bedside.bundle.signature import is_installed, read_signatures
from bedside.bundle.trust import SignedBy, describe_signed
from bedside.errors import BundleError, FormatError, SignatureError
from bedside.evidence.contents import CONFORMANCE, EVALUATION, derive
from bedside.evidence.pack import (
    LOOKS,
    MANIFEST,
    SCHEMA_VERSION,
    SIGNATURE,
    VERSIONS,
    hash_manifest,
    message_of,
)
from bedside.evidence.sbom import NAME as SBOM
from bedside.system.regular_files import read_regular
from bedside.system.strict_json import read_json

_KEYS = {"schema_version", "bedside", "created", "bundle", "files", "absent", "sha256"}


@dataclass(frozen=True)
class Verdict:
    """What was found of a pack.

    Attributes:
        manifest: Its manifest.
        checked: Number of files whose hashes are right.
        problems: What is missing, changed or not as it says, in sentences; empty if all is sound.
        absent: Evidence that there was none of when it was made, and why.
        signed: Who has signed the pack.
        bundle: Path of the bundle that it was compared with; None if there was none.
    """

    manifest: Mapping[str, Any]
    checked: int
    problems: tuple[str, ...]
    absent: Mapping[str, str]
    signed: tuple[SignedBy, ...]
    bundle: Path | None


def verify_pack(
    folder: Path, *, bundle: Path | None = None, keys: TrustedKeys | None = None
) -> Verdict:
    """Check a pack against its manifest, its bundle, and its signatures.

    Args:
        folder: The pack.
        bundle: The bundle that it must be about; None to look for it: the shipped one of its
            name, else its file beside the pack or in the working folder.
        keys: Keys one of which must have signed pack or bundle; None if none must.

    Raises:
        FormatError: If it is no pack, or its manifest cannot be read.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder)
    problems: list[str] = []
    if hash_manifest(manifest) != manifest["sha256"]:
        problems.append(f"{MANIFEST} was changed: its own hash does not fit")
    contents, wrong = _check_files(folder, manifest["files"])
    problems += wrong + _check_complete(manifest)
    found = bundle or _find_bundle(folder, manifest["bundle"])
    named, trusted = _check_bundle(found, manifest, contents, keys)
    problems += named
    signed, wrong = _check_signatures(folder, manifest, keys)
    problems += wrong
    if keys is not None and not trusted and not any(each.status == "trusted" for each in signed):
        problems.append(f"neither the pack nor its bundle is signed by a key in {keys.folder}")
    return Verdict(manifest, len(contents), tuple(problems), manifest["absent"], signed, found)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = read_json(read_regular(path))
        if not isinstance(manifest, dict) or set(manifest) != _KEYS:
            raise ValueError(f"its keys are not {', '.join(sorted(_KEYS))}")
        if manifest["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"its schema version is {manifest['schema_version']!r}")
        for key in ("bundle", "files", "absent"):
            if not isinstance(manifest[key], dict):
                raise ValueError(f"its {key} are no table")
        for key in ("file", "name", "sha256"):
            if not isinstance(manifest["bundle"].get(key), str):
                raise ValueError(f"its bundle has no {key}")
    except OSError as error:
        raise FormatError(
            f"{folder} is no pack of evidence: {MANIFEST}: {error.strerror or error}."
        ) from error
    except ValueError as error:
        raise FormatError(f"{path} is not the manifest of a pack: {error}.") from error
    return manifest


def _check_complete(manifest: Mapping[str, Any]) -> list[str]:
    """Name evidence that every pack has, or says that there was none of, where this one has not."""
    told = {*manifest["absent"], *manifest["files"]}
    told |= {name.partition("/")[0] + "/" for name in manifest["files"] if "/" in name}
    return [
        f"{name} is left out, and {MANIFEST} does not say why"
        for name in (SBOM, VERSIONS, CONFORMANCE, LOOKS, EVALUATION)
        if name not in told
    ]


def _check_files(folder: Path, listed: Mapping[str, Any]) -> tuple[dict[str, bytes], list[str]]:
    """Contents of the files whose hashes are right, and what is wrong with the others."""
    contents, problems = {}, []
    there = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    for name, facts in sorted(listed.items()):
        if name not in there:
            problems.append(f"{name} is missing")
            continue
        if (folder / name).is_symlink():
            problems.append(f"{name} is a link; a pack holds its files itself")
            continue
        try:
            content = read_regular(folder / name)
        except OSError as error:
            problems.append(f"{name} cannot be read: {error.strerror or error}")
            continue
        if facts != {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}:
            problems.append(f"{name} was changed: its hash is not the one in {MANIFEST}")
        else:
            contents[name] = content
    for name in sorted(there - set(listed) - {MANIFEST, SIGNATURE}):
        problems.append(f"{name} is not listed in {MANIFEST}")
    return contents, problems


def _find_bundle(folder: Path, about: Mapping[str, Any]) -> Path | None:
    """The bundle of a pack, as far as it can be found without being named."""
    places: list[Path] = []
    with contextlib.suppress(BundleError):
        places.append(find_bundle(about["name"]))
    if Path(about["file"]).name == about["file"]:
        places += [parent / about["file"] for parent in (folder.absolute().parent, Path.cwd())]
    files = [path for path in places if path.is_file()]
    for path in files:
        if hashlib.sha256(read_regular(path)).hexdigest() == about["sha256"]:
            return path
    return files[0] if files else None


def _check_bundle(
    path: Path | None,
    manifest: Mapping[str, Any],
    contents: Mapping[str, bytes],
    keys: TrustedKeys | None,
) -> tuple[list[str], bool]:
    """What of a pack does not fit its bundle, and whether a trusted key has signed the bundle."""
    about = manifest["bundle"]
    if path is None:
        return [f"the bundle {about['file']} was not found; name it with --bundle"], False
    try:
        bundle = read_bundle(path)
    except (BundleError, SignatureError) as error:
        return [str(error)], False
    if bundle.sha256 != about["sha256"]:
        return [
            f"the bundle {path} has sha256 {bundle.sha256}; the pack is about {about['sha256']}"
        ], False
    files, _ = derive(read_regular(path), bundle)
    problems = [
        f"{name} says something else than the bundle"
        for name, content in files.items()
        if name in contents and contents[name] != content
    ]
    problems += [
        f"{name} is left out, though it follows from the bundle"
        for name in files
        if name not in manifest["files"]
    ]
    if (about["name"], about.get("version")) != (bundle.spec.name, bundle.spec.version):
        problems.append(f"{MANIFEST} names the bundle otherwise than it names itself")
    trusted = keys is not None and any(each.fingerprint in keys.names for each in bundle.signatures)
    return problems, trusted and is_installed()


def _check_signatures(
    folder: Path, manifest: Mapping[str, Any], keys: TrustedKeys | None
) -> tuple[tuple[SignedBy, ...], list[str]]:
    """Who has signed a pack, and which signatures do not fit."""
    path = folder / SIGNATURE
    if not path.is_file():
        return (), []
    try:
        signatures = read_signatures(read_json(read_regular(path)), str(path))
    except (OSError, ValueError) as error:
        return (), [f"{SIGNATURE} cannot be read: {error}"]
    message = message_of(manifest)
    signed = tuple(describe_signed(each, message, keys) for each in signatures)
    return signed, [
        f"the signature of key {each.fingerprint} does not fit: the pack was changed after it was "
        "signed, or the signature is of another pack"
        for each in signed
        if each.status == "invalid"
    ]
