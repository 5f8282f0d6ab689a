"""Where the time of a 2D network goes, operation by operation, by OpenVINO's own clock.

Each round profiles every combination of precision and threads in turns; of an operation the
smallest of its medians counts, which other work on the machine disturbs least. The clock itself
takes time, so the sums are above the latencies of `network_latency.py`; the parts are what is
meant.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from bedside.benchmarking.operations import Spent, count_operations, profile
from bedside.bundle import find_bundle, read_bundle
from bedside.runtime.machine import describe_processor, read_load
from bedside.system.atomic import write_text

SETTINGS = (("bf16", 2), ("bf16", 1), ("f32", 2))
_MOST = 14

Times = dict[str, Spent]


def measure(graph: bytes, shape: tuple[int, ...], rounds: int) -> list[Times]:
    """Smallest time of each operation, for each of `SETTINGS`."""
    tensor = np.random.default_rng(0).random((1, *shape), np.float32)
    best: list[Times] = [{} for _ in SETTINGS]
    for _ in range(rounds):
        for times, (precision, threads) in zip(best, SETTINGS, strict=True):
            for spent in profile(graph, tensor, precision=precision, threads=threads):
                known = times.get(spent.name)
                if known is None or spent.milliseconds < known.milliseconds:
                    times[spent.name] = spent
    return best


def describe(times: Times, title: str, flops: dict[str, int]) -> list[str]:
    """Tables of one setting: by kind of operation, and the longest operations."""
    whole = sum(spent.milliseconds for spent in times.values())
    kinds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for spent in times.values():
        kinds[spent.kind, spent.kernel].append(spent.milliseconds)
    lines = [
        f"## {title}", "",
        f"{len(times)} operations after fusion, {whole:.2f} ms together, "
        f"{1e3 * whole / len(times):.0f} us each.",
        "", "| kind | kernel | operations | ms | part |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for (kind, kernel), spans in sorted(kinds.items(), key=lambda each: -sum(each[1])):
        lines.append(
            f"| {kind} | {kernel} | {len(spans)} | {sum(spans):.3f} | "
            f"{100 * sum(spans) / whole:.0f} % |"
        )
    lines += ["", "| operation | kind | ms | part | GFLOP/s |", "|---|---|---|---|---|"]
    for spent in sorted(times.values(), key=lambda each: -each.milliseconds)[:_MOST]:
        rate = flops.get(spent.name)
        shown = "-" if rate is None else f"{rate / spent.milliseconds / 1e6:.0f}"
        lines.append(
            f"| {spent.name} | {spent.kind} | {spent.milliseconds:.3f} | "
            f"{100 * spent.milliseconds / whole:.0f} % | {shown} |"
        )
    return [*lines, ""]


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="camus-4ch")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    bundle = read_bundle(find_bundle(arguments.bundle))
    graph, source = bundle.read_graph("f32"), bundle.spec.input
    before = read_load()
    found = measure(graph, (source.channels, *source.size_px), arguments.rounds)
    flops = {each.name: each.flops for each in count_operations(graph)}
    lines = [
        "# Where the time of a 2D network goes",
        "",
        f"{bundle.spec.name} {bundle.spec.version}, one image of "
        f"{' x '.join(map(str, source.size_px))}, in OpenVINO, which fuses operations and names "
        "them after the last. " + " ".join((__doc__ or "").split("\n\n")[1].split()) + " Written "
        "by `benchmarks/network_operations.py`.",
        "",
        f"- Processor: {describe_processor()}",
        f"- Load of the machine before and after, 1 minute: {before:.1f}, {read_load():.1f}",
        *(["- Taken beside other work: parts may be read, times not."] if before > 1 else []),
        f"- Rounds: {arguments.rounds}",
        "",
    ]
    for times, (precision, threads) in zip(found, SETTINGS, strict=True):
        title = f"{precision}, {threads} thread{'s' * (threads > 1)}"
        lines += describe(times, title, flops)
    write_text(arguments.output, "\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
