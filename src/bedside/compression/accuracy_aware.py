"""Int8 with as few layers in f32 as keep every structure accurate."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from bedside.compression.quantize import prepare, quantize_model, restore_grids, tidy
from bedside.errors import ExportError

Score = Callable[[bytes], Sequence[float]]
_SKIPPED = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class KeptLayer:
    """A layer that stays in f32, and why.

    Attributes:
        name: Path of the convolution, or the operation and the convolution before it.
        gain: What each structure's score gains if this layer alone is in f32.
    """

    name: str
    gain: tuple[float, ...]


@dataclass(frozen=True)
class MixedGraph:
    """A graph that computes in 8 bits but for some layers.

    Attributes:
        graph: Serialized ONNX.
        kept: The layers in f32, the most helpful first.
        layers: How many layers could be in 8 bits.
        reference: Score of each structure in f32.
        plain: The same with all layers in 8 bits.
        reached: The same of `graph`.
    """

    graph: bytes
    kept: tuple[KeptLayer, ...]
    layers: int
    reference: tuple[float, ...]
    plain: tuple[float, ...]
    reached: tuple[float, ...]


def quantize_int8_accuracy_aware(
    graph: bytes, calibration: Sequence[np.ndarray], score: Score, max_drop: float
) -> MixedGraph:
    """Quantize to 8 bits, but for the fewest layers that keep every structure accurate.

    Each layer is tried in f32 alone and ranked by what the structures that fell short gain;
    as many are taken back as it needs, and those that turn out not to be needed are
    quantized again. Nothing is tried where 8 bits are good enough. Otherwise `score` is
    called about as often as there are layers.

    Args:
        graph: Serialized ONNX from `export_onnx`.
        calibration: Tensors (1, C, *S) float32, preprocessed as in use.
        score: From a serialized graph to one number a structure, such as mean Dice over
            validation patients; the higher the better.
        max_drop: Most that each structure may lose against f32.

    Raises:
        UsageError: If calibration images are missing or do not fit.
        ExportError: If a structure loses more although every layer is in f32 again.

    Source:
        As NNCF's accuracy control, which supports a single score and OpenVINO models only.
    """
    search = _Search(graph, calibration, score, max_drop)
    plain = search.measure(())
    ranked = [] if search.passes(plain) else search.rank(plain)
    chosen = search.choose([layer.name for layer in ranked])
    layers = {layer.name: layer for layer in ranked}
    return MixedGraph(
        graph=search.make(chosen),
        kept=tuple(layers[name] for name in chosen),
        layers=len(search.nodes),
        reference=search.reference,
        plain=plain,
        reached=search.measure(chosen),
    )


class _Search:
    """A quantized graph, its float original, and the scores of mixtures that were tried."""

    def __init__(
        self, graph: bytes, calibration: Sequence[np.ndarray], score: Score, max_drop: float
    ) -> None:
        self.original, weights = prepare(graph)
        copied = onnx.ModelProto()
        copied.CopyFrom(self.original)
        self.quantized = quantize_model(copied, calibration)
        restore_grids(self.quantized, weights)
        self.nodes = dict(name_layers(self.quantized, self.original))
        self.score, self.max_drop = score, max_drop
        self.reference = tuple(score(graph))
        self.scores: dict[frozenset[str], tuple[float, ...]] = {}

    def make(self, kept: Collection[str]) -> bytes:
        """Return the graph with some layers in f32."""
        model = onnx.ModelProto()
        model.CopyFrom(self.quantized)
        restore_layers(model, self.original, {self.nodes[name] for name in kept})
        return tidy(model)

    def measure(self, kept: Collection[str]) -> tuple[float, ...]:
        """Score the graph with some layers in f32; each mixture once."""
        key = frozenset(kept)
        if key not in self.scores:
            self.scores[key] = tuple(self.score(self.make(kept)))
        return self.scores[key]

    def passes(self, scores: tuple[float, ...]) -> bool:
        """Whether no structure has lost too much."""
        return self._shortfall(scores) <= 0

    def _shortfall(self, scores: tuple[float, ...]) -> float:
        drops = [a - b for a, b in zip(self.reference, scores, strict=True)]
        # Scores are rounded when they are written down; so is the bound.
        return round(max(drops) - self.max_drop, 9)

    def rank(self, plain: tuple[float, ...]) -> list[KeptLayer]:
        """All layers, by how much f32 in them helps the worst structure."""
        gains = {
            name: tuple(b - a for a, b in zip(plain, self.measure((name,)), strict=True))
            for name in self.nodes
        }
        ordered = sorted(
            gains, key=lambda name: (self._shortfall(self.measure((name,))), -sum(gains[name]))
        )
        return [KeptLayer(name, gains[name]) for name in ordered]

    def choose(self, ranked: Sequence[str]) -> list[str]:
        """The first few layers that suffice, without those that turn out not to be needed.

        Raises:
            ExportError: If all of them do not suffice.
        """
        if not self.passes(self.measure(ranked)):
            raise ExportError(
                f"with every layer back in f32 a structure still falls short by "
                f"{self._shortfall(self.measure(ranked)):.4f} of max_drop, {self.max_drop:g}. "
                "Allow more, or leave this network in f32."
            )
        count = 0
        while not self.passes(self.measure(ranked[:count])):
            count = max(1, 2 * count)
        enough, few = min(count, len(ranked)), count // 2
        while enough - few > 1:
            middle = (enough + few) // 2
            if self.passes(self.measure(ranked[:middle])):
                enough = middle
            else:
                few = middle
        chosen = list(ranked[:enough])
        for name in reversed(ranked[:enough]):
            fewer = [other for other in chosen if other != name]
            if self.passes(self.measure(fewer)):
                chosen = fewer
        return chosen


def name_layers(quantized: onnx.ModelProto, original: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """Layers that read 8-bit values, by readable names.

    Yields:
        Name of the layer, and name of its node.
    """
    makers = {node.output[0]: node for node in quantized.graph.node}
    weights = {n.name: n.input[1] for n in original.graph.node if n.op_type == "Conv"}
    taken: dict[str, int] = {}
    for node in quantized.graph.node:
        reads = any(_before(makers, name) is not None for name in node.input)
        if node.op_type in _SKIPPED or not reads:
            continue
        if node.name in weights:
            name = weights[node.name].removesuffix(".weight")
        else:
            name = f"{node.op_type} after {_last_layer(node, makers, weights)}"
        taken[name] = taken.get(name, 0) + 1
        yield (name if taken[name] == 1 else f"{name} ({taken[name]})"), node.name


def restore_layers(
    quantized: onnx.ModelProto, original: onnx.ModelProto, names: Collection[str]
) -> None:
    """Connect some nodes to their unquantized inputs, in place.

    Args:
        quantized: As `quantize_model` gives it.
        original: The graph that it was made from.
        names: Names of the nodes.
    """
    makers = {node.output[0]: node for node in quantized.graph.node}
    floats = {node.name: node for node in original.graph.node}
    tensors = {tensor.name: tensor for tensor in original.graph.initializer}
    for node in quantized.graph.node:
        if node.name not in names:
            continue
        for place, name in enumerate(node.input):
            node.input[place] = _before(makers, name) or name
        for place, name in enumerate(floats[node.name].input):
            if place and name in tensors and tensors[name].data_type == onnx.TensorProto.FLOAT:
                plain = f"{name}.f32"
                value = numpy_helper.to_array(tensors[name])
                quantized.graph.initializer.append(numpy_helper.from_array(value, plain))
                node.input[place] = plain


def _before(makers: dict[str, onnx.NodeProto], name: str) -> str | None:
    """Name the value that an activation was before it went through 8 bits."""
    rescaled = makers.get(name)
    if rescaled is None or rescaled.op_type != "DequantizeLinear":
        return None
    rounded = makers.get(rescaled.input[0])
    if rounded is None or rounded.op_type != "QuantizeLinear":
        return None
    before: str = rounded.input[0]
    return before


def _last_layer(
    node: onnx.NodeProto, makers: dict[str, onnx.NodeProto], weights: dict[str, str]
) -> str:
    """Name the convolution that a value comes from, through its last inputs."""
    seen: onnx.NodeProto | None = node
    while seen is not None and seen.name not in weights:
        sources = [makers[name] for name in seen.input if name in makers]
        seen = sources[-1] if sources else None
    return "the input" if seen is None else weights[seen.name].removesuffix(".weight")
