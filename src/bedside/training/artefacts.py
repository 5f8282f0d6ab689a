"""Artefacts of ultrasound, planted into training images along the sector's scan lines."""

from dataclasses import dataclass

import numpy as np

from bedside.pipeline.frames.fan import Apex
from bedside.spec import AugmentSpec

_FAR = 20.0
"""Distance of the apex above an image without one, in heights: scan lines are parallel then."""


@dataclass(frozen=True)
class ScanLines:
    """Angle and depth of every pixel.

    Attributes:
        angle: (H, W) from straight down, in radians, to the right above 0.
        depth: (H, W) from the apex, in pixels.
        lit: Indices of pixels of the flat image that are not black.
    """

    angle: np.ndarray
    depth: np.ndarray
    lit: np.ndarray


def plant_artefacts(
    image: np.ndarray, apex: Apex | None, spec: AugmentSpec, rng: np.random.Generator
) -> np.ndarray:
    """Cast acoustic shadows and lose echoes, each at random.

    Args:
        image: (C, H, W) in [0, 1].
        apex: Where the scan lines meet; None for parallel ones.
        spec: What is planted how often.
        rng: Source of the random numbers.

    Returns:
        The image, or a darkened copy.
    """
    shadows = int(rng.integers(1, 3)) if rng.random() < spec.shadow else 0
    loses = rng.random() < spec.dropout
    if not shadows and not loses:
        return image
    lines = trace_scan_lines(image, apex)
    if not len(lines.lit):
        return image
    kept = np.ones(image.shape[1:], np.float32)
    for _ in range(shadows):
        kept *= draw_shadow(lines, spec, rng)
    if loses:
        kept *= draw_dropout(lines, rng)
    planted: np.ndarray = image * kept
    return planted


def trace_scan_lines(image: np.ndarray, apex: Apex | None) -> ScanLines:
    """Angle and depth of every pixel of (C, H, W), seen from the apex."""
    height, width = image.shape[1:]
    row, column = apex or (-_FAR * height, (width - 1) / 2)
    down = np.arange(height, dtype=np.float32)[:, None] - np.float32(row)
    across = np.arange(width, dtype=np.float32)[None] - np.float32(column)
    lit = np.flatnonzero(image.any(axis=0))
    return ScanLines(np.arctan2(across, down), np.hypot(across, down), lit)


def draw_shadow(lines: ScanLines, spec: AugmentSpec, rng: np.random.Generator) -> np.ndarray:
    """Draw what a shadow leaves of the intensity, (H, W) in [0, 1].

    It falls along the scan lines through a random pixel, from the transducer or from an
    obstacle on the way; its edges are sharp to soft, and it may become darker with depth.
    """
    target = int(rng.choice(lines.lit))
    width = np.deg2rad(rng.uniform(*spec.shadow_deg))
    brightness = rng.uniform(*spec.shadow_brightness)
    # A wedge is as wide as it says at half of its depth in brightness.
    edge = np.deg2rad(rng.uniform(0.3, 8.0))
    aside = np.abs(lines.angle - lines.angle.flat[target])
    inside = _step(width / 2 - aside, edge)
    near = float(lines.depth.flat[lines.lit].min())
    reach = float(lines.depth.flat[target]) - near
    begin = near + reach * rng.uniform(0, 0.8) * (rng.random() < 0.4)
    inside = inside * _step(lines.depth - begin, 0.05 * reach + 2)
    if rng.random() < 0.3:
        inside = inside * np.clip((lines.depth - begin) / (reach + 1), 0, 1)
    kept: np.ndarray = 1 - (1 - brightness) * inside
    return kept.astype(np.float32)


def draw_dropout(lines: ScanLines, rng: np.random.Generator) -> np.ndarray:
    """Draw what is left where one side of the sector or the far field has no echoes, (H, W)."""
    left = rng.uniform(0, 0.3)
    if rng.random() < 0.5:
        depths = lines.depth.flat[lines.lit]
        near, far = float(depths.min()), float(depths.max())
        beyond = lines.depth - (near + (far - near) * rng.uniform(0.55, 0.95))
        lost = _step(beyond, rng.uniform(0.02, 0.3) * (far - near))
    else:
        angles = lines.angle.flat[lines.lit]
        first, last = float(angles.min()), float(angles.max())
        reach = (last - first) * rng.uniform(0.05, 0.4)
        low = lines.angle - first if rng.random() < 0.5 else last - lines.angle
        lost = _step(reach - low, np.deg2rad(rng.uniform(0.5, 10.0)))
    kept: np.ndarray = 1 - (1 - left) * lost
    return kept.astype(np.float32)


def _step(distance: np.ndarray, edge: float) -> np.ndarray:
    """Rise from 0 to 1 over `edge`, smoothly, with one half where the distance is 0."""
    x = np.clip(distance / np.float32(max(edge, 1e-3)) + np.float32(0.5), 0, 1)
    risen: np.ndarray = x * x * (3 - 2 * x)
    return risen
