"""What a teacher is worth where patients are few: CAMUS with a quarter of its training patients.

The same student is trained with and without a teacher, both from the same seeds; the teacher
has seen the same quarter and no more. All are scored on the test patients at their images' own
resolution; the gain is a mean over the same patients. Seeds are random too, so its 95 % interval is
by Student's t over the pairs of one seed; that over patients, for these seeds only, is beside it.
Every training leaves one small file under `results/`; what is there is not trained again.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from bedside.evaluation.intervals import mean_interval
from bedside.spec import Recipe, read_recipe
from bedside.system.atomic import write_text
from bedside.training.checkpoint import read_json
from bedside.training.run import Progress, train
from scoring import score_run

HERE = Path(__file__).parent
RECIPES = HERE.parent / "src" / "bedside" / "recipes"
RESULTS = HERE / "results" / "distillation-camus"

Result = dict[str, Any]


def shorten(recipe: Recipe, *, epochs: int, fraction: float, seed: int = 0) -> Recipe:
    """Give a recipe fewer patients and another schedule."""
    return dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, train_fraction=fraction),
        training=dataclasses.replace(
            recipe.training, epochs=epochs, seed=seed, validate_every=epochs
        ),
    )


def list_jobs(arguments: argparse.Namespace) -> dict[str, Recipe]:
    """Name every training, in the order in which they need one another."""
    teacher = read_recipe(RECIPES / "camus-teacher.toml")
    student = read_recipe(RECIPES / "camus.toml")
    schedule = {"epochs": arguments.epochs, "fraction": arguments.fraction}
    assert student.distill is not None
    taught_by = dataclasses.replace(student.distill, teacher=str(arguments.runs / "teacher"))
    jobs = {"teacher": shorten(teacher, **schedule)}
    for seed in arguments.seeds:
        short = shorten(student, seed=seed, **schedule)
        jobs[f"alone-{seed}"] = dataclasses.replace(short, distill=None)
        jobs[f"taught-{seed}"] = dataclasses.replace(short, distill=taught_by)
    return jobs


def train_and_score(name: str, recipe: Recipe, arguments: argparse.Namespace) -> Result:
    """Train, or go on, and score the test patients.

    Returns:
        Schedule and patients, and the Dice of each structure of each case by its name.
    """

    def on_message(progress: Progress) -> None:
        if progress.stage == "training":
            print(f"{name}: {dict(progress.record)}", flush=True)

    folder = arguments.runs / name
    train(recipe, folder, data=arguments.data, threads=arguments.threads, on_progress=on_message)
    evaluation, _, run = score_run(folder, arguments.data)
    return {
        "name": name,
        "data": recipe.data.name,
        "epochs": recipe.training.epochs,
        "seed": recipe.training.seed,
        "parameters": run["parameters"],
        "training_patients": len(run["split"]["train"]),
        "commit": run["commit"],
        "cases": {
            case.case_id: {
                "patient": case.patient_id,
                **{label: round(score.dice, 5) for label, score in case.structures.items()},
            }
            for case in evaluation.cases
        },
    }


def read_results() -> dict[str, Result]:
    """Read what has been trained."""
    return {path.stem: read_json(path) for path in sorted(RESULTS.glob("*.json"))}


def average(results: list[Result], structure: str) -> np.ndarray:
    """Average the Dice of a structure over seeds, (cases,)."""
    values = [[case[structure] for case in result["cases"].values()] for result in results]
    mean: np.ndarray = np.mean(values, axis=0)
    return mean


def half_width(values: np.ndarray) -> float:
    """Half of a 95 % interval of a mean, by Student's t."""
    count = len(values)
    quantile = float(stdtrit(count - 1, 0.975)) if count > 1 else float("inf")
    return quantile * float(np.std(values, ddof=1)) / count**0.5 if count > 1 else quantile


def format_page(results: dict[str, Result]) -> str:
    """Write the table, and the gain with its interval once there are pairs."""
    some = next(iter(results.values()))
    structures = [name for name in next(iter(some["cases"].values())) if name != "patient"]
    patients = [case["patient"] for case in some["cases"].values()]
    seeds = sorted(
        name.removeprefix("taught-")
        for name in results
        if name.startswith("taught-") and name.replace("taught", "alone") in results
    )
    groups = {
        "student alone": [results[f"alone-{seed}"] for seed in seeds],
        "student taught": [results[f"taught-{seed}"] for seed in seeds],
        "teacher": [results["teacher"]] if "teacher" in results else [],
    }
    lines = [
        "# Distillation",
        "",
        f"{some['data']}, {some['training_patients']} training patients, {some['epochs']} epochs; "
        f"{len(patients)} test images of {len(set(patients))} patients, own resolution, Dice. "
        "The teacher saw the same patients as the student. Written by "
        "`benchmarks/distillation.py`; every training is in [results](results/distillation-camus).",
        "",
        f"| network | parameters | seeds | {' | '.join(structures)} | mean |",
        f"|---|---|---|{'---|' * len(structures)}---|",
    ]
    for title, group in groups.items():
        if group:
            columns = [average(group, structure) for structure in structures]
            cells = [f"{column.mean():.4f}" for column in [*columns, np.mean(columns, axis=0)]]
            size = f"{group[0]['parameters'] / 1e6:.3f} M"
            lines.append(f"| {title} | {size} | {len(group)} | {' | '.join(cells)} |")
    if not seeds:
        return "\n".join([*lines, "", "No pair of students is trained yet."]) + "\n"
    pairs = list(zip(groups["student taught"], groups["student alone"], strict=True))
    gains = np.array(
        [
            [average([taught], name) - average([alone], name) for name in structures]
            for taught, alone in pairs
        ]
    )  # (seeds, structures, cases)
    lines += [
        "",
        f"| gain by the teacher | mean | 95 % over {len(seeds)} seeds | 95 % over patients |",
        "|---|---|---|---|",
    ]
    for number, title in enumerate([*structures, "mean"]):
        gain = gains.mean(axis=1) if title == "mean" else gains[:, number]
        interval = mean_interval(gain.mean(axis=0).tolist(), patients)
        half = half_width(gain.mean(axis=1))
        lines.append(
            f"| {title} | {interval.mean:+.4f} | {interval.mean - half:+.4f} to "
            f"{interval.mean + half:+.4f} | {interval.low:+.4f} to {interval.high:+.4f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train what is not trained, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of CAMUS, if not the recipe's")
    parser.add_argument("--runs", type=Path, default=Path("runs/distillation-camus"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--fraction", type=float, default=0.25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table-only", action="store_true", help="write the page from the files")
    arguments = parser.parse_args()
    jobs = {} if arguments.table_only else list_jobs(arguments)
    for name, recipe in jobs.items():
        path = RESULTS / f"{name}.json"
        if not path.exists():
            result = train_and_score(name, recipe, arguments)
            write_text(path, json.dumps(result, indent=1) + "\n")
    page = format_page(read_results())
    write_text(HERE / "distillation.md", page)
    print(page)


if __name__ == "__main__":
    main()
