"""Whether a source meets a budget as it is, before anything is trained or scored."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bedside.autopilot.latency.timing import Clock, Setting, Timed
from bedside.autopilot.source import Source
from bedside.autopilot.target import Target
from bedside.build import write_draft
from bedside.bundle import read_bundle
from bedside.export.onnx import export_onnx
from bedside.runtime.execution_modes import certified_modes
from bedside.runtime.table import graph_of


@dataclass(frozen=True)
class AlreadyMet:
    """A source that needs no compression.

    Attributes:
        source: What it is, in words with its hash.
        target: The budget that it meets.
        precision: The precision in which it does.
        ms: Time of one input in it; None where no time was asked for.
        size_bytes: Size of its bundle.
    """

    source: str
    target: Target
    precision: str
    ms: float | None
    size_bytes: int


def find_already_met(
    source: Source, target: Target, *, clock: Clock, timing_s: float
) -> AlreadyMet | None:
    """Measure size, and then time, of a source beside its budget.

    A bundle is timed in each precision that is certified for the goal's backend; a run, which
    has no certificates, in f32.

    Args:
        source: What is to be compressed.
        target: The budget.
        clock: How graphs are timed.
        timing_s: Seconds that each precision is timed for.

    Returns:
        In which precision it meets the budget and what it takes; None if it does not.
    """
    graphs, size_bytes = _read_graphs(source, target)
    if target.max_size_bytes is not None and size_bytes > target.max_size_bytes:
        return None
    if target.target_ms is None:
        return AlreadyMet(source.about, target, "f32", None, size_bytes)
    network = source.network.spec
    shape = (1, network.in_channels, *source.finished.recipe.deployment.input.size_px)
    timed = {
        name: Timed(graph, shape, Setting(target.backend, name, target.threads))
        for name, graph in graphs.items()
    }
    times = clock(timed, timing_s * len(timed))
    best = min(times, key=lambda name: times[name])
    if times[best] > target.target_ms:
        return None
    return AlreadyMet(source.about, target, best, times[best], size_bytes)


def _read_graphs(source: Source, target: Target) -> tuple[Mapping[str, bytes], int]:
    """Return the graph for each precision to time, and the size in bytes of the bundle."""
    if source.from_bundle:
        bundle = read_bundle(source.path)
        certified = certified_modes(bundle, backend=target.backend)
        names = {"f32"} | {precision for _, precision in certified}
        return {name: bundle.read_graph(graph_of(name)) for name in names}, bundle.size_bytes
    network = source.network.create()
    spec = source.finished.recipe.deployment
    shape = (1, source.network.spec.in_channels, *spec.input.size_px)
    graph = export_onnx(network, input_shape=shape, quickly=True)
    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch) / "draft.bedside"
        write_draft(draft, source.finished, network, {"f32": graph})
        return {"f32": graph}, draft.stat().st_size
