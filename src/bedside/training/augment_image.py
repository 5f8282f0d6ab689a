"""Augmentation of 2-D images: geometry, and appearance.

Everything that moves is moved alike in all channels; everything that changes tone is drawn
once an image, or for each channel by itself, as noise always is.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from bedside.pipeline.frames.fan import Apex, find_apex
from bedside.spec import AugmentSpec
from bedside.training.artefacts import plant_artefacts
from bedside.training.example import Example
from bedside.training.intensity_range import Values, augment_intensity
from bedside.training.patches import cut_middle
from bedside.training.random_draws import BENDS, draw_mirrors, raise_to, smooth_basis

_THICK_PX = 4
"""Least depth of a structure that a cavity is planted into."""


def augment_image(
    example: Example,
    spec: AugmentSpec,
    rng: np.random.Generator,
    size: tuple[int, ...],
    values: Values,
) -> Example:
    """Augment a 2-D image and its labels.

    Returns:
        The middle of it, of the given size.
    """
    whole = Example(np.asarray(example.image, np.float32), np.asarray(example.truth))
    matrix = _draw_matrix(whole.truth.shape, spec, rng)
    image, truth = _move(whole, matrix, spec, rng)
    offset = [(side - kept) // 2 for side, kept in zip(truth.shape, size, strict=True)]
    image, truth = cut_middle(image, size), cut_middle(truth, size)

    def change(seen: np.ndarray) -> np.ndarray:
        if spec.structure_tone:
            seen = _shift_structures(seen, truth, spec, rng)
        if spec.cavity and rng.random() < spec.cavity:
            seen = _plant_cavity(seen, truth, rng)
        clean = _show(seen, spec, rng)
        planted = clean
        if spec.shadow or spec.dropout:
            apex = _move_apex(find_apex(whole.image.max(axis=0) > 0), matrix, offset)
            planted = plant_artefacts(clean, apex, spec, rng)
        return np.stack([_degrade(planted, spec, rng), clean])

    changed, clean = augment_intensity(image, values, change)
    return Example(changed, truth, clean)


def _show(image: np.ndarray, spec: AugmentSpec, rng: np.random.Generator) -> np.ndarray:
    """Change the tone of an image, as another machine would."""
    if rng.random() < spec.fan_cut:
        image = _shade_sides(image, rng)
    return _change_tone(image, spec, rng)


def _move_apex(apex: Apex | None, matrix: np.ndarray, offset: Sequence[int]) -> Apex | None:
    """Place of a sector's apex in the moved and cut image."""
    if apex is None:
        return None
    column, row = matrix @ (apex[1], apex[0], 1.0)
    return float(row) - offset[0], float(column) - offset[1]


def _move(
    example: Example, matrix: np.ndarray, spec: AugmentSpec, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rotate, scale, stretch, shift, mirror and deform image and truth together."""
    if spec.elastic_px:
        strength_px = rng.uniform(0, spec.elastic_px)
        columns, rows = _bend(matrix, example.truth.shape, strength_px, rng)
        planes = [cv2.remap(plane, columns, rows, cv2.INTER_LINEAR) for plane in example.image]
        return np.stack(planes), cv2.remap(example.truth, columns, rows, cv2.INTER_NEAREST)
    size = example.truth.shape[::-1]
    planes = [
        cv2.warpAffine(plane, matrix, size, flags=cv2.INTER_LINEAR) for plane in example.image
    ]
    return np.stack(planes), cv2.warpAffine(example.truth, matrix, size, flags=cv2.INTER_NEAREST)


def _draw_matrix(shape: tuple[int, ...], spec: AugmentSpec, rng: np.random.Generator) -> np.ndarray:
    """Draw an affine map of pixels (column, row, 1), as (2, 3)."""
    height, width = shape
    angle = np.deg2rad(rng.uniform(-spec.rotate_deg, spec.rotate_deg))
    scale = 2 ** rng.uniform(*spec.log2_scale)
    aspect = 2 ** (0.5 * rng.uniform(-spec.log2_aspect, spec.log2_aspect))
    down, across = draw_mirrors(spec, rng, spatial_dims=2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * turn @ np.diag([across * aspect, down / aspect])
    centre = np.array([width - 1, height - 1]) / 2
    shift = rng.uniform(-spec.shift, spec.shift, 2) * (width, height)
    return np.column_stack([linear, centre + shift - linear @ centre])


def _bend(
    matrix: np.ndarray, shape: tuple[int, ...], strength_px: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Source position of each pixel: an inverse affine map, deformed by smooth noise.

    Both are sums of products of something along rows and something along columns, so that
    one small matrix product gives them for all pixels.

    Returns:
        Column and row to read, each `shape` float32.
    """
    height, width = shape
    backward = cv2.invertAffineTransform(matrix)
    rows, columns = np.arange(height), np.arange(width)
    coarse = rng.standard_normal((2, BENDS, BENDS), dtype=np.float32) * strength_px
    reads = []
    for (by_column, by_row, offset), noise in zip(backward, coarse, strict=True):
        along_rows = [smooth_basis(height) @ noise, by_row * rows + offset, np.ones(height)]
        along_columns = [smooth_basis(width), np.ones(width), by_column * columns]
        left = np.column_stack(along_rows).astype(np.float32)
        reads.append(left @ np.column_stack(along_columns).astype(np.float32).T)
    return reads[0], reads[1]


def _shade_sides(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darken the sides of the sector, as poor contact and narrow probes do."""
    height, width = image.shape[1:]
    apex_column = width * rng.uniform(0.4, 0.6)
    rows = np.arange(height, dtype=np.float32)[:, None] + 0.1 * height
    columns = np.arange(width, dtype=np.float32)[None] - apex_column
    angle = np.arctan2(columns, rows)
    left, right = rng.uniform(0.3, 0.8, 2)
    fall = rng.uniform(0.05, 0.4)
    beyond = np.maximum(angle - np.float32(right), np.float32(-left) - angle)
    shaded: np.ndarray = image * np.clip(1 - beyond / fall, 0, 1)
    return shaded


def _shift_structures(
    image: np.ndarray, truth: np.ndarray, spec: AugmentSpec, rng: np.random.Generator
) -> np.ndarray:
    """Shift the brightness of each structure by itself, as contrast medium in it does.

    Neighbouring slices, as channels, are shifted where the slice between them has the structure.
    """
    shifts = rng.uniform(-spec.structure_tone, spec.structure_tone, 256).astype(np.float32)
    shifts[0] = 0.0
    # Half a pixel of an outline is of both sides.
    shifted: np.ndarray = np.maximum(image + cv2.GaussianBlur(shifts[truth], (0, 0), 0.7), 0)
    return shifted


def _plant_cavity(image: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darken an ellipse in what is drawn, in each channel by itself; it may reach the outline."""
    depth = cv2.distanceTransform((truth > 0).astype(np.uint8), cv2.DIST_L2, 3)
    if depth.max() < _THICK_PX:
        return image
    places = np.argwhere(depth >= depth.max() / 2)
    row, column = places[rng.integers(len(places))]
    sides = np.maximum(1, depth[row, column] * rng.uniform(0.5, 1.4, 2)).astype(int)
    ellipse = np.zeros(truth.shape, np.float32)
    angle_deg = rng.uniform(0, 180)
    cv2.ellipse(ellipse, (int(column), int(row)), sides.tolist(), angle_deg, 0, 360, 1.0, -1)
    inside = ellipse * (truth > 0)
    means = (image * inside).sum(axis=(1, 2)) / inside.sum()
    levels = means * rng.uniform(0.1, 0.6, len(image))
    soft = cv2.GaussianBlur(inside, (0, 0), 0.7)
    planted: np.ndarray = image + soft * (levels.astype(np.float32)[:, None, None] - image)
    return planted


def _change_tone(image: np.ndarray, spec: AugmentSpec, rng: np.random.Generator) -> np.ndarray:
    """Change gamma, gain, and gain over depth; of all channels alike, or of each by itself."""
    parts = np.split(image, len(image)) if spec.channel_tone else [image]
    toned = [_change_tone_alike(part, spec, rng) for part in parts]
    return np.concatenate(toned) if spec.channel_tone else toned[0]


def _change_tone_alike(
    image: np.ndarray, spec: AugmentSpec, rng: np.random.Generator
) -> np.ndarray:
    gamma = 2 ** rng.uniform(*spec.gamma_log2)
    gain = rng.uniform(*spec.gain)
    tilt = rng.uniform(-spec.depth_gain, spec.depth_gain)
    height = image.shape[1]
    gains = gain * np.linspace(1 - tilt, 1 + tilt, height, dtype=np.float32)
    toned: np.ndarray = raise_to(image, gamma) * gains[:, None]
    return toned


def _degrade(image: np.ndarray, spec: AugmentSpec, rng: np.random.Generator) -> np.ndarray:
    """Add speckle, lose sharpness, compress."""
    if spec.speckle and rng.random() < 0.5:
        sigma_px, strength = rng.uniform(0.5, 1.5), rng.uniform(0, spec.speckle)
        noise = [_draw_grain(image.shape[1:], sigma_px, rng) for _ in image]
        image = image * (1 + strength * np.stack(noise))
    if spec.noise and rng.random() < 0.5:
        strength = rng.uniform(0, spec.noise)
        image = image + strength * rng.standard_normal(image.shape, dtype=np.float32)
    if spec.low_resolution > 1 and rng.random() < 0.25:
        image = _coarsen(image, rng.uniform(1, spec.low_resolution))
    if spec.blur_px and rng.random() < 0.3:
        sigma_px = rng.uniform(0.3, spec.blur_px)
        image = np.stack([cv2.GaussianBlur(plane, (0, 0), sigma_px) for plane in image])
    if rng.random() < spec.compress:
        image = _compress(image, int(rng.integers(20, 80)))
    return image


def _draw_grain(shape: tuple[int, ...], sigma_px: float, rng: np.random.Generator) -> np.ndarray:
    """Draw blurred noise of mean 0 and deviation 1.

    Bytes are drawn several times as fast as normal numbers; blurred, the difference is invisible.
    """
    raw = np.frombuffer(rng.bytes(int(np.prod(shape))), np.uint8).reshape(shape)
    noise = cv2.GaussianBlur(raw.astype(np.float32), (0, 0), sigma_px)
    mean, deviation = cv2.meanStdDev(noise)
    grain: np.ndarray = (noise - np.float32(mean[0, 0])) / np.float32(deviation[0, 0] + 1e-6)
    return grain


def _coarsen(image: np.ndarray, factor: float) -> np.ndarray:
    """Lower the resolution of (C, H, W) by `factor`."""
    height, width = image.shape[1:]
    size = max(2, round(width / factor)), max(2, round(height / factor))
    coarse = (cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in image)
    return np.stack([cv2.resize(plane, (width, height)) for plane in coarse])


def _compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Compress a grey or colour image by JPEG; other images are unchanged."""
    if len(image) not in (1, 3):
        return image
    coded = np.clip(image * 255, 0, 255).astype(np.uint8)
    # OpenCV holds colours as blue, green, red.
    pixels = coded[0] if len(image) == 1 else np.ascontiguousarray(coded[::-1].transpose(1, 2, 0))
    mode = cv2.IMREAD_GRAYSCALE if len(image) == 1 else cv2.IMREAD_COLOR
    stream = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = np.asarray(cv2.imdecode(stream, mode), np.float32) / 255
    return decoded[None] if len(image) == 1 else decoded.transpose(2, 0, 1)[::-1]
