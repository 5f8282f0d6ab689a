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
from torch import nn

from bedside.datasets import list_recipe_cases
from bedside.datasets.case import Case, read_case
from bedside.evaluation.cases import Segmenter as Segments
from bedside.evaluation.cases import segment_named
from bedside.evaluation.metrics import dice
from bedside.evaluation.missing import leave_out, list_subsets
from bedside.export.onnx import trace_onnx
from bedside.runtime import open_graph
from bedside.segment import Segmenter
from bedside.spec import Recipe, read_recipe
from bedside.system.atomic import write_text
from bedside.training.checkpoint import load_tensors, read_json
from bedside.training.folder import LOG, RUN
from bedside.training.run import WEIGHTS, Progress, select_cases, train
from cells import measure_networks, write_json
from channels_page import format_page, read_cells
from channels_rows import PRECISIONS, RECIPE, ROWS, SIZE_PX, Cell, Json, list_cells, make_recipe

HERE = Path(__file__).parent


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


def open_network(model: nn.Module, recipe: Recipe) -> Segmenter:
    """Export a trained network, and open it as a user's computer does."""
    example = torch.rand(1, recipe.deployment.input.channels, *recipe.deployment.input.size_px)
    graph = trace_onnx(model.eval(), example).SerializeToString()
    session = open_graph(graph, backend="openvino", threads=1, precision="f32")
    return Segmenter(recipe.deployment, session)


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data set, if not the recipe's")
    parser.add_argument("--runs", type=Path, default=Path("runs/channels"))
    parser.add_argument("--cache", type=Path, help="folder of preprocessed images")
    parser.add_argument("--only", nargs="+", metavar="CELL", help="cells by name, in their order")
    parser.add_argument("--cost", action="store_true", help="measure milliseconds, train nothing")
    parser.add_argument("--table-only", action="store_true", help="write the page from the files")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--results", type=Path, default=HERE / "results" / "channels-lgg")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args(argv)
    run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Do what is asked for."""
    cells = {cell.name: cell for cell in list_cells()}
    cost = arguments.results / "cost.json"
    if arguments.cost:
        write_json(cost, measure_cost(rounds=arguments.rounds))
    elif not arguments.table_only:
        torch.set_num_threads(1)
        for name in arguments.only or cells:
            train_cell(cells[name], arguments.results, arguments)
    known = read_json(cost) if cost.exists() else None
    write_text(arguments.output, format_page(read_cells(arguments.results), known))


if __name__ == "__main__":
    main()
