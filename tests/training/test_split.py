import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedside.errors import SplitError
from bedside.training.split import check_split, split_patients


@given(st.integers(20, 500), st.integers(0, 5))
def test_seven_one_two_of_the_patients_and_none_twice(count, seed):
    patients = [f"p{i:03d}" for i in range(count)]
    split = split_patients(patients * 2, fractions=(0.7, 0.1, 0.2), seed=seed)
    assert sorted(sum(split.values(), ())) == patients
    for part, share in zip(split.values(), (0.7, 0.1, 0.2), strict=True):
        assert abs(len(part) - share * count) <= 1


def test_the_same_seed_gives_the_same_split_whatever_the_order_of_the_files():
    patients = [f"p{i}" for i in range(30)]
    one = split_patients(patients, fractions=(0.7, 0.1, 0.2), seed=3)
    assert one == split_patients(reversed(patients), fractions=(0.7, 0.1, 0.2), seed=3)
    assert one != split_patients(patients, fractions=(0.7, 0.1, 0.2), seed=4)


def test_a_patient_on_two_sides_is_named():
    with pytest.raises(SplitError, match='"anna" is in both "train" and "test"'):
        check_split({"train": ["anna", "ben"], "val": [], "test": ["anna"]})


def test_too_few_patients_and_wrong_shares_are_refused():
    with pytest.raises(SplitError, match="too few"):
        split_patients(["a", "b"], fractions=(0.7, 0.1, 0.2), seed=0)
    with pytest.raises(SplitError, match="sum to 1"):
        split_patients(["a", "b"], fractions=(0.7, 0.7, 0.2), seed=0)
