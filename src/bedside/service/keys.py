"""Keys of clients: random, shown once, kept as hashes."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from bedside.errors import SpecError

_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Key:
    """A table `[[key]]`: who may come in.

    Attributes:
        name: What logs call this client.
        sha256: Hash of its secret, as `bedside serve --new-key NAME` prints it.
    """

    name: str
    sha256: str

    def __post_init__(self) -> None:
        """Check name and hash.

        Raises:
            SpecError: If one is malformed.
        """
        if not _NAME.fullmatch(self.name):
            raise SpecError(f'the name of a key is "{self.name}"; expected letters, digits, -_.')
        if not _HASH.fullmatch(self.sha256):
            raise SpecError(
                f'the key "{self.name}" has no SHA-256: expected 64 hexadecimal digits.'
            )


def make_key(name: str) -> tuple[str, Key]:
    """Return a new secret, and its key for a configuration.

    Raises:
        SpecError: If the name is malformed.
    """
    secret = secrets.token_urlsafe(32)
    return secret, Key(name, _hash(secret))


def find_key(secret: str, keys: Sequence[Key]) -> Key | None:
    """Return the key of a secret, or None; it takes as long for every secret."""
    found, hashed = None, _hash(secret)
    for key in keys:
        if hmac.compare_digest(hashed, key.sha256):
            found = key
    return found


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
