"""The page of `channels.py`: paired differences, their intervals, and what they decide."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bedside.training.checkpoint import read_json
from cells import make_table, show_interval
from channels_rows import (
    FOLDS,
    MARGIN,
    OPPONENT,
    PRECISIONS,
    REFERENCE,
    ROWS,
    SIZE_PX,
    Cell,
    Json,
    list_cells,
)
from paired import CaseKey, judge, over_folds, over_patients, subtract

Cells = Mapping[Cell, Json]
Missing = tuple[str, ...]
"""Names of the sequences that are missing; none of them if empty."""

ALL: Missing = ()
_HEADINGS = (
    f"less {ROWS[REFERENCE].title} (trainings and patients)",
    "interval over patients alone",
)


def read_cells(results: Path) -> dict[Cell, Json]:
    """What is trained and scored, in the order of training."""
    paths = {cell: results / f"{cell.name}.json" for cell in list_cells()}
    return {cell: read_json(path) for cell, path in paths.items() if path.exists()}


def list_missing(cells: Cells) -> list[Missing]:
    """Sets of missing sequences that held-out scans were scored with, the empty one first."""
    return [
        tuple(missing) for content in list(cells.values())[:1] for missing in content["missing"]
    ]


def score_scans(cells: Cells, row: str, subsets: list[Missing]) -> dict[CaseKey, float]:
    """Mean Dice of each held-out scan over some sets of missing sequences.

    Args:
        cells: What is trained.
        row: Name of the network.
        subsets: Sets of missing sequences.
    """
    scores = {}
    for cell, content in cells.items():
        wanted = [content["missing"].index(list(missing)) for missing in subsets]
        for case, dice in content["cases"].items():
            if cell.row == row:
                scores[cell.fold, case] = float(np.mean([dice[number] for number in wanted]))
    return scores


def compare(cells: Cells, subsets: list[Missing]) -> dict[CaseKey, float]:
    """Differences in Dice of attention to concatenation, of the scans that both have scored."""
    one, other = (score_scans(cells, row, subsets) for row in (OPPONENT, REFERENCE))
    return subtract(one, other)


def format_page(cells: Cells, cost: Json | None) -> str:
    """Write the page from what is known of all cells."""
    lines = ["# Attention over channels or concatenation, where MR sequences are missing", ""]
    if not compare(cells, [ALL]):
        return "\n".join([*lines, "No pair of networks is trained."]) + "\n"
    lines += [
        *_describe_study(cells),
        "",
        *make_table(_list_networks(cost)),
        "",
        *_describe_cost(cost),
        "## What decides",
        "",
        *make_table(_list_verdicts(cells)),
        "",
        "## Each set of missing sequences",
        "",
        f"In the last column are the scans of which {ROWS[REFERENCE].title} and "
        f"{ROWS[OPPONENT].title} find nothing, or another place:",
        "",
        *make_table(_list_subsets(cells)),
        "",
        "## Fold by fold",
        "",
        f"{ROWS[OPPONENT].title.capitalize()} less {ROWS[REFERENCE].title}, interval over patients "
        "of one fold:",
        "",
        *make_table(_list_folds(cells)),
    ]
    return "\n".join(lines) + "\n"


def _describe_study(cells: Cells) -> list[str]:
    first = next(iter(cells.values()))
    patients = {case for content in cells.values() for case in content["cases"]}
    steps = " or ".join(map(str, sorted({content["steps"] for content in cells.values()})))
    waiting = len(list_cells()) - len(cells)
    rest = f" **{waiting} of {len(list_cells())} cells are not trained.**" if waiting else ""
    return [
        f"{len(patients)} patients of TCGA-LGG in {FOLDS} folds: each patient is held out by one "
        "fold, whose two networks were trained on the same patients of the other folds from the "
        f"fold's own seed. The recipe is that of `lgg` at {SIZE_PX[0]} x {SIZE_PX[1]} pixels and "
        f"for {first['epochs']} epochs, {steps} steps of 8 slices, with its channel dropout. So "
        "Dice is below that of [lgg.md](lgg.md), whose recipes train on larger slices and about "
        "twenty times as long. "
        "Scans are scored once, whole, on their own grid. All patients "
        "are scored, those of the recipe's test part too; nothing was chosen by these scores."
        + rest,
        "",
        "With **concatenation** the sequences are the input channels of the first convolution. "
        "With **attention** each passes a stem of shared weights to stride 4, told apart by a "
        "learned embedding; there, at every position, additive attention of four heads weighs "
        "them, and a sequence that is missing (0 throughout, as the network gets it) has no "
        "weight. Levels and decoder behind are alike, but concatenation has as many blocks as "
        "take the same time.",
        "",
        f"The margin of {MARGIN} was fixed before the first training, and so was what decides: "
        "scans with all sequences, and the mean over all sets of missing ones. Half of these sets "
        "lack FLAIR, on which the outlines were drawn. A verdict is of a "
        "95 % interval of the paired difference by a bootstrap over trainings and patients: folds "
        f"are drawn, and patients within each; {FOLDS} of them make it rough, and rather narrow. "
        "Beside it stands the interval over patients alone. Written by `benchmarks/channels.py`; "
        "the cells are in [results](results/channels-lgg).",
    ]


def _list_networks(cost: Json | None) -> list[list[str]]:
    table = [["network", "blocks by level", *(f"ms {p}" for p in PRECISIONS), "parameters"]]
    for name, row in ROWS.items():
        line = [*["not measured"] * len(PRECISIONS), ""]
        if cost:
            line = [f"{cost['median_ms'][name][p]:.2f}" for p in PRECISIONS]
            line.append(f"{cost['parameters'][name] / 1e6:.3f} M")
        table.append([row.title, ", ".join(map(str, row.depths)), *line])
    return table


def _describe_cost(cost: Json | None) -> list[str]:
    if cost is None:
        return []
    times = cost["median_ms"]
    apart = times[OPPONENT]["f32"] / times[REFERENCE]["f32"] - 1
    return [
        "Milliseconds of one slice: median processor time of one thread over "
        f"{cost['rounds']} rounds in turns, OpenVINO, the network alone; {cost['processor']}. "
        f"Attention differs from concatenation by {apart:+.0%}.",
        "",
    ]


def _list_verdicts(cells: Cells) -> list[list[str]]:
    table = [["scans", *(row.title for row in ROWS.values()), *_HEADINGS, "so"]]
    subsets = list_missing(cells)
    for title, chosen in (
        ("all sequences", [ALL]),
        (f"mean over {len(subsets) - 1} sets of missing ones", subsets[1:]),
    ):
        verdict = judge(over_folds(compare(cells, chosen), str), margin=MARGIN)
        table.append([title, *_compare(cells, chosen), verdict])
    return table


def _list_subsets(cells: Cells) -> list[list[str]]:
    table = [["missing", *(row.title for row in ROWS.values()), *_HEADINGS, "scans of Dice 0"]]
    for missing in list_missing(cells):
        missed = [
            sum(dice == 0 for dice in score_scans(cells, row, [missing]).values()) for row in ROWS
        ]
        line = [*_compare(cells, [missing]), " and ".join(map(str, missed))]
        table.append([", ".join(missing) or "none", *line])
    return table


def _compare(cells: Cells, subsets: list[Missing]) -> list[str]:
    """Dice of each network, and the difference with both intervals."""
    means = [np.mean(list(score_scans(cells, row, subsets).values())) for row in ROWS]
    difference = compare(cells, subsets)
    alone = show_interval(over_patients(difference, str), sign="+").partition(" ")[2].strip("()")
    return [
        *(f"{mean:.4f}" for mean in means),
        show_interval(over_folds(difference, str), sign="+"),
        alone,
    ]


def _list_folds(cells: Cells) -> list[list[str]]:
    subsets = list_missing(cells)
    table = [["scans", *(f"fold {fold}" for fold in range(FOLDS))]]
    for title, chosen in (("all sequences", [ALL]), ("some missing", subsets[1:])):
        difference, line = compare(cells, chosen), []
        for fold in range(FOLDS):
            here = {key: value for key, value in difference.items() if key[0] == fold}
            line.append(show_interval(over_patients(here, str), sign="+") if here else "")
        table.append([title, *line])
    return table
