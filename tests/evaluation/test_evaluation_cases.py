"""The loop over cases, with scores worked out by hand on squares that move sideways.

A square of 10 x 10 moved by s columns: Dice (10 - s) / 10, IoU (10 - s) / (10 + s), HD 2 s mm
(columns are 2 mm apart), and every structure moves alike.
"""

from dataclasses import replace

import numpy as np
import pytest
from oracle import LABELS, SPACING_MM, Oracle, square_labels, write_camus

from bedside.datasets import Case, list_cases
from bedside.errors import DataError, GeometryError, ModalityError
from bedside.evaluation.cases import evaluate_cases, score_case, summarise
from bedside.spec import Region

CASE = Case("a_1", "a", images=("a.png",), truth="a.png")


def score(truth, prediction, spacing_mm=SPACING_MM):
    return score_case(CASE, truth, prediction, spacing_mm=spacing_mm, labels=LABELS)


def test_every_case_is_scored_at_its_own_resolution(tmp_path):
    shifts = {f"patient000{number}": pair for number, pair in enumerate([(0, 2), (5, 1)] * 4, 1)}
    cases = list_cases(write_camus(tmp_path, shifts))
    seen = []
    found = evaluate_cases(Oracle(), cases, on_case=lambda case: seen.append(case.case_id))
    assert seen == [case.case_id for case in cases]
    assert [case.patient_id for case in found.cases[:3]] == ["patient0001"] * 2 + ["patient0002"]
    assert found.units == "8 patients"
    for case, shift in zip(found.cases, (0, 2, 5, 1) * 4, strict=True):
        for scores in case.structures.values():
            assert scores.dice == pytest.approx((10 - shift) / 10)
            assert scores.iou == pytest.approx((10 - shift) / (10 + shift))
            assert scores.hd_mm == pytest.approx(2.0 * shift)
    assert [structure.name for structure in found.structures] == ["inner", "outer"]
    assert found.structures[0].dice.mean == pytest.approx(0.8)
    assert found.structures[0].hd_mm.mean == pytest.approx(4.0)
    # Half of the patients have 0.9 and half 0.7: a standard error of 0.1 / sqrt(8).
    assert found.structures[0].dice.low == pytest.approx(0.8 - 1.96 * 0.035, abs=0.012)
    assert found.structures[0].dice.high == pytest.approx(0.8 + 1.96 * 0.035, abs=0.012)
    assert found.warnings == ()
    assert [case.case_id for case in found.worst(5)] == [
        *(f"patient000{number}_4CH_ED" for number in (2, 4, 6, 8)),
        "patient0001_4CH_ES",
    ]


def test_without_a_spacing_there_are_no_millimetres(tmp_path):
    cases = list_cases(write_camus(tmp_path, {"patient0001": (1, 1)}))
    found = evaluate_cases(Oracle(spacing_known=False), cases)
    scores = found.cases[0].structures["inner"]
    assert scores.dice == pytest.approx(0.9)
    assert (scores.asd_mm, scores.hd95_mm, scores.hd_mm) == (None, None, None)
    assert found.structures[0].hd_mm.mean is None
    assert "2 of 2 cases have no spacing" in " ".join(found.warnings)


def test_warnings_of_many_cases_become_one_line_with_a_count(tmp_path):
    names = [f"patient000{number}" for number in range(1, 9)]
    cases = list_cases(write_camus(tmp_path, dict.fromkeys(names, (0, 0))))
    found = evaluate_cases(Oracle(warnings=("no sector found",)), cases)
    assert found.warnings == ("no sector found (16 of 16 cases)",)


def test_an_error_in_one_case_names_it(tmp_path):
    class Refusing(Oracle):
        def segment_sequence(self, sequence, *, force=False):
            raise ModalityError("modality is CT")

    cases = list_cases(write_camus(tmp_path, {"patient0007": (0, 0)}))
    with pytest.raises(ModalityError, match=r"patient0007_4CH_ED.*modality is CT"):
        evaluate_cases(Refusing(), cases)


def test_labels_that_the_bundle_does_not_know_are_refused(tmp_path):
    cases = list_cases(write_camus(tmp_path, {"patient0001": (0, 0)}))
    one_label = Oracle()
    one_label.spec.labels = LABELS[:1]
    with pytest.raises(DataError, match=r"patient0001_4CH_ED.* 2"):
        evaluate_cases(one_label, cases)


def test_overlap_counts_all_frames_together_and_distances_are_means_over_frames():
    truth = square_labels(frames=2)
    prediction = np.concatenate([square_labels(), square_labels(shift=4)])
    scores = score(truth, prediction).structures["inner"]
    # 100 + 60 of 100 + 100 pixels; 0 mm and 8 mm.
    assert scores.dice == pytest.approx(2 * 160 / 400)
    assert scores.iou == pytest.approx(160 / 240)
    assert scores.hd_mm == pytest.approx(4.0)
    assert scores.one_sided == 0


def test_frames_without_a_structure_in_either_say_nothing():
    truth = np.concatenate([square_labels(), np.zeros_like(square_labels())])
    scores = score(truth, np.concatenate([square_labels(shift=2), truth[1:]])).structures["inner"]
    assert scores.dice == pytest.approx(0.8)
    assert scores.hd_mm == pytest.approx(4.0)


def test_a_missed_structure_scores_zero_and_is_counted_in_a_warning():
    truth, missed = square_labels(), square_labels()
    missed[missed == 2] = 0
    found = summarise([score(truth, missed), score(truth, truth)])
    assert found.cases[0].structures["outer"].dice == 0.0
    assert found.cases[0].structures["outer"].hd_mm is None
    assert found.structures[1].dice.mean == pytest.approx(0.5)
    assert found.structures[1].hd_mm.mean == 0.0
    assert "outer: in 1 frames of 1 cases" in found.warnings[-1]


def test_a_structure_absent_from_both_has_no_dice():
    nothing = np.zeros_like(square_labels())
    result = score(nothing, nothing)
    scores = result.structures["inner"]
    assert (scores.dice, scores.iou, scores.hd_mm, scores.false_alarm) == (None, None, None, False)
    assert result.mean_dice is None


def test_a_rare_structure_is_averaged_over_the_cases_that_have_it():
    there = square_labels()
    absent = square_labels()
    absent[absent == 2] = 0
    shifted = square_labels(shift=4)
    # Once there and found to 0.6; absent in three, and drawn in one of them.
    found = summarise(
        [score(there, shifted), score(absent, absent), score(absent, absent), score(absent, there)]
    )
    inner, outer = found.structures
    assert (inner.cases, inner.absent, inner.false_alarms) == (4, 0, 0)
    assert outer.dice.mean == pytest.approx(0.6)
    assert outer.iou.mean == pytest.approx(6 / 14)
    assert (outer.cases, outer.absent, outer.false_alarms) == (1, 3, 1)
    assert any(
        "outer: 3 of 4 cases do not have it" in text and "drawn in 1" in text
        for text in found.warnings
    )
    assert found.cases[1].mean_dice == pytest.approx(1.0)


def test_a_structure_that_no_case_has_has_no_figure():
    absent = square_labels()
    absent[absent == 2] = 0
    found = summarise([score(absent, absent), score(absent, square_labels())])
    assert found.structures[1].dice.mean is None
    assert found.structures[1].false_alarms == 1
    assert any("there is no Dice" in text for text in found.warnings)


def test_cases_without_any_structure_are_the_worst_last():
    nothing, squares = np.zeros_like(square_labels()), square_labels()
    results = [
        replace(score(truth, drawn), case_id=name)
        for name, truth, drawn in [
            ("empty", nothing, nothing),
            ("alarm", nothing, squares),
            ("good", squares, squares),
        ]
    ]
    assert [case.case_id for case in summarise(results).worst(3)] == ["good", "alarm", "empty"]


def test_pairs_of_neighbours_are_the_units_where_patients_are_blocks():
    unit = "pairs of neighbouring volumes"
    cases = [
        Case(str(n), "000-029", ("",), "", person_id=f"{n // 2}", unit=unit) for n in range(16)
    ]
    squares = square_labels()
    results = [
        score_case(case, squares, squares, spacing_mm=SPACING_MM, labels=LABELS) for case in cases
    ]
    found = summarise(results)
    assert found.units == f"8 {unit}"
    assert found.structures[0].dice.low == 1.0
    fewer = summarise(results[:14])
    assert fewer.structures[0].dice.low is None
    assert f"an interval needs at least 8 {unit}" in fewer.warnings[0]


def test_predictions_on_another_grid_are_refused():
    with pytest.raises(GeometryError, match="one grid"):
        score(square_labels(), square_labels()[:, 1:])


def test_a_region_is_scored_as_one_after_the_labels():
    truth = square_labels()
    swapped = np.array([0, 2, 1], np.uint8)[truth]
    region = Region("both", (1, 2))
    structures = score_case(
        CASE, truth, swapped, spacing_mm=SPACING_MM, labels=LABELS, regions=[region]
    ).structures
    assert list(structures) == ["inner", "outer", "both"]
    assert [scores.dice for scores in structures.values()] == [0.0, 0.0, 1.0]
    assert structures["both"].hd_mm == 0.0


def test_the_bundles_regions_are_further_rows(tmp_path):
    cases = list_cases(write_camus(tmp_path, {"patient0001": (2, 2)}))
    found = evaluate_cases(Oracle(regions=(Region("both", (1, 2)),)), cases)
    assert [structure.name for structure in found.structures] == ["inner", "outer", "both"]
    assert found.structures[2].dice.mean == pytest.approx(0.8)
