"""Every layout: recognised by its names, listed in order, and refused with the case named."""

import json

import numpy as np
import pytest

from bedside.datasets import Case, detect_layout, list_cases, read_truth
from bedside.datasets.case import read_case
from bedside.errors import DataError
from bedside.io.raster import NO_SCALE
from layout_makers import (
    AFFINE,
    make_acdc,
    make_brats,
    make_brats_2023,
    make_btcv,
    make_disc,
    make_hc18,
    make_hc18_challenge,
    make_image,
    make_lidc,
    make_msd,
    make_nnunet,
    make_truth,
    make_video,
    write_nifti,
    write_png,
)

# Layout, its maker, labels it may hold, and a case with its patient, image and labels.
LAYOUTS = [
    pytest.param(
        "acdc",
        make_acdc,
        (1, 2, 3),
        ("patient001_frame09", "patient001"),
        ("patient001/patient001_frame09.nii.gz", "patient001/patient001_frame09_gt.nii.gz"),
        id="acdc",
    ),
    pytest.param(
        "lidc",
        make_lidc,
        (1,),
        ("LIDC-IDRI-0003_nodule-1", "LIDC-IDRI-0003"),
        (
            "LIDC-IDRI-0003/LIDC-IDRI-0003_nodule-1.nii.gz",
            "LIDC-IDRI-0003/LIDC-IDRI-0003_nodule-1_raters.nii.gz",
        ),
        id="lidc",
    ),
    pytest.param(
        "hc18",
        make_hc18,
        (1,),
        ("014_2HC", "014"),
        ("images/014_2HC.png", "masks/014_2HC.png"),
        id="hc18",
    ),
    pytest.param(
        "hc18",
        make_hc18_challenge,
        (1,),
        ("003_HC", "003"),
        ("training_set/003_HC.png", "training_set/003_HC_Annotation.png"),
        id="hc18 challenge",
    ),
    pytest.param(
        "video",
        make_video,
        (1, 2, 3, 4, 5, 6),
        ("patient1_seq1_0004", "patient1/seq1"),
        ("img/patient1/seq1/0004.jpg", "annot/patient1/seq1/0004.png"),
        id="video",
    ),
    pytest.param(
        "msd",
        make_msd,
        (1, 2),
        ("spleen_029", "spleen_029"),
        ("imagesTr/spleen_029.nii.gz", "labelsTr/spleen_029.nii.gz"),
        id="msd",
    ),
    pytest.param(
        "brats",
        make_brats,
        (1, 2, 3),
        ("BraTS2021_00002", "BraTS2021_00002"),
        (
            *(f"BraTS2021_00002/BraTS2021_00002_{n}.nii.gz" for n in ("flair", "t1", "t1ce", "t2")),
            "BraTS2021_00002/BraTS2021_00002_seg.nii.gz",
        ),
        id="brats",
    ),
    pytest.param(
        "brats",
        make_brats_2023,
        (1, 2, 3),
        ("BraTS-GLI-00005-001", "BraTS-GLI-00005"),
        (
            *(
                f"BraTS-GLI-00005-001/BraTS-GLI-00005-001-{n}.nii.gz"
                for n in ("t2f", "t1n", "t1c", "t2w")
            ),
            "BraTS-GLI-00005-001/BraTS-GLI-00005-001-seg.nii.gz",
        ),
        id="brats 2023",
    ),
    pytest.param(
        "btcv",
        make_btcv,
        tuple(range(1, 14)),
        ("img0001", "img0001"),
        ("img/img0001.nii.gz", "label/label0001.nii.gz"),
        id="btcv",
    ),
    pytest.param(
        "nnunet",
        make_nnunet,
        (1, 2),
        ("case_b", "case_b"),
        (
            "imagesTr/case_b_0000.nii.gz",
            "imagesTr/case_b_0001.nii.gz",
            "labelsTr/case_b.nii.gz",
        ),
        id="nnunet",
    ),
]


def by_name(path, name) -> Case:
    return next(case for case in list_cases(path) if case.case_id == name)


@pytest.mark.parametrize(("layout", "make", "labels", "names", "files"), LAYOUTS)
def test_a_layout_is_recognised_and_its_cases_are_paired(
    tmp_path, layout, make, labels, names, files
):
    make(tmp_path)
    assert detect_layout(tmp_path) == layout
    cases = list_cases(tmp_path)
    assert [case.case_id for case in cases] == sorted(case.case_id for case in cases)
    case = by_name(tmp_path, names[0])
    assert case.patient_id == names[1]
    assert (*case.images, case.truth) == tuple(tmp_path / file for file in files)
    assert read_truth(case, labels).any()


@pytest.mark.parametrize("lost", [-2, -1], ids=["image", "labels"])
@pytest.mark.parametrize(("layout", "make", "labels", "names", "files"), LAYOUTS)
def test_a_case_that_lacks_a_file_is_named(tmp_path, layout, make, labels, names, files, lost):
    make(tmp_path)
    (tmp_path / files[lost]).unlink()
    what = "labels" if lost == -1 else "image" if len(files) == 2 else "channel"
    with pytest.raises(DataError, match=f"case {names[0]} has no {what}"):
        list_cases(tmp_path, layout)


@pytest.mark.parametrize(("layout", "make", "labels", "names", "files"), LAYOUTS)
def test_a_label_outside_the_table_is_refused_and_the_case_named(
    tmp_path, layout, make, labels, names, files
):
    make(tmp_path)
    case = by_name(tmp_path, names[0])
    if case.truth.suffix == ".png":
        write_png(case.truth, np.full_like(read_truth(case, labels)[0], 99))
    else:
        write_nifti(case.truth, make_truth((99,)))
    with pytest.raises(DataError, match=f"case {names[0]}: .* holds the label 99; expected only 0"):
        read_truth(case, labels)


@pytest.mark.parametrize(("layout", "make", "labels", "names", "files"), LAYOUTS)
def test_labels_on_another_grid_are_refused_and_the_case_named(
    tmp_path, layout, make, labels, names, files
):
    make(tmp_path)
    case = by_name(tmp_path, names[0])
    if case.truth.suffix == ".png":
        write_png(case.truth, np.zeros((7, 9), np.uint8))
        with pytest.raises(DataError, match=f"case {names[0]}: .*Resample"):
            read_truth(case, labels)
        return
    write_nifti(case.truth, make_truth((1,)), AFFINE + 2 * np.eye(4, k=3))
    with pytest.raises(DataError, match=f"case {names[0]}: .*lies elsewhere"):
        read_truth(case, labels)


def test_the_film_and_the_settings_of_acdc_are_left_out(tmp_path):
    names = [case.case_id for case in list_cases(make_acdc(tmp_path))]
    assert names == [
        "patient001_frame01",
        "patient001_frame09",
        "patient002_frame01",
        "patient002_frame12",
    ]


@pytest.mark.parametrize("make", [make_acdc, make_lidc])
def test_a_placeholder_spacing_is_not_taken_for_millimetres(tmp_path, make):
    for case in list_cases(make(tmp_path)):
        sequence = read_case(case, (1, 2, 3))[0].sequence
        assert sequence.spacing_mm is None
        assert sequence.slice_spacing_mm is None


def test_a_nodule_is_where_two_of_four_radiologists_saw_it(tmp_path):
    truth = read_truth(list_cases(make_lidc(tmp_path))[0], (1,))
    assert truth.shape == (4, 6, 9)
    assert truth[0, 2].tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0]
    assert truth.sum() == 3


def test_a_heads_scale_comes_from_the_table(tmp_path):
    source, _ = read_case(by_name(make_hc18(tmp_path), "014_2HC"), (1,))
    assert source.sequence.spacing_mm == (0.11, 0.11)
    assert NO_SCALE not in source.sequence.warnings


def test_an_outline_of_a_head_is_filled(tmp_path):
    case = list_cases(make_hc18_challenge(tmp_path))[0]
    assert (read_truth(case, (1,))[0] == make_disc()).all()
    assert read_case(case, (1,))[0].sequence.spacing_mm == (0.1, 0.1)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("014_HC.png,0.1", "line 2, is 014_HC.png,0.1; expected"),
        ("014_HC.png,-1,60", "expected a file name, mm a pixel"),
        ("014_HC.png,0.1,wide", "expected"),
        ("015_HC.png,0.1,60", "case 014_HC has no scale"),
    ],
)
def test_a_head_without_a_scale_is_refused(tmp_path, row, says):
    table = make_hc18(tmp_path) / "pixel_size_and_hc.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], row, *lines[2:]]))
    with pytest.raises(DataError, match=says):
        list_cases(tmp_path)


def test_sequences_stand_for_patients_only_where_there_is_one_patient(tmp_path):
    one = make_video(tmp_path / "one")
    assert {case.patient_id for case in list_cases(one)} == {"patient1/seq1", "patient1/seq2"}
    two = make_video(tmp_path / "two", ("patient1/seq1", "patient1/seq2", "patient2/seq1"))
    assert {case.patient_id for case in list_cases(two)} == {"patient1", "patient2"}


def test_a_video_frame_is_read_in_colour(tmp_path):
    source, truth = read_case(list_cases(make_video(tmp_path))[0], (1, 6))
    assert source.sequence.decode(0).shape == (3, 6, 9)
    assert truth[0, 2, :3].tolist() == [0, 1, 6]


def test_neighbouring_hippocampi_count_as_one_patient(tmp_path):
    cases = list_cases(make_msd(tmp_path, name="Hippocampus"))
    assert [case.patient_id for case in cases] == ["000-029", "000-029", "030-059"]


@pytest.mark.parametrize("make", [make_brats, make_brats_2023])
def test_the_channels_of_a_tumour_come_in_one_order_and_enhancing_is_3(tmp_path, make):
    case = list_cases(make(tmp_path))[0]
    source, truth = read_case(case, (1, 2, 3))
    assert source.sequence.shape == (4, 4, 6, 9)
    assert truth[0, 2, :5].tolist() == [0, 1, 2, 3, 0]
    if make is make_brats:
        assert source.sequence.decode(0)[:, 0, 0].tolist() == [0, 1000, 2000, 3000]


def test_a_patient_at_two_times_is_one_patient(tmp_path):
    assert {case.patient_id for case in list_cases(make_brats_2023(tmp_path))} == {
        "BraTS-GLI-00005"
    }


@pytest.mark.parametrize(
    ("channel", "affine", "shape", "says"),
    [
        ("t1ce", AFFINE + np.eye(4, k=3), (9, 6, 4), "lies elsewhere"),
        ("t1ce", AFFINE, (9, 6, 3), "has .frames"),
        ("seg", AFFINE + np.eye(4, k=3), (9, 6, 4), "lies elsewhere"),
    ],
)
def test_a_channel_or_a_tumour_on_another_grid_is_refused(tmp_path, channel, affine, shape, says):
    case = list_cases(make_brats(tmp_path))[1]
    write_nifti(
        tmp_path / case.case_id / f"{case.case_id}_{channel}.nii.gz", make_image(shape), affine
    )
    with pytest.raises(DataError, match=f"case BraTS2021_00002: .*{channel}.* {says}"):
        read_case(case, (1, 2, 3))


def test_the_other_folders_of_the_abdomen_are_read_too(tmp_path):
    make_btcv(tmp_path, "imagesTr", "labelsTr")
    assert detect_layout(tmp_path) == "btcv"
    assert [case.case_id for case in list_cases(tmp_path)] == ["img0001", "img0002"]


def test_hounsfield_units_are_read_as_they_are(tmp_path):
    source, _ = read_case(list_cases(make_btcv(tmp_path))[0], tuple(range(1, 14)))
    assert source.sequence.decode(0)[0, 0, 0] == -1000


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": {"background": 0, "whole": [1, 2], "core": [2]}}, "regions, whole, core"),
        ({"labels": {"background": 0, "core": 1, "ignore": 2}}, "ignore"),
        ({"labels": {"core": 1}}, "whole numbers from 0"),
        ({"labels": {"background": 0, "core": "one"}}, "whole numbers from 0"),
        ({"labels": None}, "expected names and values"),
        ({"channel_names": {"0": "T1", "2": "T2"}}, "channel_names"),
        ({"channel_names": {"first": "T1"}}, "channel_names"),
        ({"channel_names": {"0": "T1"}}, r"case case_a: .*0001\.nii\.gz is none of the 1 channels"),
        ({"channel_names": {"0": "T1", "1": "T2", "2": "x"}}, r"case_a has no channel 2 \(x\)"),
        ({"file_ending": ".tif"}, "file_ending"),
    ],
)
def test_an_index_of_nnunet_that_cannot_be_followed_is_refused(tmp_path, changes, says):
    with pytest.raises(DataError, match=says):
        list_cases(make_nnunet(tmp_path, **changes))


def test_a_label_that_the_index_does_not_name_is_refused(tmp_path):
    case = list_cases(make_nnunet(tmp_path, labels={"background": 0, "core": 1}))[0]
    with pytest.raises(DataError, match=r"case case_a: .* holds the label 2; expected only 0, 1"):
        read_truth(case, (1, 2))


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"image": "./imagesTr/spleen_001.nii.gz"}, 'expected an "image" and a "label"'),
        ({"image": "../a.nii.gz", "label": "./labelsTr/spleen_001.nii.gz"}, "outside"),
        ("spleen_001", "expected an"),
    ],
)
def test_a_faulty_index_is_refused(tmp_path, entry, says):
    make_msd(tmp_path)
    (tmp_path / "dataset.json").write_text(
        json.dumps({"name": "Spleen", "labels": {"0": "", "1": ""}, "training": [entry]})
    )
    with pytest.raises(DataError, match=says):
        list_cases(tmp_path)


def test_an_index_that_is_no_json_is_refused(tmp_path):
    (make_msd(tmp_path) / "dataset.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        list_cases(tmp_path, "msd")


# --- Several files for one image -----------------------------------------------------------
