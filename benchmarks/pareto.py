"""Which networks nothing beats, and what several trainings of one network come to together."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bedside.errors import DataError

Ends = tuple[float, float, float]
"""Mean, low and high end."""
CaseKey = tuple[str, str]
"""Patient and case."""


@dataclass(frozen=True)
class Point:
    """A network by what it costs and what it is worth.

    Attributes:
        name: What it is called.
        ms: Milliseconds of one image.
        dice: Mean Dice.
        ours: Whether it is one of ours.
    """

    name: str
    ms: float
    dice: float
    ours: bool


@dataclass(frozen=True)
class Merged:
    """What the trainings of one network with several seeds come to.

    Attributes:
        network: Its name.
        seeds: Seeds, rising.
        epochs: Length of each training.
        mean_dice: Means over seeds of mean, low and high end of the mean Dice in f32.
        dice_by_precision: The same of each precision that was scored on the test patients.
        case_dice: Mean Dice over structures, a mean over seeds, by precision and then by
            (patient, case); empty where the results do not keep it.
        patients: Number of patients by part.
        data: Name of the data set.
        unit: What is independent in it, in the plural.
        rates: Learning rates, one a seed, each with the validation Dice of all that were tried.
        structures: The mean Dice of each structure, over seeds.
        admissible: Precisions that kept the accuracy with every seed.
        barred: Precisions that lost too much of it with one.
        trained_on: Processors or GPUs, where the results name them.
        trained_in: Precisions of the products in training, where the results name them.
        parameters: Number of weights.
    """

    network: str
    seeds: tuple[int, ...]
    epochs: int
    mean_dice: Ends
    structures: Mapping[str, float]
    admissible: tuple[str, ...]
    barred: tuple[str, ...]
    trained_on: tuple[str, ...]
    parameters: int
    trained_in: tuple[str, ...] = ()
    dice_by_precision: Mapping[str, Ends] = field(default_factory=dict)
    case_dice: Mapping[str, Mapping[CaseKey, float]] = field(default_factory=dict)
    patients: Mapping[str, int] = field(default_factory=dict)
    data: str = ""
    unit: str = "patients"
    rates: tuple[tuple[float, Mapping[str, float]], ...] = ()


def find_frontier(points: Iterable[Point]) -> list[Point]:
    """Keep the points that no other beats, the fastest first.

    A point is beaten by one that is at least as fast and at least as accurate, and better
    in one of the two.

    Example:
        >>> points = [Point("a", 1, 0.8, True), Point("b", 2, 0.8, False)]
        >>> [point.name for point in find_frontier(points)]
        ['a']
    """
    frontier: list[Point] = []
    for point in sorted(points, key=lambda point: (point.ms, -point.dice)):
        best = frontier[-1] if frontier else None
        if best is None or point.dice > best.dice or _equal(point, best):
            frontier.append(point)
    return frontier


def find_defeats(
    points: Sequence[Point], *, low_ms: float, high_ms: float
) -> list[tuple[Point, Point]]:
    """Pair each of ours with the peers that are both faster and at least as accurate.

    Args:
        points: All networks.
        low_ms: Fastest of ours that is looked at.
        high_ms: Slowest of ours that is looked at.

    Returns:
        Pairs (peer, ours); none if ours are the frontier.
    """
    return [
        (peer, own)
        for own in points
        if own.ours and low_ms <= own.ms <= high_ms
        for peer in points
        if not peer.ours and peer.ms < own.ms and peer.dice >= own.dice
    ]


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Read all result files of a folder, in order of their names; none if it is not there."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def read_last(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Read the results of several folders; of a network, those of the last folder that has any."""
    last: dict[str, list[dict[str, Any]]] = {}
    for folder in folders:
        groups: dict[str, list[dict[str, Any]]] = {}
        for result in read_results(folder):
            groups.setdefault(result["network"], []).append(result)
        last |= groups
    return [result for group in last.values() for result in group]


def merge_seeds(results: Iterable[Mapping[str, Any]]) -> dict[str, Merged]:
    """Put the results of each network together, seed by seed.

    Args:
        results: Contents of result files.

    Returns:
        By network, in the order of first sight.

    Raises:
        DataError: If one seed comes twice, or seeds of a network had different trainings.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        groups.setdefault(result["network"], []).append(result)
    return {network: _merge(network, group) for network, group in groups.items()}


def _equal(one: Point, other: Point) -> bool:
    return (one.ms, one.dice) == (other.ms, other.dice)


def _merge(network: str, group: list[Mapping[str, Any]]) -> Merged:
    seeds = sorted(result["seed"] for result in group)
    if len(set(seeds)) != len(seeds):
        raise DataError(f"{network} has two results of one seed, among {seeds}; remove one.")
    for setting in ("epochs", "parameters", "split"):
        seen = [result[setting] for result in group]
        if any(value != seen[0] for value in seen):
            raise DataError(f"{network}: {setting} differs between seeds: {seen}.")
    names = list(group[0]["structures"])
    kept, lost = (
        [
            {check["precision"] for check in result["precisions"] if check["admissible"] is wanted}
            for result in group
        ]
        for wanted in (True, False)
    )
    return Merged(
        network=network,
        seeds=tuple(seeds),
        epochs=group[0]["epochs"],
        mean_dice=_average([result["mean_dice"] for result in group]),
        structures={
            name: float(np.mean([result["structures"][name]["dice"]["mean"] for result in group]))
            for name in names
        },
        admissible=tuple(sorted(set.intersection(*kept))),
        barred=tuple(sorted(set.union(*lost))),
        trained_on=_collect(group, "trained_on"),
        trained_in=_collect(group, "trained_in"),
        parameters=group[0]["parameters"],
        dice_by_precision=_dice_by_precision(group),
        case_dice=_merge_cases(group),
        patients=group[0]["split"].get("patients", {}),
        data=group[0].get("data", ""),
        unit=group[0].get("unit", "patients"),
        rates=tuple(
            (result["learning_rate"], result["rates"]) for result in group if result.get("rates")
        ),
    )


def _collect(group: Sequence[Mapping[str, Any]], key: str) -> tuple[str, ...]:
    return tuple(sorted({result.get(key, "") for result in group} - {""}))


def _average(intervals: Sequence[Mapping[str, float]]) -> Ends:
    rows = [[interval[end] for end in ("mean", "low", "high")] for interval in intervals]
    mean, low, high = np.mean(rows, axis=0).tolist()
    return mean, low, high


def _dice_by_precision(group: Sequence[Mapping[str, Any]]) -> dict[str, Ends]:
    """Average each precision that every seed was scored in."""
    seen = [
        {
            check["precision"]: check["test_mean_dice"]
            for check in result["precisions"]
            if "test_mean_dice" in check
        }
        for result in group
    ]
    shared = [name for name in seen[0] if all(name in each for each in seen)]
    return {name: _average([each[name] for each in seen]) for name in shared}


def _merge_cases(group: Sequence[Mapping[str, Any]]) -> dict[str, dict[CaseKey, float]]:
    """Average each case's mean Dice over seeds, where every seed kept it."""
    kept = [result.get("case_dice", {}) for result in group]
    merged = {}
    for precision in kept[0]:
        if all(precision in each for each in kept):
            seeds = [_list_cases(each[precision]) for each in kept]
            cases = [case for case in seeds[0] if all(case in seed for seed in seeds)]
            merged[precision] = {
                case: float(np.mean([seed[case] for seed in seeds])) for case in cases
            }
    return merged


def _list_cases(
    patients: Mapping[str, Mapping[str, Sequence[float | None]]],
) -> dict[CaseKey, float]:
    """Mean over the structures of every case that has one."""
    return {
        (patient, case): float(np.mean(known))
        for patient, cases in patients.items()
        for case, dice in cases.items()
        if (known := [value for value in dice if value is not None])
    }
