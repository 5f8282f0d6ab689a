"""What is written of an evaluation: strict JSON, a sheet, a page, and a picture."""

import csv
import io
import json

import pytest
from oracle import LABELS, SPACING_MM, square_labels

from bedside.datasets import Case
from bedside.evaluation.cases import score_case, summarise
from bedside.evaluation.report import to_csv, to_json, to_markdown, write_report


@pytest.fixture
def evaluation():
    missed = square_labels()
    missed[missed == 2] = 0
    predictions = {"a": square_labels(shift=2), "b": missed}
    predictions |= {name: square_labels() for name in "cdefgh"}
    return summarise(
        [
            score_case(
                Case(f"{name}_1", name, images=("",), truth=""),
                square_labels(),
                prediction,
                spacing_mm=SPACING_MM,
                labels=LABELS,
            )
            for name, prediction in predictions.items()
        ]
    )


def read_strictly(text: str):
    """Read JSON, refusing the NaN and Infinity that Python would let pass."""

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_holds_structures_cases_and_warnings(evaluation):
    found = read_strictly(to_json(evaluation, about={"bundle": {"name": "squares"}}))
    assert found["bundle"] == {"name": "squares"}
    assert [structure["name"] for structure in found["structures"]] == ["inner", "outer"]
    for structure in found["structures"]:
        for metric in ("dice", "iou", "asd_mm", "hd95_mm", "hd_mm"):
            assert structure[metric].keys() == {"mean", "low", "high"}
    assert found["structures"][0]["dice"]["mean"] == pytest.approx((0.8 + 7 * 1) / 8)
    assert [(case["case"], case["patient"]) for case in found["cases"]] == [
        (f"{name}_1", name) for name in "abcdefgh"
    ]
    assert found["cases"][0]["structures"]["inner"]["hd_mm"] == pytest.approx(4.0)
    assert found["warnings"]


def test_json_has_null_for_what_does_not_exist(evaluation):
    found = read_strictly(to_json(evaluation, about={"figure": float("nan")}))
    assert found["figure"] is None
    assert found["cases"][1]["structures"]["outer"]["hd_mm"] is None


def test_csv_has_a_line_a_case_and_structure(evaluation):
    rows = list(csv.DictReader(io.StringIO(to_csv(evaluation))))
    assert [(row["case"], row["structure"]) for row in rows] == [
        (f"{name}_1", structure) for name in "abcdefgh" for structure in ("inner", "outer")
    ]
    assert float(rows[0]["dice"]) == pytest.approx(0.8)
    assert rows[3]["hd_mm"] == ""


def test_the_page_shows_the_table_the_worst_first_and_the_warnings(evaluation):
    page = to_markdown(evaluation, title="squares on a grid", picture="worst_cases.png")
    assert page.startswith("# squares on a grid\n")
    assert "| inner     | 0.975 (" in page
    assert "8 cases of 8 patients" in page
    assert "False alarms" not in page
    assert page.index("b_1") < page.index("a_1") < page.index("c_1")
    assert "(worst_cases.png)" in page
    assert "outer: in 1 frames of 1 cases" in page
    assert "Not a medical device" in page


def test_where_a_structure_is_rare_cases_and_false_alarms_are_counted():
    absent = square_labels()
    absent[absent == 2] = 0
    rare = summarise(
        [
            score_case(
                Case(name, name, images=("",), truth=""), truth, drawn,
                spacing_mm=None, labels=LABELS,
            )
            for name, truth, drawn in [
                ("there", square_labels(), square_labels(shift=5)),
                ("absent", absent, absent),
                ("alarm", absent, square_labels()),
            ]
        ]
    )  # fmt: skip
    page = to_markdown(rare, title="rare", picture=None)
    (row,) = [line for line in page.splitlines() if line.startswith("| outer")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["outer", "0.500", "0.333", *["unknown"] * 3, "1", "1 of 2"]
    (alarm,) = [line for line in page.splitlines() if line.startswith("| alarm")]
    assert "false alarm" in alarm
    rows = {
        (row["case"], row["structure"]): row for row in csv.DictReader(io.StringIO(to_csv(rare)))
    }
    assert (rows["alarm", "outer"]["dice"], rows["alarm", "outer"]["false_alarm"]) == ("", "1")
    assert (rows["absent", "outer"]["dice"], rows["absent", "outer"]["false_alarm"]) == ("", "0")
    assert rows["there", "outer"]["false_alarm"] == ""
    found = read_strictly(to_json(rare, about={}))
    assert (found["unit"], found["units"]) == ("patients", 3)
    outer = found["structures"][1]
    assert (outer["cases"], outer["absent"], outer["false_alarms"]) == (1, 2, 1)


def test_files_are_written_whole_into_a_new_folder(evaluation, tmp_path):
    folder = tmp_path / "new" / "folder"
    files = write_report(folder, evaluation, about={}, title="squares")
    assert sorted(file.name for file in folder.iterdir()) == sorted(file.name for file in files)
    assert "worst_cases.png" not in (folder / "evaluation.md").read_text()
