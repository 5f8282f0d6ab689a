"""Each classic beside the one of ours that takes the time nearest to its: differences in pairs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bedside.evaluation.intervals import mean_interval
from bedside.spec.card import Interval
from frontier_rows import Row
from pareto import CaseKey

HEADINGS = (
    "network",
    "ms",
    "ours nearest in time",
    "its ms",
    "{unit}",
    "Dice, the network's - ours (95 %)",
    "so",
)


@dataclass(frozen=True)
class Pair:
    """Two networks on the same test patients.

    Attributes:
        peer: The classic.
        own: Ours.
        difference: Mean over cases of the Dice of the classic less that of ours, with its
            interval over patients.
        patients: How many both were scored on.
    """

    peer: Row
    own: Row
    difference: Interval
    patients: int

    @property
    def verdict(self) -> str:
        """Which is more accurate, as far as the interval says."""
        low, high = self.difference.low, self.difference.high
        if low is not None and low > 0:
            return "more accurate than ours"
        return "less accurate than ours" if high is not None and high < 0 else "not decided"


def pair_rows(rows: Sequence[Row]) -> list[Pair]:
    """Pair every classic whose cases are kept with ours nearest in time, by ratio.

    Cases that only one of the two was scored on do not count.
    """
    own = [row for row in rows if row.ours and row.case_dice]
    pairs = []
    for peer in rows:
        if peer.ours or not peer.case_dice or not own:
            continue
        nearest = min(own, key=lambda row: abs(math.log(row.ms / peer.ms)))
        pairs.append(_pair(peer, nearest))
    return pairs


def _pair(peer: Row, own: Row) -> Pair:
    shared = [case for case in peer.case_dice if case in own.case_dice]
    difference = subtract(peer.case_dice, own.case_dice, shared)
    return Pair(peer, own, difference, len({patient for patient, _ in shared}))


def subtract(
    minuend: Mapping[CaseKey, float], subtrahend: Mapping[CaseKey, float], cases: Sequence[CaseKey]
) -> Interval:
    """Mean difference over cases, with an interval by a bootstrap over their patients."""
    values = [minuend[case] - subtrahend[case] for case in cases]
    return mean_interval(values, [patient for patient, _ in cases])


def format_pairs(rows: Sequence[Row]) -> list[str]:
    """Write the table, and which classics cannot be paired."""
    pairs = pair_rows(rows)
    if not pairs:
        return []
    unit = pairs[0].own.unit
    without = [row.title for row in rows if row.result and not row.ours and not row.case_dice]
    lines = [
        "## In pairs",
        "",
        "Each beside the one of ours that is nearest in time, on the same images of the same test "
        f"{unit}, both in the precision that counts. The interval is a bootstrap over {unit}; "
        "one training each, so that it leaves out what another seed would change.",
        "",
        f"| {' | '.join(HEADINGS).format(unit=unit)} |",
        "|" + "---|" * len(HEADINGS),
        *(_format(pair) for pair in pairs),
        "",
    ]
    if without:
        lines += [f"The Dice of single cases was not kept of {', '.join(without)}.", ""]
    return lines


def _format(pair: Pair) -> str:
    mean, low, high = pair.difference.mean, pair.difference.low, pair.difference.high
    interval = "" if low is None or high is None else f" ({low:+.4f} to {high:+.4f})"
    cells = [
        pair.peer.title,
        f"{pair.peer.ms:.2f}",
        pair.own.title,
        f"{pair.own.ms:.2f}",
        str(pair.patients),
        f"{mean:+.4f}{interval}",
        pair.verdict,
    ]
    return f"| {' | '.join(cells)} |"
