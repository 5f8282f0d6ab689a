"""`bedside models`: the shipped bundles, their accuracy and their licences."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedside.cli.arguments import option, positional
from bedside.cli.console import print_err, print_out, table
from bedside.errors import UsageError
from bedside.spec.card import DISCLAIMER, describe_few_units, describe_test
from bedside.spec.reading import to_mapping

if TYPE_CHECKING:
    from bedside.bundle import Bundle


@dataclass(frozen=True)
class Settings:
    """List the shipped bundles: task, modality, size, accuracy, licence of the data.

    With --retune, time every backend and precision that their cards certify, and remember the
    fastest on this machine.
    """

    bundle: str | None = positional(
        help="only this bundle: a file, or the name of a shipped bundle (default: all shipped)",
        default=None,
    )
    retune: bool = option(
        help="time the certified backends and precisions again and keep the fastest for `segment`",
        default=False,
    )
    backend: str = option(help="backend to time", default="auto")
    threads: int | None = option(
        help="threads to time with (default: all available cores)", default=None
    )
    json: bool = option(help="print only the list, as JSON", default=False)


def run(settings: Settings) -> int:
    """Print the list, or the times.

    Raises:
        UsageError: If an option has no meaning.
        BundleError: If a bundle is not there, or is damaged.
        BackendError: If the backend is not installed.
        OutputError: If what is the fastest cannot be remembered.
    """
    from bedside.bundle import find_bundle, read_bundle, shipped_bundles

    timed = settings.backend != "auto" or settings.threads is not None
    if timed and not settings.retune:
        raise UsageError("--backend and --threads go with --retune.")
    if settings.threads is not None and settings.threads < 1:
        raise UsageError(f"--threads is {settings.threads}; expected at least 1.")
    named = settings.bundle
    paths = shipped_bundles() if named is None else [find_bundle(named, on_notice=print_err)]
    bundles = [read_bundle(path) for path in paths]
    if settings.retune:
        return _retune(bundles, settings)
    if settings.json:
        print_out(json.dumps({"models": [describe(bundle) for bundle in bundles]}, indent=2))
        return 0
    if not bundles:
        print_out(
            "No bundle comes with this installation. Name a .bedside file where one is asked for."
        )
        return 0
    for bundle in bundles:
        for line in _lines(bundle):
            print_out(line)
    print_out(DISCLAIMER)
    return 0


def _retune(bundles: "list[Bundle]", settings: Settings) -> int:
    """Time each bundle, and print the times."""
    from bedside.runtime import default_threads
    from bedside.runtime.autotune import describe_choice, retune
    from bedside.runtime.machine import describe_processor, read_load

    threads = settings.threads or default_threads()
    found: list[dict[str, Any]] = []
    for bundle in bundles:
        print_err(f"timing {bundle.spec.name} ...")
        choice = retune(bundle, backend=settings.backend, threads=threads)
        times = [
            {"backend": name.split()[0], "precision": name.split()[1], **to_mapping(timing)}
            for name, timing in choice.times.items()
        ]
        found.append({
            "name": bundle.spec.name, "decided": choice.decided,
            "backend": choice.mode[0], "precision": choice.mode[1], "times": times,
        })  # fmt: skip
        if not settings.json:
            for line in _times(found[-1]):
                print_out(line)
            print_out(describe_choice(bundle, choice))
    machine = {"machine": describe_processor(), "load": read_load(), "threads": threads}
    if settings.json:
        print_out(json.dumps({**machine, "models": found}, indent=2))
    else:
        print_out(f"{describe_processor()}; threads: {threads}; load {read_load():.1f}")
    return 0


def _times(found: dict[str, Any]) -> list[str]:
    """Return the table of the times of one bundle."""
    rows = [(found["name"], "lower quartile ms", "98 % interval", "quiet rounds")]
    for time in found["times"]:
        rows.append((
            f"  {time['backend']} {time['precision']}", f"{time['quartile_ms']:.3f}",
            f"{time['low_ms']:.3f}-{time['high_ms']:.3f}", str(time["rounds"]),
        ))  # fmt: skip
    return table(rows)


def describe(bundle: "Bundle") -> dict[str, Any]:
    """Return a summary of a bundle for JSON."""
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
        "certified": [f"{r.backend} {r.precision}" for r in card.precisions if r.passed],
        "labels": [label.name for label in spec.labels],
        "dice": {structure.name: structure.dice.mean for structure in card.structures},
        "test_cases": card.test_cases,
        "demonstration": bool(describe_few_units(card)),
        "data": card.data,
        "license": card.license,
        "untrained": card.untrained,
        "disclaimer": card.disclaimer,
    }


def _lines(bundle: "Bundle") -> list[str]:
    """Return a summary of a bundle for the terminal."""
    spec, card = bundle.spec, bundle.card
    dice = ", ".join(
        f"{structure.name} {structure.dice.mean:.3f}"
        for structure in card.structures
        if structure.dice.mean is not None
    )
    tested = describe_few_units(card)
    accuracy = f"{dice} (mean Dice of {describe_test(card)})" if dice else "not measured"
    return [
        f"{spec.name} {spec.version}"
        + ("  UNTRAINED, to measure cost only" if card.untrained else "")
        + (f"  DEMONSTRATION, {tested}" if tested else ""),
        f"  task      {spec.task}",
        f"  modality  {spec.input.modality}" + (f", {spec.input.view}" if spec.input.view else ""),
        f"  size      {bundle.size_bytes:,} bytes, {card.parameters:,} parameters",
        f"  accuracy  {accuracy}",
        f"  data      {card.data}",
        f"  licence   {card.license}",
        "",
    ]
