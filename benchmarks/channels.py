"""Attention over channels or concatenation, where MR sequences are missing: networks of one time.

Both are trained on TCGA-LGG with the recipe's channel dropout. A cell is one of the two in one of
three folds over all patients; each fold has a seed of its own. A cell is trained by a fixed
schedule and scored once on the patients that its fold holds out: with all sequences, and without
each set of them. Nothing is chosen by these scores. Cells are trained pair by pair; the same
command goes on where it was stopped.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from bedside.datasets import list_recipe_cases
from bedside.datasets.case import Case, read_case
from bedside.evaluation.cases import Segmenter as Segments
from bedside.evaluation.cases import segment_named
from bedside.evaluation.metrics import dice
from bedside.evaluation.missing import leave_out, list_subsets
from bedside.spec import read_recipe
from bedside.training.checkpoint import load_tensors, read_json
from bedside.training.folder import LOG, RUN
from bedside.training.run import WEIGHTS, Progress, select_cases, train
from cells import measure_networks, open_network, run_study, study_parser, write_json
from channels_page import format_page, read_cells
from channels_rows import PRECISIONS, RECIPE, ROWS, SIZE_PX, Cell, Json, list_cells, make_recipe


def train_cell(cell: Cell, results: Path, arguments: argparse.Namespace) -> None:
    """Train a cell, or go on with it, and keep the Dice of every scan that its fold holds out."""
    path = results / f"{cell.name}.json"
    if path.exists():
        return
    recipe, run, begin = make_recipe(cell), arguments.runs / cell.name, time.monotonic()

    def on_message(progress: Progress) -> None:
        if progress.stage == "training":
            print(f"{cell.name}: {dict(progress.record)}", flush=True)

    train(
        recipe,
        run,
        data=arguments.data,
        cache=arguments.cache,
        threads=1,
        on_progress=on_message,
        create_model=ROWS[cell.row].create,
        network=cell.row,
    )
    trained, record = time.monotonic(), read_json(run / RUN)
    model = ROWS[cell.row].create(recipe.deployment.model)
    model.load_state_dict(load_tensors(run / WEIGHTS)[0], strict=True)
    held_out = record["split"]["val"]
    cases = select_cases(list_recipe_cases(recipe, arguments.data), tuple(held_out))
    segmenter = open_network(model, recipe)
    subsets = list_subsets(recipe.deployment.input)
    content = dataclasses.asdict(cell) | {
        "epochs": recipe.training.epochs,
        "steps": json.loads((run / LOG).read_text().splitlines()[-1])["step"],
        "patients": {"trained": len(record["split"]["train"]), "held_out": len(held_out)},
        "commit": record["commit"],
        "missing": [list(subset) for subset in subsets],
        "cases": {case.case_id: score_subsets(segmenter, case, subsets) for case in cases},
    }
    write_json(path, content, indent=None)
    scored = time.monotonic()
    print(f"{cell.name}: {trained - begin:.0f} s, scores {scored - trained:.0f} s", flush=True)


def score_subsets(segmenter: Segments, case: Case, subsets: Sequence[Sequence[str]]) -> list[float]:
    """Volume Dice of a scan, a mean over its structures, without each set of sequences.

    Args:
        segmenter: The network.
        case: A scan with all sequences.
        subsets: Names of the sequences that are missing, a set each.
    """
    labels = [label.value for label in segmenter.spec.labels]
    source, truth = read_case(case, tuple(labels))
    scores = []
    for missing in subsets:
        lacking = leave_out(source.sequence, segmenter.spec.input, missing)
        found = segment_named(segmenter, lacking, case).labels.array
        known = [dice(truth == v, found == v) for v in labels if (truth == v).any()]
        scores.append(round(sum(known) / len(known), 4))
    return scores


def measure_cost(*, rounds: int) -> Json:
    """Measure milliseconds of each row's network; count parameters."""
    deployment = read_recipe(RECIPE).deployment
    example = torch.rand(1, deployment.input.channels, *SIZE_PX)
    networks = {
        name: (row.create(row.change(deployment.model)), example) for name, row in ROWS.items()
    }
    return measure_networks(networks, precisions=PRECISIONS, rounds=rounds)


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is not trained, and write the page."""
    parser = study_parser(
        __doc__.splitlines()[0], script=Path(__file__), results="channels-lgg", rounds=200
    )
    parser.add_argument("--only", nargs="+", metavar="CELL", help="cells by name, in their order")
    arguments = parser.parse_args(argv)
    cells = {cell.name: cell for cell in list_cells()}
    run_study(
        arguments,
        [cells[name] for name in arguments.only or cells],
        train=lambda cell: train_cell(cell, arguments.results, arguments),
        measure=lambda: measure_cost(rounds=arguments.rounds),
        write_page=lambda cost: format_page(read_cells(arguments.results), cost),
    )


if __name__ == "__main__":
    main()
