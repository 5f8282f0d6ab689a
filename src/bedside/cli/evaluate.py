"""`bedside evaluate`: how well a bundle does on a folder of images with expert labels."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedside.cli.arguments import option, positional
from bedside.cli.bundles import REQUIRE_SIGNED_HELP, TRUSTED_KEYS_HELP, open_bundle
from bedside.cli.scores import print_looks, print_scores, print_warnings

if TYPE_CHECKING:
    from rich.console import Console

    from bedside.bundle import Bundle
    from bedside.datasets import Case
    from bedside.evaluation.cases import Evaluation
    from bedside.runtime import Session
    from bedside.segment import Segmenter


@dataclass(frozen=True)
class Settings:
    """Score a bundle on images with expert labels, on their own grid.

    Writes evaluation.json, evaluation.csv, evaluation.md and worst_cases.png, or what an
    ablation of the pipeline says; or with --robustness what planted artefacts cost, in
    robustness.md, .json and .svg and robustness_worst.png. A look at test patients
    is appended to the project's test_looks.jsonl, and how many there were is printed.
    """

    bundle: str = positional(help="bundle file, or the name of a shipped bundle")
    data: Path = positional(help="folder of the data set")
    output: Path = option(help="folder to write to", default=Path("evaluation-output"), short="-o")
    layout: str | None = option(
        help="layout of the folder, such as camus or folder (default: detected)", default=None
    )
    split: str | None = option(
        help="score only this part of the bundle's split (default: all cases)",
        default=None,
        choices=("train", "val", "test"),
    )
    relabel: str | None = option(
        help="labels of mask values, such as 255=1,128=2, or none (default: those of the "
        "training data)",
        default=None,
    )
    backend: str = option(help="runtime", default="auto")
    precision: str = option(
        help="precision of the network; default does not time anything", default="default"
    )
    threads: int | None = option(
        help="threads of the runtime (default: all available cores)", default=None
    )
    gate: str = option(
        help="what happens if most images look unlike those the network was trained on",
        default="refuse",
        choices=("refuse", "warn", "off"),
    )
    mirror: tuple[int, ...] = option(
        help="average over flips along these axes, counted from 0; slower, and not done by "
        "`segment` (default: none)",
        default=(),
    )
    ablate_pipeline: bool = option(
        help="instead, score the pipeline without each of its steps and with additional ones; "
        "writes pipeline_steps.md and .json",
        default=False,
    )
    robustness: bool = option(
        help="instead, score every case with planted artefacts such as shadows, speckle and a "
        "mirrored view",
        default=False,
    )
    seed: int = option(help="seed of the planted artefacts", default=0)
    ledger: Path | None = option(
        help="file that looks at the test part are appended to (default: test_looks.jsonl in the "
        "output folder or one above it, else in the root of its git repository, else in the "
        "output folder)",
        default=None,
    )
    require_signed: bool = option(help=REQUIRE_SIGNED_HELP, default=False)
    trusted_keys: Path | None = option(help=TRUSTED_KEYS_HELP, default=None)
    json: bool = option(help="print only the report, as JSON", default=False)


def run(settings: Settings) -> int:
    """Evaluate, write the report and print the table.

    Raises:
        UsageError: If an option has no meaning, or the output folder cannot be written to.
        InputError: If the bundle or a case of the data is refused.
        BackendError: If the runtime is not installed.
    """
    from bedside.datasets import detect_layout, relabel_for
    from bedside.system.atomic import output_folder

    bundle = open_bundle(
        settings.bundle,
        trusted_keys=settings.trusted_keys,
        require_signed=settings.require_signed,
    )
    layout = settings.layout or detect_layout(settings.data)
    cases, left_out = _choose_cases(settings, bundle, layout)
    table = bundle.card.relabel if settings.relabel is None else read_relabel(settings.relabel)
    cases = relabel_for(cases, table, spec=bundle.spec)
    with output_folder(settings.output):
        segmenter = _open(settings, bundle, cases)
        about = _about(settings, bundle, session=segmenter.session, layout=layout)
        about["left_out"] = list(left_out)
        title = f"{bundle.spec.name} on {settings.data.resolve().name}"
        score = _compare if settings.ablate_pipeline or settings.robustness else _score
        return score(settings, bundle, segmenter, cases, about=about, title=title)


def _score(
    settings: Settings,
    bundle: "Bundle",
    segmenter: "Segmenter",
    cases: "Sequence[Case]",
    *,
    about: dict[str, Any],
    title: str,
) -> int:
    """Score the cases, write the report, and print the table."""
    from rich.console import Console

    from bedside.evaluation.pictures import write_worst_cases
    from bedside.evaluation.report import PICTURE, to_json, write_report
    from bedside.system.atomic import files_together

    evaluation = _evaluate(segmenter, cases, Console(stderr=True))
    dice = {each.name: each.dice.mean for each in evaluation.structures}
    about["looks"] = record(settings, bundle, cases, dice=dice)
    warnings = (*about["left_out"], *seen_before(cases, bundle), *evaluation.warnings)
    evaluation = replace(evaluation, warnings=warnings)
    with files_together(settings.output) as folder:
        write_worst_cases(folder / PICTURE, evaluation, segmenter=segmenter, cases=cases)
        files = write_report(folder, evaluation, about=about, title=title)
    console = Console()
    if settings.json:
        console.file.write(to_json(evaluation, about=about))
    else:
        print_scores(console, evaluation, title=title)
        print_looks(console, about["looks"])
        names = ", ".join([*(file.name for file in files), PICTURE])
        console.print(f"\nWritten to {settings.output}: {names}", style="dim", highlight=False)
    return 0


def _open(settings: Settings, bundle: "Bundle", cases: "Sequence[Case]") -> "Segmenter":
    """Open the bundle, and refuse a data set that it was not made for."""
    from bedside.evaluation.gating import check_made_for
    from bedside.segment import open_segmenter

    segmenter = open_segmenter(
        bundle, backend=settings.backend, precision=settings.precision,
        threads=settings.threads, gate="off" if settings.gate == "off" else "warn",
    )  # fmt: skip
    if settings.gate == "refuse":
        check_made_for(segmenter, cases)
    return mirrored(segmenter, settings.mirror)


def _choose_cases(
    settings: Settings, bundle: "Bundle", layout: str
) -> tuple[list["Case"], tuple[str, ...]]:
    """List the cases to score, and say which were left out as copies of others."""
    from bedside.datasets import list_cases
    from bedside.evaluation.parts import select_part

    cases, part = list_cases(settings.data, layout), settings.split
    if part is None:
        return cases, ()
    reasons: list[str] = []
    chosen = select_part(cases, bundle, part, data=settings.data, on_left_out=reasons.append)
    return chosen, (*reasons, *_missing(cases, bundle, part))


def _missing(cases: "Sequence[Case]", bundle: "Bundle", part: str) -> list[str]:
    """Warning of patients of a part of the split that the data lack; empty if they have all."""
    wanted = set(bundle.split.get(part, ()))
    lacking = wanted - {case.patient_id for case in cases}
    if not lacking:
        return []
    return [
        f"the data lack {len(lacking)} of the {len(wanted)} patients in the part {part} of the "
        "bundle's split: these figures are not those of the part."
    ]


def read_relabel(text: str) -> dict[str, int]:
    """Return the label for each mask value.

    Raises:
        UsageError: If it is not VALUE=LABEL, with commas between, or "none".

    Example:
        >>> read_relabel("255=1,128=2")
        {'255': 1, '128': 2}
    """
    from bedside.errors import UsageError

    pairs = [] if text == "none" else [part.strip().split("=") for part in text.split(",")]
    if any(len(pair) != 2 or not all(side.isdecimal() for side in pair) for pair in pairs):
        raise UsageError(f"--relabel is {text}; expected such as 255=1,128=2, or none.")
    return {value: int(label) for value, label in pairs}


def mirrored(segmenter: "Segmenter", axes: tuple[int, ...]) -> "Segmenter":
    """Return a segmenter that averages over flips of the image, if axes are given.

    Raises:
        UsageError: If the network has no such axis.
    """
    from bedside.errors import UsageError
    from bedside.runtime.flip_tta import FlipTTASession
    from bedside.segment import Segmenter

    known = range(segmenter.spec.model.spatial_dims)
    if not set(axes) <= set(known):
        raise UsageError(
            f"--mirror is {', '.join(map(str, axes))}; the network has the axes "
            f"{', '.join(map(str, known))}."
        )
    if not axes:
        return segmenter
    session = FlipTTASession(segmenter.session, axes)
    return Segmenter(segmenter.spec, session, warnings=segmenter.warnings)


def seen_before(cases: "Sequence[Case]", bundle: "Bundle") -> list[str]:
    """Warn of cases that were used for training or selection, known by their patient ids."""
    warnings = []
    for part, use in (("train", "were trained on"), ("val", "chose the weights (validation)")):
        patients = set(bundle.split.get(part, ()))
        count = sum(case.patient_id in patients for case in cases)
        if count:
            warnings.append(
                f"{count} of {len(cases)} cases {use}, going by their patient ids: "
                "the scores are too optimistic. Use --split test."
            )
    return warnings


def record(
    settings: Settings,
    bundle: "Bundle",
    cases: "Sequence[Case]",
    *,
    dice: Mapping[str, float | None],
) -> str | None:
    """Record that test patients were looked at; return how often they were, in a sentence.

    Returns:
        None if no case is of a test patient.

    Raises:
        InputError: If the ledger is damaged.
        OutputError: If it cannot be written.
    """
    from bedside.evaluation.looks import describe_looks, find_ledger, record_look

    patients = set(bundle.split.get("test", ()))
    count = sum(case.patient_id in patients for case in cases)
    if not count:
        return None
    ledger = settings.ledger or find_ledger(settings.output)
    options = {"ablate-pipeline": settings.ablate_pipeline, "robustness": settings.robustness}
    what = " ".join(["evaluate", *(f"--{name}" for name, given in options.items() if given)])
    looks = record_look(ledger, bundle, what=what, cases=count, dice=dice)
    return describe_looks(looks, ledger)


def _evaluate(segmenter: "Segmenter", cases: "Sequence[Case]", console: "Console") -> "Evaluation":
    """Run the loop under a progress bar."""
    from bedside.evaluation.cases import evaluate_cases

    with _progress(len(cases), console) as advance:
        return evaluate_cases(segmenter, cases, on_case=lambda result: advance(result.case_id))


def _compare(
    settings: Settings,
    bundle: "Bundle",
    segmenter: "Segmenter",
    cases: "Sequence[Case]",
    *,
    about: dict[str, Any],
    title: str,
) -> int:
    """Score variants of the pipeline, or planted artefacts, under a progress bar."""
    from rich.console import Console

    from bedside.cli.ablation import run_ablation
    from bedside.cli.robustness import run_robustness

    about["looks"] = record(settings, bundle, cases, dice={})
    about["warnings"] = [*about["left_out"], *seen_before(cases, bundle)]
    robustness = partial(run_robustness, seed=settings.seed)
    run = run_ablation if settings.ablate_pipeline else robustness
    with _progress(len(cases), Console(stderr=True)) as advance:
        code = run(
            segmenter, cases, output=settings.output, about=about, title=title,
            as_json=settings.json, on_case=advance,
        )  # fmt: skip
    if not settings.json:
        console = Console()
        print_warnings(console, about["warnings"])
        print_looks(console, about["looks"])
    return code


@contextlib.contextmanager
def _progress(total: int, console: "Console") -> "Iterator[Callable[[str], None]]":
    """Show a progress bar on stderr if it is a terminal; yield the function that advances it."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Evaluating", total=total)
        yield lambda name: progress.update(task, advance=1, description=f"Evaluating {name}")


def _about(
    settings: Settings, bundle: "Bundle", *, session: "Session", layout: str
) -> dict[str, Any]:
    """Facts about the evaluation: bundle, data, runtime."""
    return {
        "bundle": {
            "name": bundle.spec.name,
            "version": bundle.spec.version,
            "sha256": bundle.sha256,
            "bytes": bundle.size_bytes,
            "license": bundle.card.license,
        },
        "data": {"path": str(settings.data), "layout": layout, "split": settings.split},
        "backend": session.backend,
        "precision": session.precision,
        "mirror": list(settings.mirror),
        "threads": session.threads,
    }
