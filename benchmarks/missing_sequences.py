"""What a bundle loses whose image lacks one or more of its channels, on whole scans.

Channels are blanked as they are where a user does not give them (`bedside segment --channels`),
so the whole pipeline is measured. Each evaluation of test patients gets its line in the ledger.
Beside it, how well the brightness of one channel alone tells a structure from what is around it,
on patients that are not for the test.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bedside.bundle import Bundle, read_bundle
from bedside.datasets import Case, list_cases
from bedside.datasets.case import read_case
from bedside.evaluation.cases import evaluate_cases
from bedside.evaluation.intervals import mean_interval
from bedside.evaluation.looks import find_ledger, record_look
from bedside.evaluation.missing import leave_out, list_subsets
from bedside.evaluation.report import markdown_table
from bedside.pipeline.protocol import Segmentation
from bedside.pipeline.segmenter import Segmenter, open_segmenter
from bedside.spec.card import Interval
from bedside.system.atomic import write_text
from bedside.volume import ImageSequence

HERE = Path(__file__).parent
RING_PX = (2, 12)
"""From where to where around a structure its surroundings are looked at."""

Json = dict[str, Any]


class Lacking:
    """A segmenter that is given images without some of their channels.

    Args:
        segmenter: The bundle, loaded.
        missing: Names of the channels that are 0.
    """

    def __init__(self, segmenter: Segmenter, missing: Sequence[str]) -> None:
        self._segmenter, self._missing = segmenter, missing
        self.found: list[Segmentation] = []

    def __getattr__(self, name: str) -> Any:
        """Everything else is the segmenter's own."""
        return getattr(self._segmenter, name)

    def segment_sequence(self, sequence: ImageSequence, **settings: Any) -> Segmentation:
        """Segment a sequence as if the channels had not been acquired, and remember the result."""
        lacking = leave_out(sequence, self._segmenter.spec.input, self._missing)
        self.found.append(self._segmenter.segment_sequence(lacking, **settings))
        return self.found[-1]


def score_subsets(bundle: Bundle, cases: Sequence[Case], *, part: str, ledger: Path) -> list[Json]:
    """Dice of each scan for each set of missing channels; every look at test patients is noted."""
    segmenter = open_segmenter(bundle, backend="openvino", precision="f32", threads=1)
    rows = []
    for missing in list_subsets(bundle.spec.input):
        lacking = Lacking(segmenter, missing)
        evaluation = evaluate_cases(lacking, cases)  # type: ignore[arg-type]
        if part == "test":
            dice = {each.name: each.dice.mean for each in evaluation.structures}
            what = f"missing_sequences, without {', '.join(missing) or 'none'}"
            record_look(ledger, bundle, what=what, cases=len(evaluation.cases), dice=dice)
        scores = {case.case_id: case.mean_dice or 0.0 for case in evaluation.cases}
        told = [_describe(found, bundle) for found in lacking.found]
        rows.append(
            {
                "missing": list(missing),
                "dice": scores,
                "told": dict(zip(scores, told, strict=True)),
            }
        )
        print(missing, round(float(np.mean(list(scores.values()))), 4), flush=True)
    return rows


def _describe(found: Segmentation, bundle: Bundle) -> Json:
    """What a user is told of one mask: how good it is, whether to trust it, whether it is odd."""
    sure = list(found.confidence.values())
    odd = found.gate is not None and bundle.gate is not None
    return {
        "drawn": bool(found.labels.array.any()),
        "predicted": float(np.mean([each.predicted_dice for each in sure])) if sure else None,
        "trusted": bool(sure) and all(each.trusted for each in sure),
        "odd": odd and found.gate.distance > bundle.gate.threshold,  # type: ignore[union-attr]
    }


def measure_contrasts(cases: Sequence[Case], names: Sequence[str], values: Sequence[int]) -> Json:
    """How well one channel's brightness tells structures from what surrounds them, scan by scan."""
    found: Json = {name: {} for name in names}
    for case in cases:
        source, truth = read_case(case, values)
        inside = [np.zeros(256) for _ in names]
        around = [np.zeros(256) for _ in names]
        for frame, labels in zip(source.sequence, truth, strict=True):
            drawn = (labels > 0).astype(np.uint8)
            if not drawn.any():
                continue
            near, far = (
                cv2.dilate(drawn, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
                for reach in RING_PX
            )
            for number, plane in enumerate(frame):
                inside[number] += np.bincount(plane[drawn > 0], minlength=256)
                around[number] += np.bincount(plane[(far > near) & (plane > 0)], minlength=256)
        for name, one, other in zip(names, inside, around, strict=True):
            found[name][case.case_id] = find_separation(one, other)
    return found


def find_separation(inside: np.ndarray, around: np.ndarray) -> float:
    """Share of pairs of pixels, one of each, that brightness orders alike: 0.5 by chance, 1 all.

    Args:
        inside: Number of pixels of each level.
        around: The same of the surroundings.

    Example:
        >>> find_separation(np.array([0, 0, 4]), np.array([1, 1, 0]))
        1.0
    """
    below = np.cumsum(around) - around / 2
    share = float((inside * below).sum() / max(inside.sum() * around.sum(), 1))
    return max(share, 1 - share)


def format_page(record: Json) -> str:
    """Write the page from a record."""
    whole = record["rows"][0]["dice"]
    heading = ["missing", "mean Dice", "against all", "lowest scan"]
    told = "told" in record["rows"][0]
    if told:
        heading += ["predicted Dice", "not trusted", "unlike training"]
    table = [_format_row(row, whole, told=told) for row in record["rows"]]
    lines = [
        "# Missing sequences",
        "",
        f"`{record['bundle']}` on {len(whole)} {record['part']} patients of {record['data']}: "
        "volume Dice on each scan's own grid, f32, with all sequences and with some blanked as "
        "they are where a user does not give them. Intervals are over patients, differences are "
        f"paired. {record['note']} Written by `benchmarks/missing_sequences.py`.",
        "",
        *markdown_table(heading, table),
    ]
    if "contrasts" in record:
        lines += ["", *_format_contrasts(record["contrasts"])]
    return "\n".join(lines) + "\n"


def _format_row(row: Json, whole: Mapping[str, float], *, told: bool) -> list[str]:
    dice = row["dice"]
    change = [dice[case] - whole[case] for case in whole]
    cells = [
        ", ".join(row["missing"]) or "none",
        _show(mean_interval(list(dice.values()), list(dice)), sign=""),
        _show(mean_interval(change, list(whole)), sign="+") if row["missing"] else "",
        f"{min(dice.values()):.3f}",
    ]
    if told:
        each = list(row["told"].values())
        known = [one["predicted"] for one in each if one["predicted"] is not None]
        cells += [
            f"{np.mean(known):.3f}" if known else "none",
            f"{sum(not one['trusted'] for one in each)} of {len(each)}",
            f"{sum(one['odd'] for one in each)} of {len(each)}",
        ]
    return cells


def _format_contrasts(contrasts: Json) -> list[str]:
    """What one sequence alone shows."""
    count = len(next(iter(contrasts.values())))
    rows = [
        [name, f"{np.mean(list(each.values())):.3f}", f"{min(each.values()):.3f}"]
        for name, each in contrasts.items()
    ]
    return [
        f"What one sequence shows by brightness alone, on the {count} patients that are not for "
        "the test: the share of pairs of pixels, one inside the experts' outline and one "
        f"{RING_PX[0]} to {RING_PX[1]} pixels outside of it, that brightness orders alike; 0.5 is "
        "chance.",
        "",
        *markdown_table(["sequence", "mean", "lowest scan"], rows),
    ]


def _show(interval: Interval, *, sign: str) -> str:
    """A mean, and its interval if it has one."""
    text = f"{interval.mean:{sign}.3f}"
    if interval.low is None or interval.high is None:
        return text
    return f"{text} ({interval.low:{sign}.3f} to {interval.high:{sign}.3f})"


def main() -> None:
    """Score one bundle, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path, help="folder of the data set")
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--note", default="", help="a sentence on how it was trained")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "lgg.json")
    parser.add_argument("--output", type=Path, default=HERE / "lgg.md")
    parser.add_argument("--table-only", action="store_true")
    arguments = parser.parse_args()
    if not arguments.table_only:
        bundle = read_bundle(arguments.bundle)
        wanted = bundle.split[arguments.split]
        cases = [case for case in list_cases(arguments.data) if case.patient_id in wanted]
        ledger = find_ledger(HERE)
        rows = score_subsets(bundle, cases, part=arguments.split, ledger=ledger)
        others = [
            case
            for case in list_cases(arguments.data)
            if case.patient_id not in bundle.split["test"]
        ]
        values = tuple(label.value for label in bundle.spec.labels)
        record = {
            "bundle": f"{bundle.spec.name} {bundle.spec.version}",
            "data": bundle.card.data,
            "part": arguments.split,
            "note": arguments.note,
            "rows": rows,
            "contrasts": measure_contrasts(others, bundle.spec.input.channel_names, values),
        }
        write_text(arguments.results, json.dumps(record, indent=1) + "\n")
    record = json.loads(arguments.results.read_text(encoding="utf-8"))
    write_text(arguments.output, format_page(record))


if __name__ == "__main__":
    main()
