"""A shipped network beside the large one of its recipe, in equal precision: time alone.

The large networks' weights are gone, and time does not depend on them: they have random ones here.
What Dice each has stands in `compressed.md`.
"""

import argparse
from pathlib import Path

import torch

from bedside.autopilot.latency.timing import Setting, Timed, time_graphs
from bedside.bundle import find_bundle, read_bundle
from bedside.compression.quantize import quantize_int8
from bedside.export.onnx import export_onnx
from bedside.export.parity import make_inputs
from bedside.models import create
from bedside.runtime.machine import describe_processor, read_load
from bedside.spec.recipe import Recipe, read_recipe
from bedside.system.atomic import write_text

PAIRS = {"camus-4ch": "camus-base.toml"}
PRECISIONS = ("f32", "bf16", "int8")
RECIPES = Path(__file__).parents[1] / "src" / "bedside" / "recipes"


def export_large(recipe: Recipe) -> tuple[bytes, int]:
    """Export the network of a recipe with random weights, and count them."""
    torch.manual_seed(0)
    model = create(recipe.deployment.model).eval()
    size_px = recipe.deployment.input.size_px
    graph = export_onnx(model, input_shape=(1, recipe.deployment.input.channels, *size_px))
    return graph, sum(parameter.numel() for parameter in model.parameters())


def measure(name: str, recipe: Recipe, *, threads: int, total_s: float) -> list[str]:
    """Time both networks in each precision, all in turns; a row a precision."""
    bundle = read_bundle(find_bundle(name))
    shape = (1, bundle.spec.input.channels, *bundle.spec.input.size_px)
    large, parameters = export_large(recipe)
    graphs = {"large": large, "small": bundle.read_graph("f32")}
    eight = {each: quantize_int8(graph, make_inputs(shape)) for each, graph in graphs.items()}
    timed = {
        f"{each} {precision}": Timed(
            (eight if precision == "int8" else graphs)[each],
            shape,
            Setting("openvino", precision, threads),
        )
        for precision in PRECISIONS
        for each in graphs
    }
    times = time_graphs(timed, total_s)
    return [
        f"| {name} | {bundle.card.parameters / 1e6:.2f} M, {parameters / 1e6:.2f} M | {precision} "
        f"| {threads} | {times[f'small {precision}']:.2f} | {times[f'large {precision}']:.2f} "
        f"| {times[f'large {precision}'] / times[f'small {precision}']:.1f} |"
        for precision in PRECISIONS
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="for each network and threads")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    load = read_load()
    rows = [
        row
        for name, file in PAIRS.items()
        for threads in arguments.threads
        for row in measure(
            name, read_recipe(RECIPES / file), threads=threads, total_s=arguments.seconds
        )
    ]
    lines = [
        "# Shipped and large networks in equal precision",
        "",
        "Time of one input in OpenVINO, all networks and precisions of a row's block in turns. The "
        "large network is that of the recipe's larger sibling with random weights, on which time "
        "does not depend; in 8 bits both are quantized on made inputs. Each at its own stride of "
        "logits. Written by `benchmarks/equal_precision.py`.",
        "",
        f"- Processor: {describe_processor()}",
        f"- Load of the machine before and after, 1 minute: {load:.1f}, {read_load():.1f}",
        "",
        "| network | weights, of it and of the large one | precision | threads | ms | large, ms "
        "| times as fast |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]
    page = "\n".join(lines) + "\n"
    write_text(arguments.output, page)
    print(page)


if __name__ == "__main__":
    main()
