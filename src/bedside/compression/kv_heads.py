"""Merging heads of keys and values into one, with queries and output projection fitted to it.

A query sees only its product with a key, and the block only the product of a value with the
projection back: so all heads may be read in one basis. The one head is the part of all heads
that explains most of these products on the inputs that there are; each query, and each
column of the projection back, is turned into its basis.
"""

from dataclasses import replace

import torch

from bedside.compression.affine import Affine, concatenate, read_affine, write_affine
from bedside.compression.input_statistics import Inputs, InputStatistics, white
from bedside.compression.slicing import make_whole
from bedside.compression.spectra import scale_of_norm
from bedside.errors import UsageError
from bedside.models import TrainedNetwork, find_structure
from bedside.models.structure import AttentionSite
from bedside.spec.mechanisms import MECHANISMS

# Least weight of a direction, as a share of the largest.
_FLOOR = 1e-6


def merge_kv_heads(network: TrainedNetwork, inputs: Inputs | None = None) -> TrainedNetwork:
    """Merge the heads of keys and values of every attention of a network into one.

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
    sites = [site for site in find_structure(spec).attentions() if site.level in several]
    if not sites:
        raise UsageError("every level has one head of keys and values already.")
    for number in several:
        level = spec.levels[number]
        if level.shared in ("attention", "both") and level.depth > 1:
            raise UsageError(
                f"the blocks of level {number} share their attention, each behind norms of its "
                "own: merge the heads of keys first, and tie the blocks then."
            )
    for site in sites:
        known = (inputs or {}).get(f"{site.path}.project_in")
        network = _merge_site(network, site, known or white(spec.levels[site.level].channels))
    levels = tuple(
        replace(level, kv_heads=1) if n in several else level for n, level in enumerate(spec.levels)
    )
    return replace(network, spec=replace(network.spec, levels=levels))


def _merge_site(
    network: TrainedNetwork, site: AttentionSite, inputs: InputStatistics
) -> TrainedNetwork:
    """Merge the heads of keys and values of one attention.

    Args:
        network: Its level still has several `kv_heads`.
        site: The attention.
        inputs: Moments of what its projection is given.

    Returns:
        The network with its weights for one head; the level's spec is as it was.
    """
    spec, path, heads = network.spec, site.path, site.heads
    level = spec.levels[site.level]
    spec, weights = make_whole(spec, network.weights, f"{path}.project_in")
    spec, weights = make_whole(spec, weights, f"{path}.project_out")
    d, count = level.head_dim, level.kv_heads
    every = read_affine(weights, f"{path}.project_in")
    cuts = [0, heads * d, (heads + count) * d, (heads + 2 * count) * d]
    queries, keys, values = (every.rows(*cuts[n : n + 2]) for n in range(3))
    back = weights[f"{path}.project_out.0.weight"]
    columns = back.double().flatten(1).reshape(len(back), heads, d)
    group = torch.arange(heads) // (heads // count)
    mechanism = MECHANISMS.get(level.block)
    if mechanism is not None and not mechanism.dot_products:
        # Keys and queries are clipped at zero there, so they cannot be rotated.
        keys = keys.then(torch.eye(d, dtype=torch.float64).repeat(1, count) / count)
    else:
        weigh_keys = [_weight_of_queries(queries, group == g, d, inputs) for g in range(count)]
        keys, turn = _merge(keys, keys.covariance(inputs), weigh_keys)
        queries = concatenate(
            [queries.rows(h * d, (h + 1) * d).then(turn[g].T) for h, g in enumerate(group.tolist())]
        )
    scaled = columns * scale_of_norm(weights, f"{path}.project_out")[:, None, None]
    weigh_values = [
        torch.einsum("chi,chj->ij", scaled[:, group == g], scaled[:, group == g])
        for g in range(count)
    ]
    values, turn = _merge(values, values.second_moment(inputs), weigh_values)
    turned = torch.einsum("chi,hij->chj", columns, turn[group])
    weights[f"{path}.project_out.0.weight"] = turned.reshape(back.shape).to(back)
    merged = concatenate([queries, keys, values])
    weights = write_affine(weights, f"{path}.project_in", merged, inputs)
    return replace(network, spec=spec, weights=weights)


def _weight_of_queries(
    queries: Affine, chosen: torch.Tensor, d: int, inputs: InputStatistics
) -> torch.Tensor:
    """Sum the second moments of the queries that read one head of keys: (d, d)."""
    moment = queries.second_moment(inputs)
    apart = moment.reshape(len(chosen), d, len(chosen), d)
    return sum(apart[h, :, h] for h in chosen.nonzero().flatten().tolist())  # type: ignore[return-value]


def _merge(
    heads: Affine, moment: torch.Tensor, weights: list[torch.Tensor]
) -> tuple[Affine, torch.Tensor]:
    """The one head from which all others can best be reconstructed.

    Args:
        heads: All heads behind each other, (count * d, C).
        moment: Of their channels, (count * d, count * d).
        weights: How much each head's directions count, (d, d) each.

    Returns:
        The one head, and (count, d, d): what gives each of the old ones from it.
    """
    roots, inverses = zip(*(_root(weight) for weight in weights), strict=True)
    size = len(weights[0])
    stretch = torch.block_diag(*roots)  # type: ignore[no-untyped-call]
    # Eigenvectors come in ascending order.
    basis = torch.linalg.eigh(stretch @ moment @ stretch.T)[1][:, -size:]
    turn = torch.stack(
        [inverse @ basis[n * size : (n + 1) * size] for n, inverse in enumerate(inverses)]
    )
    return heads.then(basis.T @ stretch), turn


def _root(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Square root of a moment and its inverse."""
    return InputStatistics(torch.zeros(len(weight)), weight).root()
