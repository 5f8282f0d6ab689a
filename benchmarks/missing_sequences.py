"""What a bundle loses whose image lacks one or more of its channels, on whole scans.

Channels are blanked as they are where a user does not give them (`bedside segment --channels`),
so the whole pipeline is measured. Each evaluation of test patients gets its line in the ledger.
"""

import argparse
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bedside.bundle import Bundle, read_bundle
from bedside.datasets import Case, list_cases
from bedside.evaluation.cases import evaluate_cases
from bedside.evaluation.intervals import mean_interval
from bedside.evaluation.looks import find_ledger, record_look
from bedside.evaluation.report import markdown_table
from bedside.pipeline.protocol import Segmentation
from bedside.pipeline.segmenter import Segmenter, open_segmenter
from bedside.spec.card import Interval
from bedside.system.atomic import write_text
from bedside.volume import ImageSequence

HERE = Path(__file__).parent
Json = dict[str, Any]


class Lacking:
    """A segmenter that is given images without some of their channels.

    Args:
        segmenter: The bundle, loaded.
        missing: Names of the channels that are 0.
    """

    def __init__(self, segmenter: Segmenter, missing: Sequence[str]) -> None:
        self._segmenter = segmenter
        names = segmenter.spec.input.channel_names
        self._kept = np.array([name not in missing for name in names])[:, None, None]

    def __getattr__(self, name: str) -> Any:
        """Everything else is the segmenter's own."""
        return getattr(self._segmenter, name)

    def segment_sequence(self, sequence: ImageSequence, **settings: Any) -> Segmentation:
        """Segment a sequence as if the channels had not been acquired."""

        def decode(index: int) -> np.ndarray:
            frame = sequence.decode(index)
            return frame * self._kept.astype(frame.dtype)

        return self._segmenter.segment_sequence(replace(sequence, decode=decode), **settings)


def list_subsets(names: Sequence[str], optional: Sequence[str]) -> list[tuple[str, ...]]:
    """Sets of channels that may be missing together, the smallest first; some channel stays.

    Example:
        >>> list_subsets(("a", "b"), ("a", "b"))
        [(), ('a',), ('b',)]
    """
    sizes = range(min(len(optional), len(names) - 1) + 1)
    return [missing for size in sizes for missing in itertools.combinations(optional, size)]


def score_subsets(bundle: Bundle, cases: Sequence[Case], *, part: str, ledger: Path) -> list[Json]:
    """Dice of each scan for each set of missing channels; every look at test patients is noted."""
    segmenter = open_segmenter(bundle, backend="openvino", precision="f32", threads=1)
    given = bundle.spec.input
    found = []
    for missing in list_subsets(given.channel_names, given.optional_channels):
        evaluation = evaluate_cases(Lacking(segmenter, missing), cases)  # type: ignore[arg-type]
        if part == "test":
            dice = {each.name: each.dice.mean for each in evaluation.structures}
            what = f"missing_sequences, without {', '.join(missing) or 'none'}"
            record_look(ledger, bundle, what=what, cases=len(evaluation.cases), dice=dice)
        scores = {case.case_id: case.mean_dice for case in evaluation.cases}
        found.append({"missing": list(missing), "dice": scores})
        print(missing, round(float(np.mean([value or 0.0 for value in scores.values()])), 4))
    return found


def format_page(record: Json) -> str:
    """Write the page from a record."""
    whole = record["rows"][0]["dice"]
    table = [["missing", "mean Dice", "against all", "lowest scan"]]
    for row in record["rows"]:
        dice = row["dice"]
        change = [dice[case] - whole[case] for case in whole]
        table.append(
            [
                ", ".join(row["missing"]) or "none",
                _show(mean_interval(list(dice.values()), list(dice)), sign=""),
                _show(mean_interval(change, list(whole)), sign="+") if row["missing"] else "",
                f"{min(dice.values()):.3f}",
            ]
        )
    lines = [
        "# Missing sequences",
        "",
        f"`{record['bundle']}` on {len(whole)} {record['part']} patients of {record['data']}: "
        "volume Dice on each scan's own grid, f32, with all sequences and with some blanked as "
        "they are where a user does not give them. Intervals are over patients, differences are "
        f"paired. {record['note']} Written by `benchmarks/missing_sequences.py`.",
        "",
        *markdown_table(table[0], table[1:]),
    ]
    return "\n".join(lines) + "\n"


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
        record = {
            "bundle": f"{bundle.spec.name} {bundle.spec.version}",
            "data": bundle.card.data,
            "part": arguments.split,
            "note": arguments.note,
            "rows": rows,
        }
        write_text(arguments.results, json.dumps(record, indent=1) + "\n")
    record = json.loads(arguments.results.read_text(encoding="utf-8"))
    write_text(arguments.output, format_page(record))


if __name__ == "__main__":
    main()
