"""What zeros among the weights are worth: time in both runtimes, and bytes of the bundle.

The network of a finished run is made sparse as it is, without training on; its accuracy is no
matter here, because neither time nor size knows of it.
"""

import argparse
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from bedside.bundle import read_bundle, write_bundle
from bedside.bundle.shipped import find_bundle
from bedside.compression.quantize import quantize_int8
from bedside.compression.sparsity import apply_masks, find_masks
from bedside.export.onnx import export_onnx
from bedside.export.parity import make_inputs
from bedside.models import TrainedNetwork, count_parameters
from bedside.runtime import installed_backends, open_graph
from bedside.runtime.interleaved_timing import Latency, time_interleaved
from bedside.runtime.machine import describe_processor, read_load
from bedside.spec import Recipe, from_mapping
from bedside.system.atomic import write_text
from bedside.training.checkpoint import load_tensors, read_json
from bedside.training.folder import RUN, WEIGHTS

SETTINGS = {
    "none": {},
    "50 %": {"fraction": 0.5},
    "75 %": {"fraction": 0.75},
    "90 %": {"fraction": 0.9},
    "2:4": {"pattern": (2, 4)},
}
SECONDS = 20.0


def open_run(run: Path) -> tuple[TrainedNetwork, tuple[int, ...]]:
    """Read a finished run: its network, and the shape of its input."""
    deployment = from_mapping(Recipe, read_json(run / RUN)["recipe"]).deployment
    network = TrainedNetwork(deployment.model, load_tensors(run / WEIGHTS)[0])
    return network, (1, deployment.input.channels, *deployment.input.size_px)


def make_graphs(network: TrainedNetwork, shape: tuple[int, ...]) -> dict[str, dict[str, bytes]]:
    """Export each degree of sparsity, in f32 and in 8 bits."""
    graphs = {}
    for name, setting in SETTINGS.items():
        sparse = apply_masks(network, find_masks(network, **setting)) if setting else network
        f32 = export_onnx(sparse.create(), input_shape=shape)
        graphs[name] = {"f32": f32, "int8": quantize_int8(f32, make_inputs(shape, count=8))}
    return graphs


def time_graphs(graphs: dict[str, dict[str, bytes]], shape: tuple[int, ...]) -> dict:
    """Time all graphs of a precision in turns, on one thread: by precision, backend and name."""
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    times: dict[tuple[str, str], dict[str, Latency]] = {}
    for precision in ("f32", "int8"):
        for backend in installed_backends():
            sessions = {
                name: open_graph(graph[precision], backend=backend, precision=precision, threads=1)
                for name, graph in graphs.items()
            }
            calls = {name: lambda s=s: s.predict(image) for name, s in sessions.items()}
            times[precision, backend] = time_interleaved(calls, total_s=SECONDS)
    return times


def size_kb(bundle: str, graph: bytes) -> float:
    """Bytes of a bundle with this graph alone, in kB."""
    whole = read_bundle(find_bundle(bundle))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sparse.bedside"
        graphs = {"f32": graph}
        write_bundle(path, spec=whole.spec, card=whole.card, graphs=graphs, split=whole.split)
        return path.stat().st_size / 1000


def write_page(run: Path, bundle: str, output: Path) -> None:
    """Measure, and write the table."""
    network, shape = open_run(run)
    graphs = make_graphs(network, shape)
    before = read_load()
    times = time_graphs(graphs, shape)
    kinds = list(times)
    count = count_parameters(network.create())
    lines = [
        "# Sparsity",
        "",
        "Zeros among the weights, by magnitude within each layer, and what they are worth: "
        f"`{bundle}`, {count / 1e6:.2f} M parameters, {' x '.join(map(str, shape[2:]))}, one "
        "thread. Written by `benchmarks/sparsity.py`.",
        "",
        f"- Processor: {describe_processor()}",
        f"- Load of the machine before and after, 1 minute: {before:.1f}, {read_load():.1f}",
        f"- Date: {datetime.now(UTC).date()}; torch {torch.__version__}",
        "- Times are medians over all calls in ms, all rows of a column in turns, and in "
        "brackets the best. The size is that of a bundle with the one graph, deflated.",
        "",
        "| zeros | f32 kB | int8 kB | " + " | ".join(f"{b} {p} ms" for p, b in kinds) + " |",
        "|---" * (3 + len(kinds)) + "|",
    ]
    for name, graph in graphs.items():
        sizes = [f"{size_kb(bundle, graph[precision]):.0f}" for precision in ("f32", "int8")]
        spans = [times[kind][name] for kind in kinds]
        cells = [f"{span.p50_ms:.2f} ({span.best_ms:.2f})" for span in spans]
        lines.append(f"| {' | '.join([name, *sizes, *cells])} |")
    write_text(output, "\n".join(lines) + "\n")


def main() -> None:
    """Measure a finished run, and write the page beside this script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder of a network of two axes")
    parser.add_argument("--bundle", default="camus-4ch", help="whose spec and card are taken")
    parser.add_argument("-o", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    write_page(arguments.run, arguments.bundle, arguments.o)


if __name__ == "__main__":
    main()
