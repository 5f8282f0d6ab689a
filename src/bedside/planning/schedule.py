"""Split, augmentation and training schedule for the size of a data set."""

import math
from collections.abc import Mapping

from bedside.errors import SplitError
from bedside.planning.survey import Survey
from bedside.spec import AugmentSpec, TrainingSpec
from bedside.spec.named import CONV

FEWEST_PATIENTS = 5
"""With fewer, one part of the split has nobody, or one part is one person and says nothing."""
FEW_PATIENTS = 10
"""With fewer, the validation part takes a larger share, so that it has somebody."""

_SPLIT, _SPLIT_OF_FEW = (0.7, 0.1, 0.2), (0.6, 0.2, 0.2)

# Steps of training after which such networks have been seen to stop gaining.
_STEPS: Mapping[int, int] = {2: 4000, 3: 3000}
_FEWEST_EPOCHS, _MOST_EPOCHS = 20, 300
_LARGE_WINDOW = 64**3

_LEARNING_RATE: Mapping[str, float] = {"small": 1.5e-3, "base": 1e-3, "teacher": 5e-4}

_US = AugmentSpec(
    log2_scale=(-0.35, 0.3), log2_aspect=0.2, elastic_px=3.0, gamma_log2=(-0.6, 0.8),
    gain=(0.7, 1.3), depth_gain=0.3, speckle=0.15, blur_px=1.0, fan_cut=0.2,
)  # fmt: skip
_PLAIN = AugmentSpec(
    log2_scale=(-0.35, 0.35), log2_aspect=0.2, elastic_px=3.0, gamma_log2=(-0.5, 0.5),
    gain=(0.7, 1.2), depth_gain=0.0, speckle=0.0, blur_px=1.0, fan_cut=0.0, compress=0.2,
)  # fmt: skip
_MR = AugmentSpec(
    log2_scale=(-0.3, 0.3), log2_aspect=0.2, elastic_px=3.0, gamma_log2=(-0.5, 0.5),
    gain=(0.8, 1.2), depth_gain=0.0, speckle=0.0, blur_px=0.8, fan_cut=0.0, compress=0.0,
)  # fmt: skip
_CT = AugmentSpec(
    log2_scale=(-0.3, 0.3), log2_aspect=0.2, elastic_px=2.0, gamma_log2=(-0.2, 0.2),
    gain=(0.9, 1.1), depth_gain=0.0, speckle=0.0, blur_px=0.7, fan_cut=0.0, compress=0.0,
)  # fmt: skip
_VOLUME = AugmentSpec(
    rotate_deg=15.0, log2_scale=(-0.2, 0.2), log2_aspect=0.1, shift=0.05, elastic_px=1.0,
    gamma_log2=(-0.4, 0.4), gain=(0.85, 1.15), depth_gain=0.0, speckle=0.0, blur_px=0.7,
    fan_cut=0.0, compress=0.0,
)  # fmt: skip
_AUGMENTS: Mapping[str | None, AugmentSpec] = {"US": _US, "IVUS": _US, "MR": _MR, "CT": _CT}


def choose_split(survey: Survey) -> tuple[float, float, float]:
    """Return the shares of training, validation and test.

    Raises:
        SplitError: If there are too few patients.
    """
    if survey.patients < FEWEST_PATIENTS:
        named = (
            " In this layout the patient is the file's name up to its first underscore: "
            "img_001.png and img_002.png are of the one patient img."
        )
        raise SplitError(
            f"{survey.path} holds {survey.cases} images of {survey.patients} patients; at least "
            f"{FEWEST_PATIENTS} patients are needed, so that training, validation and test each "
            f"have some of their own.{named if survey.layout == 'folder' else ''}"
        )
    return _SPLIT_OF_FEW if survey.patients < FEW_PATIENTS else _SPLIT


def choose_augment(modality: str | None, *, spatial_dims: int, coloured: bool) -> AugmentSpec:
    """Return augmentation that resembles other patients and machines of the modality."""
    if spatial_dims == 3:
        return _VOLUME
    return _PLAIN if coloured else _AUGMENTS.get(modality, _PLAIN)


def choose_training(
    survey: Survey, model: str, *, size_px: tuple[int, ...], share: float
) -> TrainingSpec:
    """Return batch size and epochs, for about the same number of steps whatever the size.

    Args:
        survey: Properties of the data set.
        model: Name of the network; a larger one learns at a lower rate.
        size_px: The network's input.
        share: Part of the patients used for training.
    """
    images = max(1, round(share * survey.cases))
    if survey.spatial_dims == 2:
        images *= survey.frames
        batch_size = 8 if images >= 64 else 4 if images >= 16 else 2
    else:
        batch_size = 4 if math.prod(size_px) <= _LARGE_WINDOW else 2
    per_epoch = max(1, images // batch_size)
    epochs = min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, _STEPS[survey.spatial_dims] // per_epoch))
    epochs = round(epochs / 10) * 10
    return TrainingSpec(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=_LEARNING_RATE.get(model.removesuffix(CONV), 2e-3),
        weight_decay=0.03,
        ema_decay=0.998 if epochs * per_epoch >= 2000 else 0.99,
        validate_every=max(1, epochs // 10),
    )
