"""CAMUS as the field reports it: both borders of the left ventricle and the atrium, by phase.

The literature scores the left ventricle's endocardium (the cavity), its epicardium (the area inside
the outer border: cavity and myocardium together) and the left atrium, with end-diastole and
end-systole apart. Our labels have the myocardium as a ring, the Dice of which is lower for the same
borders. Each run on test patients gets its line in the ledger of looks.
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bedside.bundle import find_bundle, read_bundle
from bedside.datasets import list_cases
from bedside.evaluation.cases import METRICS, CaseResult, evaluate_cases, summarise
from bedside.evaluation.looks import find_ledger, record_look
from bedside.evaluation.report import markdown_table
from bedside.pipeline.segmenter import Segmenter, open_segmenter
from bedside.spec.card import Interval
from bedside.spec.deployment import DeploymentSpec, Region
from bedside.system.atomic import write_text

HERE = Path(__file__).parent
BUNDLES = ("camus-4ch", "camus-4ch-robust")
PHASES = {"ED": "end-diastole", "ES": "end-systole"}
STRUCTURES = {
    "LV cavity": "LV endocardium",
    "LV epicardium": "LV epicardium, filled",
    "LV myocardium": "LV myocardium, ring",
    "Left atrium": "left atrium",
}
"""Name of what is scored -> the field's."""
OBSERVERS = {
    "between observers": {"ED": 0.919, "ES": 0.873},
    "one observer, twice": {"ED": 0.945, "ES": 0.930},
}
"""Published Dice of the endocardium between cardiologists: Leclerc et al. 2019."""

Json = dict[str, Any]


class WithEpicardium:
    """A segmenter whose results are scored for the filled epicardium too.

    Args:
        segmenter: The bundle, loaded.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        values = {label.name: label.value for label in segmenter.spec.labels}
        filled = Region("LV epicardium", (values["LV cavity"], values["LV myocardium"]))
        self.spec: DeploymentSpec = dataclasses.replace(segmenter.spec, regions=(filled,))

    def __getattr__(self, name: str) -> Any:
        """Everything else is the segmenter's own."""
        return getattr(self._segmenter, name)


def score_bundle(name: str, data: Path) -> Json:
    """Score the test patients of a bundle, phase by phase."""
    bundle = read_bundle(find_bundle(name))
    wanted = bundle.split["test"]
    cases = [case for case in list_cases(data) if case.patient_id in wanted]
    segmenter = open_segmenter(bundle, backend="openvino", precision="f32", threads=1)
    evaluation = evaluate_cases(WithEpicardium(segmenter), cases)
    dice = {each.name: each.dice.mean for each in evaluation.structures}
    what = "camus_field, borders and phases"
    record_look(find_ledger(HERE), bundle, what=what, cases=len(evaluation.cases), dice=dice)
    phases = {}
    for phase in PHASES:
        results = [case for case in evaluation.cases if case.case_id.endswith(f"_{phase}")]
        phases[phase] = summarise_phase(results)
    return {
        "bundle": f"{bundle.spec.name} {bundle.spec.version}",
        "patients": evaluation.unit_count,
        "phases": phases,
    }


def summarise_phase(results: Sequence[CaseResult]) -> Json:
    """Mean, interval over patients and standard deviation of each metric, by structure."""
    found = {}
    for structure in summarise(results).structures:
        scores = [case.structures[structure.name] for case in results]
        found[structure.name] = {
            metric: _describe([getattr(score, metric) for score in scores], interval)
            for metric, interval in ((metric, getattr(structure, metric)) for metric in METRICS)
        }
    return found


def _describe(values: Sequence[float | None], interval: Interval) -> Mapping[str, float | None]:
    known = [value for value in values if value is not None]
    return {
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "sd": float(np.std(known, ddof=1)),
    }


def format_page(records: Sequence[Json]) -> str:
    """Write the page from the records of all bundles."""
    lines = [
        "# CAMUS as the field reports it",
        "",
        "Apical four-chamber view, test patients of each bundle's own split, each image on its own "
        "grid, f32, one frame a phase. Dice is of one image, a mean over patients (95 % interval, "
        "bootstrap over patients; standard deviation after ±, as papers print it). The epicardium "
        "is the area inside the outer border, cavity and myocardium together: of the same borders "
        "the ring of myocardium alone, which the cards state, has a lower Dice. Distances are mm: "
        "HD the largest distance between the borders, ASD the average one. Written by "
        "`benchmarks/camus_field.py`.",
        "",
    ]
    for record in records:
        lines += [f"## {record['bundle']}, {record['patients']} patients", ""]
        table = _list_rows(record)
        lines += [*markdown_table(table[0], table[1:]), ""]
    lines += ["## Beside what is published", "", *_compare(records)]
    return "\n".join(lines) + "\n"


def _list_rows(record: Json) -> list[list[str]]:
    table = [["phase", "structure", "Dice", "HD mm", "ASD mm"]]
    for phase, title in PHASES.items():
        for name, shown in STRUCTURES.items():
            scores = record["phases"][phase][name]
            row = [title, shown, _show(scores["dice"], digits=3)]
            row += [_show(scores["hd_mm"], digits=2), _show(scores["asd_mm"], digits=2)]
            table.append(row)
    return table


def _show(value: Mapping[str, float], *, digits: int) -> str:
    text = f"{value['mean']:.{digits}f} ± {value['sd']:.{digits}f}"
    return f"{text} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"


def _compare(records: Sequence[Json]) -> list[str]:
    table = [["Dice of the LV endocardium", *PHASES.values()]]
    for record in records:
        means = [record["phases"][phase]["LV cavity"]["dice"]["mean"] for phase in PHASES]
        table.append([f"`{record['bundle']}`", *(f"{mean:.3f}" for mean in means)])
    for title, published in OBSERVERS.items():
        table.append([f"{title}, published", *(f"{published[phase]:.3f}" for phase in PHASES)])
    note = (
        "The observers' figures are those of Leclerc et al. 2019 (doi:10.1109/TMI.2019.2900516): "
        "three cardiologists on 50 patients, two- and four-chamber views of good and medium "
        "quality. They are other images than ours, so the lines stand beside one another and are "
        "not paired. A Dice near that between observers says that the network agrees with the one "
        "cardiologist who drew the training masks about as well as others agree with each other."
    )
    return [*markdown_table(table[0], table[1:]), "", note]


def main() -> None:
    """Score the bundles, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundles", nargs="+", default=BUNDLES)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared/data/camus")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "camus_field.json")
    parser.add_argument("--output", type=Path, default=HERE / "camus_field.md")
    parser.add_argument("--table-only", action="store_true", help="write the page from the file")
    arguments = parser.parse_args()
    if not arguments.table_only:
        records = [score_bundle(name, arguments.data) for name in arguments.bundles]
        write_text(arguments.results, json.dumps(records, indent=1) + "\n")
    write_text(arguments.output, format_page(json.loads(arguments.results.read_text("utf-8"))))


if __name__ == "__main__":
    main()
