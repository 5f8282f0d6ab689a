"""Cost of bundles on this machine: every backend, precision and number of threads, interleaved."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bedside.benchmarking.ceilings import BYTES, Ceilings, measure_ceilings
from bedside.benchmarking.cold import measure_cold_start
from bedside.benchmarking.operations import Operation, Spent, count_operations, profile
from bedside.bundle import Bundle
from bedside.runtime import Session, find_backend
from bedside.runtime.execution_modes import list_modes
from bedside.runtime.interleaved_timing import Latency, time_interleaved
from bedside.runtime.machine import describe_processor, read_load
from bedside.runtime.session import open_session
from bedside.runtime.table import graph_of


@dataclass(frozen=True)
class Cost:
    """What one way to run a bundle costs.

    Attributes:
        bundle: Its name.
        backend: Runtime.
        precision: "f32", "bf16" or "int8".
        threads: Threads of one call.
        certified: Whether the card certifies this precision in this runtime.
        p50_ms: Median time of a call.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        best_ms: The shortest.
        per_second: Calls a second at the median, one after the other.
        peak_mb: Most memory of a new process, 2**20 bytes each.
        cold_start_ms: From the start of a process to the first logits.
        graph_bytes: Size of its graph in the bundle, before the bundle is compressed.
        shortest_ms: What the machine's ceilings allow at best: its products at the speed of a
            large matrix product, or its weights, image and logits at that of memory.
        of_ceiling: `shortest_ms` as a part of `best_ms`.
    """

    bundle: str
    backend: str
    precision: str
    threads: int
    certified: bool
    p50_ms: float
    p95_ms: float
    p99_ms: float
    best_ms: float
    per_second: float
    peak_mb: float
    cold_start_ms: float
    graph_bytes: int
    shortest_ms: float
    of_ceiling: float


@dataclass(frozen=True)
class Group:
    """Time per operation of one way to run a bundle.

    Attributes:
        kind: Kind of operation, as the runtime calls it.
        milliseconds: Time that it takes, all of this kind together.
        count: Number of operations.
        kernels: What does them, most time first.
    """

    kind: str
    milliseconds: float
    count: int
    kernels: tuple[str, ...]


@dataclass(frozen=True)
class Placed:
    """One operation beside the machine's ceilings.

    Attributes:
        name: Its name.
        kind: Kind of operation.
        intensity: Operations for each byte that it reads or writes.
        gflops: 1e9 operations a second, as it ran.
        milliseconds: Time that it took.
    """

    name: str
    kind: str
    intensity: float
    gflops: float
    milliseconds: float


@dataclass(frozen=True)
class BundleCosts:
    """Measurements of some bundles.

    Attributes:
        machine: The processor, in a line.
        load: Load of the machine before; above 0.5 times are too long.
        costs: One for each way to run each bundle.
        ceilings: One for each number of threads.
        size_bytes: Size of each bundle's file.
        gflop: 1e9 operations of each bundle's network.
        where: By "bundle, precision": time per operation in OpenVINO, first number of threads.
        placed: By the same: products and convolutions beside the ceilings.
    """

    machine: str
    load: float
    costs: tuple[Cost, ...]
    ceilings: tuple[Ceilings, ...]
    size_bytes: dict[str, int]
    gflop: dict[str, float]
    where: dict[str, tuple[Group, ...]]
    placed: dict[str, tuple[Placed, ...]]


def measure_bundles(
    bundles: Sequence[Bundle],
    *,
    threads: Sequence[int] = (1,),
    seconds: float = 10.0,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> BundleCosts:
    """Measure every way to run some bundles, interleaved.

    Args:
        bundles: What to measure.
        threads: Numbers of threads.
        seconds: Time for the turns of all.
        on_stage: Called with what is being done.

    Raises:
        BackendError: If no runtime is installed.
    """
    find_backend("auto")  # raises if none is installed
    load = read_load()
    ways = [
        _Way(bundle, backend, precision, count)
        for bundle in bundles
        for backend, precision in list_modes(bundle)
        for count in dict.fromkeys(threads)
    ]
    precisions = tuple(dict.fromkeys(way.precision for way in ways))
    on_stage("measuring what the machine can do")
    counts = list(dict.fromkeys(threads))
    ceilings = {count: measure_ceilings(precisions, threads=count) for count in counts}
    on_stage(f"timing {len(ways)} ways, interleaved, for {seconds:g} s or more")
    latencies = time_interleaved({way.key: way.open() for way in ways}, total_s=seconds)
    # Before and after: other load lowers a ceiling, which would flatter.
    again = {count: measure_ceilings(precisions, threads=count) for count in counts}
    ceilings = {count: ceilings[count].raised_to(again[count]) for count in counts}
    for way in ways:
        ceilings[way.threads] = _raise(ceilings[way.threads], way, latencies[way.key])
    costs = []
    for way in ways:
        on_stage(f"starting {way.key} afresh")
        costs.append(_cost(way, latencies[way.key], ceilings[way.threads]))
    where, placed = _look_inside(ways, next(iter(ceilings.values())))
    operations = {
        bundle.spec.name: count_operations(bundle.read_graph("f32")) for bundle in bundles
    }
    return BundleCosts(
        machine=describe_processor(),
        load=load,
        costs=tuple(costs),
        ceilings=tuple(ceilings.values()),
        size_bytes={bundle.spec.name: bundle.size_bytes for bundle in bundles},
        gflop={name: round(sum(o.flops for o in ops) / 1e9, 4) for name, ops in operations.items()},
        where=where,
        placed=placed,
    )


@dataclass(frozen=True)
class _Way:
    """One way to run one bundle."""

    bundle: Bundle
    backend: str
    precision: str
    threads: int

    @property
    def key(self) -> str:
        plural = "s" if self.threads > 1 else ""
        name = f"{self.bundle.spec.name} in {self.backend} {self.precision}"
        return f"{name}, {self.threads} thread{plural}"

    @property
    def graph(self) -> bytes:
        return self.bundle.read_graph(graph_of(self.precision))

    def open(self) -> Callable[[], object]:
        session: Session = open_session(
            self.bundle, backend=self.backend, precision=self.precision, threads=self.threads
        )
        tensor = self.tensor()
        return lambda: session.predict(tensor)

    def tensor(self) -> np.ndarray:
        spec = self.bundle.spec
        shape = (1, spec.input.channels, *spec.input.size_px)
        return np.random.default_rng(0).random(shape, dtype=np.float32)


def _cost(way: _Way, latency: Latency, ceilings: Ceilings) -> Cost:
    cold = measure_cold_start(
        way.bundle.path, backend=way.backend, precision=way.precision, threads=way.threads
    )
    products, spec = _products(way.bundle), way.bundle.spec
    # What lies between operations may stay in caches; weights, image and logits come and go.
    image = spec.input.channels * math.prod(spec.input.size_px)
    logits = spec.model.num_classes * math.prod(spec.input.size_px)
    logits //= spec.model.logit_stride**spec.model.spatial_dims
    shortest = ceilings.shortest_ms(
        sum(each.flops for each in products),
        sum(each.weights for each in products) + image + logits,
        way.precision,
    )
    return Cost(
        bundle=way.bundle.spec.name,
        backend=way.backend,
        precision=way.precision,
        threads=way.threads,
        certified=way.bundle.card.certifies(way.backend, way.precision),
        p50_ms=round(latency.p50_ms, 3),
        p95_ms=round(latency.p95_ms, 3),
        p99_ms=round(latency.p99_ms, 3),
        best_ms=round(latency.best_ms, 3),
        per_second=round(1e3 / latency.p50_ms, 1),
        peak_mb=cold.peak_mb,
        cold_start_ms=cold.first_logits_ms,
        graph_bytes=len(way.graph),
        shortest_ms=round(shortest, 3),
        of_ceiling=round(shortest / latency.best_ms, 3),
    )


def _raise(ceilings: Ceilings, way: _Way, latency: Latency) -> Ceilings:
    """Raise a ceiling that a network exceeded: on a busy machine it was measured too low."""
    flops = sum(each.flops for each in _products(way.bundle))
    reached = round(flops / latency.best_ms / 1e6, 1)
    gflops = ceilings.gflops | {way.precision: max(ceilings.gflops[way.precision], reached)}
    return replace(ceilings, gflops=gflops)


def _products(bundle: Bundle) -> list[Operation]:
    """Operations that no runtime fuses away: convolutions and products."""
    operations = count_operations(bundle.read_graph("f32"))
    return [each for each in operations if each.kind in ("Convolution", "depthwise", "MatMul")]


def _look_inside(
    ways: Sequence[_Way], ceilings: Ceilings
) -> tuple[dict[str, tuple[Group, ...]], dict[str, tuple[Placed, ...]]]:
    """Let OpenVINO time its operations, for each precision of each bundle."""
    where, placed = {}, {}
    for way in ways:
        if way.backend != "openvino" or way.threads != ceilings.threads:
            continue
        spent = profile(way.graph, way.tensor(), precision=way.precision, threads=way.threads)
        key = f"{way.bundle.spec.name}, {way.precision}"
        where[key] = _group(spent)
        placed[key] = _place(spent, _products(way.bundle), way.precision)
    return where, placed


def _group(spent: Sequence[Spent]) -> tuple[Group, ...]:
    kinds: dict[str, list[Spent]] = defaultdict(list)
    for each in spent:
        kinds[each.kind].append(each)
    groups = [
        Group(
            kind,
            round(sum(each.milliseconds for each in own), 4),
            len(own),
            tuple(dict.fromkeys(each.kernel for each in own)),
        )
        for kind, own in kinds.items()
    ]
    return tuple(sorted(groups, key=lambda group: -group.milliseconds))


def _place(
    spent: Sequence[Spent], operations: Sequence[Operation], precision: str
) -> tuple[Placed, ...]:
    """Match what ran with what was counted, by name; what was renamed is left out."""
    by_name = {each.name: each for each in operations}
    found = []
    for each in spent:
        operation = by_name.get(each.name)
        if operation is not None:
            found.append(
                Placed(
                    each.name,
                    operation.kind,
                    round(operation.flops / operation.elements / BYTES[precision], 3),
                    round(operation.flops / each.milliseconds / 1e6, 3),
                    round(each.milliseconds, 4),
                )
            )
    return tuple(found)
