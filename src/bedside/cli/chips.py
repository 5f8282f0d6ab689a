"""`bedside chips`: profiles of edge chips, and how bundles suit them."""

import json
from dataclasses import dataclass

from bedside.chips import Chip, find_chip, list_chips
from bedside.cli.arguments import option, positional
from bedside.cli.console import print_err, print_out, table
from bedside.errors import UsageError
from bedside.spec import to_mapping


@dataclass(frozen=True)
class Settings:
    """List the edge chips that a bundle can be checked against and exported for.

    With a chip, print what its profile says, where each fact is from, and what is unknown. With
    --bundle, say which nodes would fall back to the CPU; nothing is written.
    """

    chip: str | None = positional(
        help="only this chip: its name, or a profile (.toml)", default=None
    )
    bundle: str | None = option(
        help="bundle to check: a file, or the name of a shipped bundle", default=None
    )
    json: bool = option(help="print only the profiles, or the check, as JSON", default=False)


def run(settings: Settings) -> int:
    """Print profiles, or a check.

    Raises:
        UsageError: If there is no such chip.
        SpecError: If a profile is damaged.
        BundleError: If the bundle is not there, or is damaged.
        BackendError: If onnx is not installed, for a check.
    """
    if settings.bundle is not None:
        return _check(settings)
    if settings.chip is None:
        chips = list_chips()
        if settings.json:
            print_out(json.dumps([to_mapping(chip) for chip in chips.values()], indent=1))
        else:
            _print_list(chips)
        return 0
    chip = find_chip(settings.chip)
    if settings.json:
        print_out(json.dumps(to_mapping(chip), indent=1))
        return 0
    _print_profile(chip)
    return 0


def _print_list(chips: dict[str, Chip]) -> None:
    rows = [("name", "chip", "format", "computes in", "channels")]
    for name, chip in chips.items():
        multiple = chip.multiple()
        rows.append(
            (
                name,
                chip.title,
                ", ".join(chip.formats),
                ", ".join(chip.precisions),
                f"multiples of {multiple}" if multiple else "unknown",
            )
        )
    for line in table(rows):
        print_out(line)


def _print_profile(chip: Chip) -> None:
    print_out(f"{chip.title}, compiled by {chip.compiler}")
    rest = "all others fall back to the CPU" if chip.complete else "others are unknown"
    print_out(f"  {len(chip.operations)} operations; {rest}: {', '.join(chip.operations)}")
    print_out(f"  computes in {', '.join(chip.precisions)}; layout {chip.layout}")
    if chip.alignment:
        multiples = (f"{name} {count}" for name, count in chip.alignment.channels.items())
        print_out(f"  multiples of channels: {', '.join(multiples)}")
    for key, source in chip.sources.items():
        print_out(f"  source {key}: {source.title}; {source.version}; {source.where}")
    for what in chip.unknown:
        print_out(f"  unknown: {what}")
    for line in chip.command:
        print_out(f"  after an export: {line}")


def _check(settings: Settings) -> int:
    if settings.chip is None:
        raise UsageError("name the chip to check the bundle against: bedside chips CHIP --bundle.")
    from bedside.cli.train import check_torch

    check_torch("chips")
    from bedside.bundle import find_bundle, read_bundle
    from bedside.export.chip import check_bundle

    chip = find_chip(settings.chip)
    bundle = read_bundle(find_bundle(str(settings.bundle), on_notice=print_err))
    report = check_bundle(bundle, chip, to=chip.formats[0], precision=chip.accepts[0])
    if settings.json:
        print_out(report.to_json().rstrip())
        return 0
    for line in report.lines():
        print_out(line)
    return 0
