"""`bedside keygen`: a new key pair for signing bundles."""

import os
from dataclasses import dataclass
from pathlib import Path

from bedside.cli.arguments import option, positional
from bedside.cli.console import print_out
from bedside.cli.sign import PASSWORD
from bedside.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """Create an Ed25519 key pair: NAME.pem (private) and NAME.pub.pem (public).

    The private key is encrypted with the password in BEDSIDE_KEY_PASSWORD.
    """

    key: Path = positional(help="private key to create, NAME.pem")
    no_password: bool = option(
        help="do not encrypt the private key: anyone who reads the file can sign", default=False
    )


def run(settings: Settings) -> int:
    """Make the keys and print where they are.

    Raises:
        UsageError: If the name does not end in .pem, or there is no password.
        OutputError: If a file is there already or cannot be written.
        BackendError: If what makes keys is not installed.
    """
    from bedside.bundle.keys import make_keys

    if settings.key.suffix != ".pem":
        raise UsageError(f"{settings.key} must end in .pem.")
    password = os.environ.get(PASSWORD, "").encode()
    if bool(password) == settings.no_password:
        raise UsageError(
            f"give the private key a password in {PASSWORD}, or pass --no-password, not both."
        )
    public = settings.key.with_suffix(".pub.pem")
    fingerprint = make_keys(settings.key, public, password=password or None)
    print_out(f"Key {fingerprint}")
    print_out(f"  {settings.key}      private: signs; keep it offline")
    print_out(f"  {public}  public: give it to those who verify")
    return 0
