"""How commands find and open a bundle: by name or path, signed where that is asked for."""

from pathlib import Path
from typing import TYPE_CHECKING

from bedside.cli.console import print_err
from bedside.errors import UsageError

if TYPE_CHECKING:
    from bedside.bundle import Bundle, TrustedKeys

REQUIRE_SIGNED_HELP = (
    "refuse bundles without a signature by a trusted key; "
    "keys: --trusted-keys or BEDSIDE_TRUSTED_KEYS"
)
TRUSTED_KEYS_HELP = "folder of public keys, NAME.pem; one of them must have signed the bundle"


def choose_bundle(name_or_path: str | None) -> Path:
    """Find a bundle; without a name, the only one that is shipped.

    Raises:
        BundleError: If there is no such bundle.
        UsageError: If none is named and there is not just one.
    """
    from bedside.bundle import find_bundle, shipped_bundles

    if name_or_path is not None:
        return find_bundle(name_or_path, on_notice=print_err)
    shipped = shipped_bundles()
    if len(shipped) != 1:
        names = ", ".join(path.stem for path in shipped) or "none"
        raise UsageError(f"name a bundle with -m: a .bedside file, or a shipped one ({names}).")
    return shipped[0]


def open_bundle(
    name_or_path: str | None, *, trusted_keys: Path | None = None, require_signed: bool = False
) -> "Bundle":
    """Find and read a bundle.

    Args:
        name_or_path: As `choose_bundle`.
        trusted_keys: Folder of keys one of which must have signed it.
        require_signed: Whether a trusted key must have signed it in any case.

    Raises:
        BundleError: If there is no such bundle, or it is not sound.
        SignatureError: If it must be signed and is not.
        UsageError: If it must be signed and no keys are named.
    """
    from bedside.bundle import read_bundle

    keys = choose_keys(trusted_keys, require_signed=require_signed)
    return read_bundle(choose_bundle(name_or_path), trusted=keys)


def choose_keys(trusted_keys: Path | None, *, require_signed: bool) -> "TrustedKeys | None":
    """The keys one of which must have signed a bundle; None if it need not be signed.

    Raises:
        UsageError: If it must be signed and no keys are named.
        KeyFileError: If the folder has no keys.
        BackendError: If what reads keys is not installed.
    """
    from bedside.bundle.trust import choose_trusted_keys

    return choose_trusted_keys(folder=trusted_keys, required=require_signed)
