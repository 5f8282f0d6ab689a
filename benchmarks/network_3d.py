"""How long networks of three axes take for one volume, ours beside the classics, in turns.

Weights are random, on which time does not depend; Dice is read from the result files that
`peers.train` and `bedside evaluate` leave, and stands beside the network it belongs to. Needs
`make peers`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bedside.bundle import find_bundle, read_bundle
from bedside.export.parity import make_inputs
from bedside.spec import Recipe, read_recipe, to_mapping
from bedside.system.atomic import write_text
from frontier import About, open_network
from frontier_page import judge
from network_latency import Candidate, describe_machine, measure
from pareto import Point, read_results
from peers.names import OURS, RECIPES_OWN

REPOSITORY = Path(__file__).parents[1]
RECIPE = REPOSITORY / "src" / "bedside" / "recipes" / "hippocampus.toml"
RESULTS = Path(__file__).parent / "results" / "hippocampus-frontier"
FAST = f"{OURS}hippocampus-fast"
NAMES = (f"{OURS}nano", f"{OURS}tiny", FAST, RECIPES_OWN, "unet", "residual-unet", "swinunetr")
SLOWEST = "swinunetr"
CLAIM_MS = (5.0, 150.0)
"""Where ours are meant to be the frontier."""


def time_networks(
    names: Sequence[str], recipe: Recipe, *, runs: Path, threads: int, rounds: int
) -> list[tuple[About, Mapping[str, np.ndarray]]]:
    """Time every network in every precision that this processor computes itself.

    Returns:
        What a row says of a network, and its times in ms by precision.
    """
    opened = []
    for name in names:
        opened.append(open_network(name, recipe, runs=runs, threads=threads))
        print(f"opened {name}", flush=True)
    candidates = [
        Candidate(
            about["network"], "openvino", precision, threads, about["parameters"], session.predict
        )
        for about, sessions in opened
        for precision, session in sessions.items()
    ]
    shape = (1, recipe.deployment.input.channels, *recipe.deployment.input.size_px)
    seen = zip(candidates, measure(candidates, make_inputs(shape)[-1], rounds=rounds), strict=True)
    times: dict[str, dict[str, np.ndarray]] = {}
    for candidate, each in seen:
        times.setdefault(candidate.network, {})[candidate.precision] = each
    return [(about, times[about["network"]]) for about, _ in opened]


def read_shipped(name: str) -> dict[str, Any]:
    """Read from a shipped bundle's card what a result file says of a training."""
    card = read_bundle(find_bundle(name)).card
    structures = {each.name: {"dice": to_mapping(each.dice)} for each in card.structures}
    return {"epochs": card.epochs, "structures": structures}


def _keeps_dice(result: Mapping[str, Any], medians_ms: Mapping[str, float]) -> bool:
    """Whether the fastest precision was found to keep the accuracy of f32."""
    kept = {check["precision"] for check in result["precisions"] if check["admissible"]}
    return bool(medians_ms) and min(medians_ms, key=medians_ms.__getitem__) in kept


def _mean_dice(result: Mapping[str, Any]) -> float:
    return float(np.mean([each["dice"]["mean"] for each in result["structures"].values()]))


def format_page(
    rows: Sequence[tuple[About, Mapping[str, np.ndarray]]],
    results: Sequence[Mapping[str, Any]],
    *,
    recipe: Recipe,
    threads: int,
) -> str:
    """Write the table; the ratio is between each network's own fastest precision."""
    trained = {RECIPES_OWN: read_shipped(recipe.deployment.name)}
    trained |= {result["network"]: result for result in results}
    medians = {
        about["network"]: {name: float(np.median(each)) for name, each in times.items()}
        for about, times in rows
    }
    checked = ", ".join(
        each["title"] for each in results if _keeps_dice(each, medians.get(each["network"], {}))
    )
    taught = ", ".join(each["title"] for each in results if each.get("taught")) or "none"
    slowest = min(medians[SLOWEST].values()) if SLOWEST in medians else None
    size = " x ".join(map(str, recipe.deployment.input.size_px))
    points = [
        Point(
            about["title"],
            min(medians[about["network"]].values()),
            _mean_dice(trained[about["network"]]),
            about["network"].startswith(OURS),
        )
        for about, _ in rows
        if about["network"] in trained
    ]
    lines = [
        "# Networks of three axes",
        "",
        *judge(points, CLAIM_MS),
        "",
        f"One volume of {size}, from tensor to logits, in OpenVINO, {threads} threads, all in "
        "turns. Ratios are between medians of each network's fastest precision. Dice is that of "
        f"the test patients of {recipe.data.name}, trained and scored at its own size; a network "
        "that was not trained has none, the recipe's own is that of its shipped bundle. Taught by "
        f"a network as well as by experts: {taught}. It is that of f32; on validation volumes the "
        f"fastest precision lost at most 0.005 of it in {checked}, and was not scored in the "
        "others. Written by `benchmarks/network_3d.py`.",
        "",
        *describe_machine(),
        "",
        "| network | parameters | f32 | bf16 | int8 | fastest, p50 / p95 ms | SwinUNETR-24 over it "
        "| epochs | Dice |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for about, times in rows:
        own = medians[about["network"]]
        best = min(own, key=own.__getitem__)
        cells = [f"{own[name]:.1f}" if name in own else "" for name in ("f32", "bf16", "int8")]
        ratio = "" if slowest is None else f"{slowest / own[best]:.1f}"
        result = trained.get(about["network"])
        dice, epochs = "not trained", ""
        if result is not None:
            structures = result["structures"].values()
            dice = " / ".join(f"{each['dice']['mean']:.3f}" for each in structures)
            epochs = str(result["epochs"])
        lines.append(
            f"| {about['title']} | {about['parameters'] / 1e6:.2f} M | {' | '.join(cells)} "
            f"| {own[best]:.1f} / {np.percentile(times[best], 95):.1f} ({best}) | {ratio} "
            f"| {epochs} | {dice} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--size", type=int, nargs=3, default=[96, 96, 96])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/peers"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    recipe = read_recipe(arguments.recipe)
    size_px = tuple(arguments.size)
    scaled = replace(recipe.deployment.input, size_px=size_px)
    recipe = replace(recipe, deployment=replace(recipe.deployment, input=scaled))
    rows = time_networks(
        arguments.names,
        recipe,
        runs=arguments.runs,
        threads=arguments.threads,
        rounds=arguments.rounds,
    )
    text = format_page(
        rows, read_results(arguments.results), recipe=recipe, threads=arguments.threads
    )
    print(text)
    write_text(arguments.output, text)
    times = {
        about["network"]: {name: each.round(3).tolist() for name, each in seen.items()}
        for about, seen in rows
    }
    write_text(arguments.output.with_suffix(".json"), json.dumps(times) + "\n")


if __name__ == "__main__":
    main()
