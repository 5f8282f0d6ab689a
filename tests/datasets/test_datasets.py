"""Layouts of data sets: listed by name only, paired without gaps, read on the image's grid."""

import dataclasses
import os
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from bedside.datasets import Case, detect_layout, list_cases, read_truth, relabel_cases
from bedside.errors import DataError, UsageError

AFFINE = np.diag([-0.5, -2.0, 1.0, 1.0])


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def write_png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def labels_2d() -> np.ndarray:
    """(x, y) as NIfTI has it: 9 columns and 6 rows, with no symmetry."""
    array = np.zeros((9, 6), np.uint8)
    array[1:4, 2] = 1
    array[7, 4] = 3
    return array


@pytest.fixture
def camus(tmp_path):
    for patient in ("patient0002", "patient0001"):
        for moment in ("ED", "ES"):
            stem = f"{patient}_4CH_{moment}"
            write_nifti(tmp_path / patient / f"{stem}.nii.gz", np.full((9, 6), 90, np.uint8))
            write_nifti(tmp_path / patient / f"{stem}_gt.nii.gz", labels_2d())
    return tmp_path


@pytest.fixture
def folder(tmp_path):
    for stem in ("014_HC", "014_2HC", "003_HC"):
        write_png(tmp_path / "images" / f"{stem}.png", np.full((6, 9), 90, np.uint8))
        write_png(tmp_path / "masks" / f"{stem}.png", np.ascontiguousarray(labels_2d().T))
    return tmp_path


def test_camus_is_recognised_and_listed_in_order(camus):
    assert detect_layout(camus) == "camus"
    cases = list_cases(camus)
    assert [case.case_id for case in cases] == [
        "patient0001_4CH_ED",
        "patient0001_4CH_ES",
        "patient0002_4CH_ED",
        "patient0002_4CH_ES",
    ]
    assert cases[0].patient_id == "patient0001"
    assert cases[0].images == (camus / "patient0001" / "patient0001_4CH_ED.nii.gz",)
    assert cases[0].truth == camus / "patient0001" / "patient0001_4CH_ED_gt.nii.gz"


def test_other_views_and_films_are_left_out(camus):
    extra = camus / "patient0001"
    for name in ("patient0001_2CH_ED.nii.gz", "patient0001_4CH_half_sequence.nii.gz", "Info.cfg"):
        (extra / name).write_bytes(b"not looked at")
    assert len(list_cases(camus, "camus")) == 4


def test_folder_is_recognised_and_patients_end_at_the_underscore(folder):
    assert detect_layout(folder) == "folder"
    cases = list_cases(folder)
    assert [case.case_id for case in cases] == ["003_HC", "014_2HC", "014_HC"]
    assert [case.patient_id for case in cases] == ["003", "014", "014"]


def test_listing_reads_no_file(camus):
    for file in camus.glob("*/*.nii.gz"):
        file.write_bytes(b"")
    assert len(list_cases(camus)) == 4


@pytest.mark.parametrize("lost", ["patient0002_4CH_ES.nii.gz", "patient0002_4CH_ES_gt.nii.gz"])
def test_a_missing_image_or_truth_names_the_case(camus, lost):
    os.remove(camus / "patient0002" / lost)
    with pytest.raises(DataError, match="case patient0002_4CH_ES has no"):
        list_cases(camus)


@pytest.mark.parametrize(("lost", "what"), [("masks", "labels"), ("images", "image")])
def test_a_missing_image_or_mask_names_the_case(folder, lost, what):
    os.remove(folder / lost / "014_HC.png")
    with pytest.raises(DataError, match=f"case 014_HC has no {what}"):
        list_cases(folder)


def test_two_images_of_one_name_are_refused(folder):
    (folder / "images" / "003_HC.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="share a stem"):
        list_cases(folder)


def test_a_folder_in_no_layout_is_refused_with_the_known_ones(tmp_path):
    (tmp_path / "patient001").mkdir()
    (tmp_path / "patient001" / "patient001_5CH_ED.nii.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"camus: .*folder: "):
        list_cases(tmp_path)


@pytest.mark.parametrize("name", ["absent", "file.txt"])
def test_what_is_no_folder_is_refused(tmp_path, name):
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(DataError, match=re.escape(str(tmp_path / name))):
        list_cases(tmp_path / name)


def test_an_empty_layout_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="holds no case"):
        list_cases(tmp_path)


def test_an_unknown_layout_is_refused(camus):
    with pytest.raises(UsageError, match="camus, acdc, "):
        list_cases(camus, "camuss")


def test_a_named_layout_that_does_not_fit_is_refused(camus):
    with pytest.raises(DataError, match="images is missing"):
        list_cases(camus, "folder")


def test_nifti_labels_come_out_as_rows_and_columns(camus):
    truth = read_truth(list_cases(camus)[0], (1, 2, 3))
    assert truth.dtype == np.uint8
    assert np.array_equal(truth, labels_2d().T[None])


def test_slices_of_a_volume_come_out_as_frames(tmp_path):
    labels = np.zeros((9, 6, 4), np.uint8)
    labels[2, 5, 3] = 2
    for part in ("images", "masks"):
        write_nifti(tmp_path / part / "a_1.nii.gz", labels)
    truth = read_truth(list_cases(tmp_path)[0], (1, 2))
    assert truth.shape == (4, 6, 9)
    assert np.argwhere(truth).tolist() == [[3, 5, 2]]


def test_picture_labels_are_read_grey_or_grey_in_three_channels(folder):
    case = list_cases(folder)[0]
    assert np.array_equal(read_truth(case, (1, 2, 3)), labels_2d().T[None])
    write_png(case.truth, np.repeat(labels_2d().T[:, :, None], 3, axis=2))
    assert np.array_equal(read_truth(case, (1, 2, 3)), labels_2d().T[None])


def test_colours_are_no_labels(folder):
    case = list_cases(folder)[0]
    colours = np.repeat(labels_2d().T[:, :, None], 3, axis=2)
    colours[0, 0] = (255, 0, 0)
    write_png(case.truth, colours)
    with pytest.raises(DataError, match=r"case 003_HC.*colour"):
        read_truth(case, (1, 2, 3))


def test_values_outside_the_table_are_named(camus):
    case = list_cases(camus)[1]
    with pytest.raises(DataError, match=r"case patient0001_4CH_ES.*label 3; expected only 0, 1, 2"):
        read_truth(case, (1, 2))


@pytest.mark.parametrize("value", [1.5, np.nan])
def test_labels_that_are_no_whole_numbers_are_refused(camus, value):
    case = list_cases(camus)[0]
    labels = labels_2d().astype(np.float32)
    labels[0, 0] = value
    write_nifti(case.truth, labels)
    with pytest.raises(ValueError, match="patient0001_4CH_ED"):
        read_truth(case, (1, 2, 3))


def test_labels_of_another_size_are_refused(camus):
    case = list_cases(camus)[0]
    write_nifti(case.truth, labels_2d()[:, 1:])
    with pytest.raises(DataError, match=r"patient0001_4CH_ED.*\(1, 5, 9\).*\(1, 6, 9\)"):
        read_truth(case, (1, 2, 3))


@pytest.mark.parametrize(
    "elsewhere",
    [
        np.diag([-0.5, -1.9, 1.0, 1.0]),
        np.diag([0.5, -2.0, 1.0, 1.0]),
        AFFINE + np.eye(4, k=3) * 3.0,
    ],
    ids=["other spacing", "mirrored", "moved"],
)
def test_labels_on_another_grid_are_refused(camus, elsewhere):
    case = list_cases(camus)[0]
    write_nifti(case.truth, labels_2d(), elsewhere)
    with pytest.raises(DataError, match=r"patient0001_4CH_ED.*elsewhere"):
        read_truth(case, (1, 2, 3))


# --- Real data, where it is ------------------------------------------------------------------

DATA = Path(os.environ.get("BEDSIDE_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.parametrize(
    ("name", "layout", "labels"),
    [
        ("camus", "camus", (1, 2, 3)),
        ("acdc", "acdc", (1, 2, 3)),
        ("hc18", "hc18", (1,)),
        ("lidc_nodules", "lidc", (1,)),
        ("Task04_Hippocampus", "msd", (1, 2)),
        ("open_ms", "brats", (1,)),
    ],
)
def test_real_data_is_recognised_and_reads(name, layout, labels):
    if not (DATA / name).is_dir():
        pytest.skip(f"no {DATA / name}; set BEDSIDE_DATA to the folder that holds {name}")
    assert detect_layout(DATA / name) == layout
    cases = list_cases(DATA / name)
    assert len({case.case_id for case in cases}) == len(cases)
    assert all(isinstance(case, Case) for case in cases)
    for case in cases[:3]:
        truth = read_truth(case, labels)
        assert set(np.unique(truth)) == {0, *labels}


def test_values_that_stand_for_labels_are_read_as_labels(folder):
    case = list_cases(folder)[0]
    labels = labels_2d().T
    write_png(case.truth, np.array([0, 255, 2, 100], np.uint8)[labels])
    told = relabel_cases([case], {"255": 1, "100": 3}, labels=(1, 2, 3))[0]
    assert np.array_equal(read_truth(told, (1, 2, 3))[0], labels)


def test_a_layouts_own_table_of_values_comes_first(folder):
    case = dataclasses.replace(list_cases(folder)[0], truth_values={0: 0, 1: 4, 2: 4, 3: 2})
    told = relabel_cases([case], {"4": 1}, labels=(1, 2))[0]
    assert told.truth_values == {0: 0, 1: 1, 2: 1, 3: 2}
    assert relabel_cases([case], {}, labels=(1, 2)) == [case]
