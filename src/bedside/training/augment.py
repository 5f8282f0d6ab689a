"""Images varied as other patients, probes and machines would vary them."""

from dataclasses import dataclass

import cv2
import numpy as np

from bedside.spec import AugmentSpec

BENDS = 6
"""Places along each axis at which a smooth deformation is drawn; between them it is smooth."""


@dataclass(frozen=True)
class Example:
    """One training image on the network's grid.

    Attributes:
        image: (H, W) float32 in [0, 1].
        truth: (H, W) uint8 labels.
    """

    image: np.ndarray
    truth: np.ndarray


def augment(example: Example, spec: AugmentSpec, rng: np.random.Generator) -> Example:
    """Draw one variation of an example; the example itself is not changed."""
    image, truth = _move(example, spec, rng)
    if rng.random() < spec.fan_cut:
        image = _shade_sides(image, rng)
    image = _change_tone(image, spec, rng)
    image = _degrade(image, spec, rng)
    return Example(np.clip(image, 0, 1), truth)


def _move(
    example: Example, spec: AugmentSpec, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rotate, scale, stretch, shift, mirror and deform image and truth together."""
    height, width = example.truth.shape
    angle = np.deg2rad(rng.uniform(-spec.rotate_deg, spec.rotate_deg))
    scale = 2 ** rng.uniform(*spec.log2_scale)
    aspect = 2 ** (0.5 * rng.uniform(-spec.log2_aspect, spec.log2_aspect))
    mirror = -1 if rng.random() < spec.flip else 1
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * turn @ np.diag([mirror * aspect, 1 / aspect])
    centre = np.array([width - 1, height - 1]) / 2
    shift = rng.uniform(-spec.shift, spec.shift, 2) * (width, height)
    matrix = np.column_stack([linear, centre + shift - linear @ centre])
    if spec.elastic_px:
        columns, rows = _bend(matrix, (height, width), rng.uniform(0, spec.elastic_px), rng)
        image = cv2.remap(example.image, columns, rows, cv2.INTER_LINEAR)
        return image, cv2.remap(example.truth, columns, rows, cv2.INTER_NEAREST)
    image = cv2.warpAffine(example.image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    truth = cv2.warpAffine(example.truth, matrix, (width, height), flags=cv2.INTER_NEAREST)
    return image, truth


def _bend(
    matrix: np.ndarray, shape: tuple[int, int], strength_px: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Say where each pixel reads from: an affine map backwards, bent by smooth noise.

    Returns:
        Column and row to read, each `shape` float32.
    """
    height, width = shape
    backward = cv2.invertAffineTransform(matrix).astype(np.float32)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    coarse = rng.standard_normal((2, BENDS, BENDS), dtype=np.float32) * strength_px
    bent = [cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) for noise in coarse]
    reads = [
        row[0] * columns + row[1] * rows + row[2] + noise
        for row, noise in zip(backward, bent, strict=True)
    ]
    return reads[0], reads[1]


def _shade_sides(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darken the sides of the sector, as poor contact and narrow probes do."""
    height, width = image.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    apex = width * rng.uniform(0.4, 0.6), -0.1 * height
    angle = np.arctan2(columns - apex[0], rows - apex[1])
    left, right = rng.uniform(0.3, 0.8, 2)
    fall = rng.uniform(0.05, 0.4)
    beyond = np.maximum(angle - right, -left - angle)
    shaded: np.ndarray = image * np.clip(1 - beyond / fall, 0, 1)
    return shaded


def _change_tone(image: np.ndarray, spec: AugmentSpec, rng: np.random.Generator) -> np.ndarray:
    """Change gamma, gain, and gain over depth."""
    image = np.power(image, 2 ** rng.uniform(*spec.gamma_log2)) * rng.uniform(*spec.gain)
    tilt = rng.uniform(-spec.depth_gain, spec.depth_gain)
    return image * np.linspace(1 - tilt, 1 + tilt, len(image), dtype=np.float32)[:, None]


def _degrade(image: np.ndarray, spec: AugmentSpec, rng: np.random.Generator) -> np.ndarray:
    """Add speckle, lose sharpness, compress."""
    image = image.astype(np.float32)
    if spec.speckle and rng.random() < 0.5:
        fine = rng.standard_normal(image.shape, dtype=np.float32)
        noise = cv2.GaussianBlur(fine, (0, 0), rng.uniform(0.5, 1.5))
        image = image * (1 + rng.uniform(0, spec.speckle) * noise / max(noise.std(), 1e-6))
    if spec.blur_px and rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, spec.blur_px))
    if rng.random() < spec.compress:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 80))]
        coded = cv2.imencode(".jpg", np.clip(image * 255, 0, 255).astype(np.uint8), quality)[1]
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.float32) / 255
    return image
