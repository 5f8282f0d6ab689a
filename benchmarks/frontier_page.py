"""The page of the frontier: accuracy and time brought together, the verdict, the table."""

from collections.abc import Mapping, Sequence
from typing import Any

from frontier_pairs import format_pairs
from frontier_rows import Row
from pareto import Merged, Point, find_defeats, find_frontier

CLAIM_MS = (0.5, 10.0)
"""Where ours are meant to be the frontier."""

PRECISIONS = ("f32", "bf16", "int8")


def format_row(row: Row, frontier: set[str]) -> str:
    """Write one line of the table."""
    chosen = row.times_ms[row.precision]
    cells = [row.title, f"{row.parameters / 1e6:.2f} M"]
    if row.result is None:
        cells += ["not trained", "", "", ""]
    else:
        mean, low, high = row.mean_dice(row.result)
        mark = "" if row.precision in row.result.dice_by_precision else " f32"
        cells += [
            f"{row.result.epochs} x {len(row.result.seeds)}",
            " / ".join(f"{dice:.3f}" for dice in row.result.structures.values()),
            f"{mean:.4f} ({low:.3f}-{high:.3f}){mark}",
            "yes" if row.title in frontier else "no",
        ]
    cells += [row.precision, *(f"{value:.2f}" for value in chosen)]
    for precision in PRECISIONS:
        seen = row.times_ms.get(precision)
        cells.append("" if seen is None else f"{seen[0]:.2f}{_mark(row.result, precision)}")
    return f"| {' | '.join(cells)} |"


def _mark(result: Merged | None, precision: str) -> str:
    """Mark a precision that lost too much, and one of which that is not known."""
    if result is None or precision in result.admissible:
        return ""
    return " *" if precision in result.barred else " ?"


def _describe_devices(rows: list[Row], machine: Sequence[str]) -> list[str]:
    """Say which networks were trained elsewhere than on the machine that times were taken on."""
    here = "\n".join(machine)
    named = [
        f"{row.title} on {device}"
        for row in rows
        if row.result is not None
        for device in row.result.trained_on
        if device not in here
    ]
    return [f"Trained elsewhere: {', '.join(named)}.", ""] if named else []


def _describe_trainings(rows: Sequence[Row]) -> list[str]:
    """Name who was trained on other patients or in another precision, if the results differ."""
    groups: dict[tuple[int, int, str], list[str]] = {}
    for row in rows:
        if row.result is not None and row.result.patients:
            patients, precisions = row.result.patients, " and ".join(row.result.trained_in)
            key = (patients["train"], patients["test"], precisions)
            groups.setdefault(key, []).append(row.title)
    if len(groups) < 2:
        return []
    return [
        "Not all were trained alike. A patient who shares an image with a training patient was "
        "moved out of the test part in between, and products are in bf16 where the processor or "
        "GPU has them:",
        "",
        *(
            f"- in {precisions or 'a precision that was not kept'}, on {train} patients, scored on "
            f"{test}: {', '.join(titles)}"
            for (train, test, precisions), titles in groups.items()
        ),
        "",
    ]


def _describe_rates(rows: Sequence[Row]) -> list[str]:
    """Say which learning rates were chosen, of which, by short trainings."""
    lines = [
        f"- {row.title}: {chosen:g} ("
        + ", ".join(f"{dice:.4f} with {rate}" for rate, dice in tried.items())
        + ")"
        for row in rows
        if row.result is not None
        for chosen, tried in row.result.rates
    ]
    if not lines:
        return []
    return [
        "The learning rate of each is the one with the highest mean Dice on the validation part "
        "after a short training of its own:",
        "",
        *lines,
        "",
    ]


def judge(points: list[Point], claim_ms: tuple[float, float] = CLAIM_MS) -> list[str]:
    """Say whether ours are the frontier, and name whatever says otherwise."""
    low, high = claim_ms
    own = [point for point in points if point.ours and low <= point.ms <= high]
    theirs = [point for point in points if not point.ours]
    if not own or not theirs:
        return ["Nothing can be said of the frontier yet: ours or the classics are not trained."]
    defeats = find_defeats(points, low_ms=low, high_ms=high)
    if not defeats:
        return [
            f"Between {low:g} and {high:g} ms no classic of the {len(theirs)} that are trained is "
            f"both faster and at least as accurate as any of our {len(own)}."
        ]
    return [
        f"- {peer.name} ({peer.ms:.2f} ms, {peer.dice:.4f}) is faster than {mine.name} "
        f"({mine.ms:.2f} ms, {mine.dice:.4f}) and at least as accurate."
        for peer, mine in defeats
    ]


def _count(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def _list_frontier(frontier: Sequence[Point]) -> list[str]:
    """Name what nothing beats, ours and others."""
    said = ", ".join(f"{point.name} ({point.ms:.2f} ms, {point.dice:.4f})" for point in frontier)
    return ["", f"What nothing beats, from the fastest: {said}."] if frontier else []


def format_page(
    latency: Mapping[str, Any],
    rows: list[Row],
    *,
    plot: str,
    claim_ms: tuple[float, float] = CLAIM_MS,
) -> str:
    """Write the page: verdict, plot, table, what it was measured on."""
    points = [point for row in rows if (point := row.point)]
    trained = next((row.result for row in rows if row.result is not None), None)
    structures = " / ".join(trained.structures) if trained else ""
    data, unit = (trained.data, trained.unit) if trained else ("one data set", "patients")
    corners = find_frontier(points)
    frontier = {point.name for point in corners}
    height, width = latency["input_px"]
    return "\n".join(
        [
            "# The frontier: Dice over milliseconds",
            "",
            *judge(points, claim_ms),
            *_list_frontier(corners),
            "",
            *([f"![Mean Dice over milliseconds]({plot})", ""] if points else []),
            f"| network | parameters | epochs x seeds | Dice {structures} "
            "| mean Dice (95 %) | on the frontier | precision | p50 ms | p95 ms | p99 ms "
            "| f32 | bf16 | int8 |",
            "|" + "---|" * 13,
            *(format_row(row, frontier) for row in rows),
            "",
            "\\* loses more than 0.005 of mean validation Dice against f32, and does not count. "
            "? was not compared with f32, and counts all the same.",
            "",
            f"All were trained from random weights on the same {unit} of {data}, with the same "
            f"augmentation, loss and schedule, and scored on the same test {unit} at their "
            "images' own resolution. The mean Dice is that of the graph in the precision that "
            "counts, or, marked f32, of the network in torch, as are the structures' Dice. The "
            f"interval is a bootstrap over {unit}; of several seeds, ends are averaged. Time is "
            "one image of "
            f"{height} x {width} from tensor to logits at full size, in OpenVINO, "
            f"{_count(latency['threads'])}, {latency['rounds']} rounds of 5 calls, all in turns. "
            "Of a network that is not trained, the fastest precision counts unchecked.",
            "",
            *_describe_rates(rows),
            *_describe_trainings(rows),
            *format_pairs(rows),
            *latency["machine"],
            "",
            *_describe_devices(rows, latency["machine"]),
            "Where each is from:",
            "",
            *(f"- {row.title}: {row.source}" for row in rows if not row.ours),
            "",
        ]
    )
