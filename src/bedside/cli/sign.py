"""`bedside sign`: adds a signature to a bundle."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from bedside.cli.arguments import option, positional
from bedside.cli.console import print_err, print_out
from bedside.errors import UsageError

PASSWORD = "BEDSIDE_KEY_PASSWORD"
"""The variable that holds the password of a private key."""


@dataclass(frozen=True)
class Settings:
    """Add a signature to a bundle, made with a private key.

    The password of an encrypted key is taken from BEDSIDE_KEY_PASSWORD, or asked for.
    """

    bundle: str = positional(help="a bundle file; with -o also the name of a shipped bundle")
    key: Path = option(help="PEM file of an Ed25519 private key; see bedside keygen")
    output: Path | None = option(
        help="the signed bundle to write (default: replace the file)", default=None, short="-o"
    )


def run(settings: Settings) -> int:
    """Sign, and print by which key.

    Raises:
        BundleError: If there is no such bundle, or it is not sound.
        KeyFileError: If the key cannot sign.
        UsageError: If the key is encrypted and no password is given, or the bundle is a shipped
            one and no output is named.
        BackendError: If what signs is not installed.
    """
    from bedside.bundle import SUFFIX, find_bundle, shipped_bundles, sign_bundle
    from bedside.bundle.signature import check_installed

    check_installed()
    path = find_bundle(settings.bundle, on_notice=print_err)
    if settings.output is None and path.resolve() in {each.resolve() for each in shipped_bundles()}:
        raise UsageError(f"{path} belongs to the package; name the signed copy with -o.")
    output = settings.output or path
    if output.suffix != SUFFIX:
        raise UsageError(f"{output} must end in {SUFFIX}; name it so with -o.")
    signed = sign_bundle(path, settings.key, output, ask_password=ask_password)
    for each in signed.signatures:
        print_out(f"Signed by key {each.fingerprint}")
    print_out(f"  {output}, sha256 {signed.sha256}")
    return 0


def ask_password() -> bytes:
    """The password of a private key: of the environment, or typed.

    Raises:
        UsageError: If there is neither.
    """
    given = os.environ.get(PASSWORD)
    if given is not None:
        return given.encode()
    if not sys.stdin.isatty():
        raise UsageError(f"the private key is encrypted; give its password in {PASSWORD}.")
    import getpass

    return getpass.getpass("Password of the private key: ").encode()
