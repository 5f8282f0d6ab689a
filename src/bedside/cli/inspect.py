"""`bedside inspect`: the model card of a bundle, after its hashes were checked."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedside.cli.arguments import option, positional
from bedside.cli.console import print_err, print_out
from bedside.cli.models import describe
from bedside.errors import install_command
from bedside.spec.card import describe_test

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

    from bedside.bundle import Bundle
    from bedside.bundle.trust import SignedBy
    from bedside.spec import Card, Interval
    from bedside.spec.gate import Gate

_MEASURES = {
    "dice": "Dice",
    "iou": "IoU",
    "asd_mm": "ASD mm",
    "hd95_mm": "HD95 mm",
    "hd_mm": "HD mm",
}


@dataclass(frozen=True)
class Settings:
    """Print the model card of a bundle, after checking its hashes."""

    bundle: str = positional(help="a bundle file, or the name of a shipped bundle")
    trusted_keys: Path | None = option(
        help="folder of trusted public keys, NAME.pem, to name the signers", default=None
    )
    json: bool = option(help="print only JSON", default=False)


def run(settings: Settings) -> int:
    """Read the bundle, which checks it, and print its card.

    Raises:
        BundleError: If there is no such bundle, it is damaged, or not to be trusted.
    """
    from bedside.bundle import find_bundle, read_bundle
    from bedside.bundle.trust import describe_signature, find_trusted_keys
    from bedside.spec import to_mapping

    bundle = read_bundle(find_bundle(settings.bundle, on_notice=print_err))
    signed = [
        describe_signature(each, bundle.manifest_sha256, keys)
        for keys in [find_trusted_keys(settings.trusted_keys)]
        for each in bundle.signatures
    ]
    if settings.json:
        mapping: dict[str, Any] = {
            **describe(bundle),
            "verified": True,
            "manifest_sha256": bundle.manifest_sha256,
            "signatures": [to_mapping(each) for each in signed],
            "card": to_mapping(bundle.card),
            "spec": to_mapping(bundle.spec),
            "split": {part: len(patients) for part, patients in bundle.split.items()},
        }
        print_out(json.dumps(mapping, indent=2))
        return 0
    from rich.console import Console

    _print(bundle, Console(markup=False, highlight=False), signed=signed)
    return 0


def _print(bundle: "Bundle", console: "Console", *, signed: "Sequence[SignedBy]") -> None:
    """Print the card for a person."""
    card = bundle.card
    console.print(f"{bundle.spec.name} {bundle.spec.version}", style="bold")
    console.print(bundle.spec.task)
    if card.untrained:
        console.print("UNTRAINED: random weights, made to measure cost only.", style="bold red")
    console.print(_facts(bundle, signed))
    if card.structures:
        console.print(_accuracy(card))
    if card.robustness:
        console.print(_robustness(card, [label.name for label in bundle.spec.labels]))
    if card.confidence:
        console.print(_confidence(card))
    if card.precisions:
        console.print(_precisions(card, [label.name for label in bundle.spec.labels]))
    for step in card.compression:
        console.print(f"Compressed: {step}")
    for limit in card.limits:
        console.print(f"Limit: {limit}", style="yellow")
    console.print(card.disclaimer, style="bold")


def describe_gate(gate: "Gate | None") -> str:
    """What is known of a bundle's gate, in words."""
    if gate is None:
        return "none: foreign images are not noticed"
    return (
        f"of {gate.images} training images; accepts {gate.accepted} of {gate.checked} "
        "validation cases"
    )


def _facts(bundle: "Bundle", signed: "Sequence[SignedBy]") -> "Table":
    """Make the table of what the bundle is and where it comes from."""
    from rich.table import Table

    spec, card = bundle.spec, bundle.card
    channels = f"{spec.input.channels} channel" + ("s" if spec.input.channels > 1 else "")
    training, validation, test = card.patients
    rows = {
        "File": str(bundle.path),
        "Size": f"{bundle.size_bytes:,} bytes",
        "SHA-256": bundle.sha256,
        "Verified": "yes: all hashes match",
        "Signed": "; ".join(map(describe_signer, signed)) or "not signed",
        "Graphs": ", ".join(bundle.precisions),
        "Gate": describe_gate(bundle.gate),
        "Input": f"{spec.input.modality}, {channels}, " + " x ".join(map(str, spec.input.size_px)),
        "View": spec.input.view or "any",
        "Labels": ", ".join(f"{label.value} {label.name}" for label in spec.labels),
        "Network": f"{card.parameters:,} parameters, {card.gmac:g} GMAC",
        "Weights": _describe_bits(spec.model.bits),
        "Data": card.data,
        "Source": card.source,
        "Licence": card.license,
        "Split": f"{training} training, {validation} validation, {test} test "
        + (card.split_unit or "patients"),
        "Training": f"{card.epochs} epochs, seed {card.seed}, commit {card.commit}",
        "Built": card.created,
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(name, text)
    return table


def describe_signer(signed: "SignedBy") -> str:
    """Return a sentence about a signature."""
    who = f"key {signed.fingerprint}"
    return {
        "trusted": f"by {signed.name} ({who})",
        "not trusted": f"by an unknown {who}; the signature is valid",
        "invalid": f"INVALID signature of {who}",
        "not checked": f"by {signed.name or 'an unknown'} {who}, NOT CHECKED: "
        + install_command("sign"),
    }[signed.status]


def _describe_bits(bits: "Mapping[str, int]") -> str:
    """Return the bits of the stored weights, in words.

    Example:
        >>> _describe_bits({"stem.0": 8, "head": 8, "downs.0": 4})
        '4 bits in 1 convolution, 8 bits in 2 convolutions, 16 bits in all others'
        >>> _describe_bits({})
        '16 bits'
    """
    if not bits:
        return "16 bits"
    counts = {number: list(bits.values()).count(number) for number in sorted(set(bits.values()))}
    parts = [
        f"{number} bit{'s' * (number > 1)} in {count} convolution{'s' * (count > 1)}"
        for number, count in counts.items()
    ]
    return ", ".join([*parts, "16 bits in all others"])


def _accuracy(card: "Card") -> "Table":
    """Make the table of accuracy on the test patients."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    intervals = any(structure.dice.low is not None for structure in card.structures)
    title = f"Accuracy on {describe_test(card)}: mean" + (", 95 % interval" if intervals else "")
    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column("Structure")
    for heading in _MEASURES.values():
        table.add_column(heading, justify="right")
    for structure in card.structures:
        cells = [_interval(name, getattr(structure, name)) for name in _MEASURES]
        table.add_row(structure.name, *cells)
    rare = [
        f"{structure.name}: in {structure.cases} of {card.test_cases} images; drawn in "
        f"{structure.false_alarms} of the {structure.absent} without it"
        for structure in card.structures
        if structure.absent
    ]
    table.caption = "\n".join(rare) or None
    return table


def _robustness(card: "Card", names: list[str]) -> "Table":
    """Make the table of what planted artefacts cost."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title="Dice lost on test images with a planted artefact", box=SIMPLE_HEAD)
    table.add_column("Artefact")
    for heading in (*names, "Warned", "Refused"):
        table.add_column(heading, justify="right")
    for each in card.robustness:
        losses = ["-" if loss is None else f"{loss:.3f}" for loss in each.loss]
        parts = [f"{100 * part:.0f} %" for part in (each.warned, each.refused)]
        table.add_row(each.artefact, *losses, *parts)
    return table


def _confidence(card: "Card") -> "Table":
    """Make the table of how well the confidence holds."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    title = "Confidence on test images: as they are / with planted artefacts too"
    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column("Structure")
    for heading in ("Worst tenth caught", "AURC gap", "Error", "In 90 % interval"):
        table.add_column(heading, justify="right")
    for each in card.confidence:
        table.add_row(
            each.name, *(
                " / ".join(format(part, form) for part in pair)
                for pair, form in (
                    (each.caught, ".0%"), (each.aurc_gap, ".2f"), (each.error, ".3f"),
                    (each.coverage, ".0%"),
                )
            )
        )  # fmt: skip
    return table


def _precisions(card: "Card", names: list[str]) -> "Table":
    """Make the table of what each precision keeps in each backend."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title="Validation Dice by backend and precision", box=SIMPLE_HEAD)
    table.add_column("Structure")
    for result in card.precisions:
        table.add_column(f"{result.backend}\n{result.precision}", justify="right")
    known = [dict(zip(names, result.dice, strict=False)) for result in card.precisions]
    for name in names:
        dice = [each.get(name) for each in known]
        table.add_row(name, *("-" if value is None else f"{value:.4f}" for value in dice))
    losses = [f"{result.max_drop:.4f}" for result in card.precisions]
    table.add_row("Largest loss", *losses, end_section=True)
    table.add_row("Certified", *("yes" if result.passed else "no" for result in card.precisions))
    return table


def _interval(measure: str, interval: "Interval") -> str:
    """Write a mean over its interval; overlaps to three digits, distances to two."""
    if interval.mean is None:
        return "-"
    digits = 2 if measure.endswith("_mm") else 3
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.{digits}f}"
    return f"{interval.mean:.{digits}f}\n{interval.low:.{digits}f}-{interval.high:.{digits}f}"
