"""Sharing in a trained network: one head of keys and values for all queries, blocks tied.

Both change what the network does, and are for healing: they give training a better start
than fresh weights would.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment

from bedside.compression.groups import find_group, hidden_widths, level_of, query_heads
from bedside.compression.input_statistics import Inputs, white
from bedside.compression.kv_heads import merge_block
from bedside.compression.norms import recalibrate_norms
from bedside.compression.slicing import Weights, cut, make_whole
from bedside.errors import UsageError
from bedside.models import TrainedNetwork
from bedside.spec import LevelSpec, ModelSpec
from bedside.spec.model import CONV_BLOCKS

What = Literal["attention", "mlp", "both"]
_CONVOLUTIONS = {
    "attention": ("attention.project_in", "attention.project_out"),
    "mlp": ("expand", "project"),
}


def merge_kv_heads(network: TrainedNetwork, inputs: Inputs | None = None) -> TrainedNetwork:
    """Return all query heads of a trained network one head of keys and values.

    The merged head is the part of all heads that explains most of what queries read, and
    queries and the projection back are turned into its basis; where the heads are linear
    images of one another, nothing changes. Of linear attention, which cuts keys and queries
    off at zero, keys are averaged and queries left.

    Args:
        network: With levels of more than one of `kv_heads`.
        inputs: From `measure_inputs`. Without, all inputs count alike, and the norms'
            statistics are only true once they are taken again.

    Raises:
        UsageError: If every level has one head of keys already, or one that has several
            shares its attention among blocks.

    Source:
        Ainslie et al., GQA, EMNLP 2023, who average; the common basis is ours.
    """
    spec = network.spec
    several = [n for n, level in enumerate(spec.levels) if level.kv_heads > 1]
    blocks = [block for block in query_heads(spec) if level_of(block) in several]
    if not blocks:
        raise UsageError("every level has one head of keys and values already.")
    for number in several:
        level = spec.levels[number]
        if level.shared in ("attention", "both") and level.depth > 1:
            raise UsageError(
                f"the blocks of level {number} share their attention, each behind norms of its "
                "own: merge the heads of keys first, and tie the blocks then."
            )
    for block in blocks:
        level = spec.levels[level_of(block)]
        path = f"{block}.{'' if level.block in CONV_BLOCKS else 'attention.'}project_in"
        network = merge_block(network, block, (inputs or {}).get(path) or white(level.channels))
    levels = tuple(
        replace(level, kv_heads=1) if n in several else level for n, level in enumerate(spec.levels)
    )
    return replace(network, spec=replace(network.spec, levels=levels))


def tie_blocks(
    network: TrainedNetwork,
    level: int,
    what: What,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]] | None = None,
) -> TrainedNetwork:
    """Let the blocks of a level share the mean of their convolutions; norms stay their own.

    Rows are divided by the deviation that their norm divides by, so that each block counts
    alike, and hidden channels are put in the order in which they resemble those of the first
    block. Blocks of a residual network do different things: expect to heal.

    Args:
        network: What to tie.
        level: Number of a level of attention, of two blocks at least and of one width.
        what: "attention", "mlp" or "both".
        batches: Images and truths; the norms' statistics are taken again on them. Without,
            they fit nothing until that is done.

    Raises:
        UsageError: If the level has nothing to tie, or blocks of several widths.
    """
    parts = tuple(part for part in _CONVOLUTIONS if what in (part, "both"))
    _check_blocks(network.spec, level, parts)
    spec, weights = network.spec, dict(network.weights)
    depth = spec.levels[level].depth
    for part in parts:
        for name in _CONVOLUTIONS[part]:
            for block in range(depth):
                spec, weights = make_whole(spec, weights, f"levels.{level}.{block}.{name}")
    if "mlp" in parts:
        weights = _align_hidden(TrainedNetwork(spec, weights), level)
    for part in parts:
        for name in _CONVOLUTIONS[part]:
            _average(weights, [f"levels.{level}.{block}.{name}" for block in range(depth)])
    tied = TrainedNetwork(_describe_shared(spec, level, parts), weights)
    return tied if batches is None else recalibrate_norms(tied, batches)


def _check_blocks(spec: ModelSpec, number: int, parts: tuple[str, ...]) -> None:
    """Make sure that the blocks of a level can share, and do not yet."""
    level = spec.levels[number] if 0 <= number < len(spec.levels) else None
    if level is None or level.block in CONV_BLOCKS or level.depth < 2:
        raise UsageError(f"level {number} has no two Transformer blocks to tie.")
    if level.shared in (*parts, "both"):
        raise UsageError(f"the blocks of level {number} share {level.shared} already.")
    tables = {"attention": ("heads", query_heads(spec)), "mlp": ("hidden", hidden_widths(spec))}
    for part in parts:
        name, table = tables[part]
        sizes = [table[f"levels.{number}.{block}"] for block in range(level.depth)]
        if len(set(sizes)) > 1:
            raise UsageError(
                f"the blocks of level {number} differ in {name}, {sizes}: bring them to one size "
                "first, with shrink."
            )


def _align_hidden(network: TrainedNetwork, level: int) -> Weights:
    """Put the hidden channels of all blocks in the order of the first block's."""
    weights = dict(network.weights)
    first = _hidden_vectors(weights, f"levels.{level}.0")
    for block in range(1, network.spec.levels[level].depth):
        path = f"levels.{level}.{block}"
        alike = first @ _hidden_vectors(weights, path).T
        order = torch.as_tensor(linear_sum_assignment(alike.numpy(), maximize=True)[1])
        weights = cut(weights, find_group(network, f"hidden.{path}"), order)
    return weights


def _hidden_vectors(weights: Weights, path: str) -> torch.Tensor:
    """Describe each hidden channel by what it reads and writes: (hidden, 2 * channels)."""
    reads = weights[f"{path}.expand.0.weight"].flatten(1)
    writes = weights[f"{path}.project.0.weight"].flatten(1).T
    return torch.cat([torch.nn.functional.normalize(part) for part in (reads, writes)], dim=1)


def _average(weights: Weights, paths: list[str]) -> None:
    """Put the mean of several convolutions in the place of the first, and drop the others."""
    total = torch.zeros_like(weights[f"{paths[0]}.0.weight"])
    for path in paths:
        own = weights.pop(f"{path}.0.weight")
        deviation = (weights[f"{path}.1.running_var"] + 1e-5).sqrt()
        total += own / deviation.reshape(-1, *[1] * (own.ndim - 1))
        # What is known of the new results, until it is measured.
        weights[f"{path}.1.running_mean"] = weights[f"{path}.1.running_mean"] / deviation
        weights[f"{path}.1.running_var"] = torch.ones_like(deviation)
    weights[f"{paths[0]}.0.weight"] = total / len(paths)


def _describe_shared(spec: ModelSpec, number: int, parts: tuple[str, ...]) -> ModelSpec:
    """Say what a level shares; its first block stands for all."""
    old: LevelSpec = spec.levels[number]
    before = {"none": (), "both": ("attention", "mlp")}.get(old.shared, (old.shared,))
    every = {*before, *parts}
    shared = "both" if len(every) == 2 else every.pop()
    level = replace(old, shared=shared)  # type: ignore[arg-type]
    levels = tuple(level if n == number else other for n, other in enumerate(spec.levels))
    bare = replace(spec, levels=levels, hidden={}, heads={})
    hidden, heads = (
        {path: n for path, n in table.items() if path in plain}
        for table, plain in ((spec.hidden, bare.plain_hidden), (spec.heads, bare.plain_heads))
    )
    return replace(bare, hidden=hidden, heads=heads)
