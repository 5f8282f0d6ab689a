"""Augmentation of volumes: rotation, scale, shift, mirrors, deformation and appearance.

Everything that moves is read in one go from where it comes from, so that a volume is
interpolated once. Chance comes from numpy's generator alone; torch only reads.
"""

import cv2
import numpy as np
import torch
from torch.nn import functional

from bedside.spec import AugmentSpec
from bedside.training.example import Example
from bedside.training.intensity_range import Values, augment_intensity
from bedside.training.random_draws import BENDS, draw_angles, draw_mirrors, raise_to, smooth_basis

Shape = tuple[int, ...]


def augment_volume(
    example: Example, spec: AugmentSpec, rng: np.random.Generator, size: Shape, values: Values
) -> Example:
    """Augment a volume and its labels.

    Returns:
        The middle of it, of the given size.
    """
    reads = _draw_reads(example.truth.shape, size, spec, rng)
    image = _read(example.image, reads, mode="bilinear")
    truth = _read(example.truth[None], reads, mode="nearest")[0].astype(np.uint8)

    def show(seen: np.ndarray) -> np.ndarray:
        return _degrade(_change_tone(seen, spec, rng), spec, rng)

    return Example(augment_intensity(image, values, show), truth)


def _draw_reads(
    shape: Shape, size: Shape, spec: AugmentSpec, rng: np.random.Generator
) -> torch.Tensor:
    """Draw the source position of each voxel.

    Args:
        shape: Shape of the source.
        size: Shape of the result, about the same centre.
        spec: How far things may move.
        rng: Source of the random numbers.

    Returns:
        (1, D, H, W, 3) float32 in the form that `grid_sample` takes: x, y, z, from -1 at
        the middle of the first voxel to 1 at the middle of the last.
    """
    half = (np.array(shape) - 1) / 2
    # The middle as `cut_middle` has it, half a voxel off where one size is odd and one even.
    offset = np.array([(a - b) // 2 for a, b in zip(shape, size, strict=True)]) - half
    linear = _draw_linear(spec, rng)
    shift = rng.uniform(-spec.shift, spec.shift, 3) * np.array(size)
    # Index offsets from the middle, backwards, then divided into the range of each axis.
    backward = np.linalg.inv(linear)
    strength_px = rng.uniform(0, spec.elastic_px) if spec.elastic_px else 0.0
    bends = rng.standard_normal((3, BENDS, BENDS, BENDS), dtype=np.float32) * strength_px
    lines = [np.arange(side) + low for side, low in zip(size, offset, strict=True)]
    reads = np.empty((*size, 3), np.float32)
    for axis in range(3):
        along = [(backward[axis, other] * lines[other]).astype(np.float32) for other in range(3)]
        along[0] = along[0] - np.float32(backward[axis] @ shift)
        place = along[0][:, None, None] + along[1][:, None] + along[2]
        if strength_px:
            place += _raise_bends(bends[axis], size)
        reads[..., 2 - axis] = place / np.float32(max(half[axis], 0.5))
    return torch.from_numpy(reads)[None]


def _draw_linear(spec: AugmentSpec, rng: np.random.Generator) -> np.ndarray:
    """Draw a linear map of offsets from the centre, (3, 3) in array order."""
    linear = np.diag(np.array(draw_mirrors(spec, rng, spatial_dims=3), float))
    scale = 2 ** rng.uniform(*spec.log2_scale)
    stretch = 2 ** (0.5 * rng.uniform(-spec.log2_aspect, spec.log2_aspect, 3))
    linear = scale * np.diag(stretch) @ linear
    for axis, angle in enumerate(draw_angles(spec, rng)):
        first, second = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        linear = turn @ linear
    return linear


def _raise_bends(coarse: np.ndarray, shape: Shape) -> np.ndarray:
    """Interpolate (BENDS, BENDS, BENDS) values smoothly to (D, H, W)."""
    depth, height, width = (smooth_basis(size) for size in shape)
    rows = (depth @ coarse.reshape(BENDS, -1)).reshape(-1, BENDS, BENDS)
    planes = height @ rows
    smooth: np.ndarray = (planes.reshape(-1, BENDS) @ width.T).reshape(shape)
    return smooth


def _read(array: np.ndarray, reads: torch.Tensor, *, mode: str) -> np.ndarray:
    """Interpolate (C, D, H, W) at positions; zero outside."""
    source = torch.from_numpy(np.ascontiguousarray(array, np.float32))[None]
    return functional.grid_sample(source, reads, mode=mode, align_corners=True)[0].numpy()


def _change_tone(image: np.ndarray, spec: AugmentSpec, rng: np.random.Generator) -> np.ndarray:
    """Change gamma and gain of each channel separately."""
    toned = [
        raise_to(channel[None], 2 ** rng.uniform(*spec.gamma_log2)) * rng.uniform(*spec.gain)
        for channel in image
    ]
    return np.concatenate(toned)


def _degrade(image: np.ndarray, spec: AugmentSpec, rng: np.random.Generator) -> np.ndarray:
    """Lower the resolution, blur, and add noise, each at random."""
    if spec.low_resolution > 1 and rng.random() < 0.25:
        image = _coarsen(image, rng.uniform(1, spec.low_resolution))
    if spec.blur_px and rng.random() < 0.3:
        image = _blur(image, rng.uniform(0.3, spec.blur_px))
    if spec.speckle and rng.random() < 0.5:
        strength = np.float32(rng.uniform(0, spec.speckle))
        image = image * (1 + strength * rng.standard_normal(image.shape, dtype=np.float32))
    if spec.noise and rng.random() < 0.5:
        strength = np.float32(rng.uniform(0, spec.noise))
        image = image + strength * rng.standard_normal(image.shape, dtype=np.float32)
    return image


def _coarsen(image: np.ndarray, factor: float) -> np.ndarray:
    """Lower the resolution of (C, D, H, W) by `factor`."""
    sizes = [max(2, round(size / factor)) for size in image.shape[1:]]
    coarse = functional.interpolate(torch.from_numpy(image)[None], sizes, mode="trilinear")
    return functional.interpolate(coarse, image.shape[1:], mode="trilinear")[0].numpy()


def _blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blur (C, D, H, W) along all three axes: along the slices, then in each."""
    kernel = cv2.getGaussianKernel(2 * round(3 * sigma_px) + 1, sigma_px)
    still = np.ones((1, 1))
    blurred = [
        cv2.GaussianBlur(plane, (0, 0), sigma_px)
        for channel in image
        for plane in cv2.sepFilter2D(channel.reshape(len(channel), -1), -1, still, kernel).reshape(
            channel.shape
        )
    ]
    return np.stack(blurred).reshape(image.shape)
