"""Attention or convolutions on CAMUS: networks of one time, clean and spoilt images, few labels.

Each row is the recipe's network with another block where its attention is, and as many blocks as
take the same time. A cell is one row, one of three folds over all patients and a share of the
training patients; each fold has a seed of its own. A cell is trained by a fixed schedule with
shadows, lost echoes and speckle in its augmentation, and scored once on the patients that its fold
holds out: as they are, and with every planted artefact. Nothing is chosen by these scores. Cells
are trained in an order that completes pairs; the same command goes on where it was stopped.
"""

import argparse
import dataclasses
import functools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bedside.datasets import list_recipe_cases
from bedside.datasets.case import Case, read_case
from bedside.evaluation.cases import Segmenter as Segments
from bedside.evaluation.cases import segment_named
from bedside.evaluation.metrics import dice
from bedside.evaluation.planted import list_artefacts, plant_artefact
from bedside.export.onnx import trace_onnx
from bedside.models import count_parameters, create
from bedside.runtime import open_graph
from bedside.runtime.machine import describe_processor
from bedside.segment import Segmenter
from bedside.spec import ModelSpec, Recipe, read_recipe
from bedside.training.checkpoint import load_tensors, read_json
from bedside.training.folder import EVALUATION, RUN, VALIDATION
from bedside.training.run import WEIGHTS, Progress, select_cases, train
from cells import time_in_turns, write_json

HERE = Path(__file__).parent
RECIPE, AUGMENTED_AS = "camus", "camus-robust"
FOLDS = 3
MARGIN = 0.002
"""Difference in mean Dice that counts; fixed before anything was trained, as is what is compared:
images as they are and the mean over planted artefacts, with all labels and with few."""
PRECISIONS = ("f32", "bf16")
REFERENCE, OPPONENT = "conv", "window"
CLEAN = "clean"
PLANTED = (
    "shadow of 15 deg",
    "two shadows of 25 deg",
    "outer quarter lost",
    "speckle 0.5",
    "gain 0.5",
    "blur",
)
"""Artefacts of `bedside evaluate --robustness` that held-out images are scored with."""
STEPS = {1.0: 900, 0.1: 400, 0.05: 400}
"""Steps of a training by the share of the training patients, fixed before the first."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One network of the study.

    Attributes:
        title: Its name in the tables.
        depths: Blocks of each level.
        changes: Settings of a level that differ from the recipe's, by its number.
    """

    title: str
    depths: tuple[int, ...]
    changes: Mapping[int, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def change(self, model: ModelSpec) -> ModelSpec:
        """From the recipe's network to this row's."""
        levels = (
            dataclasses.replace(level, depth=depth, **self.changes.get(number, {}))
            for number, (level, depth) in enumerate(zip(model.levels, self.depths, strict=True))
        )
        return dataclasses.replace(model, levels=tuple(levels))


def _below(**settings: Any) -> dict[int, dict[str, Any]]:
    """The same settings at strides 16 and 32, where the recipe has attention."""
    return {2: settings, 3: settings}


ROWS = {
    "conv": Row("convolutions", (1, 2, 3, 4), _below(block="conv")),
    "window": Row("windows with exchange", (1, 1, 2, 2)),
    "linear": Row("linear attention", (1, 1, 2, 2), _below(block="linear")),
    "conv-exchange": Row(
        "convolutions with exchange", (1, 1, 3, 3), _below(block="conv", exchange_window=4)
    ),
    "routed": Row(
        "2 of 64 regions at stride 8, convolutions below",
        (1, 1, 1, 1),
        {1: {"block": "routed", "region": 4, "top_k": 2}, **_below(block="conv")},
    ),
    "pooled": Row("pooled keys", (1, 1, 2, 2), _below(block="pooled")),
    "dense": Row("dense at strides 16 and 32", (1, 1, 1, 3), _below(block="dense")),
}
"""Name of a row -> its network, as deep as takes the time of the recipe's."""


@dataclass(frozen=True)
class Cell:
    """One training: a row, a share of the training patients, and a fold that numbers its seed."""

    row: str
    share: float
    fold: int

    @property
    def name(self) -> str:
        """Name of its run folder and its result."""
        return f"{self.row}.share-{self.share:g}.fold-{self.fold}"


def list_cells() -> list[Cell]:
    """All cells in the order of training.

    Both opponents with all labels come first, then with few, then the other rows fold by fold.
    """
    folds, pair = range(FOLDS), (REFERENCE, OPPONENT)
    others = [row for row in ROWS if row not in pair]
    return [
        *(Cell(row, share, fold) for share in STEPS for fold in folds for row in pair),
        *(Cell(row, 1.0, fold) for fold in folds for row in others),
    ]


def make_recipe(cell: Cell) -> Recipe:
    """The recipe of a cell: CAMUS over folds, the row's network, more artefacts, no teacher."""
    base, augmented = read_recipe(RECIPE), read_recipe(AUGMENTED_AS)
    model = ROWS[cell.row].change(base.deployment.model)
    return dataclasses.replace(
        base,
        # No marker: each image is labelled by one run of the network, as it lies.
        deployment=dataclasses.replace(base.deployment, model=model, marker=None),
        # No part for tests: each patient is held out by one fold.
        data=dataclasses.replace(
            base.data, split=(0.7, 0.3, 0.0), folds=FOLDS, fold=cell.fold, train_fraction=cell.share
        ),
        augment=augmented.augment,
        training=dataclasses.replace(base.training, seed=cell.fold),
        distill=None,
    )


def set_schedule(recipe: Recipe, patients: int, *, steps: int) -> Recipe:
    """Set the number of epochs so that about so many steps are taken, and validate at the end.

    Args:
        recipe: Of a cell.
        patients: How many its fold and share train on; each has two images.
        steps: Steps wanted.
    """
    a_round = max(1, 2 * patients // recipe.training.batch_size)
    epochs = max(1, round(steps / a_round))
    training = dataclasses.replace(recipe.training, epochs=epochs, validate_every=epochs)
    return dataclasses.replace(recipe, training=training)


def train_cell(cell: Cell, results: Path, arguments: argparse.Namespace) -> None:
    """Train a cell, or go on with it, and keep the Dice of every image that its fold holds out."""
    path = results / f"{cell.name}.json"
    if path.exists():
        return
    recipe, run, begin = make_recipe(cell), arguments.runs / cell.name, time.monotonic()
    patients = round(cell.share * (1 - 1 / FOLDS) * arguments.patients)
    recipe = set_schedule(recipe, patients, steps=STEPS[cell.share])

    def on_message(progress: Progress) -> None:
        if progress.stage == "training":
            print(f"{cell.name}: {dict(progress.record)}", flush=True)

    train(
        recipe, run, data=arguments.data, cache=arguments.cache, threads=1, on_progress=on_message
    )
    trained = time.monotonic()
    record = read_json(run / RUN)
    model = create(recipe.deployment.model)
    model.load_state_dict(load_tensors(run / WEIGHTS)[0], strict=True)
    example = torch.rand(1, recipe.deployment.input.channels, *recipe.deployment.input.size_px)
    graph = trace_onnx(model.eval(), example).SerializeToString()
    session = open_graph(graph, backend="openvino", threads=1, precision="f32")
    segmenter = Segmenter(recipe.deployment, session)
    held_out = record["split"]["val"]
    cases = select_cases(list_recipe_cases(recipe, arguments.data), tuple(held_out))
    evaluation = read_json(run / VALIDATION / EVALUATION)
    scores = {case["case"]: {CLEAN: _mean_dice(case)} for case in evaluation["cases"]}
    for case in cases:
        scores[case.case_id] |= score_spoilt(segmenter, case)
    content = dataclasses.asdict(cell) | {
        "epochs": recipe.training.epochs,
        "steps": json.loads((run / "log.jsonl").read_text().splitlines()[-1])["step"],
        "patients": {"trained": len(record["split"]["train"]), "held_out": len(held_out)},
        "commit": record["commit"],
        "cases": scores,
    }
    write_json(path, content)
    scored = time.monotonic()
    print(f"{cell.name}: {trained - begin:.0f} s, scores {scored - trained:.0f} s", flush=True)


def _mean_dice(case: Json) -> float:
    known = [each["dice"] for each in case["structures"].values() if each["dice"] is not None]
    return round(sum(known) / len(known), 5)


def score_spoilt(segmenter: Segments, case: Case) -> dict[str, float]:
    """Mean Dice of the structures of a case with each artefact planted."""
    labels = [label.value for label in segmenter.spec.labels]
    source, truth = read_case(case, tuple(labels))
    artefacts = {each.name: each for each in list_artefacts(segmenter.spec.input.modality)}
    scores = {}
    for name in PLANTED:
        spoilt, expected = plant_artefact(
            artefacts[name], source.sequence, truth, name=case.case_id, seed=0
        )
        found = segment_named(segmenter, spoilt, case).labels.array
        known = [dice(expected == v, found == v) for v in labels if (expected == v).any()]
        scores[name] = round(sum(known) / len(known), 5)
    return scores


def measure_cost(*, rounds: int) -> Json:
    """Measure milliseconds of each row's network by precision, all in turns; count parameters."""
    deployment = read_recipe(RECIPE).deployment
    example = torch.rand(1, deployment.input.channels, *deployment.input.size_px)
    calls, counts = {}, {}
    for name, row in ROWS.items():
        torch.manual_seed(0)
        network = create(row.change(deployment.model)).eval()
        counts[name] = count_parameters(network)
        graph = trace_onnx(network, example).SerializeToString()
        for precision in PRECISIONS:
            session = open_graph(graph, backend="openvino", threads=1, precision=precision)
            calls[name, precision] = functools.partial(session.predict, example.numpy())
    spent = time_in_turns(calls, rounds=rounds)
    return {
        "processor": describe_processor(),
        "rounds": rounds,
        "parameters": counts,
        "median_ms": {
            name: {p: round(float(np.median(spent[name, p])), 3) for p in PRECISIONS}
            for name in ROWS
        },
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is not trained, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data set, if not the recipe's")
    parser.add_argument("--patients", type=int, default=449, help="in the data set")
    parser.add_argument("--runs", type=Path, default=Path("runs/decision"))
    parser.add_argument("--cache", type=Path, help="folder of preprocessed images")
    parser.add_argument("--cells", type=int, help="stop after so many cells of the list")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "decision-camus")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    for cell in list_cells()[: arguments.cells]:
        train_cell(cell, arguments.results, arguments)


if __name__ == "__main__":
    main()
