"""Graph, latency, size and accuracy of a candidate."""

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bedside.autopilot.finetune import FinetuneSetup
from bedside.autopilot.latency.blocks import Empty, trace_block
from bedside.autopilot.latency.device_table import DeviceTable, Fit
from bedside.autopilot.latency.timing import Clock, Setting, Timed, time_graphs
from bedside.autopilot.latency.uncalibrated_int8 import quantize_uncalibrated
from bedside.autopilot.scoring import Score, score_network
from bedside.autopilot.source import Source
from bedside.autopilot.target import CompressionSettings, Target
from bedside.build import read_calibration, write_draft
from bedside.compression.importance import Importance, Method, measure_importance
from bedside.compression.quantize import quantize_int8
from bedside.export.onnx import export_onnx
from bedside.models import TrainedNetwork
from bedside.runtime import open_graph
from bedside.runtime.execution_modes import computes_right
from bedside.runtime.table import find_backend
from bedside.segment import Segmenter
from bedside.spec import ModelSpec
from bedside.training.tasks import Supervised

REFERENCE = "reference"
# Networks whose graphs are kept: the source, the present network, and its candidate.
_KEPT = 3


@dataclass(frozen=True)
class Resources:
    """What a run or a search works with, besides target and settings.

    Attributes:
        cache: Folder of preprocessed cases; None for none.
        tables: Folder of the tables of block times; None for the user's cache.
        threads: Threads of torch; None leaves its choice.
        clock: How graphs are timed.
    """

    cache: Path | None = None
    tables: Path | None = None
    threads: int | None = None
    clock: Clock = time_graphs


@dataclass(frozen=True)
class Candidate:
    """A network, and how it is to be computed.

    Attributes:
        network: The network.
        precision: "f32", "bf16" or "int8".
    """

    network: TrainedNetwork
    precision: str = "f32"


class CandidateEvaluator:
    """Measures candidates on one machine, with one source's data.

    Args:
        source: What is compressed.
        target: The budget, with threads and runtime.
        effort: Seconds of timing, images of calibration.
        setup: Training examples and teachers.
        clock: How graphs are timed.
        tables: Folder of the tables of block times; None for the user's cache.
    """

    def __init__(
        self,
        source: Source,
        target: Target,
        effort: CompressionSettings,
        *,
        setup: FinetuneSetup,
        clock: Clock = time_graphs,
        tables: Path | None = None,
    ) -> None:
        self.source, self.target, self.effort, self.setup = source, target, effort, setup
        self._clock, self._tables = clock, tables
        self._known: dict[str, DeviceTable] = {}
        self._scored: tuple[TrainedNetwork, dict[str, Importance]] | None = None
        self._exported: list[tuple[TrainedNetwork, bool, dict[str, bytes]]] = []

    @property
    def size_px(self) -> tuple[int, ...]:
        """Size of the input."""
        return self.source.finished.recipe.deployment.input.size_px

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, C, *S) of the input."""
        return (1, self.source.network.spec.in_channels, *self.size_px)

    def setting(self, precision: str) -> Setting:
        """Setting of a precision on this machine."""
        return Setting(self.target.backend, precision, self.target.threads)

    def precisions(self) -> tuple[str, ...]:
        """Precisions that are faster on this processor, f32 first."""
        backend = find_backend(self.target.backend)
        native = backend.load().native_precisions()
        faster = (name for name in backend.faster_than_f32 if name in native)
        return ("f32", *(name for name in faster if computes_right(backend.name, name)))

    def time(
        self,
        candidates: Mapping[str, Candidate],
        *,
        exact: bool = False,
        total_s: float | None = None,
    ) -> dict[str, float]:
        """Time candidates and the source beside each other, in ms.

        Args:
            candidates: By name; the source is added as `REFERENCE`, in f32.
            exact: Whether graphs as a bundle holds them are timed, which takes longer to make.
            total_s: Seconds for all of them together, if not what the effort allows.

        Returns:
            The time of each, the source's included.
        """
        graphs = {REFERENCE: self._timed(Candidate(self.source.network), exact=exact)}
        for name, candidate in candidates.items():
            graphs[name] = self._timed(candidate, exact=exact)
        allowed_s = self.effort.timing_s * len(graphs) / 2
        return dict(self._clock(graphs, allowed_s if total_s is None else total_s))

    def time_empty(self) -> float:
        """Time a graph without work, in f32."""
        graph = trace_block(Empty(self.source.network.spec).eval(), self.shape)
        timed = Timed(graph, self.shape, self.setting("f32"))
        return self._clock({"empty": timed}, self.effort.timing_s / 4)["empty"]

    def _timed(self, candidate: Candidate, *, exact: bool) -> Timed:
        if exact:
            graphs = self.graphs(candidate)
            graph = graphs.get(candidate.precision, graphs["f32"])
        else:
            is_source = candidate.network is self.source.network
            graph = self._source_trace if is_source else self._trace(candidate.network)
            if candidate.precision == "int8":
                graph = quantize_uncalibrated(graph)
        return Timed(graph, self.shape, self.setting(candidate.precision))

    def _trace(self, network: TrainedNetwork) -> bytes:
        return trace_block(network.create(), self.shape)

    @functools.cached_property
    def _source_trace(self) -> bytes:
        """Graph of the source for inexact timings, which is beside every candidate."""
        return self._trace(self.source.network)

    def graphs(self, candidate: Candidate, *, final: bool = False) -> dict[str, bytes]:
        """Graphs of a candidate's bundle, checked against torch; the last are kept.

        Args:
            candidate: The network, and whether it is wanted in 8 bits.
            final: Whether they are made as `build_bundle` makes them, by an exporter that takes
                ten times as long; else as closely as another comes to that.
        """
        network = candidate.network
        known = [each for each in self._exported if each[0] is network and each[1] == final]
        if not known:
            graph = export_onnx(network.create(), input_shape=self.shape, quickly=not final)
            known = [(network, final, {"f32": graph})]
        others = [each for each in self._exported if each is not known[0]]
        self._exported[:] = [*others[1 - _KEPT :], known[0]]
        graphs = known[0][2]
        if candidate.precision != "int8":
            return {"f32": graphs["f32"]}
        if "int8" not in graphs:
            graphs["int8"] = quantize_int8(graphs["f32"], self.calibration)
        return dict(graphs)

    @functools.cached_property
    def calibration(self) -> list[np.ndarray]:
        """The images that the bundle will be calibrated with."""
        return read_calibration(self.source.finished)

    def size(self, candidate: Candidate) -> int:
        """Return the size in bytes of the bundle that a candidate would make."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "draft.bedside"
            finished = self.source.with_network(candidate.network)
            write_draft(path, finished, candidate.network.create(), self.graphs(candidate))
            return path.stat().st_size

    def score(
        self,
        candidate: Candidate,
        *,
        part: str = "val",
        final: bool = False,
        on_case: Callable[[int], None] | None = None,
    ) -> Score:
        """Segment the patients of a part; `final` is as in `graphs`."""
        graphs = self.graphs(candidate, final=final)
        session = open_graph(
            graphs.get(candidate.precision, graphs["f32"]),
            backend=self.target.backend,
            precision=candidate.precision,
            threads=self.target.threads,
        )
        spec = dataclasses.replace(
            self.source.finished.recipe.deployment, model=candidate.network.spec
        )
        cases = self.source.finished.part(part)
        return score_network(Segmenter(spec, session), cases, on_case=on_case)

    def table(self, precision: str) -> DeviceTable:
        """Return the table of block times for a precision."""
        if precision not in self._known:
            self._known[precision] = DeviceTable(
                self.setting(precision), folder=self._tables, clock=self._clock
            )
        return self._known[precision]

    def fit(self, precision: str) -> Fit:
        """Calibrate the table of a precision, unless that was done on this machine before."""
        return self.table(precision).calibrate(self.source.network.spec, self.size_px)

    def predict(self, specs: Sequence[ModelSpec], precision: str) -> list[float]:
        """Predict the times of networks from their blocks, in ms; new blocks are timed."""
        table, fit = self.table(precision), self.fit(precision)
        table.measure(specs, self.size_px)
        return [fit.predict(table.add_up(spec, self.size_px)) for spec in specs]

    def importance(self, network: TrainedNetwork, method: Method) -> Importance:
        """Measure how much each unit of a network matters, on training images; kept for one.

        Args:
            network: The network.
            method: As in `compression.importance`.
        """
        if self._scored is None or self._scored[0] is not network:
            self._scored = (network, {})
        known = self._scored[1]
        if method not in known:
            recipe = self.setup.recipe
            task = Supervised(recipe.training, num_classes=network.spec.num_classes)
            batches = list(self.setup.some_batches(self.effort.calibration_images))
            known[method] = measure_importance(network, batches, task, method=method)
        return known[method]
