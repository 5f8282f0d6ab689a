"""What each part of the network is worth: one table for CAMUS and Hippocampus.

Each row is the recipe's network with one mechanism switched off or over, trained with the
recipe's data, augmentation and loss over the same short schedule, and scored on the test
patients at their images' own resolution. Milliseconds are taken of all rows in one
interleaved run. Every row is one small file under `results/`, so that rows add up over time;
a row that is not trained yet says so and keeps its cost. A stopped training goes on.
"""

import argparse
import dataclasses
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ablation_variants import VARIANTS, check_names, list_variants
from bedside.export.onnx import trace_onnx
from bedside.models import count_parameters, create
from bedside.runtime import open_graph
from bedside.runtime.machine import describe_processor
from bedside.spec import ModelSpec, Recipe, read_recipe
from bedside.system.atomic import write_text
from bedside.training.checkpoint import read_json
from bedside.training.run import Progress, train
from network_latency import Candidate, measure
from scoring import score_run

HERE = Path(__file__).parent
RECIPES = {
    name: HERE.parent / "src" / "bedside" / "recipes" / f"{name}.toml"
    for name in ("camus", "hippocampus")
}
EPOCHS = {"camus": 12, "hippocampus": 15}
"""The short schedule: rows are compared with one another, not with the shipped bundles."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """One data set's half of the table.

    Attributes:
        name: Of the recipe.
        recipe: With the short schedule.
        data: Folder of the data set; None for the recipe's.
        runs: Where trainings are left.
        results: Where rows are kept.
    """

    name: str
    recipe: Recipe
    data: Path | None
    runs: Path
    results: Path

    def with_model(self, model: ModelSpec) -> Recipe:
        """The recipe with another network."""
        deployment = dataclasses.replace(self.recipe.deployment, model=model)
        return dataclasses.replace(self.recipe, deployment=deployment)

    def run_folder(self, row: str) -> Path:
        """Where a row's training is left; another schedule is another training."""
        return self.runs / f"{self.name}-{self.recipe.training.epochs}ep" / row

    def read_rows(self) -> dict[str, Row]:
        """Read what is known of each row, in the order of the table."""
        files = {name: self.results / f"{name}.json" for name in self.networks}
        return {name: read_json(path) for name, path in files.items() if path.exists()}

    def update(self, row: str, part: str, content: Row) -> None:
        """Write one part of a row, "accuracy" or "cost", and leave the other."""
        path = self.results / f"{row}.json"
        known = read_json(path) if path.exists() else {}
        about = {"row": row, "title": VARIANTS[row].title, "data": self.recipe.data.name}
        write_text(path, json.dumps(known | about | {part: content}, indent=1) + "\n")

    @functools.cached_property
    def networks(self) -> dict[str, ModelSpec]:
        """The network of each row, without those that would be the recipe's again."""
        deployment = self.recipe.deployment
        return list_variants(deployment.model, deployment.input.size_px)


def open_study(name: str, arguments: argparse.Namespace) -> Study:
    """Read a recipe and give it the short schedule."""
    recipe = read_recipe(RECIPES[name])
    epochs = arguments.epochs or EPOCHS[name]
    training = dataclasses.replace(recipe.training, epochs=epochs, validate_every=epochs)
    return Study(
        name,
        dataclasses.replace(recipe, training=training, distill=None),
        data=arguments.data,
        runs=arguments.runs,
        results=arguments.results / f"ablation-{name}",
    )


def train_row(study: Study, row: str, *, threads: int) -> None:
    """Train a row unless it is, or go on with it, and score it on the test patients."""
    known = study.read_rows().get(row, {}).get("accuracy")
    if known and known["epochs"] == study.recipe.training.epochs:
        return
    recipe, folder = study.with_model(study.networks[row]), study.run_folder(row)

    def on_message(progress: Progress) -> None:
        if progress.stage == "training":
            print(f"{study.name} {row}: {dict(progress.record)}", flush=True)

    train(recipe, folder, data=study.data, threads=threads, on_progress=on_message)
    evaluation, _, run = score_run(folder, study.data)
    content = {
        "epochs": recipe.training.epochs,
        "seed": recipe.training.seed,
        "test_cases": len(evaluation.cases),
        "mean_dice": round(float(np.mean([case.mean_dice for case in evaluation.cases])), 5),
        "structures": {s.name: round(float(s.dice.mean or 0.0), 5) for s in evaluation.structures},
        "commit": run["commit"],
    }
    study.update(row, "accuracy", content)
    print(f"{study.name} {row}: {content}", flush=True)


def measure_rows(study: Study, *, threads: int, rounds: int) -> None:
    """Time the networks of all rows in turns, in f32, and count their weights."""
    input_spec = study.recipe.deployment.input
    example = torch.rand(1, input_spec.channels, *input_spec.size_px)
    candidates = []
    for row, spec in study.networks.items():
        torch.manual_seed(0)
        model = create(spec).eval()
        session = open_graph(
            trace_onnx(model, example).SerializeToString(), backend="openvino", threads=threads
        )
        candidates.append(
            Candidate(row, "openvino", "f32", threads, count_used(spec), session.predict)
        )
        print(f"{study.name} {row}: opened", flush=True)
    times = measure(candidates, example.numpy(), rounds=rounds)
    for candidate, seen in zip(candidates, times, strict=True):
        content = {
            "parameters": candidate.parameters,
            "median_ms": round(float(np.median(seen)), 3),
            "min_ms": round(float(seen.min()), 3),
            "threads": threads,
            "calls": len(seen),
            "input": list(example.shape),
            "processor": describe_processor(),
        }
        study.update(candidate.network, "cost", content)


def count_used(spec: ModelSpec) -> int:
    """Count the weights that inference has: branches folded, heads of training left out."""
    levels = (
        dataclasses.replace(level, block="conv") if level.block == "reparam" else level
        for level in spec.levels
    )
    bare = dataclasses.replace(spec, levels=tuple(levels), deep_supervision=False, boundary=False)
    return count_parameters(create(bare))


def format_page(studies: list[Study]) -> str:
    """Write the page from what is known of all rows."""
    lines = [
        "# Ablation",
        "",
        "Each row is the recipe's network with one thing switched off or over, trained over "
        "the same short schedule with the same seed, and scored on the test patients at their "
        "images' own resolution. A row whose network would be the recipe's again, or compute the "
        "same at this size, is left out. "
        "Milliseconds: OpenVINO, f32, all rows of a table in turns in one run, medians. "
        "Written by `benchmarks/ablation.py`; the rows are in [results](results).",
    ]
    for study in studies:
        lines += ["", *_format_study(study)]
    return "\n".join(lines) + "\n"


def _format_study(study: Study) -> list[str]:
    structures = [label.name for label in study.recipe.deployment.labels]
    known = study.read_rows()
    lines = [
        f"## {study.recipe.data.name}",
        "",
        f"| network | mean Dice | {' | '.join(structures)} | epochs | ms | parameters |",
        f"|---|{'---|' * len(structures)}---|---|---|---|",
    ]
    for row in study.networks:
        accuracy, cost = (known.get(row, {}).get(part) for part in ("accuracy", "cost"))
        cells = ["not trained", *["" for _ in structures], ""]
        if accuracy:
            dice = [accuracy["mean_dice"], *(accuracy["structures"][s] for s in structures)]
            cells = [*(f"{value:.4f}" for value in dice), str(accuracy["epochs"])]
        cells += (
            [f"{cost['median_ms']:.2f}", f"{cost['parameters'] / 1e6:.3f} M"]
            if cost
            else ["not measured", ""]
        )
        lines.append(f"| {VARIANTS[row].title} | {' | '.join(cells)} |")
    measured = next((row["cost"] for row in known.values() if "cost" in row), None)
    if measured:
        size = " x ".join(map(str, measured["input"][1:]))
        lines += ["", f"Input {size}, {measured['threads']} threads: {measured['processor']}."]
    return lines


def main() -> None:
    """Train what is not trained, measure all rows, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", choices=RECIPES, nargs="+", default=list(RECIPES))
    parser.add_argument("--only", nargs="+", default=[], help="rows to train")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    parser.add_argument("--cost-only", action="store_true", help="measure, train nothing")
    parser.add_argument("--table-only", action="store_true", help="write the page from the files")
    parser.add_argument("--epochs", type=int, help=f"schedule (default: {EPOCHS})")
    parser.add_argument("--data", type=Path, help="folder of the data set, if not the recipe's")
    parser.add_argument("--threads", type=int, default=1, help="of trainings")
    parser.add_argument("--rounds", type=int, default=30, help="of the interleaved run")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    check_names(arguments.only)
    studies = [open_study(name, arguments) for name in arguments.study]
    for study in studies:
        rows = study.networks
        for row in rows if arguments.list else ():
            print(f"{study.name} {row}: {VARIANTS[row].title}")
        if arguments.list or arguments.table_only:
            continue
        for row in () if arguments.cost_only else rows:
            if not arguments.only or row in arguments.only:
                train_row(study, row, threads=arguments.threads)
        measure_rows(study, threads=2, rounds=arguments.rounds)
    if not arguments.list:
        text = format_page(studies)
        print(text)
        write_text(arguments.output, text)


if __name__ == "__main__":
    main()
