import dataclasses

import numpy as np
import pytest

from bedside.spec import CropFan, DataSpec, Fit, Grey, Recipe, ScalePercentile, TrainingSpec
from makers import make_fan, make_labels, write_nifti
from models_for_tests import make_spec


@pytest.fixture(scope="session")
def camus(tmp_path_factory):
    """Ten made-up patients in the layout of CAMUS, two labels each."""
    folder = tmp_path_factory.mktemp("camus")
    for number in range(1, 11):
        name = f"patient{number:04d}"
        (folder / name).mkdir()
        images = make_fan(2, 48, 64, seed=number)
        truths = np.minimum(make_labels(2, 48, 64), 2)
        for phase, image, truth in zip(("ED", "ES"), images, truths, strict=True):
            write_nifti(image.T, folder / name / f"{name}_4CH_{phase}.nii.gz")
            write_nifti(truth.T, folder / name / f"{name}_4CH_{phase}_gt.nii.gz")
    return folder


@pytest.fixture
def recipe(camus):
    """Three epochs of a network of a few thousand weights on the made-up patients."""
    spec = dataclasses.replace(
        make_spec(), preprocess=(Grey(), CropFan(), Fit(), ScalePercentile())
    )
    return Recipe(
        schema_version=1,
        deployment=spec,
        data=DataSpec("made up", "camus", str(camus), "tests", "none"),
        training=TrainingSpec(epochs=3, batch_size=4, validate_every=1),
    )
