"""Weights in 8, 4, 2 and 1 bits: which convolutions, and rounding."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Literal, get_args

import torch

from bedside.errors import UsageError
from bedside.layers.rounding import list_convolutions, round_to_bits
from bedside.models import TrainedNetwork, create, find_structure
from bedside.spec import ModelSpec

Part = Literal["first", "stem", "depthwise", "downs", "attention", "mlp", "decoder", "head"]
KEPT: tuple[Part, ...] = ("first", "depthwise", "head")


def choose_bits(
    spec: ModelSpec, *, bits: int, keep: Collection[Part] = KEPT, kept_bits: int = 8
) -> dict[str, int]:
    """Number of bits for the weights of each convolution.

    Args:
        spec: The network.
        bits: Bits of most of the weights: 8, 4, 2 or 1.
        keep: Parts that have too few weights to be worth the loss: "first" (the convolution
            that sees the image), "stem" (all of the stem), "depthwise", "downs" (those that
            halve the size), "attention", "mlp" (and all of inverted residuals that is not
            depthwise), "decoder", "head".
        kept_bits: Bits of these.

    Returns:
        Bits by path, for `ModelSpec.bits`. Parallel branches are left out.

    Raises:
        UsageError: If a part is not one of these.

    Example:
        >>> from bedside.spec import named_spec
        >>> chosen = choose_bits(named_spec("nano"), bits=4)
        >>> chosen["head"], chosen["levels.3.0.expand"], chosen["levels.3.0.spatial"]
        (8, 4, 8)
    """
    if unknown := set(keep) - set(get_args(Part)):
        raise UsageError(f"keep names {sorted(unknown)}; expected {', '.join(get_args(Part))}.")
    with torch.device("meta"):
        model = create(replace(spec, bits={}))
    structure, chosen = find_structure(spec), {}
    for path, convolutions in list_convolutions(model):
        parts = structure.roles(path)
        if any(convolution.groups > 1 for convolution in convolutions):
            parts = parts - {"attention", "mlp"} | {"depthwise"}
        if "training" not in parts:
            chosen[path] = max(bits, kept_bits) if parts & set(keep) else bits
    return chosen


def round_weights(network: TrainedNetwork, bits: Mapping[str, int] | None = None) -> TrainedNetwork:
    """Round the stored weights of a network, and write the bits into its spec.

    Args:
        network: Trained with rounded weights, or not.
        bits: As in `ModelSpec.bits`; None for those that the spec has.

    Returns:
        The network whose weights are integers times a scale per output channel. Settled
        once more, it stays as it is.

    Raises:
        SpecError: If a path is not that of a convolution which can have few bits.
    """
    spec = network.spec if bits is None else replace(network.spec, bits=dict(bits))
    model = TrainedNetwork(spec, network.weights).create()
    return TrainedNetwork.of(round_to_bits(model), spec)
