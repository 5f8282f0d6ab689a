"""`bedside certify`: the accuracy of each backend and precision, for a bundle's card."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bedside.cli.arguments import option, positional
from bedside.cli.console import print_err, print_out, print_warning, table
from bedside.errors import UsageError

if TYPE_CHECKING:
    from bedside.bundle import Bundle
    from bedside.spec import Card


@dataclass(frozen=True)
class Settings:
    """Measure a bundle in every installed backend and precision, for a new card.

    Only the validation patients of its own split are used. Graphs, labels and the figures of
    the test patients stay as they are; so do certificates of backends that are not installed.
    With --robustness, what planted artefacts cost on the test patients is measured too.
    """

    bundle: str = positional(help="bundle file, or the name of a shipped bundle")
    data: Path = option(help="folder of the data set that the bundle was trained on")
    output: Path = option(help="bundle to write, NAME.bedside", short="-o")
    layout: str | None = option(
        help="layout of the folder, such as camus or folder (default: detected)", default=None
    )
    max_drop: float = option(help="largest loss of validation Dice in any structure", default=0.005)
    threads: int | None = option(
        help="threads of the runtime (default: all available cores)", default=None
    )
    accelerator: str | None = option(
        help="measure this backend of a GPU or an NPU too, such as openvino-gpu", default=None
    )
    robustness: bool = option(
        help="state what planted artefacts cost on the test patients, on the card", default=False
    )
    json: bool = option(help="print only the certificates, as JSON", default=False)


def run(settings: Settings) -> int:
    """Certify and write the bundle; progress goes to stderr.

    Raises:
        UsageError: If an option has no meaning, or the output cannot be written.
        BundleError: If there is no such bundle, or it is damaged.
        DataError: If the data set lacks validation patients of the bundle.
        BackendError: If no backend is installed, or the accelerator is not there.
        FormatError: If the ledger of looks at test patients is damaged; nothing is written then.
    """
    from dataclasses import replace

    from bedside.bundle import find_bundle, read_bundle, write_with_card
    from bedside.evaluation.certification import certify
    from bedside.evaluation.looks import find_ledger, record_look
    from bedside.evaluation.parts import list_validation
    from bedside.system.atomic import output_folder, written_atomically

    _check(settings)
    bundle = read_bundle(find_bundle(settings.bundle, on_notice=print_err))
    with output_folder(settings.output.parent):
        cases = list_validation(
            bundle, settings.data, layout=settings.layout, on_left_out=print_warning
        )
        results = certify(
            bundle,
            cases,
            max_drop=settings.max_drop,
            threads=settings.threads,
            accelerator=settings.accelerator,
            on_stage=lambda stage: print_err(f"{stage} ..."),
        )
        measured = {result.backend for result in results}
        kept = tuple(result for result in bundle.card.precisions if result.backend not in measured)
        card = replace(bundle.card, precisions=(*results, *kept))
        if settings.robustness:
            print_err("planting artefacts into the images of the test patients ...")
            card, count = _with_robustness(bundle, card, settings)
        # No figure of test patients is there before the ledger says that they were looked at.
        with written_atomically(settings.output) as draft:
            write_with_card(draft, bundle, card)
            if settings.robustness:
                ledger = find_ledger(settings.output.parent)
                what = "certify --robustness"
                record_look(ledger, read_bundle(draft), what=what, cases=count, dice={})
        if bundle.signatures:
            print_err("The card is another, so the signatures are gone. Sign it: bedside sign.")
        if all(result.draws_nothing for result in results):
            print_warning(
                f"not certified: nothing was drawn in any of {len(cases)} validation images"
            )
        _print(read_bundle(settings.output), settings)
        return 0


def _with_robustness(bundle: "Bundle", card: "Card", settings: Settings) -> "tuple[Card, int]":
    """Return the card with what planted artefacts cost on test images, and how many these are."""
    from bedside.evaluation.accuracy import state_robustness
    from bedside.evaluation.parts import list_part
    from bedside.evaluation.robustness import evaluate_robustness
    from bedside.pipeline.segmenter import open_segmenter

    cases = list_part(
        bundle, settings.data, "test", layout=settings.layout, on_left_out=print_warning
    )
    segmenter = open_segmenter(bundle, precision="f32", threads=settings.threads)
    return state_robustness(card, evaluate_robustness(segmenter, cases)), len(cases)


def _check(settings: Settings) -> None:
    """Check the options before anything is measured."""
    if settings.output.suffix != ".bedside":
        raise UsageError(f"{settings.output} must end in .bedside; name it so with -o.")
    if not 0 <= settings.max_drop < 1:
        raise UsageError(f"--max-drop is {settings.max_drop:g}; expected a Dice in [0, 1).")
    if settings.threads is not None and settings.threads < 1:
        raise UsageError(f"--threads is {settings.threads}; expected at least 1.")


def _print(bundle: "Bundle", settings: Settings) -> None:
    """Print what was found, as a table or as JSON."""
    from bedside.spec import to_mapping

    if settings.json:
        found = {
            "bundle": str(bundle.path),
            "sha256": bundle.sha256,
            "certificates": to_mapping(bundle.card.precisions),
        }
        print_out(json.dumps(found, indent=2))
        return
    rows = [("runs in", "largest loss", "worst logit", "certified", "measured in")]
    for result in bundle.card.precisions:
        logit = result.worst_logit_part
        rows.append((
            f"{result.backend} {result.precision}", f"{result.max_drop:.4f}",
            "-" if logit is None else f"{100 * logit:.2f} %",
            "yes" if result.passed else "no", result.ran_in or "-",
        ))  # fmt: skip
    for line in table(rows):
        print_out(line)
    print_out(f"Written: {bundle.path}, {bundle.size_bytes:,} bytes")
