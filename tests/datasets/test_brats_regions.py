"""Whole tumour, tumour core and enhancing tumour of BraTS, to the voxel."""

from pathlib import Path

import numpy as np
import pytest

from bedside.datasets import detect_layout, list_cases
from bedside.datasets.case import read_case
from bedside.evaluation.cases import score_case
from bedside.spec import read_recipe
from layout_makers import make_image, write_nifti

OPEN_MS = Path(__file__).parents[2].parent / "shared" / "data" / "open_ms"

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
