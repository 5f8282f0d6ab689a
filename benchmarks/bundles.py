"""What every shipped bundle reaches on the patients kept back, from its card; teachers beside them.

Nothing is measured here: a card's figures were taken once, when the bundle was built, and those
of a teacher or of another seed when it was scored with `--teacher RUN` or `--seed RUN`, which
leave a small file each under `results/`. What a card does not hold, such as the error of a head
circumference, comes from what `bedside evaluate` printed, with `--report FILE`. `--restate BUNDLE`
scores a bundle's test part anew, where the way of scoring has changed, and puts it on its card.
`--robustness FILE` and `--confidence` put onto cards what `bedside evaluate --robustness` wrote and
what benchmarks/confidence.md says.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from statistics import mean
from typing import Any

from bedside.bundle import find_bundle, read_bundle, shipped_bundles, write_with_card
from bedside.datasets import list_cases, relabel_for
from bedside.datasets.duplicates import leave_out_leaks
from bedside.evaluation.accuracy import state_accuracy, state_robustness
from bedside.evaluation.cases import METRICS, evaluate_cases
from bedside.evaluation.looks import LEDGER, describe_looks, record_look
from bedside.evaluation.parts import list_part
from bedside.evaluation.report import HEADINGS
from bedside.evaluation.robustness import Robustness
from bedside.segment import open_segmenter
from bedside.spec import Card, StructureResult, from_mapping, to_mapping
from bedside.spec.card import ConfidenceResult, count_units, describe_test
from bedside.system.atomic import write_text
from pareto import read_results
from scoring import score_run

HERE = Path(__file__).parent
LEDGER_FILE = HERE.parent / LEDGER
TEACHERS, SEEDS, LARGER = (
    HERE / "results" / name for name in ("teachers", "seeds", "camus-larger")
)


def score(run: Path, data: Path | None) -> dict[str, Any]:
    """Score a finished run, which is not shipped, on its test patients, in torch."""
    evaluation, recipe, record = score_run(run, data)
    return {
        "name": recipe.deployment.name,
        "parameters": record["parameters"],
        "epochs": recipe.training.epochs,
        "seed": recipe.training.seed,
        "commit": record["commit"],
        "test_cases": len(evaluation.cases),
        "structures": to_mapping(evaluation.structures),
        "measurements": to_mapping(evaluation.measurements),
    }


def read_report(path: Path) -> dict[str, Any]:
    """Read what `bedside evaluate BUNDLE DATA --split test --json` printed of a shipped bundle."""
    report = json.loads(path.read_text())
    card = read_bundle(find_bundle(report["bundle"]["name"])).card
    return {
        "name": report["bundle"]["name"],
        "seed": card.seed,
        "commit": card.commit,
        "sha256": report["bundle"]["sha256"],
        "structures": report["structures"],
        "measurements": report["measurements"],
    }


def restate(name: str, data: Path) -> None:
    """Score a shipped bundle on its test part, in f32, and write the figures onto its card.

    Copies of training and validation images are left out, and the look is recorded.
    """
    bundle = read_bundle(find_bundle(name))
    known = {case.case_id for case in list_part(bundle, data, "test")}
    kept, left_out = leave_out_leaks(list_cases(data), bundle.split)
    chosen = [case for case in kept if case.case_id in known]
    cases = relabel_for(chosen, bundle.card.relabel, spec=bundle.spec)
    segmenter = open_segmenter(bundle, backend="openvino", precision="f32", gate="off")
    card = state_accuracy(
        bundle.card, evaluate_cases(segmenter, cases), split_unit=cases[0].split_unit
    )
    train, val, _ = card.patients
    limits = [limit for limit in card.limits if " is left out of " not in limit]
    card = replace(
        card,
        patients=(train, val, len({case.patient_id for case in cases})),
        limits=(*limits, *left_out),
    )
    write_with_card(bundle.path, bundle, card)
    dice = {each.name: each.dice.mean for each in card.structures}
    looks = record_look(
        LEDGER_FILE, read_bundle(bundle.path), what="restate", cases=len(cases), dice=dice
    )
    print(describe_looks(looks, LEDGER_FILE))


def state_artefacts(path: Path) -> None:
    """Put onto the card of a shipped bundle what planted artefacts cost.

    Args:
        path: robustness.json, as `bedside evaluate --robustness` wrote it for that bundle.

    Raises:
        SystemExit: If it is of another bundle.
    """
    report = json.loads(path.read_text())
    bundle = read_bundle(find_bundle(report["bundle"]["name"]))
    if (bundle.sha256, report["data"]["split"]) != (report["bundle"]["sha256"], "test"):
        raise SystemExit(f"{path} is of another bundle or part than {bundle.path}'s test part.")
    found = {field.name: report[field.name] for field in fields(Robustness)}
    card = state_robustness(bundle.card, from_mapping(Robustness, found))
    write_with_card(bundle.path, bundle, card)


def state_confidence(page: str) -> None:
    """Put onto the cards what the page on confidence says of the bundles, test part."""
    for section in page.split("\n## ")[1:]:
        name = section.split("\n", 1)[0]
        rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in section.splitlines()
            if line.startswith("|")
        ]
        flags = {
            row[0]: [float(cell) for cell in row[1:7]]
            for row in rows
            if len(row) == 9 and row[1][0].isdigit()
        }
        inside = {row[0]: row for row in rows if len(row) == 6 and row[1] == "Dice"}
        if not flags:
            continue
        bundle = read_bundle(find_bundle(name))
        results = tuple(
            ConfidenceResult(
                structure, (found[0], found[1]), (found[2], found[3]), (found[4], found[5]),
                (_part(inside[structure][3]), _part(inside[structure][5])),
            )
            for structure, found in flags.items()
        )  # fmt: skip
        write_with_card(bundle.path, bundle, replace(bundle.card, confidence=results))


def _part(percent: str) -> float:
    return round(float(percent) / 100, 3)


def name_result(result: Mapping[str, Any]) -> str:
    """Name the file of a result; the seed is said unless it is 0.

    Example:
        >>> name_result({"name": "hc18-head", "seed": 1})
        'hc18-head.seed1'
    """
    return result["name"] + (f".seed{result['seed']}" if result["seed"] else "")


def format_seeds(
    card: Card, others: Sequence[Mapping[str, Any]], own: Mapping[str, Any] | None
) -> list[str]:
    """Write a row a structure: its Dice by seed, the bundle's own first, and their mean."""
    seeds = [card.seed, *(result["seed"] for result in others)]
    lines = [
        f"| Dice by seed | {' | '.join(map(str, seeds))} | mean |",
        f"|---|{'---|' * (len(seeds) + 1)}",
    ]
    for number, structure in enumerate(card.structures):
        if structure.absent:
            continue
        dice = [structure.dice.mean]
        dice += [result["structures"][number]["dice"]["mean"] for result in others]
        known = [value for value in dice if value is not None]
        cells = ["?" if value is None else f"{value:.4f}" for value in dice]
        lines.append(f"| {structure.name} | {' | '.join(cells)} | {mean(known):.4f} |")
    if any(structure.absent for structure in card.structures):
        lines += [
            "",
            "Structures that some images lack are left out: the other seeds were scored when such "
            "an image counted as 1, and their weights are gone.",
        ]
    if any(" is left out of test" in limit for limit in card.limits):
        lines += ["", "The other seeds were scored with the copies that the card leaves out."]
    measured = [own, *others]
    for number, measurement in enumerate(others[0]["measurements"]):
        errors = [
            each and each["measurements"][number]["absolute_error"]["mean"] for each in measured
        ]
        cells = ["?" if error is None else f"{error:.2f}" for error in errors]
        title = f"{measurement['title']}, mean absolute error in mm"
        known = [error for error in errors if error is not None]
        lines.append(f"| {title} | {' | '.join(cells)} | {mean(known):.2f} |")
    notes = dict.fromkeys(result["note"] for result in others if "note" in result)
    return [*lines, *(line for note in notes for line in ("", note))]


def format_rows(structures: tuple[StructureResult, ...]) -> list[str]:
    """Write a row a structure: mean and interval of every metric."""
    rare = any(structure.absent for structure in structures)
    headings = [*HEADINGS.values(), *(["images with it", "false alarms"] if rare else [])]
    lines = [f"| structure | {' | '.join(headings)} |", f"|---|{'---|' * len(headings)}"]
    for structure in structures:
        cells = []
        for metric in METRICS:
            interval = getattr(structure, metric)
            places = 2 if metric.endswith("_mm") else 3
            values = [interval.mean, interval.low, interval.high]
            shown = ["?" if value is None else f"{value:.{places}f}" for value in values]
            # From few patients there is no interval.
            interval_shown = "" if "?" in shown[1:] else f" ({shown[1]}-{shown[2]})"
            missing = "unknown" if metric.endswith("_mm") else "none"
            cells.append(missing if shown[0] == "?" else f"{shown[0]}{interval_shown}")
        if rare:
            cells += [str(structure.cases), f"{structure.false_alarms} of {structure.absent}"]
        lines.append(f"| {structure.name} | {' | '.join(cells)} |")
    return lines


def format_page() -> str:
    """Write the page."""
    lines = [
        "# What the bundles reach",
        "",
        "Test part of each split, each image on its own grid, f32. Mean (95 % interval, bootstrap "
        "over the units named, where there are at least 8) of the training that is shipped, from "
        "its card; beside it what the same recipe reaches with other seeds, on the same images. "
        "Overlap is a mean over the images that have the structure; false alarms are images "
        "without it in which it was drawn. By `benchmarks/bundles.py`.",
    ]
    seeds = read_results(SEEDS)
    for path in shipped_bundles():
        bundle = read_bundle(path)
        card = bundle.card
        lines += [
            "",
            f"## {bundle.spec.name}",
            "",
            f"{card.data}; {card.parameters / 1e6:.3f} M parameters, {card.gmac:.2f} GMAC, "
            f"{bundle.size_bytes / 1e3:.0f} kB; {card.patients[0]} / {card.patients[1]} / "
            f"{count_units(card.patients[2], card.split_unit or 'patients')}; {card.epochs} "
            f"epochs, seed {card.seed}, commit {card.commit}. {describe_test(card)}.",
            "",
            *format_rows(card.structures),
        ]
        found = {result["seed"]: result for result in seeds if result["name"] == bundle.spec.name}
        own = found.pop(card.seed, None)
        if found:
            lines += ["", *format_seeds(card, list(found.values()), own)]
    for result in read_results(TEACHERS):
        structures = tuple(from_mapping(StructureResult, row) for row in result["structures"])
        lines += [
            "",
            f"## {result['name']}: a teacher, not shipped",
            "",
            f"{result['parameters'] / 1e6:.3f} M parameters; {result['epochs']} epochs, seed "
            f"{result['seed']}, commit {result['commit']}.",
            "",
            *format_rows(structures),
        ]
    larger = read_results(LARGER)
    if larger:
        lines += format_larger(larger)
    return "\n".join(lines) + "\n"


def format_larger(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write a row for each network that is larger than the shipped one, on the same patients."""
    names = list(results[0]["structures"])
    lines = [
        "",
        "## camus-4ch: what larger networks reach on the same test patients",
        "",
        f"| network | parameters | epochs, batch | seed | trained on | {' | '.join(names)} |",
        f"|---|{'---|' * (4 + len(names))}",
    ]
    for result in results:
        dice = " | ".join(f"{result['structures'][name]['dice']['mean']:.4f}" for name in names)
        lines.append(
            f"| {result['title']} | {result['parameters'] / 1e6:.2f} M | {result['epochs']}, "
            f"{result['batch_size']} | {result['seed']} | {result['trained_on']} | {dice} |"
        )
    return lines


def main() -> None:
    """Score teachers that are named, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=Path, nargs="*", default=[], help="finished run folders")
    parser.add_argument("--seed", type=Path, nargs="*", default=[], help="run folders likewise")
    parser.add_argument(
        "--report", type=Path, nargs="*", default=[], help="files of `bedside evaluate --json`"
    )
    parser.add_argument("--restate", nargs="*", default=[], help="names of bundles; needs --data")
    parser.add_argument("--robustness", type=Path, nargs="*", default=[], help="robustness.json")
    parser.add_argument("--confidence", action="store_true", help="onto cards, as on its page")
    parser.add_argument("--data", type=Path, help="folder of their data set, if not the recipe's")
    arguments = parser.parse_args()
    scored = [(TEACHERS, score(run, arguments.data)) for run in arguments.teacher]
    scored += [(SEEDS, score(run, arguments.data)) for run in arguments.seed]
    scored += [(SEEDS, read_report(report)) for report in arguments.report]
    for folder, result in scored:
        write_text(folder / f"{name_result(result)}.json", json.dumps(result, indent=1) + "\n")
    for name in arguments.restate:
        restate(name, arguments.data)
    for path in arguments.robustness:
        state_artefacts(path)
    if arguments.confidence:
        state_confidence((HERE / "confidence.md").read_text(encoding="utf-8"))
    page = format_page()
    write_text(HERE / "bundles.md", page)
    print(page)


if __name__ == "__main__":
    main()
