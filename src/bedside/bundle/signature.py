"""Signatures of a bundle: Ed25519, over every byte of it that is used.

What is signed is the hash of `bundle.json`, which holds the hash of every other member, so the
signature covers all that is read and does not depend on how the zip is compressed. Signatures
lie in a member of their own, `signature.json`, that nothing else refers to.
"""

import base64
import binascii
import hashlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bedside.errors import BackendError, BundleError, install_command

MEMBER = "signature.json"
"""The member of a signed bundle that holds its signatures."""

_SCHEMA_VERSION = 1
_MOST_SIGNATURES = 16
# So that no signature of anything else can be taken for one of a bundle.
_CONTEXT = b"bedside bundle signature v1\0"
# An Ed25519 key as SubjectPublicKeyInfo in DER is this and its 32 bytes (RFC 8410).
_DER_BEFORE_KEY = bytes.fromhex("302a300506032b6570032100")


@dataclass(frozen=True)
class Signature:
    """One signature of a bundle.

    Attributes:
        public_key: The key that it claims to be made by, 32 bytes.
        value: The signature itself, 64 bytes.
    """

    public_key: bytes
    value: bytes

    @property
    def fingerprint(self) -> str:
        """Hash that names the key."""
        return fingerprint_of(self.public_key)


def fingerprint_of(public_key: bytes) -> str:
    """SHA-256 of a public key in DER, in hexadecimal, as openssl gives it too.

    Args:
        public_key: 32 bytes.
    """
    return hashlib.sha256(_DER_BEFORE_KEY + public_key).hexdigest()


def message_of(manifest_sha256: str) -> bytes:
    """What is signed of a bundle.

    Args:
        manifest_sha256: Hash of its `bundle.json`, in hexadecimal.
    """
    return _CONTEXT + bytes.fromhex(manifest_sha256)


def is_valid(signature: Signature, message: bytes) -> bool:
    """Whether the key of a signature has signed this message; see `message_of`.

    Raises:
        BackendError: If what checks signatures is not installed.
    """
    check_installed()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(signature.public_key)
        key.verify(signature.value, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def is_installed() -> bool:
    """Whether signatures can be made and checked here."""
    return importlib.util.find_spec("cryptography") is not None


def check_installed() -> None:
    """Make sure that signatures can be made and checked.

    Raises:
        BackendError: If not; it names the package.
    """
    if not is_installed():
        raise BackendError(
            "signatures need cryptography, which is not installed. Install it with: "
            f"{install_command('sign')}."
        )


def write_signatures(signatures: Sequence[Signature]) -> bytes:
    """The member that holds these signatures; the same ones give the same bytes."""
    listed = [
        {"public_key": _encode(each.public_key), "signature": _encode(each.value)}
        for each in sorted(signatures, key=lambda each: each.fingerprint)
    ]
    content = {"schema_version": _SCHEMA_VERSION, "signatures": listed}
    return json.dumps(content, sort_keys=True, indent=1).encode()


def read_signatures(content: Any, where: str) -> tuple[Signature, ...]:
    """Read the member that holds signatures; none of them is checked.

    Args:
        content: What its JSON holds.
        where: File and member, for errors.

    Raises:
        BundleError: If it holds anything but signatures.
    """
    try:
        if set(content) != {"schema_version", "signatures"}:
            raise ValueError("it has other keys")
        if content["schema_version"] != _SCHEMA_VERSION:
            raise ValueError(f"its schema version is {content['schema_version']!r}")
        listed = content["signatures"]
        if not isinstance(listed, list) or not 1 <= len(listed) <= _MOST_SIGNATURES:
            raise ValueError(f"it has not 1 to {_MOST_SIGNATURES} signatures")
        signatures = tuple(map(_read_one, listed))
        if len({each.public_key for each in signatures}) != len(signatures):
            raise ValueError("a key has signed twice")
    except (ValueError, TypeError, KeyError, binascii.Error) as error:
        raise BundleError(
            f"{where} holds no signatures: {error}. Sign the bundle again."
        ) from error
    return signatures


def _read_one(item: Any) -> Signature:
    if not isinstance(item, dict) or set(item) != {"public_key", "signature"}:
        raise ValueError("a signature has other keys")
    key, value = (
        base64.b64decode(item[name], validate=True) for name in ("public_key", "signature")
    )
    if (len(key), len(value)) != (32, 64):
        raise ValueError(f"a key has {len(key)} bytes and its signature {len(value)}")
    return Signature(key, value)


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()
