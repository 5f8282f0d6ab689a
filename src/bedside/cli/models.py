"""`bedside models`: what comes with the package, how well it does, and on which terms."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedside.cli.arguments import option
from bedside.cli.console import say
from bedside.spec.card import DISCLAIMER, describe_test

if TYPE_CHECKING:
    from bedside.bundle import Bundle


@dataclass(frozen=True)
class Settings:
    """List the shipped bundles: task, modality, size, accuracy, licence of the data."""

    json: bool = option(help="print the list as JSON, and nothing else", default=False)


def run(settings: Settings) -> int:
    """Print the list.

    Raises:
        BundleError: If a shipped bundle is damaged.
    """
    from bedside.bundle import read_bundle, shipped_bundles

    bundles = [read_bundle(path) for path in shipped_bundles()]
    if settings.json:
        say(json.dumps({"models": [describe(bundle) for bundle in bundles]}, indent=2))
        return 0
    if not bundles:
        say("No bundle comes with this installation. Name a .bedside file where one is asked for.")
        return 0
    for bundle in bundles:
        for line in _lines(bundle):
            say(line)
    say(DISCLAIMER)
    return 0


def describe(bundle: "Bundle") -> dict[str, Any]:
    """Sum a bundle up as JSON holds it."""
    spec, card = bundle.spec, bundle.card
    return {
        "name": spec.name,
        "version": spec.version,
        "task": spec.task,
        "modality": spec.input.modality,
        "view": spec.input.view,
        "path": str(bundle.path),
        "bytes": bundle.size_bytes,
        "sha256": bundle.sha256,
        "parameters": card.parameters,
        "precisions": list(bundle.precisions),
        "labels": [label.name for label in spec.labels],
        "dice": {structure.name: structure.dice.mean for structure in card.structures},
        "test_cases": card.test_cases,
        "data": card.data,
        "license": card.license,
        "untrained": card.untrained,
        "disclaimer": card.disclaimer,
    }


def _lines(bundle: "Bundle") -> list[str]:
    """Sum a bundle up for a person."""
    spec, card = bundle.spec, bundle.card
    dice = ", ".join(
        f"{structure.name} {structure.dice.mean:.3f}"
        for structure in card.structures
        if structure.dice.mean is not None
    )
    accuracy = f"{dice} (mean Dice of {describe_test(card)})" if dice else "not measured"
    return [
        f"{spec.name} {spec.version}"
        + ("  UNTRAINED, to measure cost only" if card.untrained else ""),
        f"  task      {spec.task}",
        f"  modality  {spec.input.modality}" + (f", {spec.input.view}" if spec.input.view else ""),
        f"  size      {bundle.size_bytes:,} bytes, {card.parameters:,} parameters",
        f"  accuracy  {accuracy}",
        f"  data      {card.data}",
        f"  licence   {card.license}",
        "",
    ]
