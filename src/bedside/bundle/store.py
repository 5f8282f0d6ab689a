"""Reads and writes bundles: `bundle.json`, `card.json` and the graphs, with their hashes."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bedside.bundle import signature
from bedside.bundle.archive import MAX_FILE_BYTES, pack, unpack
from bedside.bundle.graph_guard import check_graph
from bedside.bundle.json_members import Settings, from_json, read_settings, to_json
from bedside.bundle.keys import sign_message
from bedside.bundle.trust import (
    TrustedKeys,
    check_signed,
    check_sound,
    choose_trusted_keys,
)
from bedside.errors import BundleError
from bedside.spec import (
    READABLE_VERSIONS,
    SCHEMA_VERSION,
    Card,
    DeploymentSpec,
    to_mapping,
)
from bedside.spec.confidence import Confidence
from bedside.spec.gate import Gate
from bedside.system.atomic import write_bytes
from bedside.system.regular_files import open_regular

SUFFIX = ".bedside"
_MANIFEST, _CARD, _GATE, _CONFIDENCE = (
    "bundle.json", "card.json", "gate.json", "confidence.json",
)  # fmt: skip
_GRAPHS = {"f32": "graphs/f32.onnx", "int8": "graphs/int8.onnx"}
_REQUIRED = frozenset({_MANIFEST, _CARD, _GRAPHS["f32"]})
_ALLOWED = _REQUIRED | frozenset(_GRAPHS.values()) | {signature.MEMBER, _GATE, _CONFIDENCE}
_MANIFEST_KEYS = {"schema_version", "spec", "split", "files"}
_PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Bundle:
    """A bundle that has been read and checked.

    Attributes:
        path: Where it was read from.
        spec: All that a deployment needs but the weights.
        card: Where it comes from and how well it does.
        precisions: Graphs in it, such as ("f32", "int8").
        split: Patients of "train", "val" and "test".
        sha256: Hash of the whole file, its signatures among them.
        size_bytes: Size of the whole file.
        manifest_sha256: Hash of `bundle.json`, which holds those of all parts: the same whether
            the bundle is signed or not, and what is signed.
        signatures: Who has signed it. Where that can be checked each is found to be of this
            bundle; whether its key is to be trusted is another question (`trusted`).
        gate: Tells images that it was made for from others; None in bundles without one.
        confidence: How sure its masks are, calibrated; None in bundles without that.
    """

    path: Path
    spec: DeploymentSpec
    card: Card
    precisions: tuple[str, ...]
    split: Mapping[str, tuple[str, ...]]
    sha256: str
    size_bytes: int
    manifest_sha256: str
    signatures: tuple[signature.Signature, ...]
    gate: Gate | None = field(repr=False)
    confidence: Confidence | None = field(repr=False)
    _graphs: Mapping[str, bytes] = field(repr=False, compare=False)

    def read_graph(self, precision: str) -> bytes:
        """Return the serialized ONNX graph of one precision.

        Args:
            precision: "f32" or "int8".

        Raises:
            BundleError: If the bundle has no such graph.
        """
        if precision not in self._graphs:
            raise BundleError(
                f'{self.path} has no graph in "{precision}"; it has {", ".join(self.precisions)}.'
            )
        return self._graphs[precision]


def read_bundle(path: Path, *, trusted: TrustedKeys | None = None) -> Bundle:
    """Return a bundle, checked as far as is possible without running it.

    Args:
        path: The file.
        trusted: Keys one of which must have signed it; None if it need not be signed.

    Raises:
        BundleError: If it cannot be read, is damaged, of another schema version, or not
            to be trusted.
        SignatureError: If it was changed after it was signed, or no trusted key has signed it.
        BackendError: If a signature is asked for, and what checks it is not installed.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE_BYTES:
                raise BundleError(
                    f"{path} has {size} bytes; a bundle has at most {MAX_FILE_BYTES}."
                )
            content = file.read()
    except OSError as error:
        raise BundleError(f"cannot read the bundle {path}: {error.strerror or error}.") from error
    bundle = _parse(content, path)
    if trusted is not None:
        check_signed(str(path), bundle.signatures, bundle.manifest_sha256, trusted)
    return bundle


def read_members(content: bytes, where: str) -> dict[str, bytes]:
    """Return the parts of a bundle's file by name, not checked further.

    Raises:
        BundleError: If it is not a sound zip of parts that a bundle can have.
    """
    return unpack(content, allowed=_ALLOWED, where=where)


def check_machine_rule(bundle: Bundle) -> None:
    """Refuse a bundle that this machine must not run (`BEDSIDE_REQUIRE_SIGNED`).

    Args:
        bundle: A bundle that has been read.

    Raises:
        SignatureError: If only signed bundles are run, and no trusted key has signed this one.
        UsageError: If only signed bundles are run, and no keys are named.
        KeyFileError: If the folder of trusted keys has none.
        BackendError: If what checks signatures is not installed.
    """
    keys = choose_trusted_keys(folder=None, required=False)
    if keys is not None:
        check_signed(str(bundle.path), bundle.signatures, bundle.manifest_sha256, keys)


def write_bundle(
    path: Path,
    *,
    spec: DeploymentSpec,
    card: Card,
    graphs: Mapping[str, bytes],
    split: Mapping[str, tuple[str, ...]],
    gate: Gate | None = None,
    confidence: Confidence | None = None,
) -> None:
    """Write a bundle, after reading it back in memory; the same parts give the same bytes.

    Args:
        path: Where to write it; ends in `.bedside`.
        spec: All that a deployment needs but the weights.
        card: The model card.
        graphs: Serialized ONNX by precision: "f32", and optionally "int8".
        split: Patients of "train", "val" and "test".
        gate: Tells foreign images; None for none.
        confidence: How sure the masks are; None for none.

    Raises:
        BundleError: If the parts do not make a bundle that `read_bundle` accepts.
        OutputError: If it cannot be written.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise BundleError(f"{path} must end in {SUFFIX}.")
    if unknown := set(graphs) - set(_GRAPHS):
        raise BundleError(f"{path}: no graphs in {unknown}; choose from {', '.join(_GRAPHS)}.")
    members = {_GRAPHS[precision]: graph for precision, graph in graphs.items()}
    members[_CARD] = to_json(to_mapping(card), path)
    for name, part in ((_GATE, gate), (_CONFIDENCE, confidence)):
        if part is not None:
            members[name] = to_json(to_mapping(part), path)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "spec": to_mapping(spec),
        "split": to_mapping(split),
        "files": {name: _describe(content) for name, content in members.items()},
    }
    content = pack({_MANIFEST: to_json(manifest, path), **members})
    _parse(content, path)
    write_bytes(path, content)


def write_with_card(path: Path, bundle: Bundle, card: Card) -> None:
    """Write a copy of a bundle with another card and without signatures.

    Args:
        path: The file to write.
        bundle: The bundle to copy.
        card: The new card.

    Raises:
        BundleError: If the card is not one that `read_bundle` accepts.
        OutputError: If it cannot be written.
    """
    _rewrite(path, replace(bundle, card=card))


def write_with_gate(path: Path, bundle: Bundle, gate: Gate) -> None:
    """Write a copy of a bundle with another gate and without signatures.

    Args:
        path: Where the copy goes.
        bundle: What is copied.
        gate: What tells images unlike those of the training.

    Raises:
        BundleError: If the gate is not one that `read_bundle` accepts.
        OutputError: If it cannot be written.
    """
    _rewrite(path, replace(bundle, gate=gate))


def write_with_confidence(path: Path, bundle: Bundle, confidence: Confidence | None) -> None:
    """Write a copy of a bundle with another calibration of its confidence, without signatures.

    What the card says of the former one is left out.

    Args:
        path: Where the copy goes.
        bundle: What is copied.
        confidence: How sure its masks are; None for none.

    Raises:
        BundleError: If the calibration is not one that `read_bundle` accepts.
        OutputError: If it cannot be written.
    """
    _rewrite(path, replace(bundle, confidence=confidence, card=replace(bundle.card, confidence=())))


def _rewrite(path: Path, bundle: Bundle) -> None:
    write_bundle(
        path, spec=bundle.spec, card=bundle.card, split=bundle.split, gate=bundle.gate,
        graphs={name: bundle.read_graph(name) for name in bundle.precisions},
        confidence=bundle.confidence,
    )  # fmt: skip


def sign_bundle(
    path: Path, key_file: Path, output: Path, *, ask_password: Callable[[], bytes]
) -> Bundle:
    """Write a bundle with one more signature; all its other parts stay as they are.

    Args:
        path: The bundle.
        key_file: PEM file of an Ed25519 private key. What it has signed before is replaced.
        output: Where to write it; may be `path`.
        ask_password: Gives the password, if the key is encrypted.

    Returns:
        The signed bundle.

    Raises:
        BundleError: If it is not a sound bundle.
        KeyFileError: If the key is not one that can sign.
        OutputError: If it cannot be written.
        BackendError: If what signs is not installed.
    """
    bundle = read_bundle(path)
    message = signature.message_of(bundle.manifest_sha256)
    made = sign_message(message, key_file, ask_password=ask_password)
    others = [each for each in bundle.signatures if each.public_key != made.public_key]
    members = unpack(path.read_bytes(), allowed=_ALLOWED, where=str(path))
    members[signature.MEMBER] = signature.write_signatures([*others, made])
    content = pack(members)
    signed = _parse(content, output)
    write_bytes(output, content)
    return signed


def _parse(content: bytes, path: Path) -> Bundle:
    """Return a checked bundle, from the bytes of its file."""
    where = str(path)
    members = unpack(content, allowed=_ALLOWED, where=where)
    if missing := _REQUIRED - set(members):
        raise BundleError(f"{where} is not a bundle: it has no {', '.join(sorted(missing))}.")
    manifest = from_json(members[_MANIFEST], f"{where}: {_MANIFEST}")
    _check_manifest(manifest, where)
    signed = members.pop(signature.MEMBER, None)
    _check_hashes(manifest["files"], members, where)
    signatures = _read_signatures(signed, f"{where}: {signature.MEMBER}")
    manifest_sha256 = hashlib.sha256(members[_MANIFEST]).hexdigest()
    check_sound(where, signatures, manifest_sha256)
    spec = read_settings(DeploymentSpec, manifest["spec"], f"{where}: {_MANIFEST}")
    card = _read_member(Card, members, _CARD, where)
    graphs = {name: members[member] for name, member in _GRAPHS.items() if member in members}
    for precision, graph in graphs.items():
        _check_fit(graph, spec, f"{where}: {_GRAPHS[precision]}")
    return Bundle(
        path=path,
        spec=spec,
        card=card,
        precisions=tuple(graphs),
        split=_read_split(manifest["split"], where),
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        manifest_sha256=manifest_sha256,
        signatures=signatures,
        gate=_read_member(Gate, members, _GATE, where) if _GATE in members else None,
        confidence=(
            _read_member(Confidence, members, _CONFIDENCE, where)
            if _CONFIDENCE in members
            else None
        ),
        _graphs=graphs,
    )


def _read_member(
    kind: type[Settings], members: Mapping[str, bytes], name: str, where: str
) -> Settings:
    """Read a member that holds a dataclass."""
    return read_settings(kind, from_json(members[name], f"{where}: {name}"), f"{where}: {name}")


def _read_signatures(content: bytes | None, where: str) -> tuple[signature.Signature, ...]:
    """Read the signatures of a bundle, if it has any."""
    if content is None:
        return ()
    return signature.read_signatures(from_json(content, where), where)


def _check_manifest(manifest: Any, where: str) -> None:
    """Refuse another schema version before reading anything else."""
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if type(version) is not int or version not in READABLE_VERSIONS:
        raise BundleError(
            f"{where} has schema version {version!r}; this bedside reads "
            f"{' and '.join(map(str, READABLE_VERSIONS))}. "
            "Use the bedside that wrote it, or build it again."
        )
    if set(manifest) != _MANIFEST_KEYS:
        raise BundleError(
            f"{where}: {_MANIFEST} has the keys {sorted(manifest)}; "
            f"expected {sorted(_MANIFEST_KEYS)}."
        )


def _check_hashes(files: Any, members: Mapping[str, bytes], where: str) -> None:
    """Compare every member with the size and the hash that the manifest gives."""
    found = {name: _describe(part) for name, part in members.items() if name != _MANIFEST}
    if not isinstance(files, dict) or set(files) != set(found):
        raise BundleError(f"{where}: its members are {sorted(found)}; {_MANIFEST} lists others.")
    for name, described in found.items():
        if files[name] != described:
            raise BundleError(
                f"{where} is damaged: its member {name!r} has sha256 "
                f"{described['sha256'][:12]}... and is not the one that {_MANIFEST} lists. "
                "Copy or build it again."
            )


def _check_fit(graph: bytes, spec: DeploymentSpec, where: str) -> None:
    """Check that the inputs and outputs of the graph are those of the spec."""
    size_px, stride = spec.input.size_px, spec.model.logit_stride
    signature = check_graph(graph, where=where, input_shape=(1, spec.input.channels, *size_px))
    expected = (
        (spec.input.channels, *size_px),
        (spec.model.num_classes, *(size // stride for size in size_px)),
    )
    for kind, values, shape in zip(
        ("takes", "gives"), (signature.inputs, signature.outputs), expected, strict=True
    ):
        seen = list(values.values())
        if len(seen) != 1 or seen[0][1:] != shape or seen[0][0] not in (None, 1):
            raise BundleError(
                f"{where} {kind} {', '.join(map(str, seen)) or 'nothing'}; "
                f"the spec needs {(1, *shape)}."
            )


def _read_split(split: Any, where: str) -> dict[str, tuple[str, ...]]:
    """Read the patients of each part; no patient may be in two."""
    if not isinstance(split, dict) or set(split) != set(_PARTS):
        raise BundleError(f"{where}: split must name the patients of {', '.join(_PARTS)}.")
    for part in _PARTS:
        patients = split[part]
        if not isinstance(patients, list) or not all(isinstance(p, str) for p in patients):
            raise BundleError(f"{where}: split.{part} must be a list of patient ids.")
    everyone = [patient for part in _PARTS for patient in split[part]]
    if len(set(everyone)) != len(everyone):
        twice = next(patient for patient in everyone if everyone.count(patient) > 1)
        raise BundleError(f"{where}: patient {twice!r} stands twice in its split.")
    return {part: tuple(split[part]) for part in _PARTS}


def _describe(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
