"""Small data sets and recipes that tests of training share."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from bedside.spec import (
    CropFan,
    DataSpec,
    Fit,
    Grey,
    Recipe,
    ScalePercentile,
    TrainingSpec,
    to_mapping,
)
from makers import make_fan, make_labels, write_nifti
from models_for_tests import make_spec


class StoppedError(Exception):
    """Stands for the person who presses Ctrl-C after an epoch."""


def stop_after_first(progress):
    """Stop a training when its first epoch is kept."""
    if progress.stage == "training" and progress.done == 1:
        raise StoppedError


SQUARE_MM = (0.6, 0.6, 1.0)


def make_camus(folder: Path, patients: int = 10) -> Path:
    """Make up patients in the layout of CAMUS, two labels each."""
    for number in range(1, patients + 1):
        name = f"patient{number:04d}"
        (folder / name).mkdir(parents=True)
        images = make_fan(2, 48, 64, seed=number)
        truths = np.minimum(make_labels(2, 48, 64), 2)
        for phase, image, truth in zip(("ED", "ES"), images, truths, strict=True):
            stem = folder / name / f"{name}_4CH_{phase}"
            write_nifti(image.T, stem.with_suffix(".nii.gz"), spacing_mm=SQUARE_MM)
            write_nifti(truth.T, stem.with_name(f"{stem.name}_gt.nii.gz"), spacing_mm=SQUARE_MM)
    return folder


def make_recipe(data: Path, *, epochs: int = 3) -> Recipe:
    """Train a network of a few thousand weights on the made-up patients."""
    steps = (Grey(), CropFan(), Fit(), ScalePercentile())
    return Recipe(
        schema_version=1,
        deployment=dataclasses.replace(make_spec(), preprocess=steps),
        data=DataSpec("made up", "camus", str(data), "tests", "none"),
        training=TrainingSpec(epochs=epochs, batch_size=4, validate_every=1),
    )


def to_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML, each table on a line."""
    return "".join(
        f"{key} = {_inline(value)}\n"
        for key, value in to_mapping(recipe).items()
        if value is not None
    )


def _inline(value):
    if isinstance(value, dict):
        items = (f"{key} = {_inline(item)}" for key, item in value.items() if item is not None)
        return f"{{ {', '.join(items)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return json.dumps(value)
