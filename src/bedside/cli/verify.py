"""`bedside verify`: whether a bundle is signed by one of your keys."""

import json
from dataclasses import dataclass
from pathlib import Path

from bedside.cli.arguments import option, positional
from bedside.cli.console import print_err, print_out
from bedside.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """Check that a bundle is signed by a given key and unchanged since."""

    bundle: str = positional(help="a bundle file, or the name of a shipped bundle")
    key: Path | None = option(
        help="PEM file of the public key that must have signed the bundle", default=None
    )
    trusted_keys: Path | None = option(
        help="folder of public keys, NAME.pem, one of which must have signed it "
        "(default: BEDSIDE_TRUSTED_KEYS)",
        default=None,
    )
    json: bool = option(help="print only JSON", default=False)


def run(settings: Settings) -> int:
    """Check, and print who has signed.

    Raises:
        SignatureError: If the bundle is not signed by such a key, or was changed since.
        BundleError: If there is no such bundle, or it is not sound.
        KeyFileError: If a key cannot be read.
        UsageError: If no key is named.
        BackendError: If what checks signatures is not installed.
    """
    from bedside.bundle import TrustedKeys, find_bundle, read_bundle
    from bedside.bundle.keys import read_public_key
    from bedside.bundle.signature import fingerprint_of
    from bedside.bundle.trust import describe_signature, find_trusted_keys
    from bedside.cli.inspect import describe_signer
    from bedside.spec import to_mapping

    if settings.key is not None and settings.trusted_keys is not None:
        raise UsageError("name a --key or --trusted-keys, not both.")
    if settings.key is None:
        keys = find_trusted_keys(settings.trusted_keys)
    else:
        fingerprint = fingerprint_of(read_public_key(settings.key))
        keys = TrustedKeys(settings.key.parent, {fingerprint: settings.key.name})
    if keys is None:
        raise UsageError("name the public key that must have signed, with --key.")
    bundle = read_bundle(find_bundle(settings.bundle, on_notice=print_err), trusted=keys)
    signed = [describe_signature(each, bundle.manifest_sha256, keys) for each in bundle.signatures]
    if settings.json:
        found = {
            "bundle": str(bundle.path),
            "sha256": bundle.sha256,
            "manifest_sha256": bundle.manifest_sha256,
            "signatures": [to_mapping(each) for each in signed],
        }
        print_out(json.dumps(found, indent=2))
        return 0
    print_out(f"{bundle.path} is unchanged since it was signed")
    for each in signed:
        print_out(f"  {describe_signer(each)}")
    return 0
