"""The frontier: mean Dice over milliseconds, ours and the classics, timed in one interleaved run.

Accuracy is read from the result files that `peers.train` writes. Time is measured here: every
network in every precision, in turns; of these the fastest counts that keeps the accuracy of
f32. A network without a result is timed with random weights, on which time does not depend,
and its row says `not trained`. Both are kept as small files, so that `--draw` makes table and
plot again without measuring. Needs `make peers`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from bedside.bundle import find_bundle, read_bundle
from bedside.errors import ExportError, SpecError, UsageError
from bedside.export.parity import make_inputs
from bedside.models import count_parameters
from bedside.runtime import open_graph
from bedside.runtime.openvino import OpenvinoSession
from bedside.spec import Recipe, read_recipe
from bedside.system.atomic import write_text
from frontier_page import CLAIM_MS, format_page
from frontier_plot import draw_frontier
from frontier_rows import make_rows
from network_latency import Candidate, describe_machine, enlarge, measure
from pareto import merge_seeds, read_last
from peers.graphs import choose_precisions, open_precisions, write_graphs
from peers.names import OURS
from peers.networks import PEERS, find_network
from peers.train import RESULTS, RUNS, to_folder

LATENCY = RESULTS.parent / "camus-frontier-latency.json"
About = dict[str, Any]
OWN = ("nano", "tiny", "small", "base")


def open_network(
    name: str, recipe: Recipe, *, runs: Path, threads: int
) -> tuple[About, dict[str, OpenvinoSession]]:
    """Open a network with random weights in every precision.

    Its graphs are kept beside the runs, for the next time.

    Returns:
        What its row says of it, and its sessions.
    """
    input_spec = recipe.deployment.input
    network = find_network(name, recipe.deployment.model, input_spec.size_px)
    shape = (1, input_spec.channels, *input_spec.size_px)
    torch.manual_seed(0)
    model = network.create()
    size = "x".join(map(str, input_spec.size_px))
    files = write_graphs(
        runs.parent / "frontier" / f"{to_folder(name)}-{size}",
        network,
        model,
        shape=shape,
        read_calibration=lambda: make_inputs(shape, count=8),
        int8="int8" in choose_precisions(),
    )
    about = {
        "network": name,
        "title": network.title,
        "source": network.source,
        "parameters": count_parameters(model),
    }
    return about, open_precisions(files, precisions=choose_precisions(), threads=threads)


def open_trained(
    result: Mapping[str, Any], *, runs: Path, threads: int
) -> tuple[About, dict[str, OpenvinoSession]] | None:
    """Open the graphs that a training left, if they are on this machine."""
    folder = runs / to_folder(result["network"], result["seed"]) / "graphs"
    files = {path.stem: path for path in folder.glob("*") if path.suffix != ".bin"}
    if not files:
        return None
    about = {key: result[key] for key in ("network", "title", "source", "parameters")}
    return about, open_precisions(files, precisions=choose_precisions(), threads=threads)


def open_bundle(name: str, *, threads: int) -> tuple[About, dict[str, OpenvinoSession]]:
    """Open a bundle of ours in every precision that it has."""
    bundle = read_bundle(find_bundle(name))
    graphs = {"f32": "f32", "bf16": "f32", "int8": "int8"}
    sessions = {
        precision: open_graph(
            bundle.read_graph(graphs[precision]),
            backend="openvino",
            precision=precision,
            threads=threads,
        )
        for precision in choose_precisions()
        if graphs[precision] in bundle.precisions
    }
    about = {
        "network": f"{OURS}{bundle.spec.name}",
        "title": f"bundle {bundle.spec.name}",
        "source": "bedside, this repository",
        "parameters": bundle.card.parameters,
    }
    return about, sessions


def open_all(
    names: Sequence[str],
    recipe: Recipe,
    *,
    results: Sequence[Mapping[str, Any]],
    runs: Path,
    threads: int,
) -> list[tuple[About, dict[str, OpenvinoSession]]]:
    """Open networks in every precision, trained where they can be."""
    trained = {result["network"]: result for result in results}
    opened = []
    for name in dict.fromkeys(names):
        found = None
        if name in trained:
            found = open_trained(trained[name], runs=runs, threads=threads)
        try:
            opened.append(found or open_network(name, recipe, runs=runs, threads=threads))
            print(f"opened {name}", flush=True)
        except (ExportError, SpecError, UsageError) as error:
            print(f"{name} is left out: {error}", flush=True)
    return opened


def measure_all(
    opened: Sequence[tuple[About, Mapping[str, OpenvinoSession]]],
    recipe: Recipe,
    *,
    threads: int,
    rounds: int,
) -> dict[str, Any]:
    """Time every network in every precision, in turns.

    Where logits are coarser than the image, bringing them to full size is counted.

    Returns:
        What the file of latencies holds.
    """
    size_px = recipe.deployment.input.size_px
    tensor = make_inputs((1, recipe.deployment.input.channels, *size_px))[-1]
    cv2.setNumThreads(threads)
    candidates = []
    for about, sessions in opened:
        name, parameters = about["network"], about["parameters"]
        for precision, session in sessions.items():
            call = session.predict
            if call(tensor).shape[2:] != size_px:
                call = enlarge(call, size_px)
            candidates.append(Candidate(name, "openvino", precision, threads, parameters, call))
    times = list(zip(candidates, measure(candidates, tensor, rounds=rounds), strict=True))
    rows = [
        about
        | {
            "times_ms": {
                candidate.precision: np.percentile(seen, [50, 95, 99]).round(3).tolist()
                for candidate, seen in times
                if candidate.network == about["network"]
            }
        }
        for about, _ in opened
    ]
    return {
        "input_px": list(size_px),
        "threads": threads,
        "rounds": rounds,
        "machine": describe_machine(),
        "rows": rows,
    }


def main() -> None:
    """Measure unless told only to draw, then write page and plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ours = [f"{OURS}{name}" for name in OWN]
    parser.add_argument("names", nargs="*", help="if not all, and all that have a result")
    parser.add_argument("--recipe", type=Path, default=Path("camus"))
    parser.add_argument("--runs", type=Path, default=RUNS, help="where peers.train put its runs")
    parser.add_argument("--bundles", nargs="*", default=[], help="bundles of ours to time too")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--draw", action="store_true", help="draw from the files, time nothing")
    parser.add_argument(
        "--results", type=Path, nargs="+", default=[RESULTS], help="of one network the last counts"
    )
    parser.add_argument("--range", type=float, nargs=2, default=CLAIM_MS, help="ms of the claim")
    parser.add_argument("--latency", type=Path, default=LATENCY)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    results = read_last(arguments.results)
    if not arguments.draw:
        recipe, threads = read_recipe(arguments.recipe), arguments.threads
        names = arguments.names or [*ours, *PEERS, *(result["network"] for result in results)]
        opened = open_all(names, recipe, results=results, runs=arguments.runs, threads=threads)
        opened += [open_bundle(name, threads=threads) for name in arguments.bundles]
        latency = measure_all(opened, recipe, threads=threads, rounds=arguments.rounds)
        write_text(arguments.latency, json.dumps(latency, indent=1) + "\n")
    latency = json.loads(arguments.latency.read_text())
    rows = make_rows(latency, merge_seeds(results))
    plot = arguments.output.with_suffix(".svg")
    points = [point for row in rows if (point := row.point)]
    if points:
        count = latency["threads"]
        title = f"ms for one image, {count} thread{'s' if count > 1 else ''}"
        unit = next(row.unit for row in rows if row.result)
        write_text(plot, draw_frontier(points, x_title=title, y_title=f"mean Dice, test {unit}"))
    low, high = arguments.range
    text = format_page(latency, rows, plot=plot.name, claim_ms=(low, high))
    write_text(arguments.output, text)
    print(text)


if __name__ == "__main__":
    main()
