"""Which block pays where context decides: networks of one time, cross-validated on one recipe.

Each row is the recipe's network with other blocks where its attention is, its depths chosen so
that it takes the same time; each cell is one row, fold and seed. A cell is trained by the
recipe's fixed schedule, scored on the scans of its fold on their own grid, and kept as a small
file under `results/`: nothing is chosen on these scans. Cells are trained in an order that
completes pairs, fold after fold; the same command goes on where it was stopped. Milliseconds of
all rows are taken in turns in one run, as processor time of one thread.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bedside.evaluation.intervals import mean_interval
from bedside.evaluation.report import markdown_table
from bedside.export.onnx import trace_onnx
from bedside.models import count_parameters, create
from bedside.runtime import open_graph
from bedside.runtime.machine import describe_processor
from bedside.spec import ModelSpec, Recipe, read_recipe
from bedside.spec.card import Interval
from bedside.system.atomic import write_text
from bedside.training.checkpoint import read_json
from bedside.training.folder import EVALUATION, RUN, VALIDATION
from bedside.training.run import Progress, train

HERE = Path(__file__).parent
RECIPE = "btcv-slices"
MARGIN = 0.002
"""Difference in mean Dice that counts; fixed before anything was trained."""
PRECISIONS = ("f32", "bf16")
REFERENCE = "conv"

Json = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One network of the study.

    Attributes:
        title: Its name in the tables.
        depths: Blocks of each level.
        changes: Settings of the levels that have attention in the recipe's network.
    """

    title: str
    depths: tuple[int, ...] = (1, 1, 2, 3)
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def change(self, model: ModelSpec) -> ModelSpec:
        """From the recipe's network to this row's."""
        levels = []
        for level, depth in zip(model.levels, self.depths, strict=True):
            changes = self.changes if level.block == "window" else {}
            levels.append(dataclasses.replace(level, depth=depth, **changes))
        return dataclasses.replace(model, levels=tuple(levels))


ROWS = {
    "window": Row("windows with exchange"),
    "conv": Row("convolutions", (1, 2, 3, 4), {"block": "conv"}),
    "conv-exchange": Row(
        "convolutions with exchange", (1, 2, 2, 3), {"block": "conv", "exchange_window": 8}
    ),
    "pooled": Row("pooled keys", changes={"block": "pooled"}),
    "linear": Row("linear attention", changes={"block": "linear"}),
    "dense": Row("dense", changes={"block": "dense"}),
    "routed": Row("2 of many small regions", changes={"block": "routed", "region": 4, "top_k": 2}),
}
"""Name of a row -> its network; those asked for first are trained first."""


@dataclass(frozen=True)
class Cell:
    """One training: a row, a fold and a seed."""

    row: str
    fold: int
    seed: int

    @property
    def name(self) -> str:
        """Name of its run folder and its result."""
        return f"{self.row}.fold-{self.fold}.seed-{self.seed}"


def list_cells(rows: Sequence[str], folds: Sequence[int], seeds: Sequence[int]) -> list[Cell]:
    """All cells in the order of training: every row of a fold and seed before the next.

    Example:
        >>> [cell.name for cell in list_cells(("a", "b"), (0, 1), (0,))][:3]
        ['a.fold-0.seed-0', 'b.fold-0.seed-0', 'a.fold-1.seed-0']
    """
    return [Cell(row, fold, seed) for seed in seeds for fold in folds for row in rows]


def make_recipe(cell: Cell, base: Recipe, *, epochs: int) -> Recipe:
    """The recipe of a cell: the base's, with the row's network, the fold and the schedule."""
    model = ROWS[cell.row].change(base.deployment.model)
    return dataclasses.replace(
        base,
        deployment=dataclasses.replace(base.deployment, model=model),
        data=dataclasses.replace(base.data, fold=cell.fold),
        training=dataclasses.replace(
            base.training, epochs=epochs, validate_every=epochs, seed=cell.seed
        ),
    )


def train_cell(cell: Cell, recipe: Recipe, results: Path, arguments: argparse.Namespace) -> None:
    """Train a cell, or go on with it, and keep the Dice of every scan of its fold."""
    path = results / f"{cell.name}.json"
    if path.exists() and read_json(path)["epochs"] == recipe.training.epochs:
        return

    def on_message(progress: Progress) -> None:
        if progress.stage == "training":
            print(f"{cell.name}: {dict(progress.record)}", flush=True)

    run = arguments.runs / f"{recipe.training.epochs}ep" / cell.name
    train(
        recipe, run, data=arguments.data, cache=arguments.cache, threads=1, on_progress=on_message
    )
    evaluation = read_json(run / VALIDATION / EVALUATION)
    content = dataclasses.asdict(cell) | {
        "epochs": recipe.training.epochs,
        "commit": read_json(run / RUN)["commit"],
        "cases": {
            case["case"]: {
                name: None if scores["dice"] is None else round(scores["dice"], 4)
                for name, scores in case["structures"].items()
            }
            for case in evaluation["cases"]
        },
    }
    write_json(path, content)


def measure_cost(base: Recipe, *, rounds: int) -> Json:
    """Measure milliseconds of each row by precision, all in turns, and count its parameters."""
    given = base.deployment.input
    example = torch.rand(1, given.channels, *given.size_px)
    image = example.numpy()
    calls, counts = {}, {}
    for name, row in ROWS.items():
        torch.manual_seed(0)
        network = create(row.change(base.deployment.model)).eval()
        counts[name] = count_parameters(network)
        graph = trace_onnx(network, example).SerializeToString()
        for precision in PRECISIONS:
            session = open_graph(graph, backend="openvino", threads=1, precision=precision)
            calls[name, precision] = session.predict
    spent: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():
            begin = time.process_time()
            call(image)
            spent[key].append(1000 * (time.process_time() - begin))
    return {
        "processor": describe_processor(),
        "rounds": rounds,
        "parameters": counts,
        "median_ms": {
            name: {p: round(float(np.median(spent[name, p])), 2) for p in PRECISIONS}
            for name in ROWS
        },
    }


def write_json(path: Path, content: Json) -> None:
    """Write a result that is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_cells(results: Path) -> dict[str, list[Json]]:
    """Read what is trained, by row; of one schedule, the longest that any cell had."""
    found = [read_json(path) for path in sorted(results.glob("*.fold-*.seed-*.json"))]
    longest = max((cell["epochs"] for cell in found), default=0)
    return {
        row: [cell for cell in found if cell["row"] == row and cell["epochs"] == longest]
        for row in ROWS
    }


def score_cases(
    cells: Sequence[Json], structure: str | None = None
) -> dict[tuple[str, int], float]:
    """Dice of each scan and seed: of a structure, or the mean over those that the scan has."""
    scores = {}
    for cell in cells:
        for case, dice in cell["cases"].items():
            wanted = dice.values() if structure is None else [dice[structure]]
            known = [value for value in wanted if value is not None]
            if known:
                scores[case, cell["seed"]] = sum(known) / len(known)
    return scores


def compare(one: Sequence[Json], other: Sequence[Json]) -> tuple[Interval, int]:
    """Mean difference in Dice over the scans and seeds that both have, and the number of scans.

    Its interval is over scans; it has none where these are few.
    """
    first, second = score_cases(one), score_cases(other)
    shared = sorted(first.keys() & second.keys())
    cases = [case for case, _ in shared]
    difference = mean_interval([first[key] - second[key] for key in shared], cases)
    return difference, len(set(cases))


def format_page(base: Recipe, cells: dict[str, list[Json]], cost: Json | None) -> str:
    """Write the page from what is known of all rows."""
    names = [label.name for label in base.deployment.labels]
    known = [cell for row in cells.values() for cell in row]
    folds = sorted({cell["fold"] for cell in known})
    seeds = sorted({cell["seed"] for cell in known})
    epochs = max((cell["epochs"] for cell in known), default=0)
    rows, organs = _list_rows(cells, cost), _list_organs(names, cells)
    known_folds = ", ".join(map(str, folds)) or "none"
    lines = [
        "# BTCV, eight organs by slices: which block pays",
        "",
        f"Of {base.data.folds} folds {len(folds)} trained ({known_folds}), "
        f"seeds {', '.join(map(str, seeds)) or 'none'}, {epochs} epochs each, by the recipe "
        f"`{RECIPE}`; every scan is scored whole, on its own grid, by a network that was not "
        "trained on it, and nothing was chosen on it. "
        + (
            ""
            if len(folds) == base.data.folds
            else "**These are too few scans to decide anything.** "
        )
        + f"Differences are paired by scan and seed; {MARGIN} is the margin fixed beforehand, and "
        "an interval is given from 8 scans on. Published Dice (0.77 to 0.88) is of other scans "
        "and no comparison. Written by `benchmarks/cross_validation.py`; the cells are in "
        "[results](results/btcv).",
        "",
        *markdown_table(rows[0], rows[1:]),
        "",
        *_describe_cost(cost),
        "",
        "Mean Dice of each organ over the scans that have it:",
        "",
        *markdown_table(organs[0], organs[1:]),
    ]
    return "\n".join(lines) + "\n"


def _list_rows(cells: dict[str, list[Json]], cost: Json | None) -> list[list[str]]:
    head = ["network", "scans x seeds", "mean Dice", f"less {ROWS[REFERENCE].title}", "scans"]
    table = [[*head, *(f"ms {p}" for p in PRECISIONS), "parameters"]]
    for name, row in ROWS.items():
        scores = score_cases(cells[name])
        dice = mean_interval(list(scores.values()), [case for case, _ in scores])
        line = [row.title, str(len(scores)), _show(dice, sign="") if scores else "not trained"]
        difference, count = compare(cells[name], cells[REFERENCE])
        paired = count and name != REFERENCE
        line += [_show(difference, sign="+"), str(count)] if paired else ["", ""]
        if cost:
            line += [f"{cost['median_ms'][name][p]:.2f}" for p in PRECISIONS]
            line.append(f"{cost['parameters'][name] / 1e6:.3f} M")
        else:
            line += ["not measured", "not measured", ""]
        table.append(line)
    return table


def _show(interval: Interval, *, sign: str) -> str:
    """A mean, and its interval if it has one."""
    text = f"{interval.mean:{sign}.4f}"
    if interval.low is None or interval.high is None:
        return text
    return f"{text} ({interval.low:{sign}.4f} to {interval.high:{sign}.4f})"


def _describe_cost(cost: Json | None) -> list[str]:
    if cost is None:
        return []
    return [
        f"Milliseconds of one slice: median processor time of one thread over {cost['rounds']} "
        f"rounds in turns, OpenVINO, the network alone; {cost['processor']}."
    ]


def _list_organs(names: Sequence[str], cells: dict[str, list[Json]]) -> list[list[str]]:
    table = [["network", *names]]
    for row, trained in cells.items():
        if trained:
            means = [score_cases(trained, name).values() for name in names]
            line = [f"{sum(mean) / len(mean):.3f}" if mean else "" for mean in means]
            table.append([ROWS[row].title, *line])
    return table


def main() -> None:
    """Train what is not trained, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", choices=ROWS, nargs="+", default=["window", "conv"])
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=6, help="the fixed schedule of all cells")
    parser.add_argument("--data", type=Path, help="folder of the data set, if not the recipe's")
    parser.add_argument("--runs", type=Path, default=Path("runs/cross-validation"))
    parser.add_argument("--cache", type=Path, help="folder of preprocessed scans")
    parser.add_argument("--cost", action="store_true", help="measure milliseconds, train nothing")
    parser.add_argument("--show", action="store_true", help="name what is left, and run nothing")
    parser.add_argument("--table-only", action="store_true", help="write the page from the files")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--results", type=Path, default=HERE / "results" / "btcv")
    parser.add_argument("--output", type=Path, default=HERE / "btcv.md")
    arguments = parser.parse_args()
    base = read_recipe(RECIPE)
    cells = list_cells(arguments.rows, arguments.folds, arguments.seeds)
    if arguments.show:
        for cell in cells:
            done = (arguments.results / f"{cell.name}.json").exists()
            print(f"{'done ' if done else 'waits'} {cell.name}")
        return
    if arguments.cost:
        write_json(arguments.results / "cost.json", measure_cost(base, rounds=arguments.rounds))
    elif not arguments.table_only:
        torch.set_num_threads(1)
        for cell in cells:
            recipe = make_recipe(cell, base, epochs=arguments.epochs)
            train_cell(cell, recipe, arguments.results, arguments)
    path = arguments.results / "cost.json"
    cost = read_json(path) if path.exists() else None
    write_text(arguments.output, format_page(base, read_cells(arguments.results), cost))


if __name__ == "__main__":
    main()
