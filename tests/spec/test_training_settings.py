import pytest

from bedside.errors import SpecError
from bedside.spec import DistillSpec, TrainingSpec, from_mapping, to_mapping


def test_one_teacher_or_several_are_read_as_written():
    one = from_mapping(DistillSpec, {"teacher": "runs/a"})
    two = from_mapping(DistillSpec, {"teacher": ["runs/a", "runs/b"], "soft_weight": 0.5})
    assert one.teachers == ("runs/a",)
    assert two.teachers == ("runs/a", "runs/b")
    for spec in (one, two):
        assert from_mapping(DistillSpec, to_mapping(spec)) == spec


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": ()}, "teacher is empty"),
        ({"teacher": "a", "soft_weight": 0.0}, "expected one above 0"),
        ({"teacher": "a", "channel_weight": -1.0}, "none below"),
        ({"teacher": "a", "temperature": 0.0}, "temperatures must be above 0"),
        ({"teacher": ("a", "b"), "channel_on": "features"}, "2 teachers with features"),
    ],
)
def test_teachers_that_teach_nothing_are_refused(settings, message):
    with pytest.raises(SpecError, match=message):
        DistillSpec(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"patches": 0}, "patches is 0"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"hold_norms": True}, "without a start"),
    ],
)
def test_numbers_that_cannot_be_trained_with_are_refused(settings, message):
    with pytest.raises(SpecError, match=message):
        TrainingSpec(**settings)
