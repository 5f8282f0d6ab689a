"""A network that knows one orientation, and films for it."""

import numpy as np

from bedside.runtime.contract import Session
from bedside.spec import (
    Code,
    DeploymentSpec,
    Fit,
    Grey,
    InputSpec,
    Label,
    LevelSpec,
    MarkerCheck,
    ModelSpec,
    ScalePercentile,
)
from bedside.volume import ImageSequence

_CODE = Code("1", "SCT", "x")
SPEC = DeploymentSpec(
    name="sided",
    version="1",
    task="A bright square right of the middle",
    input=InputSpec(modality="US", channels=1, size_px=(64, 64)),
    labels=(Label(1, "square", (230, 60, 60), _CODE, _CODE),),
    preprocess=(Grey(), Fit(), ScalePercentile()),
    model=ModelSpec(
        "sided", 1, 2, levels=(LevelSpec("conv", channels=1, depth=1),), logit_stride=2
    ),
    marker=MarkerCheck(),
)


class Sided(Session):
    """Draws what is bright, and is sure of it in the right half alone: a network in two lines."""

    backend, precision, threads = "sided", "f32", 1

    def predict(self, tensor, out=None):
        bright = tensor[:, :1, ::2, ::2] - 0.5
        sure = np.where(np.arange(bright.shape[-1]) >= bright.shape[-1] // 2, 20.0, 2.0)
        logits = np.concatenate([-bright * sure, bright * sure], axis=1).astype(np.float32)
        if out is None:
            return logits
        out[...] = logits
        return out


def make_film(frames=5, *, mirrored=False, columns=(40, 56)):
    images = np.zeros((frames, 64, 80), np.uint8)
    for index in range(frames):
        images[index, 20 + index : 40 + index, columns[0] : columns[1]] = 255
    return ImageSequence.from_array(images[..., ::-1].copy() if mirrored else images)


def make_lopsided_film(*, mirrored=False):
    """The film with a grey sector of which one side is dark."""
    rows, columns = np.mgrid[:64, :80]
    images = np.stack(list(make_film(3)))
    images[:, :, (columns >= 8) & (columns <= 50 + 0.4 * rows) & (images[0, 0] == 0)] = 60
    return ImageSequence.from_array(images[:, 0, :, ::-1].copy() if mirrored else images[:, 0])
