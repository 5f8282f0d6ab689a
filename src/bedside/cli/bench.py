"""`bedside bench`: the cost of bundles, streams, or attention mechanisms, on this machine."""

import dataclasses
import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedside.cli.arguments import option, positional
from bedside.cli.console import print_err, print_out, table
from bedside.cli.train import check_torch
from bedside.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedside.benchmarking.attention import Costs, Point

_COLORS = (
    (120, 90, 70),
    (148, 103, 189),
    (31, 119, 180),
    (44, 140, 60),
    (200, 110, 20),
    (205, 50, 50),
    (23, 160, 190),
    (190, 160, 30),
    (240, 130, 160),
)
_CONTROL_COLOR = (150, 150, 150)


@dataclass(frozen=True)
class Settings:
    """Measure the cost of bundles, streams, or attention mechanisms, on this machine.

    Of bundles: latency, throughput, memory, cold start, in every runtime and precision, beside
    what the machine can do at most. Of "stream": frames against the clock, at 30 and 60 a second,
    with and without another process on one core, and over OpenIGTLink: latency, misses, drops, age
    of masks, growth of memory. Of "attention": every mechanism's time and memory.
    """

    what: tuple[str, ...] = positional(
        help='bundles (files, or names of shipped bundles), "stream", or "attention"'
    )
    json: bool = option(help="print only the results, as JSON", default=False)
    output: Path | None = option(
        help="folder for bench.json and bench.svg, or stream.* or attention.*",
        short="-o",
        default=None,
    )
    threads: tuple[int, ...] = option(help="numbers of threads to measure with", default=(1, 2))
    seconds: float = option(help="time for measuring all combinations", default=10.0)
    backend: str = option(help="runtime for attention", default="auto")
    model: str | None = option(
        help="for a stream: the bundle (default: camus-4ch)", default=None, short="-m"
    )
    minutes: float = option(help="for a stream: time of each run", default=10.0)
    wire: str = option(
        help='for a stream: "igtl" for all runs over OpenIGTLink, "none" for none (default: one)',
        default="",
    )
    quick: bool = option(help="for attention: fewer sizes, shorter rounds", default=False)


def run(settings: Settings) -> int:
    """Measure and print the results; progress goes to stderr.

    Raises:
        BackendError: If a runtime, or for attention torch, is not installed.
        UsageError: If a number of threads is below 1, or a stream takes no time.
        OutputError: If the folder cannot be written to.
    """
    if min(settings.threads) < 1:
        raise UsageError(f"threads is {min(settings.threads)}; expected at least 1.")
    if settings.what == ("stream",):
        from bedside.cli.bench_stream import run_streams

        return run_streams(
            settings.model, minutes=settings.minutes, wire=settings.wire, output=settings.output,
            as_json=settings.json,
        )  # fmt: skip
    if settings.what != ("attention",):
        from bedside.cli.bench_bundles import run_bundles

        return run_bundles(
            settings.what,
            threads=settings.threads,
            seconds=settings.seconds,
            output=settings.output,
            as_json=settings.json,
        )
    check_torch("bench attention")
    from bedside.benchmarking.attention import (
        QUICK_CAPS,
        QUICK_SIDES,
        SIDES,
        Caps,
        measure_attention,
    )
    from bedside.system.atomic import files_together, output_folder, write_text

    with output_folder(settings.output):
        costs = measure_attention(
            dict(QUICK_SIDES if settings.quick else SIDES),
            threads=tuple(dict.fromkeys(settings.threads)),
            caps=QUICK_CAPS if settings.quick else Caps(),
            backend=settings.backend,
            on_point=print_err,
        )
        report = describe(costs)
        if settings.output is not None:
            with files_together(settings.output) as folder:
                write_text(folder / "attention.json", json.dumps(report, indent=1) + "\n")
                write_text(folder / "attention.svg", draw(costs))
        if settings.json:
            print_out(json.dumps(report, indent=1))
            return 0
        for line in _lines(report):
            print_out(line)
        return 0


def describe(costs: "Costs") -> dict[str, Any]:
    """Return the results for JSON; `exponents` are of the time with the first number of threads."""
    from bedside.benchmarking.attention import CONTROL, fit_exponents

    counts = list(dict.fromkeys(point.threads for point in costs.points))

    def fit(points: "Sequence[Point]") -> dict[str, Any]:
        return {
            str(count): fit_exponents([p for p in points if p.threads == count], "milliseconds")
            for count in counts
        }

    by_threads = fit(costs.points)
    first = [point for point in costs.points if point.threads == counts[0]]
    return {
        "exponents": by_threads[str(counts[0])],
        "exponents_by_threads": by_threads,
        "memory_exponents": fit_exponents(first, "memory_mb"),
        "control": {
            "what": f"{CONTROL}: linear by definition; what is above 1 is the machine's caches",
            "exponents_by_threads": {
                count: exponents.get(CONTROL, {}) for count, exponents in fit(costs.control).items()
            },
            "points": [dataclasses.asdict(point) for point in costs.control],
        },
        "points": [dataclasses.asdict(point) for point in costs.points],
        "skipped": [dataclasses.asdict(skipped) for skipped in costs.skipped],
    }


def draw(costs: "Costs") -> str:
    """Draw time with each number of threads, and memory, for each number of axes."""
    from bedside.report.scaling_plot import draw_scaling, stack_plots

    plots = []
    names = dict.fromkeys(point.mechanism for point in costs.points)
    colors = dict(zip(names, itertools.cycle(_COLORS), strict=False))
    colors |= {point.mechanism: _CONTROL_COLOR for point in costs.control}
    counts = list(dict.fromkeys(point.threads for point in costs.points))
    wanted = [("milliseconds", count, f"ms, {count} threads") for count in counts]
    wanted = [(q, c, title.replace("1 threads", "1 thread")) for q, c, title in wanted]
    for spatial_dims in dict.fromkeys(point.spatial_dims for point in costs.points):
        for quantity, count, title in [*wanted, ("memory_mb", counts[0], "MB")]:
            series = {
                name: (
                    color,
                    [
                        (float(point.tokens), float(getattr(point, quantity)))
                        for point in (*costs.points, *costs.control)
                        if (point.mechanism, point.spatial_dims, point.threads)
                        == (name, spatial_dims, count)
                    ],
                )
                for name, color in colors.items()
            }
            shown = {name: row for name, row in series.items() if row[1]}
            plots.append(draw_scaling(shown, x_title=f"tokens, {spatial_dims}D", y_title=title))
    return stack_plots(plots)


def _lines(report: dict[str, Any]) -> list[str]:
    """Return the summary for the terminal."""
    spatial_dims = list(next(iter(report["exponents"].values())))
    counts = list(report["exponents_by_threads"])
    rows = [
        ["time grows with tokens to the power of"]
        + [f"{name}, {count} thr." for name in spatial_dims for count in counts]
        + [f"{name}, memory" for name in spatial_dims]
    ]
    for mechanism in report["exponents"]:
        times = [
            report["exponents_by_threads"][count][mechanism][name]
            for name in spatial_dims
            for count in counts
        ]
        memory = [report["memory_exponents"][mechanism][name] for name in spatial_dims]
        rows.append([mechanism, *("?" if v is None else f"{v:.2f}" for v in [*times, *memory])])
    control = report["control"]["exponents_by_threads"]
    rows.append(
        ["(no attention)"]
        + [
            f"{control[count].get(name) or math.nan:.2f}"
            for name in spatial_dims
            for count in counts
        ]
        + ["" for _ in spatial_dims]
    )
    left_out = [
        f"Left out: {row['mechanism']}, {row['axes']}D, side {row['side']}: {row['reason']}."
        for row in report["skipped"]
    ]
    return [*table(rows), *left_out]
