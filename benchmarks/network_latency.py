"""How long the network of a bundle takes beside MONAI's UNet, in one interleaved run.

Both go through the same sessions, one image at a time, in turns of a few calls each, so
that whatever else the machine does falls on all alike. MONAI's UNet has the widths of its
tutorials and random weights; its logits have full size and ours may not, so a variant of
ours with the logits brought to full size is timed too. Needs the extras train and dev.
"""

import argparse
import contextlib
import datetime
import io
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import cv2
import monai.networks.nets
import nncf
import numpy as np
import openvino
import torch

from bedside.bundle import Bundle, find_bundle, read_bundle
from bedside.export.parity import make_inputs
from bedside.runtime import BACKENDS, installed_backends, open_graph
from bedside.runtime.machine import describe_processor, read_load
from bedside.runtime.openvino import open_model
from bedside.system.atomic import write_text
from bedside.system.quiet import quiet

PACKAGES = ("openvino", "onnxruntime", "monai", "torch", "nncf", "numpy")
CALLS_A_TURN = 5
WARM_UPS = 5
"""Calls at the begin of a turn that are not timed: caches and clocks are cold after a rest."""
REST_S = 0.05
"""Before a turn: ONNX Runtime's threads spin on for a while, on a core that the next one needs."""


@dataclass(frozen=True)
class Candidate:
    """One row of the table: a network, how it is run, and the call that is timed."""

    network: str
    backend: str
    precision: str
    threads: int
    parameters: int
    call: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Network:
    """A network as graphs by precision."""

    name: str
    graphs: dict[str, bytes]
    parameters: int
    backends: tuple[str, ...]


def create_monai(shape: tuple[int, ...], num_classes: int, *, norm: str) -> Network:
    """Build MONAI's UNet as its tutorials set it, in f32.

    Its norm is "instance" by default, and "batch", which folds away, in other tutorials.
    """
    torch.manual_seed(0)
    unet = monai.networks.nets.UNet(
        spatial_dims=2,
        in_channels=shape[1],
        out_channels=num_classes,
        channels=(16, 32, 64, 128, 256),
        strides=(2, 2, 2, 2),
        num_res_units=2,
        norm=norm,
    )
    # Not through our export_onnx, whose comparison on a black image instance norms fail: they
    # turn the rounding errors of a constant into logits of size 1.
    with quiet():
        program = torch.onnx.export(
            unet.eval(), (torch.rand(shape),), dynamo=True, opset_version=20, verbose=False
        )
    graph = program.model_proto.SerializeToString()
    graphs = {"f32": graph}
    parameters = sum(parameter.numel() for parameter in unet.parameters())
    return Network(f"MONAI UNet, {norm} norm", graphs, parameters, ("openvino",))


def read_ours(bundle: Bundle) -> Network:
    """Take the graphs out of a bundle."""
    graphs = {precision: bundle.read_graph(precision) for precision in bundle.precisions}
    return Network(bundle.spec.name, graphs, bundle.card.parameters, installed_backends())


def list_candidates(
    network: Network, threads: int, *, full_size: tuple[int, int] | None = None
) -> list[Candidate]:
    """Open a network in every precision of every backend; `full_size` adds a resize."""
    candidates = []
    for backend in (row for row in BACKENDS if row.name in network.backends):
        for precision in backend.load().native_precisions():
            graph = network.graphs.get("f32" if precision == "bf16" else precision)
            if graph is None:
                continue
            session = open_graph(graph, backend=backend.name, precision=precision, threads=threads)
            call, name = session.predict, network.name
            if full_size is not None:
                call, name = enlarge(session.predict, full_size), f"{name}, {FULL_SIZE}"
            candidates.append(
                Candidate(name, backend.name, precision, threads, network.parameters, call)
            )
    return candidates


def open_native_int8(network: Network, shape: tuple[int, ...], *, threads: int) -> Candidate:
    """Quantize a network as OpenVINO's own model, which suits MONAI's UNet better than ONNX."""
    model = openvino.Core().read_model(network.graphs["f32"])
    with contextlib.redirect_stdout(io.StringIO()):
        quantized = nncf.quantize(model, nncf.Dataset(make_inputs(shape, count=8)))
    session = open_model(quantized, precision="int8", threads=threads)
    return Candidate(network.name, "openvino", "int8", threads, network.parameters, session.predict)


def enlarge(
    predict: Callable[[np.ndarray], np.ndarray], size_px: tuple[int, int]
) -> Callable[[np.ndarray], np.ndarray]:
    """Follow a network by a bilinear resize of each logit channel."""

    def call(tensor: np.ndarray) -> np.ndarray:
        logits = predict(tensor)
        full = np.empty((1, logits.shape[1], *size_px), np.float32)
        for source, target in zip(logits[0], full[0], strict=True):
            cv2.resize(source, size_px[::-1], dst=target, interpolation=cv2.INTER_LINEAR)
        return full

    return call


def measure(candidates: list[Candidate], tensor: np.ndarray, *, rounds: int) -> list[np.ndarray]:
    """Time the candidates in turns, with a rest and calls to warm up before each.

    Returns:
        Milliseconds of every timed call, by candidate.
    """
    times: list[list[float]] = [[] for _ in candidates]
    for _ in range(rounds):
        for candidate, seen in zip(candidates, times, strict=True):
            time.sleep(REST_S)
            for _ in range(WARM_UPS):
                candidate.call(tensor)
            for _ in range(CALLS_A_TURN):
                start = time.perf_counter()
                candidate.call(tensor)
                seen.append((time.perf_counter() - start) * 1e3)
    return [np.array(seen) for seen in times]


def describe_machine() -> list[str]:
    """Say what it was measured on."""
    return [
        f"- Processor: {describe_processor()}",
        f"- Load of the machine before and after, 1 minute: {LOAD_BEFORE:.1f}, {read_load():.1f}",
        f"- Date: {datetime.datetime.now(tz=datetime.UTC).date().isoformat()}; "
        f"Python {platform.python_version()}, "
        + ", ".join(f"{package} {version(package)}" for package in PACKAGES),
    ]


LOAD_BEFORE = read_load()
FULL_SIZE = "logits at full size"


def fastest(rows: list[tuple[Candidate, np.ndarray]], names: list[str], threads: int) -> float:
    """Find the smallest median of some networks' precisions and backends."""
    return min(
        float(np.median(times))
        for candidate, times in rows
        if candidate.network in names and candidate.threads == threads
    )


def format_table(rows: list[tuple[Candidate, np.ndarray]], baseline: list[str]) -> list[str]:
    """Write one line per candidate; the ratio is to the baseline's fastest."""
    lines = [
        "| network | parameters | backend | precision | threads | p50 ms | p95 ms | p99 ms "
        "| min ms | times faster than MONAI's fastest |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for candidate, times in rows:
        p50, p95, p99 = np.percentile(times, [50, 95, 99])
        ratio = fastest(rows, baseline, candidate.threads) / p50
        lines.append(
            f"| {candidate.network} | {candidate.parameters / 1e6:.3f} M | {candidate.backend} "
            f"| {candidate.precision} | {candidate.threads} | {p50:.2f} | {p95:.2f} | {p99:.2f} "
            f"| {times.min():.2f} | {ratio:.2f} |"
        )
    return lines


def run(bundle: Bundle, *, rounds: int, threads: list[int]) -> str:
    """Measure everything and write it up."""
    size_px = bundle.spec.input.size_px
    shape = (1, bundle.spec.input.channels, *size_px)
    num_classes = bundle.spec.model.num_classes
    ours = read_ours(bundle)
    theirs = [create_monai(shape, num_classes, norm=norm) for norm in ("instance", "batch")]
    tensor = make_inputs(shape)[-1]
    rows = []
    for count in threads:
        cv2.setNumThreads(count)
        candidates = [
            *(row for network in theirs for row in list_candidates(network, count)),
            *(open_native_int8(network, shape, threads=count) for network in theirs),
            *list_candidates(ours, count),
            *list_candidates(ours, count, full_size=size_px),
        ]
        rows += list(zip(candidates, measure(candidates, tensor, rounds=rounds), strict=True))
    baseline = [network.name for network in theirs]
    full_size = f"{ours.name}, {FULL_SIZE}"
    ratios = [
        f"{fastest(rows, baseline, count) / fastest(rows, [full_size], count):.2f} times at "
        f"{count} thread{'s' if count > 1 else ''}"
        for count in threads
    ]
    lines = [
        "# Network latency",
        "",
        f"One image of {size_px[0]} x {size_px[1]}, from tensor to logits, {rounds} rounds of "
        f"{CALLS_A_TURN} timed calls in turns. Written by `benchmarks/network_latency.py`.",
        "",
        *describe_machine(),
        f"- Bundle: {bundle.spec.name} {bundle.spec.version}, sha256 {bundle.sha256[:12]}, "
        f"{bundle.size_bytes} bytes; weights are "
        f"{'random' if bundle.card.untrained else 'trained'}",
        "- MONAI UNet: channels 16, 32, 64, 128, 256, two residual units, random weights",
        "",
        "MONAI's logits have full size. With ours brought to full size too, our fastest precision "
        f"is faster than MONAI's fastest: {', '.join(ratios)} (medians).",
        "",
        *format_table(rows, baseline),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", default="camus-4ch", help="path or name of a bundle")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    bundle = read_bundle(find_bundle(arguments.bundle))
    text = run(bundle, rounds=arguments.rounds, threads=arguments.threads)
    print(text)
    write_text(arguments.output, text)


if __name__ == "__main__":
    main()
