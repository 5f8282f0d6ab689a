"""Convolutions to replace by products of lower rank: those that become faster."""

from dataclasses import dataclass

from bedside.autopilot.evaluator import CandidateEvaluator
from bedside.compression.input_statistics import measure_inputs
from bedside.compression.lowrank import factorize, list_candidates
from bedside.models import TrainedNetwork

# Part of a network's time that a factored convolution has to gain.
_LEAST_GAIN = 0.002


@dataclass(frozen=True)
class Factored:
    """A factored network, as a proposal.

    Attributes:
        about: Which convolutions, and their ranks.
        network: The network after it, before finetuning.
    """

    about: str
    network: TrainedNetwork


def propose_ranks(
    evaluator: CandidateEvaluator, network: TrainedNetwork, *, precision: str, energy: float
) -> Factored | None:
    """Choose convolutions and ranks by their inputs, and keep those that are faster.

    Args:
        evaluator: Times of blocks, and training images.
        network: What to factor.
        precision: How it is computed.
        energy: Share of the variance of each convolution's results that is kept.

    Returns:
        The network with products; None if none is faster.
    """
    batches = list(evaluator.setup.some_batches(evaluator.effort.calibration_images))
    inputs = measure_inputs(network, batches)
    found = list_candidates(network, inputs=inputs, keep_energy=energy)
    single = {each.path: factorize(network, {each.path: each.ranks}, inputs) for each in found}
    [now, *times] = evaluator.predict(
        [network.spec, *(each.spec for each in single.values())], precision
    )
    ranks = {
        each.path: each.ranks
        for each, ms in zip(found, times, strict=True)
        if ms < (1 - _LEAST_GAIN) * now
    }
    if not ranks:
        return None
    factored = factorize(network, ranks, inputs)
    about = ", ".join(f"{path} rank {' and '.join(map(str, rank))}" for path, rank in ranks.items())
    return Factored(f"products of lower rank: {about}", factored)
