"""`bedside bench stream`: frames against the clock on this machine, shown."""

import dataclasses
import json
from typing import TYPE_CHECKING

from bedside.cli.console import print_err, print_out, table
from bedside.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bedside.benchmarking.streams import StreamRun

_RATES = tuple((fps, competing) for competing in (False, True) for fps in (30.0, 60.0))
_RUNS = {
    "none": [("", *rate) for rate in _RATES],
    "igtl": [("igtl", *rate) for rate in _RATES],
    "": [*(("", *rate) for rate in _RATES), ("igtl", 30.0, False)],
}
_TITLES = (
    "frames/s", "frames", "masks", "dropped", "late", "p50", "p95", "p99", "p99.9", "max",
    "age p99", "steps", "RSS drift",
)  # fmt: skip
_COLORS = ((31, 119, 180), (200, 110, 20), (44, 140, 60), (205, 50, 50), (148, 103, 189))


def run_streams(
    model_name: "str | None",
    *,
    minutes: float,
    wire: str,
    output: "Path | None",
    as_json: bool,
) -> int:
    """Play frames at 30 and 60 a second, alone and with another process on one core.

    Args:
        model_name: Bundle, as a file or the name of a shipped one.
        minutes: Time of each run.
        wire: "igtl" for frames and masks over OpenIGTLink; "none" for frames of this process; ""
            for these, and 30 a second over OpenIGTLink.
        output: Folder for stream.json and stream.svg; None to write none.
        as_json: Whether stdout gets JSON and nothing else.

    Raises:
        BundleError: If the bundle is not there, or damaged.
        UsageError: If the bundle takes more than one frame at a time, the time is none, or the
            wire is unknown.
        OutputError: If the folder cannot be written to.
    """
    from bedside.benchmarking.streams import make_frames, measure_stream
    from bedside.benchmarking.wire import measure_wire
    from bedside.cli.bundles import open_bundle
    from bedside.cli.demo import find_cine
    from bedside.io.source import open_source
    from bedside.runtime.machine import describe_processor, read_load
    from bedside.segment import Model
    from bedside.system.atomic import files_together, output_folder, write_text

    if not 0 < minutes < 1e5:
        raise UsageError(f"minutes is {minutes}; expected a number above 0.")
    if wire not in _RUNS:
        raise UsageError(f'wire is {wire!r}; expected "igtl" or "none".')
    with output_folder(output):
        load = read_load()
        with Model.open(open_bundle(model_name or "camus-4ch")) as model:
            is_heart = model.bundle.spec.input.modality == "US"
            frames = list(open_source(find_cine()).sequence) if is_heart else make_frames(model)
            runs: list[StreamRun] = []
            for by, fps, competing in _RUNS[wire]:
                measure, seconds = measure_wire if by else measure_stream, 60 * minutes
                print_err(f"run {len(runs) + 1} of {len(_RUNS[wire])}, {seconds:g} s ...")
                runs.append(measure(model, frames, fps=fps, seconds=seconds, competing=competing))
            name = model.bundle.spec.name
        report = {
            "bundle": name, "machine": describe_processor(), "load": round(load, 2),
            "runs": [dataclasses.asdict(each) for each in runs],
        }  # fmt: skip
        text = json.dumps(report, indent=1)
        if output is not None:
            with files_together(output) as folder:
                write_text(folder / "stream.json", f"{text}\n")
                write_text(folder / "stream.svg", draw(runs))
        for line in [text] if as_json else [*list_rows(runs), *_describe_wires(runs)]:
            print_out(line)
        return 0


def draw(runs: "Sequence[StreamRun]") -> str:
    """Latest mask of each second, over the time of the runs."""
    from bedside.report.curves import draw_curves

    count = max(2, min(len(each.timeline_ms) for each in runs))
    curves = {
        f"{_describe_run(each)}": (
            color, [*each.timeline_ms, 0.0, 0.0][:count],
        )
        for each, color in zip(runs, _COLORS, strict=False)
    }  # fmt: skip
    return draw_curves(
        [float(second) for second in range(count)], curves, x_title="time, s",
        y_title="latest mask of each second, ms",
    )  # fmt: skip


def list_rows(runs: "Sequence[StreamRun]") -> list[str]:
    """The runs as a table, for a person."""
    rows: list[Sequence[str]] = [_TITLES]
    for each in runs:
        times = (*each.latency_ms.values(), each.age_ms["p99"])
        rows.append((
            _describe_run(each), str(each.frames), str(each.processed),
            str(each.dropped), str(each.misses), *(f"{ms:.1f}" for ms in times),
            str(len(each.steps)), f"{each.rss_drift_mb:.1f} MB",
        ))  # fmt: skip
    return table(rows)


def _describe_wires(runs: "Sequence[StreamRun]") -> list[str]:
    """What a person has to know of the runs over the network."""
    return [
        f"{_describe_run(each)}: frames of 640 x 480; a mask is {each.age_frames['p50']:g} frames "
        f"old when it arrives, p99 {each.age_frames['p99']:g}; with its frame beside it after "
        f"{each.picture_ms['p50']:.1f} ms (p50), {each.picture_ms['p99']:.1f} ms (p99); lost: "
        + ", ".join(f"{name} {count}" for name, count in each.lost.items())
        for each in runs
        if each.wire
    ]


def _describe_run(run: "StreamRun") -> str:
    by, busy = ", OpenIGTLink" if run.wire else "", ", one core busy" if run.competing else ""
    return f"{run.fps:g}{by}{busy}"
