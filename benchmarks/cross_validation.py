"""Organs in abdominal CT, cross-validated: which block pays, and what the third axis brings.

Each row is the network of a recipe. Those by slices have other blocks where the recipe's attention
is, their depths chosen so that they take the same time; each cell is one row, fold and seed. A
cell is trained by a fixed schedule, scored on the scans of its fold on their own grid, and kept as
a small file under `results/`. Nothing is chosen on scans that are held out, but for two, which the
page names and gives means without. Cells are trained in an order that completes pairs, fold after
fold; the same command goes on where it was stopped. Milliseconds of all rows are taken in turns in
one run, as processor time of one thread.

Rows of classics, and `--cost`, want their libraries: run it with the Python of `make peers` then.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bedside.evaluation.intervals import mean_interval
from bedside.spec import Recipe, read_recipe
from bedside.spec.card import Interval
from bedside.training.checkpoint import read_json
from bedside.training.folder import EVALUATION, RUN, VALIDATION
from bedside.training.run import Progress, train
from cells import (
    make_table,
    measure_networks,
    run_study,
    show_interval,
    study_parser,
    write_json,
)
from cross_validation_rows import FURTHER, ROWS, SCANS, SLICES

HERE = Path(__file__).parent
MARGIN = 0.002
"""Difference in mean Dice that counts; fixed before anything was trained."""
CHOSEN_ON = ("img0033", "img0039")
"""Training scans of fold 0 on which the recipes in three axes were chosen; other folds hold them
out."""
PRECISIONS = ("f32", "bf16")
REFERENCE = "conv"

Json = dict[str, Any]


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


def make_recipe(cell: Cell, *, epochs: int | None = None) -> Recipe:
    """The recipe of a cell: its row's, with the row's network, the fold and the schedule."""
    base = read_recipe(ROWS[cell.row].recipe)
    model = ROWS[cell.row].change(base.deployment.model)
    epochs = epochs or base.training.epochs
    return dataclasses.replace(
        base,
        deployment=dataclasses.replace(base.deployment, model=model),
        data=dataclasses.replace(base.data, fold=cell.fold),
        training=dataclasses.replace(
            base.training, epochs=epochs, validate_every=epochs, seed=cell.seed
        ),
    )


def find_run(cell: Cell, recipe: Recipe, runs: Path) -> Path:
    """Folder of a cell's run."""
    return runs / f"{recipe.training.epochs}ep" / cell.name


def train_cell(cell: Cell, recipe: Recipe, results: Path, arguments: argparse.Namespace) -> None:
    """Train a cell, or go on with it, and keep the Dice of every scan of its fold."""
    path = results / f"{cell.name}.json"
    if path.exists() and read_json(path)["epochs"] == recipe.training.epochs:
        return

    def on_message(progress: Progress) -> None:
        if progress.stage == "training":
            print(f"{cell.name}: {dict(progress.record)}", flush=True)

    run = find_run(cell, recipe, arguments.runs)
    if start := ROWS[cell.row].start:
        first = dataclasses.replace(cell, row=start)
        begun = find_run(first, make_recipe(first, epochs=arguments.epochs), arguments.runs)
        training = dataclasses.replace(recipe.training, start=str(begun))
        recipe = dataclasses.replace(recipe, training=training)
    row = ROWS[cell.row]
    train(
        recipe, run, data=arguments.data, cache=arguments.cache, threads=1, on_progress=on_message,
        create_model=lambda _: row.create(recipe.deployment), network=row.peer or None,
    )  # fmt: skip
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


def measure_cost(*, rounds: int) -> Json:
    """Measure milliseconds a slice of each row by precision; count parameters."""
    networks, slices = {}, {}
    for name, row in ROWS.items():
        if row.start:
            continue
        deployment = read_recipe(row.recipe).deployment
        deployment = dataclasses.replace(deployment, model=row.change(deployment.model))
        given = deployment.input
        networks[name] = row.create(deployment), torch.rand(1, given.channels, *given.size_px)
        # Slices that a window adds to those before it.
        fresh = 1 - deployment.windows.overlap
        slices[name] = given.size_px[0] * fresh if deployment.model.spatial_dims == 3 else 1.0
    return measure_networks(networks, precisions=PRECISIONS, rounds=rounds, parts=slices)


def read_cells(results: Path) -> dict[str, list[Json]]:
    """Read what is trained, by row; each of one schedule, the longest that any cell of it had."""
    found = [read_json(path) for path in sorted(results.glob("*.fold-*.seed-*.json"))]
    cells = {row: [cell for cell in found if cell["row"] == row] for row in ROWS}
    longest = {row: _count_epochs(of_row) for row, of_row in cells.items()}
    return {
        row: [cell for cell in of_row if cell["epochs"] == longest[row]]
        for row, of_row in cells.items()
    }


def _count_epochs(cells: Sequence[Json]) -> int:
    return max((cell["epochs"] for cell in cells), default=0)


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


def format_page(
    base: Recipe, cells: dict[str, list[Json]], cost: Json | None, training: Json | None = None
) -> str:
    """Write the page from what is known of all rows, and what training classics would take."""
    names = [label.name for label in base.deployment.labels]
    known = [cell for row in cells.values() for cell in row]
    folds = sorted({cell["fold"] for cell in known})
    seeds = sorted({cell["seed"] for cell in known})
    rows, organs = _list_rows(cells, cost), _list_organs(names, cells)
    known_folds = ", ".join(map(str, folds)) or "none"
    lines = [
        "# BTCV, eight organs: which block pays, and three axes",
        "",
        f"Folds {known_folds} of {base.data.folds}; means are of the scans that a row has, and "
        "differences of those that both rows have. "
        f"Seeds {', '.join(map(str, seeds)) or 'none'}, by the recipes `{SLICES}`, "
        f"`{SCANS}` and `{FURTHER}`; every scan is scored whole, on its own grid, by a network "
        "that was not trained on it. An epoch by slices is all slices once, one in three axes "
        f"{read_recipe(SCANS).training.patches} patches of each scan. "
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
        *make_table(rows),
        "",
        *_describe_cost(cost),
        *_describe_training(cells, training),
        "",
        *_describe_choice(cells),
        "",
        "Mean Dice of each organ over the scans that have it:",
        "",
        *make_table(organs),
    ]
    return "\n".join(lines) + "\n"


def _list_rows(cells: dict[str, list[Json]], cost: Json | None) -> list[list[str]]:
    less = f"less {ROWS[REFERENCE].title}"
    head = ["network", "epochs", "folds", "scans x seeds", "mean Dice", less, "scans"]
    table = [[*head, *(f"ms {p}" for p in PRECISIONS), "parameters"]]
    for name, row in ROWS.items():
        scores = score_cases(cells[name])
        dice = mean_interval(list(scores.values()), [case for case, _ in scores])
        folds = len({cell["fold"] for cell in cells[name]})
        line = [row.title, str(_count_epochs(cells[name]) or ""), str(folds), str(len(scores))]
        line.append(show_interval(dice, sign="") if scores else "not trained")
        difference, count = compare(cells[name], cells[REFERENCE])
        paired = count and name != REFERENCE
        line += [show_interval(difference, sign="+"), str(count)] if paired else ["", ""]
        timed = row.start or name
        if cost and timed in cost["parameters"]:
            line += [f"{cost['median_ms'][timed][p]:.2f}" for p in PRECISIONS]
            line.append(f"{cost['parameters'][timed] / 1e6:.3f} M")
        else:
            line += ["not measured", "not measured", ""]
        table.append(line)
    return table


def _describe_cost(cost: Json | None) -> list[str]:
    if cost is None:
        return []
    return [
        f"Milliseconds of one slice: median processor time of one thread over {cost['rounds']} "
        "rounds in turns, OpenVINO, the network alone, in three axes with the overlap of its "
        f"windows; {cost['processor']}."
    ]


def _describe_training(cells: dict[str, list[Json]], training: Json | None) -> list[str]:
    """What training a fold of the classics that are not trained would take."""
    if training is None:
        return []
    trained = {ROWS[name].peer for name, of_row in cells.items() if of_row}
    waiting = [
        f"{each['title']} ({each['minutes']:.0f})"
        for each in training["networks"]
        if each["name"] not in trained
    ]
    return [
        "",
        f"Not trained, with the minutes of one core that {training['epochs']} epochs of a fold "
        f"would take, by processor time of a training step: {', '.join(waiting)}.",
    ]


def _describe_choice(cells: dict[str, list[Json]]) -> list[str]:
    """Which scans the recipe in three axes was chosen on, and the means without them."""
    means = []
    for name, trained in cells.items():
        scores = score_cases(trained)
        others = [dice for (case, _), dice in scores.items() if case not in CHOSEN_ON]
        if others:
            means.append(f"{ROWS[name].title} {sum(others) / len(others):.4f}")
    return [
        "Patches, batch, weights and biases of labels, schedule, repairs and norms in three axes "
        f"were chosen on {' and '.join(CHOSEN_ON)}, left out of the training scans of fold 0, by "
        "trainings of at most 11 minutes. All folds had been scored by then with an earlier "
        "schedule (mean Dice 0.7622), so it was known which organs are hard, but no setting was "
        "tried on them. Their number of epochs is what time allowed: 4 of the last stage, then 10, "
        "after 0.7782 with 4 had been seen. Folds 1 and 3 hold these two out as well. "
        f"Means without them: {', '.join(means) or 'none'}.",
        "",
        "Networks by slices have no biases of labels, less was tried on them, and times of "
        "training are not matched: rows in three axes differ by more than the third axis. Classics "
        "have the recipe, schedule and learning rate of ours by slices.",
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
    parser = study_parser(__doc__.splitlines()[0], script=Path(__file__), results="btcv", rounds=60)
    parser.set_defaults(runs=Path("runs/cross-validation"), output=HERE / "btcv.md")
    parser.add_argument("--rows", choices=ROWS, nargs="+", default=["window", "conv", "scans"])
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, help="schedule of all cells, if not the recipe's")
    arguments = parser.parse_args()

    def write_page(cost: Json | None) -> str:
        path = arguments.results / "training.json"
        training = read_json(path) if path.exists() else None
        return format_page(read_recipe(SLICES), read_cells(arguments.results), cost, training)

    run_study(
        arguments,
        list_cells(arguments.rows, arguments.folds, arguments.seeds),
        train=lambda cell: train_cell(
            cell, make_recipe(cell, epochs=arguments.epochs), arguments.results, arguments
        ),
        measure=lambda: measure_cost(rounds=arguments.rounds),
        write_page=write_page,
    )


if __name__ == "__main__":
    main()
