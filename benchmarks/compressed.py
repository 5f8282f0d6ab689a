"""A large network beside what was made of it: size, time in turns, and Dice on test patients.

For networks that came about by several steps, of which `bedside compress` measures only its
own: a network trained under a large one, compressed again. The bundle's split must be that of
the large network, so that no test patient was trained on by either.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bedside.autopilot.bounds import FAILURE
from bedside.autopilot.latency.timing import Setting, Timed, time_graphs
from bedside.autopilot.noninferiority import NoninferiorityResult, describe_shown, judge
from bedside.autopilot.scoring import Score, score_network
from bedside.autopilot.source import open_source
from bedside.build import build_bundle
from bedside.bundle import Bundle, find_bundle, read_bundle, shipped_bundles
from bedside.datasets import Case
from bedside.errors import SpecError
from bedside.runtime import open_graph
from bedside.runtime.execution_modes import certified_modes
from bedside.runtime.machine import describe_processor, read_load
from bedside.runtime.table import graph_of
from bedside.segment import Segmenter
from bedside.system.atomic import write_text

BACKEND = "openvino"


@dataclass(frozen=True)
class Row:
    """What is known of a bundle.

    Attributes:
        name: What it is called.
        parameters: Weights.
        size_bytes: Of the file.
        precision: The fastest that has a passing certificate.
        times_ms: By number of threads: time in that precision.
        score: On the test patients.
        comparisons: Beside the large network.
    """

    name: str
    parameters: int
    size_bytes: int
    precision: str
    times_ms: dict[int, float]
    score: Score
    comparisons: Sequence[NoninferiorityResult]


def name_bundle(bundle: Bundle) -> str:
    """Name a shipped bundle as it is called, and another by its folder too."""
    path = bundle.path
    return path.stem if path in shipped_bundles() else f"{path.parent.name}/{path.stem}"


def list_precisions(bundle: Bundle) -> list[str]:
    """Name what a bundle may be run in here."""
    return [precision for _, precision in certified_modes(bundle, backend=BACKEND)]


def time_bundles(bundles: Sequence[Bundle], *, threads: int, total_s: float) -> dict[str, float]:
    """Time every bundle in every precision that it may be run in, all in turns.

    Returns:
        Milliseconds by "number of the bundle, precision".
    """
    graphs = {}
    for number, bundle in enumerate(bundles):
        shape = (1, bundle.spec.input.channels, *bundle.spec.input.size_px)
        for precision in list_precisions(bundle):
            graph = bundle.read_graph(graph_of(precision))
            setting = Setting(BACKEND, precision, threads)
            graphs[f"{number} {precision}"] = Timed(graph, shape, setting)
    return time_graphs(graphs, total_s)


def score_bundle(bundle: Bundle, precision: str, cases: Sequence[Case]) -> Score:
    """Segment the test patients in one precision."""
    graph = bundle.read_graph(graph_of(precision))
    session = open_graph(graph, backend=BACKEND, precision=precision, threads=2)
    return score_network(Segmenter(bundle.spec, session), cases)


def compare(
    large: Bundle,
    small: Sequence[Bundle],
    cases: Sequence[Case],
    *,
    max_drop: float,
    threads: Sequence[int],
    total_s: float,
) -> list[Row]:
    """Measure a large network, in f32, and what was made of it, each in its fastest precision."""
    bundles = [large, *small]
    times = {count: time_bundles(bundles, threads=count, total_s=total_s) for count in threads}
    rows: list[Row] = []
    for number, bundle in enumerate(bundles):
        choices = ["f32"] if number == 0 else list_precisions(bundle)
        best = min(choices, key=lambda name: times[threads[0]][f"{number} {name}"])
        score = score_bundle(bundle, best, cases)
        reference = rows[0].score if rows else score
        rows.append(
            Row(
                name=name_bundle(bundle),
                parameters=bundle.card.parameters,
                size_bytes=bundle.size_bytes,
                precision=best,
                times_ms={count: times[count][f"{number} {best}"] for count in threads},
                score=score,
                comparisons=judge(
                    reference.by_patient(),
                    score.by_patient(),
                    max_drop=max_drop,
                    new_alarms=score.new_alarms(reference),
                ),
            )
        )
    return rows


def format_page(rows: Sequence[Row], *, max_drop: float, data: str, load: float) -> str:
    """Write both tables."""
    first = rows[0]
    patients = len(first.score.by_patient())
    counts = list(first.times_ms)
    lines = [
        "# What is left of a large network",
        "",
        f"{data}, {patients} test patients. The large network runs in f32, the others in the "
        "fastest precision that their certificates let through; OpenVINO, all in turns. Written "
        "by `benchmarks/compressed.py`.",
        "",
        f"- Processor: {describe_processor()}",
        f"- Load of the machine before and after, 1 minute: {load:.1f}, {read_load():.1f}",
        "",
        "| network | weights | bytes | smaller by | precision | "
        + " | ".join(f"ms, {count} thread{'s' if count > 1 else ''}" for count in counts)
        + " | times as fast |",
        "|---|---|---|---|---|" + "---|" * (len(counts) + 1),
    ]
    for row in rows:
        smaller = 100 * (1 - row.size_bytes / first.size_bytes)
        ratios = " / ".join(f"{first.times_ms[n] / row.times_ms[n]:.1f}" for n in counts)
        cells = " | ".join(f"{row.times_ms[n]:.2f}" for n in counts)
        lines.append(
            f"| {row.name} | {row.parameters:,} | {row.size_bytes:,} | {smaller:.1f} % "
            f"| {row.precision} | {cells} | {ratios} |"
        )
    lines += [
        "",
        "Dice, and how much of it is lost at most (one-sided 97.5 %, losses of any shape, "
        f"[noninferiority.md](noninferiority.md)); worse by less than {max_drop:g}?",
        "",
        f"| network | structure | Dice | difference | lost at most | lose over {FAILURE:g} "
        "| not worse |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        dice = row.score.mean_dice()
        for result in row.comparisons:
            beside = (
                "| | | | |"
                if row is first
                else f"| {result.difference:+.4f} | {-result.bound:.4f} "
                f"| {result.failing} of {result.patients} "
                f"| {describe_shown(result, max_drop=max_drop)} |"
            )
            lines.append(
                f"| {row.name} | {result.structure} | {dice[result.structure]:.4f} {beside}"
            )
    return "\n".join(lines) + "\n"


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Keep what the tables are made of."""
    return [
        {
            "name": row.name,
            "parameters": row.parameters,
            "size_bytes": row.size_bytes,
            "precision": row.precision,
            "times_ms": row.times_ms,
            "dice": row.score.mean_dice(),
            "hd95_mm": row.score.mean_hd95_mm(),
            "comparisons": [asdict(result) for result in row.comparisons],
        }
        for row in rows
    ]


def main() -> None:
    """Build the large network's bundle if need be, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder of the large network")
    parser.add_argument("bundles", nargs="+", help="what was made of it: paths or names")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--max-drop", type=float, default=0.005)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    load = read_load()
    source = open_source(arguments.run, arguments.data)
    path = arguments.run / f"{source.finished.recipe.deployment.name}.bedside"
    if not path.exists():
        build_bundle(arguments.run, path, data=arguments.data, int8=False)
    large, small = read_bundle(path), [read_bundle(find_bundle(name)) for name in arguments.bundles]
    cases = source.finished.part("test")
    for bundle in small:
        if bundle.split["test"] != large.split["test"]:
            raise SpecError(f"{bundle.path} was made with another split than {arguments.run}.")
    rows = compare(
        large,
        small,
        cases,
        max_drop=arguments.max_drop,
        threads=arguments.threads,
        total_s=arguments.seconds,
    )
    data = source.finished.recipe.data.name
    text = format_page(rows, max_drop=arguments.max_drop, data=data, load=load)
    print(text)
    write_text(arguments.output, text)
    content = json.dumps(to_json(rows), indent=1) + "\n"
    write_text(arguments.output.with_suffix(".json"), content)


if __name__ == "__main__":
    main()
