"""What 126,000 CTs cost on 100, 1,000 and 20,000 workers, and where it breaks first.

Usage: PYTHONPATH=tests python benchmarks/scale_measurements.py heads operations two scans processor
       PYTHONPATH=tests python benchmarks/ray_nodes.py
       python benchmarks/scale_sim.py

Simulated from what the first two have measured (`scale_sim.json`), and checked against their runs:
from every second case of a run, the time of the whole run is predicted. The exit code is 1 if a
prediction is further off than it may be.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bedside.system.atomic import write_text
from cluster_simulation import CaseCost, Cluster, HeadCost, draw_cases, simulate

DATA = Path(__file__).with_suffix(".json")
CASES = 126_000
WORKERS = (100, 1_000, 20_000)
SHARD_WORKERS = 10
# Not measured here: what a good cluster has, and bad luck.
LINK_MB_S, STORE_MB_S = 100.0, 10_000.0
LINK_OPERATIONS_S, STORE_OPERATIONS_S = 2_000.0, 50_000.0
MTBF_H, SLOW_SHARE, SLOW_FACTOR = 500.0, 0.01, 3.0
ASSUMED = Cluster(
    workers=1, link_mb_s=LINK_MB_S, store_mb_s=STORE_MB_S, link_operations_s=LINK_OPERATIONS_S,
    store_operations_s=STORE_OPERATIONS_S, mtbf_h=MTBF_H, slow_share=SLOW_SHARE,
    slow_factor=SLOW_FACTOR,
)  # fmt: skip
BUNDLE_MB = 1.7
LARGEST_ERROR = 0.15
"""Of a prediction of a real run."""


@dataclass(frozen=True)
class Check:
    """A real run beside its prediction.

    Attributes:
        name: What ran.
        cases: How many cases.
        load: Of the machine, before and after.
        measured_s: Its time.
        predicted_s: The time that half of its cases predict.
    """

    name: str
    cases: int
    load: tuple[float, float]
    measured_s: float
    predicted_s: float

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted_s / self.measured_s - 1


def fit_line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Fit a line by least squares.

    Returns:
        Its value at 0, and its slope.

    Example:
        >>> fit_line([(0, 1), (1, 3), (2, 5)])
        (1.0, 2.0)
    """
    count = len(points)
    middle_x = sum(x for x, _ in points) / count
    middle_y = sum(y for _, y in points) / count
    across = sum((x - middle_x) * (y - middle_y) for x, y in points)
    slope = across / sum((x - middle_x) ** 2 for x, _ in points)
    return middle_y - slope * middle_x, slope


def read_head(measured: dict[str, Any], *, with_ray: bool) -> HeadCost:
    """Costs of a head, with what Ray adds to them where it was measured."""
    rows = measured["heads"]
    event_s, per_worker_s = fit_line([(row["workers"], row["event_s"]) for row in rows])
    if with_ray:
        waits = [(float(n), s) for n, s in measured["two_nodes"]["wait_s"].items()]
        per_worker_s += fit_line(waits)[1]
        event_s = max(event_s, measured["two_nodes"]["head_s_per_case"])
    return HeadCost(
        line_s=sum(row["line_s"] for row in rows) / len(rows),
        plan_s=sum(row["plan_s"] for row in rows) / len(rows),
        spawn_s=2e-3,
        event_s=event_s,
        event_per_worker_s=per_worker_s,
    )


def predict(name: str, run: dict[str, Any], head: HeadCost) -> Check:
    """Predict the time of a run by two workers from every second of its cases."""
    half = [CaseCost(case["s"]) for case in run["cases"][::2]]
    times_s = [
        simulate(
            draw_cases(half, len(run["cases"]), seed=seed),
            Cluster(workers=2, head=head, load_s=run["fixed_s"]),
        ).seconds
        for seed in range(20)
    ]
    before, after = run["load"]
    predicted_s = sum(times_s) / len(times_s)
    return Check(name, len(run["cases"]), (before, after), run["wall_s"], predicted_s)


def check_runs(measured: dict[str, Any]) -> list[Check]:
    """Predict the real runs."""
    runs = {
        "two_workers": ("two workers, one process each", False),
        "two_nodes": ("two Ray nodes, one core each", True),
    }
    return [
        predict(name, measured[key], read_head(measured, with_ray=with_ray))
        for key, (name, with_ray) in runs.items()
        if key in measured
    ]


def read_scans(measured: dict[str, Any]) -> list[CaseCost]:
    """Costs of scans: spread as their seconds were, with the mean of their processor time."""
    cases = measured["scans"]["cases"]
    intercept_s, slope_s = fit_line(measured["scan_processor_s"])
    slices = measured["scan_slices"]
    mean_s = intercept_s + slope_s * sum(slices) / len(slices)
    scale = mean_s * len(cases) / sum(case["s"] for case in cases)
    return [CaseCost(case["s"] * scale, case["read"] / 1e6, case["write"] / 1e6) for case in cases]


def make_row(cases: Sequence[CaseCost], cluster: Cluster, *, kind: str) -> str:
    """Simulate one cluster."""
    outcome = simulate(cases, cluster)
    ideal_s = sum(case.compute_s for case in cases) / cluster.workers
    moved_mb = outcome.read_mb + outcome.written_mb
    return (
        f"| {cluster.workers:,} | {kind} | {outcome.seconds / 3600:.2f} | "
        f"{ideal_s / outcome.seconds:.0%} | {outcome.computed_s / 3600:.0f} | "
        f"{outcome.held_s / 3600:.0f} | {outcome.read_mb / 1e6:.1f} | "
        f"{outcome.written_mb / 1e6:.1f} | {outcome.head_busy_s / outcome.seconds:.0%} | "
        f"{moved_mb / cluster.store_mb_s / outcome.seconds:.0%} | "
        f"{outcome.retried} + {outcome.given_up} |\n"
    )


def make_rows(measured: dict[str, Any], cases: Sequence[CaseCost]) -> str:
    """Simulate all clusters."""
    with_ray = "two_nodes" in measured
    shared = replace(
        ASSUMED,
        bundle_mb=BUNDLE_MB,
        load_s=measured["load_s"],
        case_operations=measured["operations_per_case"],
        manifest_mb=len(cases) * measured["manifest_bytes_per_case"] / 1e6,
    )
    rows = ""
    for workers in WORKERS:
        one = replace(shared, workers=workers, head=read_head(measured, with_ray=with_ray))
        rows += make_row(cases, one, kind="one head")
        heads = math.ceil(workers / SHARD_WORKERS)
        many = replace(
            shared, workers=workers, heads=heads, head=read_head(measured, with_ray=False)
        )
        rows += make_row(cases, many, kind=f"{heads:,} shards")
    return rows


def list_limits(measured: dict[str, Any], cases: Sequence[CaseCost]) -> str:
    """Workers at which each thing that all share is busy all the time."""
    mean_s = sum(case.compute_s for case in cases) / len(cases)
    mean_mb = sum(case.read_mb + case.write_mb for case in cases) / len(cases)
    head = read_head(measured, with_ray="two_nodes" in measured)
    # event_s + n event_per_worker_s = mean_s / n
    a, b = head.event_per_worker_s, head.event_s
    head_limit = (math.sqrt(b * b + 4 * a * mean_s) - b) / (2 * a)
    each_s = mean_s + mean_mb / LINK_MB_S + measured["operations_per_case"] / LINK_OPERATIONS_S
    limits = {
        "one head that hands out the cases": head_limit,
        f"a store of {STORE_MB_S / 1000:.0f} GB/s": STORE_MB_S * each_s / mean_mb,
        f"a store of {STORE_OPERATIONS_S:,.0f} operations on names per second": (
            STORE_OPERATIONS_S * each_s / measured["operations_per_case"]
        ),
    }
    return "".join(
        f"| {name} | {limit:,.0f} |\n"
        for name, limit in sorted(limits.items(), key=lambda item: item[1])
    )


def format_page(measured: dict[str, Any]) -> str:
    """Return the page."""
    scans = read_scans(measured)
    cases = draw_cases(scans, CASES)
    checked = "".join(
        f"| {check.name} | {check.cases} | {check.load[0]:.0f} to {check.load[1]:.0f} "
        f"| {check.measured_s:.1f} | {check.predicted_s:.1f} | {check.error:+.0%} |\n"
        for check in check_runs(measured)
    )
    mean_s = sum(case.compute_s for case in scans) / len(scans)
    mean_read = sum(case.read_mb for case in scans) / len(scans)
    mean_write = sum(case.write_mb for case in scans) / len(scans)
    head = read_head(measured, with_ray="two_nodes" in measured)
    rays = (
        "with what Ray adds"
        if "two_nodes" in measured
        else "here without Ray's own cost of a case, for which see ray_nodes.md"
    )
    return f"""# {CASES:,} CTs on many machines: `benchmarks/scale_sim.py`

A discrete-event simulation (`cluster_simulation.py`), from what was measured here and what is
assumed of a cluster. Hours and core-hours follow from both; ratios and the order of the limits are
what it is good for.

## Checked against real runs

Small cases, of which every second one is known to the simulation. The machine had other work, which
is in the seconds of the cases as well. A prediction may be off by {LARGEST_ERROR:.0%}.

| run | cases | load of the machine | measured, s | predicted, s | error |
|---|---|---|---|---|---|
{checked}
## {CASES:,} scans

One worker has one core. *One head* hands out all cases, as `--ray` does ({rays});
*shards* are independent runs of {SHARD_WORKERS} workers each, as of a SLURM array. *Of ideal*: the
time that the computing alone would take, over the time it took. *Busy*: of the busiest head and of
the store's bandwidth.

| workers | as | hours | of ideal | core-hours computing | core-hours held | TB read \
| TB written | head busy | store busy | cases repeated + given up |
|---|---|---|---|---|---|---|---|---|---|---|
{make_rows(measured, cases)}
What is busy all the time, beginning with how many workers:

| shared by all | workers |
|---|---|
{list_limits(measured, cases)}
The manifest has {measured["manifest_bytes_per_case"] * CASES / 1e6:.0f} MB; each shard reads all of
it, in {CASES * head.line_s:.0f} s.

## Measured

| what | value |
|---|---|
| a scan of 512 x 512 x 88 to 195, one core | \
{mean_s:.1f} s of processor time; spread as 14 runs were |
| read and written | {mean_read:.0f} and {mean_write:.1f} MB |
| operations on names of files, per case | {measured["operations_per_case"]:.0f} |
| head: a line of the manifest, a check, an event | {1e6 * head.line_s:.0f}, \
{1e6 * head.plan_s:.0f}, {1e6 * head.event_s:.0f} us |
| head: an event, more for each worker | {1e6 * head.event_per_worker_s:.2f} us |
| a worker until its bundle is loaded | {measured["load_s"]:.1f} s |

Scans are made (`made_scan.py`), with the slices of BTCV's scans at hand; the network is that of
`btcv.toml` with random weights, in f32: its speckled labels make more work than a trained one's.
Failures were none in the {len(measured["two_workers"]["cases"]):,} cases of the run above but for
the images that are damaged on purpose.

## Assumed

A worker reads and writes {LINK_MB_S:.0f} MB/s and does {LINK_OPERATIONS_S:,.0f} operations on names
per second; the store {STORE_MB_S / 1000:.0f} GB/s and {STORE_OPERATIONS_S:,.0f}. A worker is lost
every {MTBF_H:.0f} h; {SLOW_SHARE:.0%} of them are {SLOW_FACTOR:.0f} times slower. Starting one
takes a head 2 ms. No waiting for a place in a queue of others.

{_list_machines(measured)}
"""


def _list_machines(measured: Any) -> str:
    """Where each of the runs that are predicted took place."""
    runs = {"Two workers": "two_workers", "Two Ray nodes": "two_nodes"}
    return "\n\n".join(
        f"{title}: {measured[run]['machine']}." for title, run in runs.items() if run in measured
    )


def main() -> None:
    """Simulate, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    chosen = parser.parse_args()
    measured = json.loads(DATA.read_text(encoding="utf-8"))
    text = format_page(measured)
    write_text(chosen.output, text)
    print(text)
    if wrong := [check for check in check_runs(measured) if abs(check.error) > LARGEST_ERROR]:
        sys.exit(f"further off than {LARGEST_ERROR:.0%}: {wrong}")


if __name__ == "__main__":
    main()
