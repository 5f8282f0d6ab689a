"""What every shipped bundle reaches on the patients kept back, from its card; teachers beside them.

Nothing is measured here: a card's figures were taken once, when the bundle was built, and a
teacher's when it was scored with `--teacher RUN`, which leaves a small file under `results/`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from bedside.atomic import write_text
from bedside.bundle import read_bundle, shipped_bundles
from bedside.evaluation.cases import METRICS
from bedside.evaluation.report import HEADINGS
from bedside.spec import StructureResult, from_mapping, to_mapping
from scoring import score_run

HERE = Path(__file__).parent
TEACHERS = HERE / "results" / "teachers"


def score_teacher(run: Path, data: Path | None) -> dict[str, Any]:
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
    }


def format_rows(structures: tuple[StructureResult, ...]) -> list[str]:
    """Write a row a structure: mean and interval of every metric."""
    lines = [
        f"| structure | {' | '.join(HEADINGS.values())} |",
        f"|---|{'---|' * len(HEADINGS)}",
    ]
    for structure in structures:
        cells = []
        for metric in METRICS:
            interval = getattr(structure, metric)
            places = 2 if metric.endswith("_mm") else 3
            values = [interval.mean, interval.low, interval.high]
            shown = ["?" if value is None else f"{value:.{places}f}" for value in values]
            cells.append("unknown" if shown[0] == "?" else f"{shown[0]} ({shown[1]}-{shown[2]})")
        lines.append(f"| {structure.name} | {' | '.join(cells)} |")
    return lines


def format_page() -> str:
    """Write the page."""
    lines = [
        "# What the bundles reach",
        "",
        "Test patients, each image on its own grid, f32. Mean (95 % interval, bootstrap over "
        "patients); one training each. From the cards, by `benchmarks/bundles.py`.",
    ]
    for path in shipped_bundles():
        bundle = read_bundle(path)
        card = bundle.card
        lines += [
            "",
            f"## {bundle.spec.name}",
            "",
            f"{card.data}; {card.parameters / 1e6:.3f} M parameters, {card.gmac:.2f} GMAC, "
            f"{bundle.size_bytes / 1e3:.0f} kB; {card.patients[0]} / {card.patients[1]} / "
            f"{card.patients[2]} patients; {card.epochs} epochs, seed {card.seed}, commit "
            f"{card.commit}.",
            "",
            *format_rows(card.structures),
        ]
    for path in sorted(TEACHERS.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
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
    return "\n".join(lines) + "\n"


def main() -> None:
    """Score teachers that are named, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=Path, nargs="*", default=[], help="finished run folders")
    parser.add_argument("--data", type=Path, help="folder of their data set, if not the recipe's")
    arguments = parser.parse_args()
    for run in arguments.teacher:
        result = score_teacher(run, arguments.data)
        write_text(TEACHERS / f"{result['name']}.json", json.dumps(result, indent=1) + "\n")
    page = format_page()
    write_text(HERE / "bundles.md", page)
    print(page)


if __name__ == "__main__":
    main()
