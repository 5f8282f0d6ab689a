"""Which bundles may run: trusted public keys, and the rule of the machine."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bedside.bundle.keys import read_public_key
from bedside.bundle.signature import (
    Signature,
    fingerprint_of,
    is_installed,
    is_valid,
    message_of,
)
from bedside.errors import KeyFileError, SignatureError, UsageError

TRUSTED_KEYS = "BEDSIDE_TRUSTED_KEYS"
"""The variable that names the folder of trusted public keys."""

REQUIRE_SIGNED = "BEDSIDE_REQUIRE_SIGNED"
"""The variable that lets nothing run on this machine but bundles signed by a trusted key."""

_YES, _NO = ("1", "true", "yes"), ("", "0", "false", "no")

Status = Literal["trusted", "not trusted", "invalid", "not checked"]


@dataclass(frozen=True)
class TrustedKeys:
    """Keys whose signatures count.

    Attributes:
        folder: Where they were read from.
        names: Name of each key by its fingerprint: that of its file, without suffix.
    """

    folder: Path
    names: Mapping[str, str]


@dataclass(frozen=True)
class SignedBy:
    """The status of one signature.

    Attributes:
        fingerprint: Of the key.
        name: Name of the key, if it is trusted.
        status: "trusted"; "not trusted" if it is sound, by another key; "invalid" if it is
            not of this bundle; "not checked" where what checks signatures is not installed.
    """

    fingerprint: str
    name: str | None
    status: Status


def read_trusted_keys(folder: Path) -> TrustedKeys:
    """Return the public keys of a folder, each a PEM file named after its owner.

    Args:
        folder: Where the files lie.

    Raises:
        KeyFileError: If the folder cannot be read or has no key, or if a PEM file in it is no
            Ed25519 public key.
        BackendError: If what reads keys is not installed.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == ".pem")
    except OSError as error:
        raise KeyFileError(
            f"cannot read the keys in {folder}: {error.strerror or error}."
        ) from error
    if not files:
        raise KeyFileError(f"{folder} has no key; expected public keys, each a file NAME.pem.")
    names: dict[str, str] = {}
    for path in files:
        name = path.name.removesuffix(".pem").removesuffix(".pub")
        names.setdefault(fingerprint_of(read_public_key(path)), name)
    return TrustedKeys(folder, names)


def find_trusted_keys(folder: Path | None = None) -> TrustedKeys | None:
    """The keys of a folder, or else those that this machine trusts; None if there are none.

    Raises:
        KeyFileError: If the folder has no keys.
        BackendError: If what reads keys is not installed.
    """
    named = folder or os.environ.get(TRUSTED_KEYS)
    return read_trusted_keys(Path(named)) if named else None


def machine_requires_signed() -> bool:
    """Whether this machine runs nothing but bundles signed by a trusted key.

    Raises:
        UsageError: If the variable is neither 0 nor 1.
    """
    text = os.environ.get(REQUIRE_SIGNED, "").strip().lower()
    if text in (*_YES, *_NO):
        return text in _YES
    raise UsageError(f'{REQUIRE_SIGNED} is "{text}"; expected 1 or 0.')


def choose_trusted_keys(*, folder: Path | None, required: bool) -> TrustedKeys | None:
    """The keys one of which must have signed a bundle; None if it need not be signed.

    Args:
        folder: Keys that were named; naming them asks for a signature.
        required: Whether a signature is asked for in any case.

    Raises:
        UsageError: If a signature is asked for and no keys are named.
        KeyFileError: If the folder has no keys.
        BackendError: If what reads keys is not installed.
    """
    if folder is None and not required and not machine_requires_signed():
        return None
    keys = find_trusted_keys(folder)
    if keys is None:
        raise UsageError(
            "only signed bundles may be run here, but no key is trusted. Name a folder of public "
            f"keys with --trusted-keys or {TRUSTED_KEYS}."
        )
    return keys


def check_signed(
    where: str, signatures: tuple[Signature, ...], manifest_sha256: str, keys: TrustedKeys
) -> None:
    """Refuse a bundle that none of the keys has signed.

    Args:
        where: Its file, for errors.
        signatures: Its signatures.
        manifest_sha256: Hash of its manifest.
        keys: Those that count.

    Raises:
        SignatureError: If it is not signed, or by other keys, or was changed since.
        BackendError: If what checks signatures is not installed.
    """
    if not signatures:
        raise SignatureError(
            f"{where} is not signed, and only bundles signed by a key in {keys.folder} are run. "
            "Get the signed one, or have it signed: bedside sign."
        )
    found = [describe_signature(each, manifest_sha256, keys) for each in signatures]
    for each in found:
        if each.status == "invalid":
            raise SignatureError(_changed(where, each.name or each.fingerprint))
    if not any(each.status == "trusted" for each in found):
        listed = ", ".join(each.fingerprint for each in found)
        raise SignatureError(
            f"{where} is signed by a key that is not trusted ({listed}); trusted are "
            f"{', '.join(sorted(keys.names.values()))} in {keys.folder}."
        )


def check_sound(where: str, signatures: tuple[Signature, ...], manifest_sha256: str) -> None:
    """Refuse a bundle with a signature that is not of it, where that can be checked.

    Raises:
        SignatureError: If it was changed after it was signed.
    """
    if is_installed():
        for each in signatures:
            if not is_valid(each, message_of(manifest_sha256)):
                raise SignatureError(_changed(where, each.fingerprint))


def describe_signature(
    signature: Signature, manifest_sha256: str, keys: TrustedKeys | None
) -> SignedBy:
    """Return whose signature of a bundle it is, and whether it is valid."""
    return describe_signed(signature, message_of(manifest_sha256), keys)


def describe_signed(signature: Signature, message: bytes, keys: TrustedKeys | None) -> SignedBy:
    """Return whose signature of a message it is, and whether it is valid."""
    name = keys.names.get(signature.fingerprint) if keys else None
    status: Status = "trusted" if name else "not trusted"
    if not is_installed():
        status = "not checked"
    elif not is_valid(signature, message):
        status = "invalid"
    return SignedBy(signature.fingerprint, name, status)


def _changed(where: str, who: str) -> str:
    return (
        f"{where}: its signature by {who} does not fit its contents. It was changed after it was "
        "signed, or the signature is of another bundle. Do not use it."
    )
