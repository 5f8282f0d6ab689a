"""The software that runs a bundle, as a CycloneDX list (ECMA-424)."""

import hashlib
import importlib.util
import uuid
from collections.abc import Iterator
from datetime import datetime
from importlib import metadata
from typing import TYPE_CHECKING

from bedside.bundle import Bundle
from bedside.errors import BackendError, install_command
from bedside.version import __version__

if TYPE_CHECKING:
    from cyclonedx.model.license import DisjunctiveLicense

NAME = "sbom.cdx.json"
_ROOT = "bedside"
# Extras that train, document or test: nothing of them runs where a bundle is deployed.
_NOT_DEPLOYED = ("train", "dev", "docs", "executorch", "coreml", "evidence")
_SPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 9562, names that are URLs


def check_installed() -> None:
    """Check that lists can be written here.

    Raises:
        BackendError: If not; it names the package.
    """
    if not all(importlib.util.find_spec(name) for name in ("cyclonedx", "packaging")):
        raise BackendError(
            "a list of software needs cyclonedx-python-lib, which is not installed. Install it "
            f"with: {install_command('evidence')}."
        )


def write_sbom(bundle: Bundle, *, created: datetime) -> bytes:
    """CycloneDX 1.6 as JSON: bedside, the bundle, and every installed package that it can load.

    Packages that bedside always needs are "required", those of its extras "optional" if they are
    installed; those of training are left out. Equal input gives equal bytes.

    Args:
        bundle: The bundle that the list is for.
        created: Time that the list states.

    Raises:
        BackendError: If what writes lists is not installed.
    """
    check_installed()
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentScope, ComponentType
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion
    from packageurl import PackageURL

    root = Component(
        name=_ROOT, version=__version__, type=ComponentType.APPLICATION, bom_ref=_ROOT,
        purl=PackageURL("pypi", name=_ROOT, version=__version__), licenses=_licenses(_ROOT),
    )  # fmt: skip
    weights = Component(
        name=bundle.spec.name, version=bundle.spec.version, bom_ref=f"bundle:{bundle.sha256}",
        type=ComponentType.MACHINE_LEARNING_MODEL, description=bundle.spec.task,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=bundle.sha256)],
    )  # fmt: skip
    needs = _find_packages()
    parts = {
        name: Component(
            name=name, version=metadata.version(name), type=ComponentType.LIBRARY, bom_ref=name,
            purl=PackageURL("pypi", name=name, version=metadata.version(name)),
            licenses=_licenses(name),
            scope=ComponentScope.REQUIRED if required else ComponentScope.OPTIONAL,
        )
        for name, (required, _) in needs.items()
        if name != _ROOT
    }  # fmt: skip
    bom = Bom(
        components=[weights, *parts.values()],
        metadata=BomMetaData(component=root, timestamp=created),
    )
    bom.register_dependency(root, [weights, *(parts[name] for name in needs[_ROOT][1])])
    for name, part in parts.items():
        bom.register_dependency(part, [parts[each] for each in needs[name][1] if each != _ROOT])
    text = f"{bundle.sha256} {sorted((name, part.version) for name, part in parts.items())}"
    bom.serial_number = uuid.uuid5(_SPACE, hashlib.sha256(text.encode()).hexdigest())
    written = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6)
    return (written.output_as_string(indent=1) + "\n").encode()


def _find_packages() -> dict[str, tuple[bool, list[str]]]:
    """Installed packages by name: whether they are always needed, and what they need."""
    found: dict[str, tuple[bool, list[str]]] = {}
    extras = metadata.metadata(_ROOT).get_all("Provides-Extra") or ()
    chosen = [extra for extra in extras if extra not in _NOT_DEPLOYED]
    for required, own in ((True, []), (False, chosen)):
        waiting: list[tuple[str, tuple[str, ...]]] = [(_ROOT, tuple(own))]
        seen = set()
        while waiting:
            name, asked = waiting.pop()
            if (name, asked) in seen:
                continue
            seen.add((name, asked))
            needed = list(_needs(name, asked))
            before = found.get(name, (required, []))
            names = sorted({*before[1], *(each for each, _ in needed)})
            found[name] = (before[0], names)
            waiting += needed
    return dict(sorted(found.items()))


def _needs(name: str, extras: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Installed packages that a package needs on this system, with the extras that it asks for."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    for line in metadata.requires(name) or ():
        wanted = Requirement(line)
        marker = wanted.marker
        if marker is not None and not any(marker.evaluate({"extra": e}) for e in ("", *extras)):
            continue
        try:
            metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            continue
        yield str(canonicalize_name(wanted.name)), tuple(sorted(wanted.extras))


def _licenses(name: str) -> "tuple[DisjunctiveLicense, ...]":
    """Licence of a package as its metadata state it; none if they do not."""
    from cyclonedx.model.license import DisjunctiveLicense

    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return ()
    given = [text for key in ("License-Expression", "License") for text in about.get_all(key) or ()]
    text = str(given[0]) if given else ""
    classes = [
        each.rpartition(" :: ")[2]
        for each in about.get_all("Classifier") or ()
        if each.startswith("License ::")
    ]
    # Some packages put the whole text of their licence there.
    short = text if 0 < len(text) < 80 and "\n" not in text else " OR ".join(classes)
    return (DisjunctiveLicense(name=short),) if short else ()
