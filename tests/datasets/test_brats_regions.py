"""Whole tumour, tumour core and enhancing tumour of BraTS, to the voxel."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from bedside.datasets import detect_layout, list_cases, list_recipe_cases, relabel_for
from bedside.datasets.case import read_case
from bedside.errors import DataError, FormatError
from bedside.evaluation.cases import score_case
from bedside.spec import read_recipe
from layout_makers import make_image, write_nifti

OPEN_MS = Path(__file__).parents[2].parent / "shared" / "data" / "open_ms"

# The folder with `processed` and `labelsTr` of a course's copy of the Decathlon's brain tumours.
CROPS = Path(os.environ.get("BEDSIDE_BRATS_CROPS", "BEDSIDE_BRATS_CROPS is not set"))

# Values of a file, by generation, that make up each region, as the challenge defines them.
REGIONS = {
    "2021": {"Whole tumour": (1, 2, 4), "Tumour core": (1, 4), "Enhancing tumour": (4,)},
    "2023": {"Whole tumour": (1, 2, 3), "Tumour core": (1, 3), "Enhancing tumour": (3,)},
}
NAMES = {
    "2021": ("BraTS2021_00001", ("_flair", "_t1", "_t1ce", "_t2"), "_seg"),
    "2023": ("BraTS-GLI-00001-000", ("-t2f", "-t1n", "-t1c", "-t2w"), "-seg"),
}
SHAPE = (9, 6, 4)


def write_case(folder, generation, values):
    """A patient whose segmentation holds `values` (x, y, z)."""
    name, channels, truth = NAMES[generation]
    for channel in channels:
        write_nifti(folder / name / f"{name}{channel}.nii.gz", make_image(SHAPE).astype(np.int16))
    write_nifti(folder / name / f"{name}{truth}.nii.gz", values)


@pytest.mark.parametrize("generation", REGIONS)
def test_regions_are_those_of_the_challenge_to_the_voxel(tmp_path, generation):
    allowed = sorted({0, *REGIONS[generation]["Whole tumour"]})
    drawn, guessed = np.random.default_rng(0).choice(allowed, (2, *SHAPE)).astype(np.uint8)
    for folder, values in (("drawn", drawn), ("guessed", guessed)):
        write_case(tmp_path / folder, generation, values)
    spec = read_recipe("brats").deployment
    labels = tuple(label.value for label in spec.labels)
    case = list_cases(tmp_path / "drawn")[0]
    truth = read_case(case, labels)[1]
    prediction = read_case(list_cases(tmp_path / "guessed")[0], labels)[1]
    found = score_case(
        case, truth, prediction, spacing_mm=None, labels=spec.labels, regions=spec.regions
    )
    for name, values in REGIONS[generation].items():
        one, other = np.isin(drawn, values), np.isin(guessed, values)
        expected = 2 * (one & other).sum() / (one.sum() + other.sum())
        assert found.structures[name].dice == pytest.approx(expected, abs=1e-12), name
    # Voxel for voxel: (x, y, z) of the file is (z, y, x) here.
    whole = np.isin(drawn, REGIONS[generation]["Whole tumour"]).transpose(2, 1, 0)
    assert np.array_equal(truth > 0, whole)


# The Decathlon's copy of BraTS numbers oedema 1 and the core without contrast 2.
DECATHLON = {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}
SEQUENCES = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}


def write_decathlon(folder, images, values, *, labels=DECATHLON, sequences=SEQUENCES):
    """One case of (x, y, z, channel) in one file, as Task01_BrainTumour has them."""
    write_nifti(folder / "imagesTr" / "BRATS_001.nii.gz", images)
    write_nifti(folder / "labelsTr" / "BRATS_001.nii.gz", values)
    case = {
        "image": "./imagesTr/BRATS_001.nii.gz",
        "label": "./labelsTr/BRATS_001.nii.gz",
    }
    index = {"name": "BRATS", "modality": sequences, "labels": labels, "training": [case]}
    (folder / "dataset.json").write_text(json.dumps(index))
    return folder


def test_oedema_of_the_decathlon_is_not_taken_for_the_core(tmp_path):
    values = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.uint8)
    images = np.stack([make_image(SHAPE).astype(np.int16) + 1000 * n for n in range(4)], -1)
    cases = list_cases(write_decathlon(tmp_path, images, values))
    spec = read_recipe("brats").deployment
    with pytest.raises(DataError, match=r'value 1 .*"edema", which is label 2 .* 1=2,2=1 '):
        relabel_for(cases, {}, spec=spec)
    (case,) = relabel_for(cases, {"1": 2, "2": 1}, spec=spec)
    source, truth = read_case(case, (1, 2, 3))
    assert np.array_equal(truth, np.array([0, 2, 1, 3])[values].transpose(2, 1, 0))
    # FLAIR, T1, T1 with contrast, T2, of the fourth axis.
    for row in range(SHAPE[2]):
        expected = images[:, :, row].transpose(2, 1, 0)
        assert np.array_equal(source.sequence.decode(row), expected)
    other = {"0": "T1w", "1": "FLAIR", "2": "t1gd", "3": "T2w"}
    (moved,) = list_cases(write_decathlon(tmp_path, images, values, sequences=other))
    with pytest.raises(DataError, match="T1w, FLAIR, t1gd, T2w; expected flair, t1, t1ce, t2"):
        relabel_for([moved], {"1": 2, "2": 1}, spec=spec)


@pytest.mark.parametrize("axes", [1, 3, 5])
def test_another_number_of_channels_than_the_index_says_is_refused(tmp_path, axes):
    shape = (*SHAPE, axes)[: 3 if axes == 1 else 4]
    folder = write_decathlon(tmp_path, np.ones(shape, np.int16), np.ones(SHAPE, np.uint8))
    with pytest.raises((DataError, FormatError), match="BRATS_001"):
        read_case(list_cases(folder)[0], (1, 2, 3))


def test_crops_of_two_real_patients_to_the_voxel(tmp_path):
    if not (CROPS / "processed").is_dir():
        pytest.skip(f"no crops of BraTS: {CROPS}")
    h5py = pytest.importorskip("h5py", reason="no h5py, which reads crops of BraTS")
    recipe = read_recipe("brats")
    files = sorted((CROPS / "processed").glob("*/*.h5"))
    assert {file.name[:9] for file in files} == {"BRATS_009", "BRATS_119"}
    tones = {}
    for file in files:
        with h5py.File(file) as content:
            images = np.rint(content["x"]).astype(np.int16)
            drawn = np.asarray(content["y"]).argmax(-1)
        name = file.stem.replace(".nii.gz", "")
        for channel, suffix in enumerate(("flair", "t1", "t1ce", "t2")):
            write_nifti(tmp_path / name / f"{name}_{suffix}.nii.gz", images[channel])
        stored = np.array([0, 2, 1, 4], np.uint8)[drawn]
        write_nifti(tmp_path / name / f"{name}_seg.nii.gz", stored)
        case = next(c for c in list_recipe_cases(recipe, tmp_path) if c.case_id == name)
        source, truth = read_case(case, (1, 2, 3))
        found = np.stack([source.sequence.decode(row) for row in range(len(truth))])
        assert np.array_equal(found, images.transpose(3, 0, 2, 1))
        ours = truth.transpose(2, 1, 0)
        regions = {region.name: region.labels for region in recipe.deployment.regions}
        assert np.array_equal(np.isin(ours, regions["Whole tumour"]), drawn > 0)
        assert np.array_equal(np.isin(ours, regions["Tumour core"]), drawn >= 2)
        assert np.array_equal(ours == 3, drawn == 3)
        for label in (1, 2, 3):
            tones.setdefault((name[:9], label), []).append(
                found.transpose(1, 0, 2, 3)[:, truth == label]
            )
    # What takes up contrast is brightest in the third channel.
    for patient in ("BRATS_009", "BRATS_119"):
        mean = {n: np.concatenate(tones[patient, n], 1).mean(1) for n in (1, 2, 3)}
        assert mean[3][2] > max(mean[1][2], mean[2][2])


def test_four_real_channels_come_in_the_order_of_the_layout():
    if not OPEN_MS.is_dir():
        pytest.skip(f"NOT TESTED: four real channels; {OPEN_MS} is not there")
    nibabel = pytest.importorskip("nibabel")
    assert detect_layout(OPEN_MS) == "brats"
    (case,) = list_cases(OPEN_MS)
    source, truth = read_case(case, (1,))
    assert source.sequence.shape[:2] == (182, 4)
    assert source.sequence.spacing_mm == (1.0, 1.0)
    assert set(np.unique(truth)) == {0, 1}
    folder = OPEN_MS / case.case_id
    row = 90
    for channel, name in enumerate(("flair", "t1", "t1ce", "t2")):
        stored = np.asarray(nibabel.load(folder / f"{case.case_id}_{name}.nii.gz").dataobj)
        seen = source.sequence.decode(row)[channel]
        assert np.array_equal(np.sort(seen, axis=None), np.sort(stored[:, :, row], axis=None))
    lesion = np.asarray(nibabel.load(folder / f"{case.case_id}_seg.nii.gz").dataobj)
    assert truth.sum() == (lesion > 0).sum()
