"""Candidates of a search: networks that use a budget and do not exceed it.

Prediction proposes, from block times; measurement decides, before anything is trained.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from bedside.autopilot.evaluator import REFERENCE, Candidate, CandidateEvaluator
from bedside.autopilot.search.search_state import SearchSettings, Trial
from bedside.autopilot.search.space import (
    NAMED,
    align_channels,
    draw_specs,
    guess_work,
    list_anchors,
    spec_key,
)
from bedside.errors import BudgetError
from bedside.models import TrainedNetwork, count_parameters, create
from bedside.spec import ModelSpec

OnMessage = Callable[[str], None]

LEAST_USE = 0.6
"""Part of the budget that a network has to use: a faster one wastes what a larger one could do."""

# Draws for each network that is wanted. A draw costs nothing before its blocks are timed.
_DRAWS = 500
# Predictions for each network that is wanted, after which no more are drawn.
_PREDICTIONS = 20
# A time that is guessed from a count of multiplications is right within this factor.
_TOLERANCE = 2.0
# Networks that are predicted at a time.
_BATCH = 8
# Margin of a suggested number above the measured one, so that the next run meets it.
_MARGIN = 1.1
# Part of the time of a finer precision below which a coarser one is worth its rounding.
_WORTH = 0.9
# The fewest bytes that a weight takes in a bundle without `bits`.
_BYTES_A_WEIGHT = 2
# Networks that are predicted whatever their number of multiplications.
_ALWAYS = ("recipe", *NAMED, "smallest")


@dataclass(frozen=True)
class BaselineLatency:
    """Speed of this machine, for estimates before a network is timed.

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
    """Candidates that fit, and how many were considered.

    Attributes:
        drawn: Networks that were drawn or named.
        predicted: Those of them whose time was predicted.
        trials: Those that fit.
    """

    drawn: int
    predicted: int
    trials: tuple[Trial, ...]


def measure_baseline(
    evaluator: CandidateEvaluator, *, empty_ms: float, on_message: OnMessage
) -> BaselineLatency:
    """Time the recipe's own network in each precision that the runtime may gain by.

    Args:
        evaluator: Its source is the recipe's own network.
        empty_ms: Time of an empty graph.
        on_message: Called with a line about what was found.

    Returns:
        The fastest precision, with times. One that the recipe does not build is left out.
    """
    names = [
        name
        for name in evaluator.precisions()
        if name != "int8" or evaluator.source.finished.recipe.build.int8
    ]
    times = evaluator.time({name: Candidate(evaluator.source.network, name) for name in names[1:]})
    f32 = times[REFERENCE]
    precision, ms = "f32", f32
    for name in names[1:]:
        if times[name] < _WORTH * ms:
            precision, ms = name, times[name]
    said = ", ".join(f"{times.get(name, f32):.3f} ms in {name}" for name in names)
    on_message(f"the recipe's own network takes {said}; candidates are computed in {precision}")
    return BaselineLatency(precision, empty_ms, f32, ms)


def select(
    evaluator: CandidateEvaluator,
    baseline: BaselineLatency,
    effort: SearchSettings,
    *,
    on_message: OnMessage,
) -> Selection:
    """Draw networks until enough of them fit the budget by prediction.

    Args:
        evaluator: Block times, and the recipe's own network.
        baseline: How fast this machine is.
        effort: How many are wanted, and the seed of the draws.
        on_message: Called with a line about what was found.

    Returns:
        Those that fit, at least one.

    Raises:
        BudgetError: If none does; it names a budget that would do.
    """
    found, heavy, seen = list[Trial](), list[Trial](), dict[str, float]()
    specs, drawn = _list_specs(evaluator, effort), 0
    while batch := list(itertools.islice(specs, _BATCH)):
        drawn += len(batch)
        near = [(name, spec) for name, spec in batch if _is_near(name, spec, evaluator, baseline)]
        times = evaluator.predict([spec for _, spec in near], baseline.precision) if near else []
        for (name, spec), ms in zip(near, times, strict=True):
            seen[name] = ms
            if _uses_budget(ms, evaluator) and len(found) < effort.candidates:
                trial = _weigh(evaluator, baseline, Trial(len(found) + 1, name, spec, ms, 0))
                (found if _is_small(trial, evaluator) else heavy).append(trial)
        if len(found) == effort.candidates or len(seen) > _PREDICTIONS * effort.candidates:
            break
    on_message(f"{drawn} networks drawn, {len(seen)} predicted, {len(found)} fit the budget")
    if not found:
        raise BudgetError(
            _describe_size(evaluator, baseline, heavy)
            if heavy
            else _describe_time(evaluator, baseline, seen)
        )
    return Selection(drawn, len(seen), tuple(found))


def measure(
    evaluator: CandidateEvaluator, trials: Sequence[Trial], precision: str, *, on_message: OnMessage
) -> tuple[Trial, ...]:
    """Time networks beside each other, and drop those above the target.

    Raises:
        BudgetError: If none is left; it names a budget that would do.
    """
    target = evaluator.target.target_ms or 0.0
    candidates = {
        str(each.number): Candidate(create_untrained(each.spec, seed=0), precision)
        for each in trials
    }
    times = evaluator.time(candidates)
    timed = []
    for each in trials:
        ms = times[str(each.number)]
        left = f"measured {ms:.3f} ms, above the target" if ms > target else ""
        timed.append(replace(each, ms=ms, left=left))
        on_message(
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


def create_untrained(spec: ModelSpec, *, seed: int) -> TrainedNetwork:
    """A network with fresh weights."""
    torch.manual_seed(seed)
    return TrainedNetwork.of(create(spec), spec)


def _list_specs(
    evaluator: CandidateEvaluator, effort: SearchSettings
) -> Iterator[tuple[str, ModelSpec]]:
    """Name the networks to look at, in order: the named ones, then draws."""
    like = evaluator.source.network.spec
    draws = draw_specs(like, evaluator.size_px, seed=effort.seed, count=_DRAWS * effort.candidates)
    named = {
        **list_anchors(like, evaluator.size_px),
        **{f"drawn-{number}": spec for number, spec in enumerate(draws, 1)},
    }
    known = set[str]()
    for name, spec in named.items():
        # The recipe's own network stays as it is.
        aligned = spec if spec == like else align_channels(spec, effort.multiple)
        if (key := spec_key(aligned)) not in known:
            known.add(key)
            yield name, aligned


def _is_near(
    name: str, spec: ModelSpec, evaluator: CandidateEvaluator, baseline: BaselineLatency
) -> bool:
    """Whether a network may fit, by a count of its multiplications; some always may."""
    target = evaluator.target.target_ms or 0.0
    guess = _guess_ms(spec, evaluator, baseline)
    return name in _ALWAYS or LEAST_USE * target / _TOLERANCE <= guess <= _TOLERANCE * target


def _uses_budget(ms: float, evaluator: CandidateEvaluator) -> bool:
    target = evaluator.target.target_ms or 0.0
    return LEAST_USE * target <= ms <= target


def _is_small(trial: Trial, evaluator: CandidateEvaluator) -> bool:
    most = evaluator.target.max_size_bytes
    return most is None or (trial.size_bytes or 0) <= most


def _guess_ms(spec: ModelSpec, evaluator: CandidateEvaluator, baseline: BaselineLatency) -> float:
    own = guess_work(evaluator.source.network.spec, evaluator.size_px)
    part = guess_work(spec, evaluator.size_px) / own
    return baseline.empty_ms + part * max(0.0, baseline.fastest_ms - baseline.empty_ms)


def _weigh(evaluator: CandidateEvaluator, baseline: BaselineLatency, trial: Trial) -> Trial:
    """Count the weights of a network, and the bytes of its bundle if that is asked for."""
    parameters, size = count_parameters(create(trial.spec)), None
    if evaluator.target.max_size_bytes is not None:
        size = _BYTES_A_WEIGHT * parameters
        if trial.spec.bits or size <= evaluator.target.max_size_bytes:
            size = evaluator.size(
                Candidate(create_untrained(trial.spec, seed=0), baseline.precision)
            )
    return replace(trial, parameters=parameters, size_bytes=size)


def _describe_size(
    evaluator: CandidateEvaluator, baseline: BaselineLatency, heavy: Sequence[Trial]
) -> str:
    """Message with a feasible size: of the smallest network that meets the latency."""
    least = min(heavy, key=lambda each: each.parameters)
    size = evaluator.size(Candidate(create_untrained(least.spec, seed=0), baseline.precision))
    return (
        f"{len(heavy)} networks fit the target by their time, but the smallest makes a bundle of "
        f"{size / 1000:.0f} kB, more than {(evaluator.target.max_size_bytes or 0) / 1000:g} "
        "kB. Allow at "
        f"least {_MARGIN * size / 1000:.0f} kB, or ask for fewer milliseconds."
    )


def _describe_time(
    evaluator: CandidateEvaluator, baseline: BaselineLatency, seen: dict[str, float]
) -> str:
    """Message with a feasible target: of the network that misses this one least."""
    anchors = list_anchors(evaluator.source.network.spec, evaluator.size_px)
    corners = [(name, anchors[name]) for name in ("smallest", "largest") if name in anchors]
    missing = [spec for name, spec in corners if name not in seen]
    times = [*seen.values(), *evaluator.predict(missing, baseline.precision)]
    target = evaluator.target.target_ms or 0.0
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
