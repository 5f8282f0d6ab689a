"""`bedside evidence`: a pack of evidence for a bundle, written or verified."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedside.cli.arguments import option, positional
from bedside.cli.console import print_err, print_out
from bedside.errors import UsageError

if TYPE_CHECKING:
    from bedside.evidence.verify import Verdict

_NOT_SOUND = 3


@dataclass(frozen=True)
class Settings:
    """Write a pack of evidence for a bundle, or verify one without a network.

    `bedside evidence BUNDLE -o PACK` writes a folder: list of software (CycloneDX), hashes and
    signatures, card, data and split by hash, test accuracy, robustness, certificates of every
    backend, looks at the test patients, versions, DICOM conformance statement, and a manifest with
    the hash of each. `bedside evidence verify PACK` ends with 0 if all of it is sound, else with 3,
    and prints what is missing or changed.
    """

    what: tuple[str, ...] = positional(
        help='a bundle (file, or name of a shipped bundle), or "verify" and a pack'
    )
    output: Path | None = option(
        help="folder for the pack; it must be new or empty", default=None, short="-o"
    )
    evaluation: tuple[Path, ...] = option(
        help="folders that bedside evaluate wrote about this bundle, to be put into the pack",
        default=(),
    )
    ledger: Path | None = option(
        help="ledger of looks at test patients (default: test_looks.jsonl of the project that the "
        "working folder is in)",
        default=None,
    )
    key: Path | None = option(
        help="PEM file of a private key that signs the pack; see bedside keygen", default=None
    )
    bundle: str | None = option(
        help="when verifying: the bundle that the pack must be about (default: the shipped one of "
        "its name, or its file beside the pack or in the working folder)",
        default=None,
    )
    trusted_keys: Path | None = option(
        help="when verifying: folder of public keys, NAME.pem, one of which must have signed the "
        "pack or the bundle",
        default=None,
    )
    json: bool = option(help="print only JSON", default=False)


def run(settings: Settings) -> int:
    """Write or verify a pack.

    Returns:
        0, or 3 if a pack is not sound.

    Raises:
        UsageError: If an option has no meaning, or the folder is not empty.
        InputError: If the bundle, an evaluation or the pack cannot be read.
        KeyFileError: If a key cannot be read.
        BackendError: If what writes the list of software, or signs, is not installed.
        OutputError: If the pack cannot be written.
    """
    if settings.what[0] == "verify":
        if len(settings.what) != 2:
            raise UsageError("name one pack: bedside evidence verify PACK.")
        return _verify(settings, Path(settings.what[1]))
    if len(settings.what) != 1 or settings.output is None:
        raise UsageError("name one bundle and a folder: bedside evidence BUNDLE -o PACK.")
    return _write(settings, settings.output)


def _write(settings: Settings, folder: Path) -> int:
    from bedside.bundle import find_bundle, read_bundle
    from bedside.cli.sign import ask_password
    from bedside.evidence.pack import Beside, write_pack

    bundle = read_bundle(find_bundle(settings.what[0], on_notice=print_err))
    beside = Beside(settings.evaluation, settings.ledger, settings.key)
    manifest = write_pack(bundle, folder, beside, ask_password=ask_password)
    if settings.json:
        print_out(json.dumps({**manifest, "output": str(folder)}, indent=2))
        return 0
    print_out(f"Evidence for {bundle.spec.name} {bundle.spec.version}, sha256 {bundle.sha256}")
    print_out(f"  Written to {folder}: manifest.json, {', '.join(sorted(manifest['files']))}")
    _print_absent(manifest["absent"])
    return 0


def _verify(settings: Settings, folder: Path) -> int:
    from bedside.bundle import find_bundle
    from bedside.bundle.trust import find_trusted_keys
    from bedside.evidence.verify import verify_pack
    from bedside.spec import to_mapping

    bundle = None if settings.bundle is None else find_bundle(settings.bundle, on_notice=print_err)
    keys = find_trusted_keys(settings.trusted_keys)
    found = verify_pack(folder, bundle=bundle, keys=keys)
    if settings.json:
        told: dict[str, Any] = {
            "sound": not found.problems,
            "problems": list(found.problems),
            "absent": dict(found.absent),
            "checked": found.checked,
            "bundle": {**found.manifest["bundle"], "path": str(found.bundle or "")},
            "signed": [to_mapping(each) for each in found.signed],
        }
        print_out(json.dumps(told, indent=2))
    else:
        _print(found, folder)
    return _NOT_SOUND if found.problems else 0


def _print(found: "Verdict", folder: Path) -> None:
    """Print what was found of a pack."""
    from bedside.cli.inspect import describe_signer

    about = found.manifest["bundle"]
    if found.problems:
        print_out(f"{folder} is NOT sound evidence for {about['name']}:")
        for text in found.problems:
            print_out(f"  {text}")
    else:
        print_out(
            f"{folder} is sound: {found.checked} files as listed, and the bundle {found.bundle}, "
            f"sha256 {about['sha256']}"
        )
    signers = "; ".join(map(describe_signer, found.signed)) or "not signed"
    print_out(f"  Pack: {signers}")
    _print_absent(found.absent)


def _print_absent(absent: dict[str, str] | Any) -> None:
    for name, why in absent.items():
        print_out(f"  Without {name}: {why}")
