"""The table of steps: what can be done to a network on the way to a budget.

Each kind of step proposes one step from the present state, or none if nothing more is to gain. The
gain is predicted from the table of block times, because fewer multiplications are not less time;
the loss, from the importance of what is removed.
"""

from collections.abc import Callable, Set
from dataclasses import dataclass

from bedside.autopilot.compress.pruning import propose_pruning
from bedside.autopilot.compress.ranks import propose_ranks
from bedside.autopilot.evaluator import Candidate, CandidateEvaluator
from bedside.autopilot.finetune import Prepare
from bedside.autopilot.state import Cost
from bedside.autopilot.target import CompressionSettings
from bedside.compression.input_statistics import measure_inputs
from bedside.compression.kv_heads import merge_kv_heads
from bedside.compression.lowbit import choose_bits, round_weights
from bedside.compression.qat import attach
from bedside.compression.sparsity import apply_masks, find_masks, keep_zeros
from bedside.models import TrainedNetwork
from bedside.spec.model import BITS


@dataclass(frozen=True)
class CompressionState:
    """State of a run that a step is proposed for.

    Attributes:
        current: The network, and how it is computed.
        ms: Its measured time.
        cost: Which budget is missed: "ms" or "bytes".
        step_fraction: Part of its cost that the step should remove.
        missing: Part of its cost that is still too much; no step need take more.
        tried: Descriptions of the steps that were tried from here and undone.
    """

    current: Candidate
    ms: float
    cost: Cost
    step_fraction: float
    missing: float
    tried: Set[str]

    @property
    def share(self) -> float:
        """Part of the cost to remove: the step size, or all that is missing and a little."""
        return min(self.step_fraction, 1.02 * self.missing + 0.005)


@dataclass(frozen=True)
class Proposal:
    """A step that could be taken.

    Attributes:
        about: What it does, in words; the same words mean the same step.
        candidate: What it leads to.
        predicted_ms: Its time by the table of blocks; None if that does not change.
        finetunes: Whether the network has to be trained on before it is judged.
    """

    about: str
    candidate: Candidate
    predicted_ms: float | None = None
    finetunes: bool = True


@dataclass(frozen=True)
class StepKind:
    """One row of the table.

    Attributes:
        propose: Returns the next step, or None.
        strides: Whether it can be tried again with a smaller step size.
        prepare: Returns what is done to a model before it is trained on, if anything is.
        optional: Whether it is only taken where `CompressionSettings.also` names it.
    """

    propose: Callable[[CandidateEvaluator, CompressionState], Proposal | None]
    strides: bool = False
    prepare: Callable[[CandidateEvaluator, TrainedNetwork], Prepare] | None = None
    optional: bool = False


# A precision that gains less is not worth what it may lose.
_LEAST_GAIN = 0.02


def propose_precision(evaluator: CandidateEvaluator, current: CompressionState) -> Proposal | None:
    """Compute in another precision: the fastest here that was not tried yet."""
    network, now = current.current.network, current.current.precision
    candidates = {
        name: Candidate(network, name)
        for name in evaluator.precisions()
        if name != now and _describe_precision(name) not in current.tried
    }
    if current.cost == "bytes":
        # A graph in 8 bits is added to the one that every runtime can run.
        candidates = {name: each for name, each in candidates.items() if now == "int8"}
    if not candidates:
        return None
    times = evaluator.time({"now": current.current, **candidates})
    best = min(candidates, key=lambda name: times[name])
    if current.cost == "ms" and times[best] > (1 - _LEAST_GAIN) * times["now"]:
        return None
    return Proposal(_describe_precision(best), candidates[best], finetunes=False)


def _describe_precision(name: str) -> str:
    words = {"f32": "32 bits", "bf16": "bfloat16", "int8": "8 bits, quantized after training"}
    return f"compute in {words.get(name, name)}"


def propose_cut(evaluator: CandidateEvaluator, current: CompressionState) -> Proposal | None:
    """Remove units that cost much and matter little; see `pruning`."""
    network = current.current.network
    found = propose_pruning(
        evaluator,
        network,
        precision=current.current.precision,
        cost=current.cost,
        share=current.share,
    )
    if found is None or found.about in current.tried:
        return None
    candidate = Candidate(found.network, current.current.precision)
    return Proposal(found.about, candidate, _predict(evaluator, current, candidate))


def propose_factors(evaluator: CandidateEvaluator, current: CompressionState) -> Proposal | None:
    """Replace convolutions by products of lower rank, where that is faster; see `ranks`."""
    found = propose_ranks(
        evaluator,
        current.current.network,
        precision=current.current.precision,
        energy=1 - current.share / 4,
    )
    if found is None or found.about in current.tried:
        return None
    candidate = Candidate(found.network, current.current.precision)
    return Proposal(found.about, candidate, _predict(evaluator, current, candidate))


def propose_sharing(evaluator: CandidateEvaluator, current: CompressionState) -> Proposal | None:
    """Merge heads of keys and values into one, where there are several."""
    network, about = current.current.network, "one head of keys and values for all queries"
    if about in current.tried or all(level.kv_heads == 1 for level in network.spec.levels):
        return None
    batches = list(evaluator.setup.some_batches(evaluator.effort.calibration_images))
    merged = merge_kv_heads(network, measure_inputs(network, batches))
    candidate = Candidate(merged, current.current.precision)
    return Proposal(about, candidate, _predict(evaluator, current, candidate))


def propose_bits(evaluator: CandidateEvaluator, current: CompressionState) -> Proposal | None:
    """Store weights in fewer bits, where size is what is missing: 8, 4, 2, 1, one by one."""
    network = current.current.network
    now = min(network.spec.bits.values(), default=16)
    for bits in BITS:
        about = f"weights of {bits} bit{'s' if bits > 1 else ''}"
        if current.cost != "bytes" or bits >= now or about in current.tried:
            continue
        chosen = choose_bits(network.spec, bits=bits)
        rounded = round_weights(network, chosen)
        return Proposal(about, Candidate(rounded, current.current.precision))
    return None


# Shares of the weights that are set to zero, one after the other.
_ZEROS = (0.5, 0.75, 0.9)


def propose_zeros(evaluator: CandidateEvaluator, current: CompressionState) -> Proposal | None:
    """Set the smallest weights to zero, where size is what is missing; it saves no time."""
    network = current.current.network
    masks = find_masks(network, fraction=0.0)
    now = 1 - sum(int(network.weights[name].count_nonzero()) for name in masks) / sum(
        mask.numel() for mask in masks.values()
    )
    for share in _ZEROS:
        about = f"{share:.0%} of the weights at zero"
        if current.cost == "bytes" and share > now + 0.01 and about not in current.tried:
            sparse = apply_masks(network, find_masks(network, fraction=share))
            return Proposal(about, Candidate(sparse, current.current.precision))
    return None


def _keep_zeros(evaluator: CandidateEvaluator, network: TrainedNetwork) -> Prepare:
    masks = {name: network.weights[name] != 0 for name in find_masks(network, fraction=0.0)}
    return lambda model: keep_zeros(model, masks)


def propose_qat(evaluator: CandidateEvaluator, current: CompressionState) -> Proposal | None:
    """Compute in 8 bits after training for them, where 8 bits were not kept as they are."""
    about = "compute in 8 bits, trained for them"
    if current.current.precision == "int8" or "int8" not in evaluator.precisions():
        return None
    if about in current.tried:
        return None
    return Proposal(about, Candidate(current.current.network, "int8"))


def _round_to_int8(evaluator: CandidateEvaluator, network: TrainedNetwork) -> Prepare:
    return lambda model: attach(model, evaluator.calibration)


def _predict(
    evaluator: CandidateEvaluator, current: CompressionState, candidate: Candidate
) -> float:
    """Predict a time: what was measured of the network now, by the ratio of both predictions."""
    specs = [current.current.network.spec, candidate.network.spec]
    now, then = evaluator.predict(specs, candidate.precision)
    return current.ms * then / now


STEP_KINDS: dict[str, StepKind] = {
    "precision": StepKind(propose_precision),
    "prune": StepKind(propose_cut, strides=True),
    "low rank": StepKind(propose_factors, strides=True),
    "share": StepKind(propose_sharing),
    "bits": StepKind(propose_bits),
    "qat": StepKind(propose_qat, prepare=_round_to_int8, optional=True),
    "sparsity": StepKind(propose_zeros, prepare=_keep_zeros, optional=True),
}

_SEQUENCE = ("precision", "bits", "share", "prune", "low rank", "precision", "qat", "sparsity")


def list_stages(effort: CompressionSettings) -> tuple[str, ...]:
    """Kinds of step of a run, in order.

    Precision comes first because it costs no training, and the times that count from then on are
    those of the precision that will be used; it is asked for again at the end, where another may
    be faster for what the network has become. Fewer bits are only asked for where size is missing,
    and then before anything is removed, which costs more. Training for 8 bits and zeros come last,
    because training after another step would undo them. Where time and size are both missed, time
    comes first; when it is met, or no step has more to offer for it, all are asked again for the
    size.

    Example:
        >>> list_stages(CompressionSettings(also=("sparsity",)))[-2:]
        ('precision', 'sparsity')
    """
    return tuple(name for name in _SEQUENCE if not STEP_KINDS[name].optional or name in effort.also)
