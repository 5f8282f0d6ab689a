"""The page of `decision.py`: paired differences, their intervals, and what they decide."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import paired
from bedside.spec.card import Interval
from bedside.training.checkpoint import read_json
from cells import make_table, show_interval
from decision_rows import (
    CLEAN,
    FOLDS,
    LONGER,
    MARGIN,
    OPPONENT,
    PLANTED,
    PRECISIONS,
    PRETRAIN_EPOCHS,
    REFERENCE,
    ROWS,
    STEPS,
    Cell,
    Json,
    list_cells,
)
from paired import CaseKey, judge, subtract

_HEADINGS = (
    f"less {ROWS[REFERENCE].title} (trainings and patients)",
    "interval over patients alone",
    "so",
)
KINDS = {"clean": (CLEAN,), "spoilt": PLANTED}
"""Kind of images -> the conditions whose mean it is."""
ALL = 1.0

Cells = Mapping[Cell, Json]


def read_cells(results: Path) -> dict[Cell, Json]:
    """What is trained and scored, in the order of training."""
    paths = {cell: results / f"{cell.name}.json" for cell in list_cells()}
    return {cell: read_json(path) for cell, path in paths.items() if path.exists()}


def pick(
    cells: Cells, row: str, *, share: float, times: int = 1, pretrained: bool = False
) -> dict[Cell, Json]:
    """The cells of a row, a share, a schedule and a beginning, by fold."""
    wanted = (row, share, times, pretrained)
    return {
        cell: content
        for cell, content in cells.items()
        if (cell.row, cell.share, cell.times, cell.pretrained) == wanted
    }


def score_images(cells: Cells, conditions: Sequence[str]) -> dict[CaseKey, float]:
    """Mean Dice of each held-out image over some conditions, with the fold that held it out."""
    scores = {}
    for cell, content in cells.items():
        wanted = [content["conditions"].index(name) for name in conditions]
        for case, dice in content["cases"].items():
            scores[cell.fold, case] = float(np.mean([dice[number] for number in wanted]))
    return scores


def name_patient(case: str) -> str:
    """The patient of an image.

    Example:
        >>> name_patient("patient0007_4CH_ED")
        'patient0007'
    """
    return case.partition("_")[0]


def over_patients(values: Mapping[CaseKey, float]) -> Interval:
    """Mean over images, with an interval over patients."""
    return paired.over_patients(values, name_patient)


def over_folds(values: Mapping[CaseKey, float]) -> Interval:
    """Mean over images, with an interval over trainings and patients."""
    return paired.over_folds(values, name_patient)


def format_page(cells: Cells, cost: Json | None) -> str:
    """Write the page from what is known of all cells."""
    lines = [
        "# Attention or convolutions on CAMUS: clean images, spoilt ones, few labels",
        "",
        *_describe_study(cells),
        "",
        "## Networks",
        "",
        *make_table(_list_networks(cost)),
        "",
        *_describe_cost(cost),
        "## All labels, images as they are",
        "",
        *make_table(_list_rows(cells, KINDS["clean"])),
        "",
        f"## All labels, mean over {len(PLANTED)} artefacts",
        "",
        *make_table(_list_rows(cells, KINDS["spoilt"])),
        "",
        "## All labels, each artefact",
        "",
        f"Mean Dice of {ROWS[REFERENCE].title}, and below it the difference to them with an "
        "interval over trainings and patients:",
        "",
        *make_table(_list_artefacts(cells)),
        "",
        "## Few labels",
        "",
        "`pretrained`: before its training, the network learned to paint what was in the blank "
        f"half of all training images of its fold, labelled or not ({PRETRAIN_EPOCHS} epochs, "
        "without planted artefacts), as `bedside pretrain` does; the difference is to the same "
        "network without, whose training is as long but for that. These rows were added when the "
        "others with a tenth of the patients had been scored.",
        "",
        *make_table(_list_shares(cells)),
        "",
        "## Fold by fold",
        "",
        f"{ROWS[OPPONENT].title.capitalize()} less {ROWS[REFERENCE].title}, interval over patients "
        f"of one fold. A schedule {LONGER} times as long was added when two folds had been "
        "scored, since a short one may favour one of them:",
        "",
        *make_table(_list_folds(cells)),
    ]
    return "\n".join(lines) + "\n"


def _describe_study(cells: Cells) -> list[str]:
    patients = {name_patient(case) for content in cells.values() for case in content["cases"]}
    waiting = len(list_cells()) - len(cells)
    rest = f" **{waiting} of {len(list_cells())} cells are not trained.**" if waiting else ""
    steps = sorted({content["steps"] for cell, content in cells.items() if cell.times == 1})
    return [
        f"{len(patients)} patients of CAMUS, apical four-chamber view at 256 x 256, end-diastole "
        f"and end-systole, in {FOLDS} folds: each patient is held out by one fold, whose networks "
        "were trained on those of the other folds, all from the fold's own seed. The recipe is "
        "that of `camus` with the augmentation of `camus-robust` (shadows, lost echoes, speckle), "
        f"without a teacher, {_join(steps)} steps of 8 images; learning rate and schedule are "
        "alike for all rows, and were once chosen for windows. Each row has the recipe's widths "
        "and as many blocks as take the time of the recipe's network. Held-out images are scored "
        "once, on their own grid, by one run of the network: as they are, and with the artefacts "
        "that `bedside evaluate --robustness` plants. Nothing was chosen by these scores but which "
        "of the other rows was trained on all folds first: convolutions with exchange, the only "
        "one ahead in fold 0, so its verdict is a little in its favour." + rest,
        "",
        f"Dice is the mean of three structures. The margin of {MARGIN} was fixed before the first "
        "training, and so was what decides: clean images and the mean over the "
        f"{len(PLANTED)} artefacts, with all labels and with few. A verdict is of a 95 % interval "
        "of the paired difference by a bootstrap over trainings and patients: folds are drawn, "
        f"and patients within each; {FOLDS} of them make it rough, and rather narrow. Beside it "
        "stands the interval over patients alone, with the trainings as they are. A row with fewer "
        "folds "
        "has no verdict. Written by `benchmarks/decision.py`; the cells are in "
        "[results](results/decision-camus).",
    ]


def _join(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers)) or "no"


def _compare(
    cells: Cells, row: str, share: float, conditions: Sequence[str], *, pretrained: bool = False
) -> list[str]:
    """Dice, the difference to the reference with both intervals, and the verdict."""
    own = score_images(pick(cells, row, share=share, pretrained=pretrained), conditions)
    if not own:
        return ["not trained", "", "", ""]
    mean = f"{np.mean(list(own.values())):.4f}"
    other = score_images(pick(cells, REFERENCE, share=share), conditions)
    difference = subtract(own, other)
    if (row == REFERENCE and not pretrained) or not difference:
        return [mean, "", "", ""]
    decided = over_folds(difference)
    narrow = over_patients(difference)
    alone = show_interval(narrow, sign="+").partition(" ")[2].strip("()")
    return [mean, show_interval(decided, sign="+"), alone, judge(decided, margin=MARGIN)]


def _list_networks(cost: Json | None) -> list[list[str]]:
    table = [["network", "blocks by level", *(f"ms {p}" for p in PRECISIONS), "parameters"]]
    for name, row in ROWS.items():
        line = [*["not measured"] * len(PRECISIONS), ""]
        if cost:
            line = [f"{cost['median_ms'][name][p]:.2f}" for p in PRECISIONS]
            line.append(f"{cost['parameters'][name] / 1e6:.3f} M")
        table.append([row.title, ", ".join(map(str, row.depths)), *line])
    return table


def _list_rows(cells: Cells, conditions: Sequence[str]) -> list[list[str]]:
    table = [["network", "folds", "Dice", *_HEADINGS]]
    for name, row in ROWS.items():
        folds = str(len(pick(cells, name, share=ALL)))
        table.append([row.title, folds, *_compare(cells, name, ALL, conditions)])
    return table


def _list_artefacts(cells: Cells) -> list[list[str]]:
    table = [["network", *PLANTED]]
    for name, row in ROWS.items():
        line = []
        for artefact in PLANTED:
            mean, difference, *_ = _compare(cells, name, ALL, (artefact,))
            line.append(mean if name == REFERENCE else difference)
        if any(line):
            table.append([row.title, *line])
    return table


def _list_shares(cells: Cells) -> list[list[str]]:
    table = [["trained on", "network", "folds", "images", "Dice", *_HEADINGS]]
    for share in (share for share in STEPS if share != ALL):
        for (name, row), pretrained in itertools.product(ROWS.items(), (False, True)):
            own = pick(cells, name, share=share, pretrained=pretrained)
            if not own:
                continue
            counts = sorted({content["patients"]["trained"] for content in own.values()})
            title = f"{row.title}, pretrained" if pretrained else row.title
            for kind, conditions in KINDS.items():
                facts = [f"{_join(counts)} patients, {share:.0%}", title, str(len(own))]
                facts = facts if kind == "clean" else [""] * 3
                compared = _compare(cells, name, share, conditions, pretrained=pretrained)
                table.append([*facts, kind, *compared])
    return table


def _list_folds(cells: Cells) -> list[list[str]]:
    table = [["trained on", "steps", "images", *(f"fold {fold}" for fold in range(FOLDS))]]
    for share, times in ((ALL, 1), (ALL, LONGER), *((share, 1) for share in STEPS if share < ALL)):
        pair = [pick(cells, row, share=share, times=times) for row in (OPPONENT, REFERENCE)]
        if not all(pair):
            continue
        steps = _join(sorted({content["steps"] for each in pair for content in each.values()}))
        for kind, conditions in KINDS.items():
            one, other = (score_images(each, conditions) for each in pair)
            difference, line = subtract(one, other), []
            for fold in range(FOLDS):
                here = {key: value for key, value in difference.items() if key[0] == fold}
                line.append(show_interval(over_patients(here), sign="+") if here else "")
            table.append([f"{share:.0%} of the patients", steps, kind, *line])
    return table


def _describe_cost(cost: Json | None) -> list[str]:
    if cost is None:
        return []
    against = {
        name: times["bf16"] / cost["median_ms"][OPPONENT]["bf16"] - 1
        for name, times in cost["median_ms"].items()
    }
    return [
        "Milliseconds of one image: median processor time of one thread over "
        f"{cost['rounds']} rounds in turns, OpenVINO, the network alone; {cost['processor']}.",
        f"In bf16 times differ from that of {ROWS[OPPONENT].title} by {min(against.values()):+.0%} "
        f"to {max(against.values()):+.0%}, {ROWS[REFERENCE].title} by {against[REFERENCE]:+.0%}.",
        "",
    ]
