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
from bedside.evaluation.planted import list_artefacts, plant_artefact
from bedside.models import create
from bedside.spec import Recipe, read_recipe
from bedside.training.checkpoint import load_tensors, read_json
from bedside.training.folder import EVALUATION, LOG, RUN, VALIDATION
from bedside.training.pretrain import pretrain
from bedside.training.run import WEIGHTS, Progress, select_cases, train
from cells import measure_networks, open_network, run_study, study_parser, write_json
from decision_page import format_page, read_cells
from decision_rows import (
    CLEAN,
    FOLDS,
    PLANTED,
    PRECISIONS,
    PRETRAIN_EPOCHS,
    RECIPE,
    ROWS,
    STEPS,
    Cell,
    Json,
    list_cells,
    make_recipe,
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


def start_cell(cell: Cell, arguments: argparse.Namespace) -> Recipe:
    """The recipe of a cell, after the pretraining that it starts from, if it does.

    Images of a pretraining have no planted artefacts, which would be painted too.
    """
    recipe = make_recipe(cell)
    if not cell.pretrained:
        return recipe
    run = arguments.runs / f"{cell.row}.fold-{cell.fold}.painted"
    pretrain(
        dataclasses.replace(recipe, augment=read_recipe(RECIPE).augment),
        run,
        epochs=PRETRAIN_EPOCHS,
        data=arguments.data,
        cache=arguments.cache,
        threads=1,
        on_progress=lambda progress: print(f"{run.name}: {progress}", flush=True),
    )
    training = dataclasses.replace(recipe.training, start=str(run))
    return dataclasses.replace(recipe, training=training)


def train_cell(cell: Cell, results: Path, arguments: argparse.Namespace) -> None:
    """Train a cell, or go on with it, and keep the Dice of every image that its fold holds out."""
    path = results / f"{cell.name}.json"
    if path.exists():
        return
    recipe, run, begin = start_cell(cell, arguments), arguments.runs / cell.name, time.monotonic()
    cases = list_recipe_cases(recipe, arguments.data)
    patients = len({case.patient_id for case in cases})
    recipe = set_schedule(
        recipe,
        round(cell.share * (1 - 1 / FOLDS) * patients),
        steps=cell.times * STEPS[cell.share],
    )

    def on_message(progress: Progress) -> None:
        if progress.stage == "training":
            print(f"{cell.name}: {dict(progress.record)}", flush=True)

    train(
        recipe, run, data=arguments.data, cache=arguments.cache, threads=1, on_progress=on_message
    )
    trained = time.monotonic()
    record, scores = read_json(run / RUN), score_run(run, recipe, cases)
    trained_on, held_out = (len(record["split"][part]) for part in ("train", "val"))
    content = dataclasses.asdict(cell) | {
        "epochs": recipe.training.epochs,
        "steps": json.loads((run / LOG).read_text().splitlines()[-1])["step"],
        "patients": {"trained": trained_on, "held_out": held_out},
        "commit": record["commit"],
        "conditions": [CLEAN, *PLANTED],
        "cases": {
            case: [dice[name] for name in (CLEAN, *PLANTED)] for case, dice in scores.items()
        },
    }
    write_json(path, content, indent=None)
    scored = time.monotonic()
    print(f"{cell.name}: {trained - begin:.0f} s, scores {scored - trained:.0f} s", flush=True)


def score_run(run: Path, recipe: Recipe, cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    """Mean Dice of the structures of each held-out image: as it is, and with each artefact.

    Args:
        run: A finished training, which has scored the images as they are.
        recipe: Its recipe.
        cases: All images; those of other folds are left out.
    """
    model = create(recipe.deployment.model)
    model.load_state_dict(load_tensors(run / WEIGHTS)[0], strict=True)
    segmenter = open_network(model, recipe)
    clean = read_json(run / VALIDATION / EVALUATION)["cases"]
    scores = {case["case"]: {CLEAN: _mean_dice(case)} for case in clean}
    for case in select_cases(cases, tuple(read_json(run / RUN)["split"]["val"])):
        scores[case.case_id] |= score_spoilt(segmenter, case)
    return scores


def _mean_dice(case: Json) -> float:
    known = [each["dice"] for each in case["structures"].values() if each["dice"] is not None]
    return round(sum(known) / len(known), 4)


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
        scores[name] = round(sum(known) / len(known), 4)
    return scores


def measure_cost(*, rounds: int) -> Json:
    """Measure milliseconds of each row's network by precision; count parameters."""
    deployment = read_recipe(RECIPE).deployment
    example = torch.rand(1, deployment.input.channels, *deployment.input.size_px)
    networks = {name: (create(row.change(deployment.model)), example) for name, row in ROWS.items()}
    return measure_networks(networks, precisions=PRECISIONS, rounds=rounds)


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is not trained, and write the page."""
    parser = study_parser(
        __doc__.splitlines()[0], script=Path(__file__), results="decision-camus", rounds=200
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
