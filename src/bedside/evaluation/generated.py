"""Synthetic images of blobs and speckle, for use without a data set.

They show whether two ways to run a network agree, not how accurate it is.
"""

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import gaussian_filter

from bedside.evaluation.comparison import Sample
from bedside.spec import DeploymentSpec
from bedside.spec.steps import Resample
from bedside.volume import ImageSequence
from bedside.volume.geometry import Geometry

# Images are larger than what the network sees of them, so that the pipeline has work to do.
_LARGER = 1.25
_SPACING_MM = 0.8
_HU = (-1000.0, 600.0)
_FRAMES = 2


def make_samples(spec: DeploymentSpec, *, count: int = 8, seed: int = 0) -> Iterator[Sample]:
    """Make images that a deployment takes, the same ones each time.

    Args:
        spec: The deployment.
        count: Number of images.
        seed: Seed of the noise.

    Example:
        >>> from bedside.bundle import find_bundle, read_bundle
        >>> spec = read_bundle(find_bundle("lidc-nodule")).spec
        >>> next(make_samples(spec)).sequence.shape
        (2, 1, 80, 80)
    """
    generator = np.random.default_rng(seed)
    for index in range(count):
        yield Sample(f"generated {index + 1}", _make_cine(spec, generator))


def _make_cine(spec: DeploymentSpec, generator: np.random.Generator) -> ImageSequence:
    size = [round(_LARGER * length) for length in spec.input.size_px]
    scan = len(size) == 3
    frames = size.pop(0) if scan else _FRAMES
    channels = 1 if spec.input.neighbours else spec.input.channels
    values = np.stack(
        [
            np.stack([_make_frame(spec, (height, width), generator) for _ in range(channels)])
            for height, width in [tuple(size)] * frames
        ]
    )
    if scan:
        values = gaussian_filter(values, (1.0, 0, 0, 0)).astype(values.dtype)
    spacing = _spacing(spec)
    height, width = size
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = (*spacing, 1.0)
    return ImageSequence(
        shape=(frames, channels, height, width),
        decode=lambda index: values[index],
        modality=spec.input.modality,
        spacing_mm=spacing[1:],
        geometry=Geometry((frames, height, width), affine, space="LPS") if scan else None,
        slice_spacing_mm=spacing[0] if scan else None,
    )


def _spacing(spec: DeploymentSpec) -> tuple[float, float, float]:
    """Take the distances that a scan is resampled to, so that its grid is about as large."""
    for step in spec.preprocess:
        if isinstance(step, Resample) and step.spacing_mm is not None:
            down, row, column = step.spacing_mm
            return down, row, column
    return (_SPACING_MM,) * 3


def _make_frame(
    spec: DeploymentSpec, shape: tuple[int, int], generator: np.random.Generator
) -> np.ndarray:
    """Draw speckle over bright and dark ellipses, within a fan where the image is ultrasound."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    image = np.full(shape, 0.45, np.float32)
    for _ in range(6):
        centre = generator.uniform(0.25, 0.75, 2) * shape
        radii = generator.uniform(0.06, 0.25, 2) * shape
        inside = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2
        image[inside < 1] = generator.uniform(0.05, 0.95)
    image = gaussian_filter(image, 1.0)
    image *= 0.7 + 0.6 * gaussian_filter(generator.random(shape, np.float32), 0.7)
    if spec.input.modality == "US":
        middle = shape[1] / 2
        radius = np.hypot(rows - 2, columns - middle)
        angle = np.abs(np.arctan2(columns - middle, rows - 2))
        image[(radius > shape[0] - 4) | (angle > 0.65)] = 0
    image = image.clip(0, 1)
    if spec.input.modality == "CT" and "grey" not in {step.step for step in spec.preprocess}:
        return np.asarray(_HU[0] + image * (_HU[1] - _HU[0]), np.float32)
    return np.asarray((255 * image).round(), np.uint8)
