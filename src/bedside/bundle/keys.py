"""Ed25519 keys in PEM files: created, read, used for signing."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bedside.bundle.signature import Signature, check_installed, fingerprint_of
from bedside.errors import KeyFileError, OutputError
from bedside.system.atomic import write_bytes
from bedside.system.regular_files import open_regular

_MOST_BYTES = 2**16


def make_keys(private: Path, public: Path, *, password: bytes | None = None) -> str:
    """Make a new pair of keys and write them, each to a PEM file that must not be there yet.

    Args:
        private: File of the private key; nobody but its owner may read it.
        public: File of the public key.
        password: What the private key is encrypted with; None for nothing.

    Returns:
        The fingerprint of the public key.

    Raises:
        OutputError: If a file is there already, or cannot be written.
        BackendError: If what makes keys is not installed.
    """
    check_installed()
    from cryptography.hazmat.primitives import serialization as serial
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    how = serial.BestAvailableEncryption(password) if password else serial.NoEncryption()
    secret = key.private_bytes(serial.Encoding.PEM, serial.PrivateFormat.PKCS8, how)
    opened = key.public_key()
    if public.exists():
        raise OutputError(
            f"{public} is there already; a key is never replaced. Choose another name."
        )
    try:
        handle = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secret)
    except FileExistsError as error:
        raise OutputError(
            f"{private} is there already; a key is never replaced. Choose another name."
        ) from error
    except OSError as error:
        raise OutputError(f"cannot write {private}: {error.strerror or error}.") from error
    write_bytes(
        public,
        opened.public_bytes(serial.Encoding.PEM, serial.PublicFormat.SubjectPublicKeyInfo),
    )
    return fingerprint_of(opened.public_bytes_raw())


def sign_message(message: bytes, key_file: Path, *, ask_password: Callable[[], bytes]) -> Signature:
    """Sign a message, such as `bedside.bundle.signature.message_of`.

    Args:
        message: What is signed.
        key_file: PEM file of an Ed25519 private key.
        ask_password: Gives the password, if the key is encrypted.

    Raises:
        KeyFileError: If it is no such key, or the password is wrong.
        BackendError: If what signs is not installed.
    """
    check_installed()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = _load_private(_read(key_file), key_file, ask_password)
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{key_file} is no Ed25519 key. Make one with: bedside keygen.")
    return Signature(key.public_key().public_bytes_raw(), key.sign(message))


def read_public_key(path: Path) -> bytes:
    """Read an Ed25519 public key from a PEM file.

    Returns:
        32 bytes.

    Raises:
        KeyFileError: If it cannot be read or is no such key.
        BackendError: If what reads keys is not installed.
    """
    check_installed()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _read(path)
    if b"PRIVATE KEY" in content:
        raise KeyFileError(
            f"{path} is a private key, which is for signing only. Give the public one, and keep "
            "this one where nobody else can read it."
        )
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path} is no public key in a PEM file.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{path} is no Ed25519 key. Make one with: bedside keygen.")
    return key.public_bytes_raw()


def _load_private(content: bytes, path: Path, ask_password: Callable[[], bytes]) -> Any:
    """Decrypt a private key, if it is encrypted."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if b"PRIVATE KEY" not in content:
        raise KeyFileError(
            f"{path} is no private key in a PEM file. Make one with: bedside keygen."
        )
    password = ask_password() if b"ENCRYPTED" in content else None
    try:
        return load_pem_private_key(content, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        why = "its password is another" if password else "it is damaged"
        raise KeyFileError(f"{path} cannot be read as a private key: {why}.") from error


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise KeyFileError(f"cannot read the key {path}: {error.strerror or error}.") from error
