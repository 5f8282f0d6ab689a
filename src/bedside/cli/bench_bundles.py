"""`bedside bench BUNDLE...`: latency, memory and roofline of bundles on this machine."""

import dataclasses
import json
from typing import TYPE_CHECKING

from bedside.cli.console import print_err, print_out, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bedside.benchmarking.bundles import BundleCosts, Placed

_COLORS = {
    "Convolution": (31, 119, 180),
    "depthwise": (200, 110, 20),
    "MatMul": (44, 140, 60),
}
_MOST_KINDS = 6


def run_bundles(
    names: "Sequence[str]",
    *,
    threads: tuple[int, ...],
    seconds: float,
    output: "Path | None",
    as_json: bool,
) -> int:
    """Measure bundles; progress goes to stderr.

    Args:
        names: Bundles, as files or names of shipped ones.
        threads: Numbers of threads.
        seconds: Time for the turns of all ways to run them.
        output: Folder for bench.json and bench.svg; None to write none.
        as_json: Whether stdout gets JSON and nothing else.

    Raises:
        BundleError: If a bundle is not there, or damaged.
        BackendError: If no runtime is installed.
        OutputError: If the folder cannot be written to.
    """
    from bedside.benchmarking.bundles import measure_bundles
    from bedside.bundle import find_bundle, read_bundle
    from bedside.system.atomic import files_together, output_folder, write_text

    bundles = [read_bundle(find_bundle(name, on_notice=print_err)) for name in dict.fromkeys(names)]
    with output_folder(output):
        costs = measure_bundles(
            bundles,
            threads=threads,
            seconds=seconds,
            on_stage=lambda stage: print_err(f"{stage} ..."),
        )
        content = json.dumps(dataclasses.asdict(costs), indent=1)
        if output is not None:
            with files_together(output) as folder:
                write_text(folder / "bench.json", content + "\n")
                write_text(folder / "bench.svg", draw(costs))
        if as_json:
            print_out(content)
            return 0
        for line in lines(costs):
            print_out(line)
        return 0


def lines(costs: "BundleCosts") -> list[str]:
    """Return the summary for the terminal."""
    rows = [
        ("bundle", "runtime", "thr.", "p50 ms", "p95", "p99", "best", "/s", "MB", "cold ms", "roof")
    ]
    for cost in costs.costs:
        # What the card does not certify is measured, but never chosen.
        mark = "" if cost.certified else " (not certified)"
        rows.append((
            cost.bundle, f"{cost.backend} {cost.precision}{mark}", str(cost.threads),
            f"{cost.p50_ms:.2f}", f"{cost.p95_ms:.2f}", f"{cost.p99_ms:.2f}",
            f"{cost.best_ms:.2f}", f"{cost.per_second:.0f}", f"{cost.peak_mb:.0f}",
            f"{cost.cold_start_ms:.0f}",
            f"{100 * cost.of_ceiling:.0f} %",
        ))  # fmt: skip
    told = [costs.machine, *table(rows)]
    for name, size in costs.size_bytes.items():
        told.append(f"{name}: {size:,} bytes, {costs.gflop[name]:.3f} GFLOP a call")
    for ceiling in costs.ceilings:
        products = ", ".join(f"{p} {v:,.0f}" for p, v in ceiling.gflops.items())
        told.append(
            f"At most, {ceiling.threads} threads: {products} GFLOP/s in a matrix product; "
            f"{ceiling.memory_gbs:.1f} GB/s from memory"
        )
    for key, groups in costs.where.items():
        whole = sum(group.milliseconds for group in groups)
        shares = [
            f"{group.kind} {100 * group.milliseconds / whole:.0f} %"
            for group in groups[:_MOST_KINDS]
        ]
        told.append(f"Where it goes, {key}: {', '.join(shares)}")
    if costs.load > 0.5:
        told.append(f"The machine was busy (load {costs.load:.1f}): only ratios mean something.")
    return told


def draw(costs: "BundleCosts") -> str:
    """Draw the roofline plot: the operations of each bundle and precision."""
    from bedside.report.roofline_plot import Dot, draw_roofline
    from bedside.report.scaling_plot import stack_plots

    ceiling = costs.ceilings[0]
    plots = []
    for key, placed in costs.placed.items():
        if not placed:
            continue
        whole = sum(group.milliseconds for group in costs.where[key])

        def dot(each: "Placed", whole: float = whole) -> Dot:
            share = each.milliseconds / whole
            return Dot(each.name, each.intensity, each.gflops, share)

        dots = {
            kind: (color, [dot(each) for each in placed if each.kind == kind])
            for kind, color in _COLORS.items()
        }
        plots.append(
            draw_roofline(
                {kind: row for kind, row in dots.items() if row[1]},
                title=f"{key}, OpenVINO, threads: {ceiling.threads}",
                gflops=ceiling.gflops[key.rpartition(", ")[2]],
                memory_gbs=ceiling.memory_gbs,
            )
        )
    return stack_plots(plots)
