"""The table of moves: what can be done to a network on the way to a budget.

A move looks at where the walk is and proposes one step, or none if it has no more to offer.
What a step gains is asked of the table of block times, because fewer multiplications are not
less time; what it costs is asked of the importance of what goes.
"""

from collections.abc import Callable, Set
from dataclasses import dataclass

from bedside.autopilot.pruning import propose_pruning
from bedside.autopilot.ranks import propose_ranks
from bedside.autopilot.state import Cost
from bedside.autopilot.workshop import Candidate, Workshop
from bedside.compression.lowbit import choose_bits, settle
from bedside.compression.moments import measure_inputs
from bedside.compression.share import merge_kv_heads
from bedside.spec.model import BITS


@dataclass(frozen=True)
class Place:
    """Where a walk is when it asks for a step.

    Attributes:
        current: The network, and how it is computed.
        ms: Its measured time.
        cost: Which budget is missed: "ms" or "bytes".
        stride: Part of its cost that the step should take away.
        missing: Part of its cost that is still too much; no step need take more.
        tried: What was tried from here and undone, in words.
    """

    current: Candidate
    ms: float
    cost: Cost
    stride: float
    missing: float
    tried: Set[str]

    @property
    def share(self) -> float:
        """Part of the cost to take away: the stride, or all that is missing and a little."""
        return min(self.stride, 1.02 * self.missing + 0.005)


@dataclass(frozen=True)
class Proposal:
    """A step that could be taken.

    Attributes:
        about: What it does, in words; the same words mean the same step.
        candidate: What it leads to.
        predicted_ms: Its time by the table of blocks; None where the table says nothing.
        heals: Whether the network has to be trained on before it is judged.
    """

    about: str
    candidate: Candidate
    predicted_ms: float | None = None
    heals: bool = True


@dataclass(frozen=True)
class Move:
    """One row of the table.

    Attributes:
        propose: Gives the next step, or None.
        strides: Whether it can be asked again for less.
    """

    propose: Callable[[Workshop, Place], Proposal | None]
    strides: bool


# A precision that gains less is not worth what it may lose.
_LEAST_GAIN = 0.02


def propose_precision(shop: Workshop, place: Place) -> Proposal | None:
    """Compute in another precision: the fastest here that was not tried yet."""
    network, now = place.current.network, place.current.precision
    candidates = {
        name: Candidate(network, name)
        for name in shop.precisions()
        if name != now and _say_precision(name) not in place.tried
    }
    if place.cost == "bytes":
        # A graph in 8 bits lies beside the one that every runtime can run.
        candidates = {name: each for name, each in candidates.items() if now == "int8"}
    if not candidates:
        return None
    times = shop.time({"now": place.current, **candidates})
    best = min(candidates, key=lambda name: times[name])
    if place.cost == "ms" and times[best] > (1 - _LEAST_GAIN) * times["now"]:
        return None
    return Proposal(_say_precision(best), candidates[best], heals=False)


def _say_precision(name: str) -> str:
    words = {"f32": "32 bits", "bf16": "bfloat16", "int8": "8 bits, quantized after training"}
    return f"compute in {words[name]}"


def propose_cut(shop: Workshop, place: Place) -> Proposal | None:
    """Take away units that cost much and matter little; see `pruning`."""
    network = place.current.network
    found = propose_pruning(
        shop,
        network,
        precision=place.current.precision,
        cost=place.cost,
        share=place.share,
    )
    if found is None or found.about in place.tried:
        return None
    candidate = Candidate(found.network, place.current.precision)
    return Proposal(found.about, candidate, _predict(shop, place, candidate))


def propose_factors(shop: Workshop, place: Place) -> Proposal | None:
    """Replace convolutions by products of lower rank, where that is faster; see `ranks`."""
    found = propose_ranks(
        shop, place.current.network, precision=place.current.precision, energy=1 - place.share / 4
    )
    if found is None or found.about in place.tried:
        return None
    candidate = Candidate(found.network, place.current.precision)
    return Proposal(found.about, candidate, _predict(shop, place, candidate))


def propose_sharing(shop: Workshop, place: Place) -> Proposal | None:
    """Merge heads of keys and values into one, where there are several."""
    network, about = place.current.network, "one head of keys and values for all queries"
    if about in place.tried or all(level.kv_heads == 1 for level in network.spec.levels):
        return None
    batches = list(shop.lesson.some_batches(shop.effort.calibration_images))
    merged = merge_kv_heads(network, measure_inputs(network, batches))
    candidate = Candidate(merged, place.current.precision)
    return Proposal(about, candidate, _predict(shop, place, candidate))


def propose_bits(shop: Workshop, place: Place) -> Proposal | None:
    """Store weights in fewer bits, where size is what is missing: 8, 4, 2, 1, one by one."""
    network = place.current.network
    now = min(network.spec.bits.values(), default=16)
    for bits in BITS:
        about = f"weights of {bits} bit{'s' if bits > 1 else ''}"
        if place.cost != "bytes" or bits >= now or about in place.tried:
            continue
        chosen = choose_bits(network.spec, bits=bits)
        rounded = settle(network, chosen)
        return Proposal(about, Candidate(rounded, place.current.precision))
    return None


def _predict(shop: Workshop, place: Place, candidate: Candidate) -> float:
    """Predict a time: what was measured of the network now, by the ratio of both predictions."""
    specs = [place.current.network.spec, candidate.network.spec]
    now, then = shop.predict(specs, candidate.precision)
    return place.ms * then / now


MOVES: dict[str, Move] = {
    "precision": Move(propose_precision, strides=False),
    "prune": Move(propose_cut, strides=True),
    "low rank": Move(propose_factors, strides=True),
    "share": Move(propose_sharing, strides=False),
    "bits": Move(propose_bits, strides=False),
}

SEQUENCE = ("precision", "bits", "share", "prune", "low rank", "precision")
"""The moves of a walk, in order. Precision comes first because it costs no training, and the
times that count from then on are those of the precision that will be used; it is asked for
again at the end, where another may be faster for what the network has become. Fewer bits are
only asked for where size is missing, and then before anything is taken away, which costs more.
Where both are missed, time comes first; when it is met, or no move has more to offer for it, all
are asked again for the size."""
