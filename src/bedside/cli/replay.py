"""`bedside replay`: a case segmented again from its report, and its labels compared."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedside.cli.arguments import option, positional
from bedside.cli.console import print_err, print_out

_NOT_SAME = 3


@dataclass(frozen=True)
class Settings:
    """Segment a case again from its report.json, and compare the labels.

    Bundle, options, backend, precision and threads are those of the report. Ends with 0 if bundle,
    image and labels are the very same, else with 3. What differs is printed.
    """

    report: Path = positional(help="report.json of an earlier run")
    input: tuple[Path, ...] = option(
        help="the image, or its channels (default: the file of that name beside the report, above "
        "it, or in the working folder)",
        default=(),
    )
    model: str | None = option(
        help="bundle file, or the name of a shipped bundle (default: the shipped one of that name)",
        default=None,
        short="-m",
    )
    backend: str | None = option(help="another runtime than the report's", default=None)
    precision: str | None = option(help="another precision than the report's", default=None)
    threads: int | None = option(help="another number of threads", default=None)
    json: bool = option(help="print only JSON", default=False)


def run(settings: Settings) -> int:
    """Run again and print whether the labels are the same.

    Returns:
        0, or 3 if labels, bundle or image are not the report's.

    Raises:
        UsageError: If the image is not found.
        InputError: If the report, the bundle or the image is refused.
        BackendError: If the runtime is not installed.
    """
    from bedside.bundle import find_bundle, read_bundle
    from bedside.evidence.replay import find_input, read_case, replay, run_options

    case = read_case(settings.report)
    inputs = settings.input or (find_input(case),)
    bundle = read_bundle(find_bundle(settings.model or case.bundle, on_notice=print_err))
    options = run_options(
        case, backend=settings.backend, precision=settings.precision, threads=settings.threads
    )
    found = replay(case, bundle, inputs, run=options)
    if settings.json:
        told: dict[str, Any] = {
            "same_labels": found.same_labels,
            "same_case": found.same_case,
            "differences": list(found.differences),
            "labels_sha256": {"report": case.labels_sha256, "now": found.labels_sha256},
        }
        print_out(json.dumps(told, indent=2))
    else:
        verdict = "the very same" if found.same_labels else "NOT the same"
        print_out(f"The labels of {case.source} are {verdict}: sha256 {found.labels_sha256}")
        for text in found.differences:
            print_out(f"  {text}")
    return 0 if found.same_labels and found.same_case else _NOT_SAME
