"""Train classics and ours alike, score them, and keep the figures: one command for all.

Data, split, augmentation, loss, size of input and schedule are the recipe's; only the network
is exchanged, and the learning rate if several are given: the one of which a short training scores
best on the validation part. A stopped training goes on where it was. Run it from the
repository's root, as `PYTHONPATH=benchmarks .venv-peers/bin/python -m peers.train NAME...`.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from bedside.datasets import list_recipe_cases
from bedside.evaluation.looks import describe_looks, find_ledger, record_look_at
from bedside.models import create
from bedside.spec import ModelSpec, Recipe, read_recipe
from bedside.training.calibration import draw_calibration
from bedside.training.checkpoint import load_tensors, read_json
from bedside.training.folder import LOG
from bedside.training.run import RUN, Progress, select_cases, train
from peers.graphs import (
    check_precisions,
    choose_precisions,
    evaluate_precisions,
    open_precisions,
    write_graphs,
)
from peers.names import OURS, RECIPES_OWN
from peers.networks import PEERS, Network, find_network
from peers.results import write_result

RESULTS = Path(__file__).parents[1] / "results" / "camus-frontier"
RUNS = Path("runs/peers")


def train_network(
    network: Network,
    recipe: Recipe,
    run: Path,
    *,
    data: Path,
    result: Path,
    threads: int,
    rates: Mapping[float, float],
) -> None:
    """Train one network, export it, and write its figures.

    Args:
        network: What to train.
        recipe: How; made for it by `adapt`.
        run: Run folder.
        data: Folder of the data set.
        result: JSON file to write.
        threads: Threads of torch and of the runtime.
        rates: Learning rates that were tried before, and the validation Dice of each.
    """
    weights = train(
        recipe,
        run,
        data=data,
        threads=threads,
        create_model=_creator(network),
        on_progress=_say,
    )
    model = network.create()
    model.load_state_dict(load_tensors(weights)[0], strict=True)
    record = read_json(run / RUN)
    cases = list_recipe_cases(recipe, data)
    parts = {
        part: select_cases(cases, tuple(patients)) for part, patients in record["split"].items()
    }
    print(f"{network.name}: exporting, and scoring every precision", flush=True)
    precisions = choose_precisions()
    files = write_graphs(
        run / "graphs",
        network,
        model,
        shape=(1, recipe.deployment.input.channels, *recipe.deployment.input.size_px),
        read_calibration=lambda: draw_calibration(
            parts["train"], recipe.deployment, count=recipe.build.calibration_images
        ),
        int8="int8" in precisions,
    )
    sessions = open_precisions(files, precisions=precisions, threads=threads)
    checks = check_precisions(sessions, recipe.deployment, parts["val"])
    evaluations = evaluate_precisions(sessions, recipe.deployment, parts["test"])
    for precision, evaluation in evaluations.items():
        looks = record_look_at(
            find_ledger(result.parent),
            record["split"]["test"],
            what=f"peers.train, {precision}",
            name=recipe.deployment.name,
            sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
            data=recipe.data.name,
            cases=len(evaluation.cases),
            dice={each.name: each.dice.mean for each in evaluation.structures},
        )
    write_result(
        result, network, recipe, run=record, evaluations=evaluations, checks=checks, rates=rates
    )
    dice = " / ".join(f"{each.dice.mean:.4f}" for each in evaluations["f32"].structures)
    print(f"{network.name}: test Dice {dice}; written to {result}", flush=True)
    print(describe_looks(looks, find_ledger(result.parent)), flush=True)


def _creator(network: Network) -> Callable[[ModelSpec], nn.Module]:
    """What builds the network from a spec, which a classic needs none of."""
    return create if network.ours else lambda spec: network.create()


def try_rates(
    network: Network,
    recipe: Recipe,
    run: Path,
    rates: Sequence[float],
    *,
    epochs: int,
    data: Path,
    threads: int,
) -> dict[float, float]:
    """Mean Dice on validation images after a training of some epochs at each learning rate."""
    found = {}
    for rate in rates:
        training = replace(
            recipe.training, learning_rate=rate, epochs=epochs, validate_every=epochs
        )
        folder = run.with_name(f"{run.name}.rate-{rate:g}")
        train(
            replace(recipe, training=training),
            folder,
            data=data,
            threads=threads,
            create_model=_creator(network),
            on_progress=_say,
        )
        last = json.loads((folder / LOG).read_text(encoding="utf-8").splitlines()[-1])
        found[rate] = float(np.mean(list(last["dice"].values())))
        print(f"{network.name}: {rate:g} has {found[rate]:.4f}", flush=True)
    return found


def adapt(
    recipe: Recipe, network: Network, *, epochs: int | None, seed: int | None, taught: bool = False
) -> Recipe:
    """Put a network into a recipe, and change the length and seed of the training.

    Teachers are ours alone, so that networks are compared without them; `taught` keeps the
    recipe's, and the result says so.
    """
    name = f"{recipe.deployment.name}-{to_folder(network.name)}"
    training = replace(
        recipe.training,
        epochs=recipe.training.epochs if epochs is None else epochs,
        seed=recipe.training.seed if seed is None else seed,
    )
    deployment = replace(recipe.deployment, name=name, model=network.model)
    distill = recipe.distill if taught else None
    return replace(recipe, deployment=deployment, training=training, distill=distill)


def to_folder(name: str, seed: int = 0) -> str:
    """Turn a network's name into one of files and folders; the seed is said unless it is 0.

    Example:
        >>> to_folder("ours:nano", seed=1)
        'ours-nano.seed1'
    """
    return name.replace(":", "-") + (f".seed{seed}" if seed else "")


def _say(progress: Progress) -> None:
    """Print a line an epoch."""
    if progress.record:
        cells = "  ".join(f"{key} {value}" for key, value in progress.record.items())
        print(f"{time.strftime('%H:%M:%S')}  of {progress.total}: {cells}", flush=True)


def main() -> None:
    """Train the networks that are named, one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", help=f"ours:NAME, or of {', '.join(PEERS)}")
    parser.add_argument("--recipe", type=Path, default=Path("camus"))
    parser.add_argument("--data", type=Path, help="folder of the data set, if not the recipe's")
    parser.add_argument("--epochs", type=int, help="if not the recipe's")
    parser.add_argument("--seed", type=int, help="if not the recipe's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rates", type=float, nargs="*", default=[], help="learning rates to try")
    parser.add_argument("--rate-epochs", type=int, default=5, help="epochs of each try")
    parser.add_argument("--taught", action="store_true", help="keep the recipe's teacher")
    parser.add_argument("-o", "--output", type=Path, default=RUNS, help="folder of run folders")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the figures")
    arguments = parser.parse_args()
    base = read_recipe(arguments.recipe)
    for name in arguments.names:
        network = find_network(name, base.deployment.model, base.deployment.input.size_px)
        if name == RECIPES_OWN:
            own = arguments.recipe.stem
            network = replace(network, name=f"{OURS}{own}", title=f"bedside {own}")
        recipe = adapt(
            base, network, epochs=arguments.epochs, seed=arguments.seed, taught=arguments.taught
        )
        stem = to_folder(network.name, recipe.training.seed)
        result = arguments.results / f"{stem}.json"
        if result.exists():
            print(f"{name}: {result} is there already", flush=True)
            continue
        data, run = arguments.data or Path(recipe.data.path), arguments.output / stem
        tried: dict[float, float] = {}
        if arguments.rates:
            tried = try_rates(
                network,
                recipe,
                run,
                arguments.rates,
                epochs=arguments.rate_epochs,
                data=data,
                threads=arguments.threads,
            )
            best = replace(recipe.training, learning_rate=max(tried, key=tried.__getitem__))
            recipe = replace(recipe, training=best)
        train_network(
            network,
            recipe,
            run,
            data=data,
            result=result,
            threads=arguments.threads,
            rates=tried,
        )


if __name__ == "__main__":
    main()
