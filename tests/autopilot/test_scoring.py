import numpy as np
import pytest

from bedside.autopilot.scoring import (
    CaseScore,
    Score,
    StructureScore,
    measure_components,
    score_network,
)
from bedside.datasets import list_cases
from bedside.errors import DataError
from bedside.segment import Segmenter
from bedside.spec import CropFan, Fit, Grey, Label, ScalePercentile
from bedside.training.session import TorchSession
from makers import ANATOMY
from models_for_tests import make_model, make_spec
from runs_for_tests import make_camus

ONE = Label(1, "one", (255, 0, 0), ANATOMY, ANATOMY)


def make_score(*structures):
    """A score with one structure, a case and patient for each of its scores."""
    return Score(
        tuple(CaseScore(f"c{n}", f"p{n}", {"one": each}) for n, each in enumerate(structures))
    )


def test_parts_are_counted_within_frames():
    truth = np.zeros((2, 4, 4), int)
    truth[0, 0, :2] = truth[0, 3, 3] = truth[1, 0, :2] = 1
    prediction = np.zeros_like(truth)
    prediction[0, 0, 0] = prediction[1] = 1
    assert measure_components(truth, prediction, ONE) == ((2, 1, 2), (0.5, 0.0, 1.0))


def test_touching_corners_are_two_parts():
    truth = np.eye(2, dtype=int)[None]
    assert measure_components(truth, truth, ONE) == ((1, 1), (1.0, 1.0))


def test_a_scan_is_one_thing():
    truth = np.zeros((1, 3, 2, 2), int)
    truth[0, :, 0, 0] = 1
    assert measure_components(truth, truth, ONE) == ((3,), (1.0,))


def test_only_the_smallest_quarter_of_parts_counts():
    # Sizes 1 2 3 4 100: the first quartile is 2, so parts of 1 and 2 count.
    score = make_score(
        StructureScore(0.9, None, (100, 1), (1.0, 0.0)),
        StructureScore(0.9, None, (2, 3, 4), (0.5, 1.0, 1.0)),
    )
    assert score.smallest_recall() == {"one": pytest.approx(0.25)}


def test_a_structure_that_never_is_has_no_recall():
    assert make_score(StructureScore(1.0, None)).smallest_recall() == {"one": None}


def test_distances_that_are_not_known_are_left_out_of_means():
    score = make_score(
        StructureScore(0.9, 2.0), StructureScore(0.0, float("inf")), StructureScore(0.8, None)
    )
    assert score.mean_hd95_mm() == {"one": 2.0}
    assert make_score(StructureScore(0.9, None)).mean_hd95_mm() == {"one": None}


def test_a_patient_counts_once_however_many_images_there_are():
    cases = [("a", 0.9), ("a", 0.7), ("b", 0.4)]
    score = Score(
        tuple(
            CaseScore(str(n), patient, {"one": StructureScore(dice, None)})
            for n, (patient, dice) in enumerate(cases)
        )
    )
    assert score.by_patient() == {"a": {"one": pytest.approx(0.8)}, "b": {"one": 0.4}}


@pytest.fixture(scope="module")
def segmenter():
    from dataclasses import replace

    import torch

    steps = (Grey(), CropFan(), Fit(), ScalePercentile())
    spec = replace(make_spec(), preprocess=steps)
    return Segmenter(spec, TorchSession(make_model(), torch.device("cpu")))


def test_a_network_is_scored_as_evaluation_scores_it(segmenter, tmp_path):
    from bedside.evaluation.cases import evaluate_cases

    cases = list_cases(make_camus(tmp_path, patients=2))
    told = []
    score = score_network(segmenter, cases, on_case=told.append)
    evaluation = evaluate_cases(segmenter, cases)
    assert told == [1, 2, 3, 4]
    assert score.structures == ("inner", "outer")
    for structure in evaluation.structures:
        assert score.mean_dice()[structure.name] == pytest.approx(structure.dice.mean)
        assert score.mean_hd95_mm()[structure.name] == pytest.approx(structure.hd95_mm.mean)
    assert len(score.cases[0].structures["inner"].sizes) == 1


def test_data_without_a_structure_cannot_show_that_it_is_kept(segmenter, tmp_path):
    import nibabel
    import numpy as np

    cases = list_cases(make_camus(tmp_path, patients=1))
    for case in cases:
        image = nibabel.load(case.truth)
        kept = np.minimum(np.asarray(image.dataobj), 1).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(kept, image.affine, image.header), case.truth)
    with pytest.raises(DataError, match='"outer" is in none of the 2 cases'):
        score_network(segmenter, cases)
