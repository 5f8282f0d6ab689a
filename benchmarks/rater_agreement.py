"""How far the radiologists of LIDC agree on nodules: the ceiling for any network's IoU.

Counts of raters are all that is needed. Run in the root of the repository:
`python benchmarks/rater_agreement.py --data ../shared/data/lidc_nodules`. With `--evaluation`,
a file that `bedside evaluate BUNDLE DATA --split test` wrote, a network stands beside them.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agreement import Agreement, measure_agreement
from bedside.datasets import list_cases
from bedside.evaluation.intervals import mean_interval
from bedside.io.source import open_source
from bedside.spec import read_recipe
from bedside.system.atomic import write_text
from bedside.training.split import split_patients

FIGURES = {
    "pairs": "two raters",
    "with_others": "a rater and at least 2 of the other 3",
    "with_consensus": "a rater and at least 2 of all 4",
}


@dataclass(frozen=True)
class Nodule:
    """One nodule's agreement, and whose it is."""

    patient_id: str
    agreement: Agreement


def read_nodules(data: Path) -> list[Nodule]:
    """Measure the agreement on every nodule of a data set."""
    nodules = []
    for case in list_cases(data, "lidc"):
        counts = np.stack([frame[0] for frame in open_source(case.truth).sequence])
        nodules.append(Nodule(case.patient_id, measure_agreement(counts)))
    return nodules


def make_rows(name: str, nodules: Sequence[Nodule]) -> list[str]:
    """Write a row a figure: mean with its interval by patient, and median."""
    rows = []
    for field, title in FIGURES.items():
        values = [getattr(nodule.agreement, field) for nodule in nodules]
        mean = mean_interval(values, [nodule.patient_id for nodule in nodules])
        rows.append(
            f"| {name} | {len(nodules)} | {title} | {mean.mean:.3f} "
            f"({mean.low:.3f}-{mean.high:.3f}) | {np.median(values):.3f} |"
        )
    return rows


def make_network_row(evaluation: Path) -> str:
    """Write the row of a network that was evaluated on nodules."""
    content = json.loads(evaluation.read_text(encoding="utf-8"))
    (structure,) = content["structures"]
    values = [case["structures"][structure["name"]]["iou"] for case in content["cases"]]
    mean = structure["iou"]
    return (
        f"| test part | {len(values)} | network {content['bundle']['name']} and at least 2 of all "
        f"4 | {mean['mean']:.3f} ({mean['low']:.3f}-{mean['high']:.3f}) "
        f"| {np.median(values):.3f} |"
    )


def write_page(nodules: Sequence[Nodule], test: set[str], networks: Sequence[Path]) -> str:
    """Write the page of results."""
    by_all = sum(each.agreement.all_saw for each in nodules)
    groups = {
        "all": list(nodules),
        "test part": [each for each in nodules if each.patient_id in test],
    }
    return "\n".join(
        [
            "# Agreement of raters on lung nodules",
            "",
            "IoU over whole crops of LIDC-IDRI (Armato et al. 2011, doi:10.1118/1.3528204), four "
            f"radiologists; {by_all} of {len(nodules)} nodules have a voxel that all four marked. "
            "Pooled over raters within a nodule. Mean over nodules (95 % interval, bootstrap over "
            "patients). Written by "
            "`benchmarks/rater_agreement.py`; the test part is that of `recipes/lidc.toml`.",
            "",
            "| nodules | number | IoU of | mean | median |",
            "|---|---|---|---|---|",
            *(row for name, group in groups.items() for row in make_rows(name, group)),
            *(make_network_row(path) for path in networks),
            "",
            'A network that is scored against "at least 2 of 4" is in the place of a fifth rater: '
            "compare it with a rater and the others. The rater and all four shows how much it "
            "flatters to be part of the consensus.",
            "",
        ]
    )


def main() -> None:
    """Measure and write the page beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/lidc_nodules"))
    parser.add_argument("--evaluation", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    data = arguments.data
    recipe = read_recipe("lidc").data
    nodules = read_nodules(data)
    split = split_patients(
        (nodule.patient_id for nodule in nodules), fractions=recipe.split, seed=recipe.split_seed
    )
    page = write_page(nodules, set(split["test"]), arguments.evaluation)
    write_text(Path(__file__).with_suffix(".md"), page)
    print(page)


if __name__ == "__main__":
    main()
