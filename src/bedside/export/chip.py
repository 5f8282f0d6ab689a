"""A bundle's graph made ready for a chip: checked, rewritten where that is exact, compared.

graph -> check -> falls back? -> an exact equivalent that the chip has -> same logits -> export
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from bedside.bundle import Bundle
from bedside.chips import Chip
from bedside.errors import ExportError, UsageError
from bedside.export.chip_check import (
    Finding,
    Misaligned,
    check_graph,
    count_running,
    list_misaligned,
)
from bedside.export.formats.table import find_format
from bedside.export.parity import make_inputs
from bedside.graphs.exact_rewrites import REWRITERS, rewrite_nodes
from bedside.runtime import open_graph
from bedside.spec import to_mapping

REPORT = "chip.json"
SCHEMA_VERSION = 1
PARITY_BOUND = 1e-6
"""Largest difference after rewrites, as a part of the largest logit: values are only moved."""
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class Rewrite:
    """Nodes of one kind that were rewritten.

    Attributes:
        operation: What they were.
        count: How many.
        into: What they are now, by operation.
    """

    operation: str
    count: int
    into: tuple[str, ...]


@dataclass(frozen=True)
class ChipReport:
    """How a graph suits a chip.

    Attributes:
        chip: The profile.
        precision: Precision of the file.
        nodes: Nodes of the exported graph that depend on the input.
        before: What did not suit before any rewrite.
        after: What does not suit in the graph that is exported.
        rewrites: What was rewritten.
        difference: Largest difference of a logit by the rewrites, as a part of the largest;
            None if nothing was rewritten.
        misaligned: Convolutions that do not fill the chip's units.
    """

    chip: Chip
    precision: str
    nodes: int
    before: tuple[Finding, ...]
    after: tuple[Finding, ...]
    rewrites: tuple[Rewrite, ...] = ()
    difference: float | None = None
    misaligned: tuple[Misaligned, ...] = ()

    @property
    def falls_back(self) -> tuple[Finding, ...]:
        """Nodes that run on the CPU."""
        return tuple(finding for finding in self.after if finding.status == "falls back")

    def to_json(self) -> str:
        """The report as JSON, with the chip's sources and what is unknown."""
        mapping: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **to_mapping(self)}
        del mapping["chip"]["operations"]
        return json.dumps(mapping, indent=1, allow_nan=False) + "\n"

    def lines(self) -> list[str]:
        """A summary for a person, one line each."""
        unknown = len(self.after) - len(self.falls_back)
        said = [
            f"{self.chip.title}: of {self.nodes} nodes {len(self.falls_back)} fall back to the CPU"
            + (f", of {unknown} nothing is known" if unknown else "")
        ]
        groups: dict[tuple[str, str, str], list[str]] = {}
        for each in self.after:
            groups.setdefault((each.status, each.operation, each.reason), []).append(each.node)
        for (status, operation, reason), nodes in groups.items():
            shown = ", ".join(nodes[:_NAMES_SHOWN]) + (", ..." if nodes[_NAMES_SHOWN:] else "")
            said.append(f"{status}: {len(nodes)} {operation} ({shown}): {reason}")
        for rewrite in self.rewrites:
            into = ", ".join(rewrite.into)
            said.append(f"rewritten exactly: {rewrite.count} {rewrite.operation} as {into}")
        if self.difference is not None:
            said.append(f"after the rewrites, logits differ by {self.difference:.2g} at most")
        if self.misaligned:
            worst = min(self.misaligned, key=lambda each: each.filled)
            said.append(
                f"{len(self.misaligned)} convolutions do not fill units of "
                f"{self.chip.multiple()} channels; least {worst.node}, {worst.channels} channels"
            )
        return said


def check_bundle(bundle: Bundle, chip: Chip, *, to: str, precision: str) -> ChipReport:
    """How a bundle suits a chip, with what an export would rewrite.

    Args:
        bundle: What would be exported.
        chip: The profile.
        to: Format of the export; only graphs are rewritten.
        precision: Precision of the export.

    Raises:
        UsageError: If the compiler of the chip does not take that format or precision.
        ExportError: If a rewrite changes the logits.
    """
    if to not in chip.formats or precision not in chip.accepts:
        raise UsageError(
            f"{chip.compiler} reads {' or '.join(chip.formats)} in {' or '.join(chip.accepts)}, "
            f"not {to} in {precision}. Leave out --to, and choose --precision accordingly."
        )
    graph = bundle.read_graph(precision if precision in bundle.precisions else "f32")
    if find_format(to).kind == "graph":
        return prepare_graph(graph, chip, precision=precision)[1]
    model = onnx.load_from_string(graph)
    return _report(model, chip, precision, found=check_graph(model, chip))


def prepare_graph(graph: bytes, chip: Chip, *, precision: str) -> tuple[bytes, ChipReport]:
    """Rewrite what a chip lacks, where that is exact, and compare the logits.

    Args:
        graph: Serialized ONNX with one input and one output.
        chip: The profile.
        precision: Precision of the graph, for the report.

    Returns:
        The graph, and the report.

    Raises:
        ExportError: If the logits are not the same.
    """
    model = onnx.load_from_string(graph)
    before = check_graph(model, chip)
    made, after, rewrites = _rewrite(model, chip, before)
    rewrites += _lower_opset(made, chip.max_opset)
    report = replace(_report(made, chip, precision, found=after), before=before)
    if not rewrites:
        return graph, report
    content: bytes = made.SerializeToString()
    difference = _compare(graph, content)
    return content, replace(report, rewrites=rewrites, difference=difference)


def _report(
    model: onnx.ModelProto, chip: Chip, precision: str, *, found: tuple[Finding, ...]
) -> ChipReport:
    multiple = chip.multiple(precision) or chip.multiple()
    return ChipReport(
        chip,
        precision,
        count_running(model),
        found,
        found,
        misaligned=list_misaligned(model, multiple),
    )


def _rewrite(
    model: onnx.ModelProto, chip: Chip, found: tuple[Finding, ...]
) -> tuple[onnx.ModelProto, tuple[Finding, ...], tuple[Rewrite, ...]]:
    """Rewrite kinds of nodes one after another; each is kept if less falls back.

    Args:
        model: A graph.
        chip: The profile.
        found: What does not suit in it.

    Returns:
        The graph, what does not suit in it now, and what was rewritten.
    """
    done: list[Rewrite] = []
    for operation, rewriter in _choices():
        faulty = {finding.node for finding in found}
        nodes = [
            node.output[0]
            for node in model.graph.node
            if node.op_type == operation and (node.name or node.output[0]) in faulty
        ]
        if not nodes:
            continue
        candidate = onnx.ModelProto()
        candidate.CopyFrom(model)
        count = rewrite_nodes(candidate, nodes, rewriter)
        left = check_graph(candidate, chip)
        if count and len(left) < len(found):
            added = Counter(node.op_type for node in candidate.graph.node)
            added.subtract(node.op_type for node in model.graph.node)
            into = tuple(sorted(name for name, more in added.items() if more > 0))
            done.append(Rewrite(operation, count, into))
            model, found = candidate, left
    return model, found, tuple(done)


def _choices() -> Iterator[tuple[str, Any]]:
    for operation, rewriters in REWRITERS.items():
        yield from zip(itertools.repeat(operation), rewriters)


def _lower_opset(model: onnx.ModelProto, wanted: int | None) -> tuple[Rewrite, ...]:
    """Declare an older version of ONNX's operations, where all of them are the same in it.

    Raises:
        ExportError: If an operation has changed since.
    """
    current = model.opset_import[0]
    if wanted is None or current.version <= wanted:
        return ()
    for operation in sorted({node.op_type for node in model.graph.node}):
        since = onnx.defs.get_schema(operation, current.version).since_version
        if since > wanted:
            raise ExportError(
                f"the chip's compiler reads ONNX up to version {wanted} of its operations, and "
                f"{operation} of this graph is of version {since}."
            )
    before, current.version = current.version, wanted
    return (Rewrite(f"opset {before}", len(model.graph.node), (f"opset {wanted}",)),)


def _compare(before: bytes, after: bytes) -> float:
    """Largest difference of a logit, as a part of the largest.

    Raises:
        ExportError: If it is more than a rounding.
    """
    session, rewritten = open_graph(before), open_graph(after)
    taken = onnx.load_from_string(before).graph.input[0].type.tensor_type.shape.dim
    worst = 0.0
    for tensor in make_inputs((1, *(size.dim_value for size in taken[1:])), count=2):
        expected, seen = session.predict(tensor), rewritten.predict(tensor)
        scale = max(1.0, float(np.abs(expected).max()))
        worst = max(worst, float(np.abs(seen - expected).max()) / scale)
    if worst > PARITY_BOUND:
        raise ExportError(
            f"the graph that was rewritten for the chip differs by {worst:.2g} of the largest "
            f"logit; at most {PARITY_BOUND:g}. Nothing was written."
        )
    return worst
