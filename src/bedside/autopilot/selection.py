"""Who takes part in a search: networks that use a budget and do not pass it.

Prediction proposes, from block times; measurement decides, before anything is trained.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from bedside.autopilot.contest import Entrant, SearchEffort
from bedside.autopilot.space import NAMED, draw_specs, guess_work, list_anchors, spec_key
from bedside.autopilot.workshop import REFERENCE, Candidate, Workshop
from bedside.errors import BudgetError
from bedside.models import TrainedNetwork, count_parameters, create
from bedside.spec import ModelSpec

Tell = Callable[[str], None]

LEAST_USE = 0.6
"""Part of the budget that a network has to use: a faster one wastes what a larger one could do."""

# Draws for each network that is wanted. A draw costs nothing before its blocks are timed.
_DRAWS = 500
# Predictions for each network that is wanted, after which the search for more is given up.
_PREDICTIONS = 20
# A time that is guessed from a count of multiplications is right within this factor.
_TOLERANCE = 2.0
# Networks that are predicted at a time.
_LOT = 8
# What a number that would do is above what was measured, so that the next run agrees.
_MARGIN = 1.1
# Part of the time of a finer precision below which a coarser one is worth its rounding.
_WORTH = 0.9
# The fewest bytes that a weight takes in a bundle without `bits`.
_BYTES_A_WEIGHT = 2
# Networks that are predicted whatever their multiplications tell.
_ALWAYS = ("recipe", *NAMED, "smallest")


@dataclass(frozen=True)
class Pace:
    """How fast this machine is, for guesses before anything of a network is timed.

    Attributes:
        precision: How all candidates are computed.
        empty_ms: Time of an empty graph, in f32.
        recipe_ms: Time of the recipe's own network in f32.
        fastest_ms: The same in that precision.
    """

    precision: str
    empty_ms: float
    recipe_ms: float
    fastest_ms: float


@dataclass(frozen=True)
class Selection:
    """Who was looked at, and who fits.

    Attributes:
        drawn: Networks that were drawn or named.
        predicted: Those of them whose time was predicted.
        entrants: Those that fit.
    """

    drawn: int
    predicted: int
    entrants: tuple[Entrant, ...]


def find_pace(shop: Workshop, *, empty_ms: float, tell: Tell) -> Pace:
    """Time the recipe's own network in each precision that the runtime may gain by.

    Args:
        shop: Its source is the recipe's own network.
        empty_ms: Time of an empty graph.
        tell: Called with a line about what was found.

    Returns:
        The fastest precision, with times. One that the recipe does not build is left out.
    """
    names = [
        name
        for name in shop.precisions()
        if name != "int8" or shop.source.finished.recipe.build.int8
    ]
    times = shop.time({name: Candidate(shop.source.network, name) for name in names[1:]})
    f32 = times[REFERENCE]
    precision, ms = "f32", f32
    for name in names[1:]:
        if times[name] < _WORTH * ms:
            precision, ms = name, times[name]
    said = ", ".join(f"{times.get(name, f32):.3f} ms in {name}" for name in names)
    tell(f"the recipe's own network takes {said}; candidates are computed in {precision}")
    return Pace(precision, empty_ms, f32, ms)


def select(shop: Workshop, pace: Pace, effort: SearchEffort, *, tell: Tell) -> Selection:
    """Draw networks until enough of them fit the budget by prediction.

    Args:
        shop: Knows block times, and the recipe's own network.
        pace: How fast this machine is.
        effort: How many are wanted, and the seed of the draws.
        tell: Called with a line about what was found.

    Returns:
        Those that fit, at least one.

    Raises:
        BudgetError: If none does; it names a budget that would do.
    """
    found, heavy, seen = list[Entrant](), list[Entrant](), dict[str, float]()
    specs, drawn = _list_specs(shop, effort), 0
    while lot := list(itertools.islice(specs, _LOT)):
        drawn += len(lot)
        near = [(name, spec) for name, spec in lot if _is_near(name, spec, shop, pace)]
        times = shop.predict([spec for _, spec in near], pace.precision) if near else []
        for (name, spec), ms in zip(near, times, strict=True):
            seen[name] = ms
            if _uses_budget(ms, shop) and len(found) < effort.candidates:
                entrant = _weigh(shop, pace, Entrant(len(found) + 1, name, spec, ms, 0))
                (found if _is_small(entrant, shop) else heavy).append(entrant)
        if len(found) == effort.candidates or len(seen) > _PREDICTIONS * effort.candidates:
            break
    tell(f"{drawn} networks drawn, {len(seen)} predicted, {len(found)} fit the budget")
    if not found:
        raise BudgetError(_say_size(shop, pace, heavy) if heavy else _say_time(shop, pace, seen))
    return Selection(drawn, len(seen), tuple(found))


def measure(
    shop: Workshop, entrants: Sequence[Entrant], precision: str, *, tell: Tell
) -> tuple[Entrant, ...]:
    """Time networks beside each other, and drop those above the target.

    Raises:
        BudgetError: If none is left; it names a budget that would do.
    """
    target = shop.goal.target_ms or 0.0
    candidates = {
        str(each.number): Candidate(make_fresh(each.spec, seed=0), precision) for each in entrants
    }
    times = shop.time(candidates)
    timed = []
    for each in entrants:
        ms = times[str(each.number)]
        left = f"measured {ms:.3f} ms, above the target" if ms > target else ""
        timed.append(replace(each, ms=ms, left=left))
        tell(
            f"{each.number} {each.name}: {ms:.3f} ms, predicted {each.predicted_ms:.3f}"
            + (", out" if left else "")
        )
    if all(each.left for each in timed):
        least = min(each.time_ms for each in timed)
        raise BudgetError(
            f"the target is {target:g} ms, but of {len(timed)} networks that were predicted to "
            f"meet it the fastest takes {least:.3g} ms. Ask for at least {_MARGIN * least:.3g} ms."
        )
    return tuple(timed)


def make_fresh(spec: ModelSpec, *, seed: int) -> TrainedNetwork:
    """Make a network with fresh weights."""
    torch.manual_seed(seed)
    return TrainedNetwork.of(create(spec), spec)


def _list_specs(shop: Workshop, effort: SearchEffort) -> Iterator[tuple[str, ModelSpec]]:
    """Name the networks to look at, in order: those that everybody knows, then draws."""
    like = shop.source.network.spec
    anchors = list_anchors(like, shop.size_px)
    yield from anchors.items()
    known = {spec_key(spec) for spec in anchors.values()}
    draws = draw_specs(like, shop.size_px, seed=effort.seed, count=_DRAWS * effort.candidates)
    for number, spec in enumerate(draws, 1):
        if spec_key(spec) not in known:
            yield f"drawn-{number}", spec


def _is_near(name: str, spec: ModelSpec, shop: Workshop, pace: Pace) -> bool:
    """Tell whether a network may fit, by a count of its multiplications; some always may."""
    target = shop.goal.target_ms or 0.0
    guess = _guess_ms(spec, shop, pace)
    return name in _ALWAYS or LEAST_USE * target / _TOLERANCE <= guess <= _TOLERANCE * target


def _uses_budget(ms: float, shop: Workshop) -> bool:
    target = shop.goal.target_ms or 0.0
    return LEAST_USE * target <= ms <= target


def _is_small(entrant: Entrant, shop: Workshop) -> bool:
    most = shop.goal.max_size_bytes
    return most is None or (entrant.size_bytes or 0) <= most


def _guess_ms(spec: ModelSpec, shop: Workshop, pace: Pace) -> float:
    own = guess_work(shop.source.network.spec, shop.size_px)
    part = guess_work(spec, shop.size_px) / own
    return pace.empty_ms + part * max(0.0, pace.fastest_ms - pace.empty_ms)


def _weigh(shop: Workshop, pace: Pace, entrant: Entrant) -> Entrant:
    """Count the weights of a network, and the bytes of its bundle if that is asked for."""
    parameters, size = count_parameters(create(entrant.spec)), None
    if shop.goal.max_size_bytes is not None:
        size = _BYTES_A_WEIGHT * parameters
        if entrant.spec.bits or size <= shop.goal.max_size_bytes:
            size = shop.size(Candidate(make_fresh(entrant.spec, seed=0), pace.precision))
    return replace(entrant, parameters=parameters, size_bytes=size)


def _say_size(shop: Workshop, pace: Pace, heavy: Sequence[Entrant]) -> str:
    """Say which size would do: that of the smallest network that fits by its time."""
    least = min(heavy, key=lambda each: each.parameters)
    size = shop.size(Candidate(make_fresh(least.spec, seed=0), pace.precision))
    return (
        f"{len(heavy)} networks fit the target by their time, but the smallest makes a bundle of "
        f"{size / 1000:.0f} kB, more than {(shop.goal.max_size_bytes or 0) / 1000:g} kB. Allow at "
        f"least {_MARGIN * size / 1000:.0f} kB, or ask for fewer milliseconds."
    )


def _say_time(shop: Workshop, pace: Pace, seen: dict[str, float]) -> str:
    """Say which target would do: that of the network that misses this one least."""
    anchors = list_anchors(shop.source.network.spec, shop.size_px)
    corners = [(name, anchors[name]) for name in ("smallest", "largest") if name in anchors]
    missing = [spec for name, spec in corners if name not in seen]
    times = [*seen.values(), *shop.predict(missing, pace.precision)]
    target = shop.goal.target_ms or 0.0
    above = [ms for ms in times if ms > target]
    if above:
        return (
            f"the target is {target:g} ms, but no network of the space takes as little and at "
            f"least {LEAST_USE:g} of it; one takes {min(above):.3g} ms. "
            f"Ask for at least {_MARGIN * min(above):.3g} ms."
        )
    return (
        f"the target is {target:g} ms, but the largest network of the space takes only "
        f"{max(times):.3g} ms. Ask for at most {_MARGIN * max(times):.3g} ms."
    )
