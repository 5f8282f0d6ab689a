import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedside.datasets import list_cases
from bedside.errors import SpecError, SplitError
from bedside.spec import DataSpec
from bedside.training.folder import find_split
from bedside.training.split import check_split, keep_together, split_cases, split_patients
from runs_for_tests import make_camus, make_recipe


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


def make_data(**changes):
    return DataSpec("made up", "folder", ".", "tests", "none", **changes)


PATIENTS = [f"p{i}" for i in range(60)]


def test_neighbours_stay_together_whatever_the_number_of_digits():
    data = make_data(split_by="blocks", split_blocks=20)
    split = split_cases(PATIENTS, data)
    assert sorted(sum(split.values(), ())) == sorted(PATIENTS)
    home = {patient: part for part, patients in split.items() for patient in patients}
    parts = [home[f"p{i}"] for i in range(60)]
    assert all(len(set(parts[begin : begin + 3])) == 1 for begin in range(0, 60, 3))
    assert [parts.count(part) for part in ("train", "val", "test")] == [42, 6, 12]
    assert split != split_cases(PATIENTS, make_data(split_by="blocks", split_seed=1))


def test_more_blocks_than_patients_are_refused():
    with pytest.raises(SplitError, match="2 patients cannot be cut into 20 blocks"):
        split_cases(["a", "b"], make_data(split_by="blocks"))


@pytest.mark.parametrize("split_by", ["patient", "blocks"])
def test_over_all_folds_everybody_but_the_test_patients_is_validated_on_once(split_by):
    whole = split_cases(PATIENTS, make_data(split_by=split_by))
    validated = []
    for fold in range(5):
        split = split_cases(PATIENTS, make_data(split_by=split_by, folds=5, fold=fold))
        assert split["test"] == whole["test"]
        assert sorted(sum(split.values(), ())) == sorted(PATIENTS)
        validated.extend(split["val"])
    assert sorted(validated) == sorted(set(PATIENTS) - set(whole["test"]))


def test_a_fold_that_does_not_exist_is_refused():
    with pytest.raises(SpecError, match="fold is 5 of 5"):
        make_data(folds=5, fold=5)
    with pytest.raises(SpecError, match="fold is 0 of 1"):
        make_data(folds=1)
    with pytest.raises(SplitError, match="too few for 50 folds"):
        split_cases(PATIENTS, make_data(folds=50))


def test_a_part_of_the_training_patients_leaves_the_others_alone_and_lies_within_a_larger_part():
    whole = split_cases(PATIENTS, make_data())
    half = split_cases(PATIENTS, make_data(train_fraction=0.5))
    quarter = split_cases(PATIENTS, make_data(train_fraction=0.25))
    assert [len(split["train"]) for split in (whole, half, quarter)] == [42, 21, 10]
    assert set(quarter["train"]) < set(half["train"]) < set(whole["train"])
    for part in ("val", "test"):
        assert whole[part] == half[part] == quarter[part]
    with pytest.raises(SpecError, match="train_fraction is 0"):
        make_data(train_fraction=0)


def test_settings_of_before_share_out_as_before():
    assert split_cases(PATIENTS, make_data()) == split_patients(
        PATIENTS, fractions=(0.7, 0.1, 0.2), seed=0
    )


def test_patients_with_an_image_in_common_come_into_the_earliest_part_of_theirs():
    split = {"train": ("a", "b"), "val": ("c", "d"), "test": ("e", "f", "g")}
    # A chain from a to f; x is in no part.
    joined = keep_together(split, [("e", "f"), ("f", "c"), ("x", "g"), ("c", "b")])
    assert joined == {"train": ("a", "b", "c", "e", "f"), "val": ("d",), "test": ("g",)}
    assert keep_together(split, [("a", "b")]) == split


def test_a_part_of_copies_only_is_refused():
    with pytest.raises(SplitError, match='all patients of the part "test" share images'):
        keep_together({"train": ("a",), "val": ("b",), "test": ("c",)}, [("a", "c")])


def test_a_new_run_keeps_patients_with_a_copied_image_together(tmp_path):
    cases = list_cases(make_camus(tmp_path / "data", patients=20))
    recipe = make_recipe(tmp_path / "data")
    split, joined = find_split(tmp_path / "run", recipe, cases)
    assert joined == []
    copied, trained = split["test"][0], split["train"][0]
    source = tmp_path / "data" / trained / f"{trained}_4CH_ED.nii.gz"
    (tmp_path / "data" / copied / f"{copied}_4CH_ED.nii.gz").write_bytes(source.read_bytes())
    mended, joined = find_split(tmp_path / "run", recipe, cases)
    assert copied in mended["train"]
    assert set(mended["test"]) == set(split["test"]) - {copied}
    assert joined[0].startswith(f"{copied} was moved from test to train: ")
    assert "are the same image" in joined[0]
