"""What weights of few bits cost: a finished run rounded, trained on for a little, and scored.

    python benchmarks/lowbit.py RUN --bits 4 --epochs 2 -o runs/camus-4bit

The float network of the run teaches its rounded self. What is left behind is a finished run
whose spec has bits, which `bedside build` takes, and `lowbit.json` with the Dice of each
structure on the validation patients and the bytes of the graph.

With `--activations` the activations are rounded to 8 bits as well, in training if there is
any, and the graph in 8 bits is what is scored.
"""

import argparse
import dataclasses
import json
import shutil
import zlib
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from bedside.compression.lowbit import KEPT, Part, choose_bits, round_weights
from bedside.compression.qat import attach
from bedside.compression.quantize import quantize_int8
from bedside.datasets import list_recipe_cases
from bedside.evaluation.cases import evaluate_cases
from bedside.export.onnx import export_onnx
from bedside.models import TrainedNetwork, create
from bedside.runtime import Session, open_graph
from bedside.segment import Segmenter
from bedside.spec import DistillSpec, ModelSpec, Recipe, from_mapping, to_mapping
from bedside.system.atomic import write_text
from bedside.training.checkpoint import load_tensors, read_json, save_tensors
from bedside.training.dataset import load_cases
from bedside.training.run import RUN, WEIGHTS, Progress, select_cases, train

RESULT = "lowbit.json"


def make_recipe(recipe: Recipe, arguments: argparse.Namespace) -> Recipe:
    """Give a recipe few bits, a short schedule, and its own float network as the teacher."""
    bits = choose_bits(recipe.deployment.model, bits=arguments.bits, keep=arguments.keep)
    model = dataclasses.replace(recipe.deployment.model, bits=bits)
    training = dataclasses.replace(
        recipe.training,
        epochs=max(1, arguments.epochs),
        learning_rate=arguments.learning_rate,
        validate_every=1,
    )
    return dataclasses.replace(
        recipe,
        deployment=dataclasses.replace(recipe.deployment, model=model),
        training=training,
        distill=DistillSpec(teacher=str(arguments.run)),
        # A graph in 8 bits beside it would be larger than what was saved.
        build=dataclasses.replace(recipe.build, int8=False),
    )


def finetune(
    recipe: Recipe, arguments: argparse.Namespace, images: list[np.ndarray]
) -> TrainedNetwork:
    """Train with rounded weights from those of the float run, and settle what came out.

    Args:
        recipe: As `make_recipe` gives it.
        arguments: The command line.
        images: Calibration images; none to leave activations as they are.

    Returns:
        The network.
    """
    weights = load_tensors(arguments.run / WEIGHTS)[0]

    def start(spec: ModelSpec) -> nn.Module:
        model = create(spec)
        model.load_state_dict(weights, strict=True)
        return attach(model, images) if images else model

    def say(progress: Progress) -> None:
        if progress.stage == "training":
            print(json.dumps(progress.record), flush=True)

    if arguments.epochs:
        path = train(
            recipe,
            arguments.output,
            cache=arguments.cache,
            threads=arguments.threads,
            on_progress=say,
            create_model=start,
        )
        weights = load_tensors(path)[0]
    network = round_weights(TrainedNetwork(recipe.deployment.model, weights))
    arguments.output.mkdir(parents=True, exist_ok=True)
    save_tensors(arguments.output / WEIGHTS, network.weights)
    return network


def load_images(recipe: Recipe, patients: list[str], cache: Path | None) -> list[np.ndarray]:
    """Read a calibration image of each of some training patients, as the network sees it."""
    cases = select_cases(list_recipe_cases(recipe, None), tuple(patients[:: len(patients) // 64]))
    return [
        example.image[None].astype(np.float32)
        for example in load_cases(cases, recipe.deployment, cache=cache)
        if example.image.shape[1:] == recipe.deployment.input.size_px
    ]


def score(session: Session, recipe: Recipe, patients: list[str]) -> dict[str, float]:
    """Measure the mean Dice of each structure at the images' own resolution."""
    cases = select_cases(list_recipe_cases(recipe, None), tuple(patients))
    scores = evaluate_cases(Segmenter(recipe.deployment, session), cases)
    return {each.name: round(each.dice.mean or 0.0, 5) for each in scores.structures}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Do all of it for one number of bits."""
    record = read_json(arguments.run / RUN)
    recipe = make_recipe(from_mapping(Recipe, record["recipe"]), arguments)
    images: list[np.ndarray] = []
    if arguments.activations:
        images = load_images(recipe, record["split"]["train"], arguments.cache)
    network = finetune(recipe, arguments, images)
    if not arguments.epochs:
        write_text(
            arguments.output / RUN, json.dumps(record | {"recipe": to_mapping(recipe)}, indent=1)
        )
    shape = (1, recipe.deployment.input.channels, *recipe.deployment.input.size_px)
    graph = export_onnx(network.create(), input_shape=shape)
    if images:
        graph = quantize_int8(graph, images)
    precision = "int8" if images else "f32"
    session = open_graph(graph, precision=precision, threads=arguments.threads)
    return {
        "bits": arguments.bits,
        "activations": 8 if images else 32,
        "keep": sorted(arguments.keep),
        "epochs": arguments.epochs,
        "learning_rate": arguments.learning_rate,
        "graph_bytes": len(zlib.compress(graph, 9)),
        "dice": score(session, recipe, record["split"]["val"]),
    }


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--keep", nargs="*", choices=get_args(Part), default=list(KEPT))
    parser.add_argument("--epochs", type=int, default=2, help="0 rounds without training")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--activations", action="store_true", help="round them to 8 bits too")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    """Measure, and leave the result beside the weights."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    if arguments.epochs == 0 and arguments.output.exists():
        shutil.rmtree(arguments.output)
    result = measure(arguments)
    write_text(arguments.output / RESULT, json.dumps(result, indent=1))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
