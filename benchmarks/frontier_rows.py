"""The rows of the frontier: a network's time and accuracy brought together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pareto import CaseKey, Ends, Merged, Point
from peers.names import OURS


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        network: Its name.
        title: What people call it.
        source: Where it is from.
        parameters: Number of weights.
        times_ms: (p50, p95, p99) by precision.
        result: What its trainings came to; None if it is not trained.
    """

    network: str
    title: str
    source: str
    parameters: int
    times_ms: Mapping[str, tuple[float, float, float]]
    result: Merged | None

    @property
    def ours(self) -> bool:
        """Whether it is one of ours."""
        return self.network.startswith(OURS)

    @property
    def unit(self) -> str:
        """What is independent in the data it was scored on, in the plural."""
        return self.result.unit if self.result else "patients"

    @property
    def precision(self) -> str:
        """The fastest precision that may be used; one that was not checked may be."""
        barred = self.result.barred if self.result else ()
        return min(
            (precision for precision in self.times_ms if precision not in barred),
            key=lambda precision: self.times_ms[precision][0],
        )

    @property
    def point(self) -> Point | None:
        """Its place in the plot, if it is trained."""
        if self.result is None:
            return None
        return Point(self.title, self.ms, self.mean_dice(self.result)[0], self.ours)

    @property
    def ms(self) -> float:
        """Median milliseconds in the precision that counts."""
        return self.times_ms[self.precision][0]

    def mean_dice(self, result: Merged) -> Ends:
        """Mean Dice and its interval in the precision that counts; of f32 where only that is."""
        return result.dice_by_precision.get(self.precision, result.mean_dice)

    @property
    def case_dice(self) -> Mapping[CaseKey, float]:
        """Mean Dice of each case in the precision that counts; empty where it was not kept."""
        return self.result.case_dice.get(self.precision, {}) if self.result else {}


def make_rows(latency: Mapping[str, Any], results: Mapping[str, Merged]) -> list[Row]:
    """Bring time and accuracy together, ours first, each group from the fastest."""
    rows = [
        Row(
            network=row["network"],
            title=row["title"],
            source=row["source"],
            parameters=row["parameters"],
            times_ms={name: tuple(times) for name, times in row["times_ms"].items()},
            result=results.get(row["network"]),
        )
        for row in latency["rows"]
    ]
    return sorted(rows, key=lambda row: (not row.ours, row.times_ms[row.precision][0]))
