"""`bedside export`: a bundle in another runtime's format, with a certificate."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bedside.chips import find_chip
from bedside.cli.arguments import option, positional
from bedside.cli.console import print_err, print_out
from bedside.cli.train import check_torch
from bedside.errors import UsageError
from bedside.export.formats.table import FORMATS

if TYPE_CHECKING:
    from bedside.export.bundle import ValidationData
    from bedside.export.formats.format import Options

SITE = "web"


@dataclass(frozen=True)
class Settings:
    """Export a bundle to another runtime's format, run it there, and certify it.

    An export that loses more than it may is not written; the layer at fault is named.
    With --golden the tensors of one image are written instead, for programs in other languages.
    """

    bundle: str | None = positional(
        help="bundle file, or the name of a shipped bundle; not with --fleet", default=None
    )
    to: str | None = option(
        help="format; web is a page that runs the bundle in a browser",
        choices=[*(each.name for each in FORMATS), SITE],
        default=None,
    )
    chip: str | None = option(
        help="chip that it is for (bedside chips), or a profile (.toml): the graph is checked "
        "against it first, and rewritten where that is exact",
        default=None,
    )
    fleet: Path | None = option(
        help="table (CSV) of exports: columns bundle, to, chip, precision; those that are there "
        "already are kept",
        default=None,
    )
    golden: bool = option(
        help="write a frame, its tensor, logits and labels as raw tensors", default=False
    )
    input: Path | None = option(
        help="image whose middle frame --golden uses (default: a synthetic one)",
        default=None,
    )
    output: Path | None = option(
        help="folder to write (default: NAME-FORMAT-PRECISION, NAME-CHIP-FORMAT, NAME-golden, "
        "or fleet)",
        short="-o",
        default=None,
    )
    data: Path | None = option(
        help="folder of the data set to certify the export on (default: synthetic images)",
        default=None,
    )
    split: str = option(
        help="part of the bundle's split to certify it on",
        default="val",
        choices=("val", "test"),
    )
    cases: int = option(help="maximum number of images", default=40)
    precision: str = option(
        help="precision of the export", default="f32", choices=("f32", "bf16", "f16", "int8")
    )
    max_drop: float = option(
        help="largest loss of Dice of an int8 export in any structure; 0.002 for others",
        default=0.005,
    )
    threads: int = option(help="threads for running and timing it", default=1)
    litert_python: Path | None = option(
        help="Python of the environment with LiteRT's converter (default: BEDSIDE_LITERT_PYTHON)",
        default=None,
    )
    rknn_python: Path | None = option(
        help="Python of the environment with RKNN-Toolkit2 (default: BEDSIDE_RKNN_PYTHON)",
        default=None,
    )
    json: bool = option(help="print only the certificate, as JSON", default=False)


def run(settings: Settings) -> int:
    """Export, with progress on stderr.

    Raises:
        UsageError: If an option has no meaning, or the format cannot hold the network.
        BackendError: If a converter or torch is not installed.
        ExportError: If the export is out of bounds; nothing is written then.
        InputError: If the bundle, the image or a case of the data is refused.
    """
    if settings.cases < 1 or settings.threads < 1 or not 0 <= settings.max_drop < 1:
        raise UsageError(
            f"--cases is {settings.cases}, --threads {settings.threads} and --max-drop "
            f"{settings.max_drop:g}; expected 1 or more, 1 or more, and a part of 1."
        )
    if settings.fleet is not None:
        return _make_fleet(settings)
    if settings.bundle is None:
        raise UsageError("name a bundle, or a table with --fleet.")
    if settings.golden == (settings.to is not None or settings.chip is not None):
        raise UsageError("name a format with --to or a chip with --chip, or pass --golden.")
    if settings.input and not settings.golden:
        raise UsageError(
            "--input is the image of --golden; with --to, name a data set with --data."
        )
    if settings.to == SITE and settings.chip:
        raise UsageError("the page is for browsers, not for a chip; leave out --chip.")
    if settings.to == SITE:
        return _write_site(settings)
    return _write_golden(settings) if settings.golden else _convert(settings)


def _make_fleet(settings: Settings) -> int:
    if settings.bundle or settings.to or settings.chip or settings.golden or settings.input:
        raise UsageError("the table names bundles, formats and chips; pass --fleet without them.")
    if settings.precision != "f32":
        raise UsageError("precisions are a column of the table; leave out --precision.")
    check_torch("export")
    from bedside.cli.export_fleet import run_fleet

    return run_fleet(
        settings.fleet or Path(),
        settings.output or Path("fleet"),
        options=_options(settings),
        validation=_validation(settings),
        as_json=settings.json,
    )


def _options(settings: Settings, chip: str | None = None) -> "Options":
    from bedside.export.formats.format import Options

    pythons = settings.litert_python, settings.rknn_python
    return Options(settings.precision, settings.threads, *pythons, chip)


def _validation(settings: Settings) -> "ValidationData":
    from bedside.export.bundle import ValidationData

    return ValidationData(settings.data, settings.split, settings.cases, settings.max_drop)


def _write_golden(settings: Settings) -> int:
    if settings.data or settings.precision != "f32":
        raise UsageError("--golden is one image in f32; leave out --data and --precision.")
    from bedside.bundle import find_bundle, read_bundle
    from bedside.export.golden import export_golden

    bundle = read_bundle(find_bundle(str(settings.bundle), on_notice=print_err))
    output = settings.output or Path(f"{bundle.spec.name}-golden")
    described = export_golden(bundle, output, image=settings.input)
    if settings.json:
        print_out(json.dumps(described, indent=1))
        return 0
    print_out(f"{output}: {', '.join(described['tensors'])}")
    for warning in described["warnings"]:
        print_err(f"warning: {warning}")
    return 0


def _write_site(settings: Settings) -> int:
    if settings.data or settings.precision != "f32":
        raise UsageError("the page runs a bundle in f32; leave out --data and --precision.")
    from bedside.bundle import find_bundle, read_bundle
    from bedside.export.site import export_site

    bundle = read_bundle(find_bundle(str(settings.bundle), on_notice=print_err))
    output = settings.output or Path(f"{bundle.spec.name}-{SITE}")
    sizes = export_site(bundle, output, on_stage=lambda stage: print_err(f"{stage} ..."))
    if settings.json:
        print_out(json.dumps({"output": str(output), "files": sizes}, indent=1))
        return 0
    print_out(f"{output}: {len(sizes)} files, {sum(sizes.values()):,} bytes")
    print_out(f"  python -m http.server -d {output}  shows it on http://localhost:8000")
    return 0


def _convert(settings: Settings) -> int:
    check_torch("export")
    from bedside.bundle import find_bundle, read_bundle
    from bedside.export.bundle import export_bundle
    from bedside.export.chip import check_bundle

    bundle = read_bundle(find_bundle(str(settings.bundle), on_notice=print_err))
    report, to = None, str(settings.to)
    if settings.chip is not None:
        chip = find_chip(settings.chip)
        to = settings.to or chip.formats[0]
        report = check_bundle(bundle, chip, to=to, precision=settings.precision)
        for line in report.lines():
            print_err(line)
    name = f"{to}-{settings.precision}" if report is None else f"{report.chip.name}-{to}"
    output = settings.output or Path(f"{bundle.spec.name}-{name}")
    certificate = export_bundle(
        bundle,
        output,
        to=to,
        options=_options(settings, report.chip.name if report else None),
        validation=_validation(settings),
        chip=report,
        on_stage=lambda stage: print_err(f"{stage} ..."),
    )
    if settings.json:
        print_out(certificate.to_json())
        return 0
    size = sum(int(file["bytes"]) for file in certificate.files.values())
    print_out(f"{output}: {certificate.format}, {certificate.precision}, {size:,} bytes")
    for line in certificate.lines():
        print_out(f"  {line}")
    for line in report.chip.command if report else ():
        print_out(f"  next: {line}")
    return 0
