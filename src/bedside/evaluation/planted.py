"""Artefacts that are planted into labelled images: the same ones each time, by seed.

They are drawn on the image's own grid, before anything of the pipeline, and share nothing with
the augmentation of training but the apex of the sector.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np

from bedside.pipeline.frames.fan import find_apex
from bedside.volume import Geometry, ImageSequence

_GREY, _COLOUR = 1, 3


@dataclass(frozen=True)
class Picture:
    """Frames with their labels, as an artefact takes and leaves them.

    Attributes:
        frames: (F, C, H, W) float32 in [0, 1].
        truth: (F, H, W) uint8 labels.
    """

    frames: np.ndarray
    truth: np.ndarray


Plant = Callable[[Picture, np.random.Generator], Picture]


@dataclass(frozen=True)
class Artefact:
    """One way in which images are spoilt.

    Attributes:
        name: Its name, with its strength.
        plant: Spoils a picture; what it draws at random is the same for all frames.
        modalities: DICOM's words for the images that it occurs in; empty for all.
    """

    name: str
    plant: Plant
    modalities: tuple[str, ...] = ()


def plant_artefact(
    artefact: Artefact, sequence: ImageSequence, truth: np.ndarray, *, name: str, seed: int
) -> tuple[ImageSequence, np.ndarray]:
    """Plant an artefact in all frames of a sequence.

    Args:
        artefact: What is planted.
        sequence: The frames, all of which are decoded.
        truth: (F, H, W) uint8 labels on their grid.
        name: Of the case; chance depends on it, the artefact and the seed alone.
        seed: Seed of chance.

    Returns:
        A sequence of the same kind of numbers, and its labels; both on a new grid if the
        artefact changes the size of pixels.
    """
    stored = np.stack([sequence.decode(index) for index in range(len(sequence))])
    low, high = _find_range(stored)
    words = zlib.crc32(f"{name}: {artefact.name}".encode())
    rng = np.random.default_rng((seed, words))
    unit = ((stored - low) / np.float32(high - low)).astype(np.float32)
    spoilt = artefact.plant(Picture(unit, truth), rng)
    values = np.clip(spoilt.frames, 0, 1) * np.float32(high - low) + np.float32(low)
    if stored.dtype.kind in "iu":
        values = np.rint(values)
    frames = values.astype(stored.dtype)
    return _with_frames(sequence, frames), spoilt.truth


def list_artefacts(modality: str) -> tuple[Artefact, ...]:
    """The artefacts that occur in images of a modality."""
    return tuple(each for each in ARTEFACTS if not each.modalities or modality in each.modalities)


def _find_range(stored: np.ndarray) -> tuple[float, float]:
    """Black and white: of 8 bits their ends, of other numbers the lowest and the highest."""
    if stored.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(stored.min()), float(stored.max())
    return low, max(high, low + 1e-6)


def _with_frames(sequence: ImageSequence, frames: np.ndarray) -> ImageSequence:
    """A sequence with other frames, and the distances of its pixels if their number changed."""
    count, _, height, width = frames.shape
    before = sequence.shape[2:]
    factors = before[0] / height, before[1] / width
    changes = {"shape": frames.shape, "decode": frames.__getitem__}
    if factors == (1.0, 1.0):
        return replace(sequence, **changes)  # type: ignore[arg-type]
    spacing_mm, geometry = sequence.spacing_mm, sequence.geometry
    if spacing_mm is not None:
        spacing_mm = spacing_mm[0] * factors[0], spacing_mm[1] * factors[1]
    if geometry is not None:
        # Pixels are edge to edge with those before.
        to_before = np.diag([1.0, *factors, 1.0])
        to_before[1:3, 3] = [(factor - 1) / 2 for factor in factors]
        affine = geometry.affine @ to_before
        geometry = Geometry((count, height, width), affine, space="LPS")
    resized = {"spacing_mm": spacing_mm, "geometry": geometry, "region": None}
    return replace(sequence, **changes, **resized)  # type: ignore[arg-type]


def shade(picture: Picture, rng: np.random.Generator, *, widths_deg: Sequence[float]) -> Picture:
    """Cast shadows of 20 % brightness along the scan lines, each through a pixel of a structure."""
    frames = picture.frames
    height, width = frames.shape[2:]
    lit = frames.max(axis=(0, 1)) > 0.02
    row, column = find_apex(lit) or (0.0, (width - 1) / 2)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    angle = np.degrees(np.arctan2(columns - np.float32(column), rows - np.float32(row)))
    aims = angle[picture.truth.any(axis=0)] if picture.truth.any() else angle[lit]
    kept = np.ones((height, width), np.float32)
    middles: list[float] = []
    for width_deg in widths_deg:
        free = [a for a in rng.choice(aims, 40) if all(abs(a - m) > width_deg for m in middles)]
        middles.append(float(free[0] if free else rng.choice(aims)))
        inside = np.clip(0.5 + (width_deg / 2 - np.abs(angle - middles[-1])) / 1.5, 0, 1)
        kept *= 1 - 0.8 * inside
    return replace(picture, frames=frames * kept)


def lose_side(picture: Picture, rng: np.random.Generator) -> Picture:
    """Lose the echoes of the outer quarter of the sector on one side."""
    frames = picture.frames
    height, width = frames.shape[2:]
    lit = frames.max(axis=(0, 1)) > 0.02
    row, column = find_apex(lit) or (0.0, (width - 1) / 2)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    angle = np.arctan2(columns - np.float32(column), rows - np.float32(row))
    side = -1 if rng.random() < 0.5 else 1
    limit = np.quantile(side * angle[lit], 0.75) if lit.any() else 0.0
    return replace(picture, frames=frames * (side * angle < limit))


def speckle(picture: Picture, rng: np.random.Generator, *, strength: float) -> Picture:
    """Multiply by grains of some pixels' size, each frame by its own."""
    sigma_px = 0.002 * min(picture.frames.shape[2:])
    noise = per_plane(
        replace(picture, frames=rng.standard_normal(picture.frames.shape, dtype=np.float32)),
        lambda plane: cv2.GaussianBlur(plane, (0, 0), max(sigma_px, 0.3)),
    ).frames
    noise /= noise.std() + np.float32(1e-6)
    return replace(picture, frames=picture.frames * (1 + np.float32(strength) * noise))


def add_noise(picture: Picture, rng: np.random.Generator, *, strength: float) -> Picture:
    """Add noise as of a magnitude image: the length of a complex number with it."""
    real, imaginary = (
        np.float32(strength) * rng.standard_normal(picture.frames.shape, dtype=np.float32)
        for _ in range(2)
    )
    return replace(picture, frames=np.hypot(picture.frames + real, imaginary))


def _mirror(picture: Picture, rng: np.random.Generator) -> Picture:
    return Picture(picture.frames[..., ::-1].copy(), picture.truth[..., ::-1].copy())


def change_gain(picture: Picture, rng: np.random.Generator, *, factor: float) -> Picture:
    """Multiply the brightness."""
    return replace(picture, frames=picture.frames * np.float32(factor))


def tilt_gain(picture: Picture, rng: np.random.Generator) -> Picture:
    """Change the gain smoothly by half from one side to the other, as near a receive coil."""
    height, width = picture.frames.shape[2:]
    direction = rng.uniform(0, 2 * np.pi)
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)
    ramp = np.float32(np.sin(direction)) * rows + np.float32(np.cos(direction)) * columns
    return replace(picture, frames=picture.frames * (1 + 0.5 * ramp))


def per_plane(picture: Picture, change: Callable[[np.ndarray], np.ndarray]) -> Picture:
    """Change each plane of each frame by itself."""
    planes = [[change(plane) for plane in frame] for frame in picture.frames]
    return replace(picture, frames=np.array(planes, np.float32))


def _blur(picture: Picture, rng: np.random.Generator) -> Picture:
    sigma_px = 0.006 * min(picture.frames.shape[2:])
    return per_plane(picture, lambda plane: cv2.GaussianBlur(plane, (0, 0), sigma_px))


def _coarsen(picture: Picture, rng: np.random.Generator) -> Picture:
    """Keep every second pixel of each axis, interpolated."""
    height, width = picture.frames.shape[2:]
    size = max(1, width // 2), max(1, height // 2)

    def change(plane: np.ndarray) -> np.ndarray:
        return cv2.resize(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), (width, height))

    return per_plane(picture, change)


def _compress(picture: Picture, rng: np.random.Generator) -> Picture:
    """Compress each frame by JPEG at quality 15; one of neither one nor three channels stays."""
    if picture.frames.shape[1] not in (_GREY, _COLOUR):
        return picture
    frames = []
    for frame in picture.frames:
        coded = np.clip(255 * np.moveaxis(frame, 0, -1), 0, 255).astype(np.uint8)
        stream = cv2.imencode(".jpg", coded, [cv2.IMWRITE_JPEG_QUALITY, 15])[1]
        decoded = np.asarray(cv2.imdecode(stream, cv2.IMREAD_UNCHANGED), np.float32) / 255
        frames.append(decoded[None] if decoded.ndim == 2 else np.moveaxis(decoded, -1, 0))
    return replace(picture, frames=np.stack(frames))


def rotate(picture: Picture, rng: np.random.Generator, *, degrees: float) -> Picture:
    """Rotate about the middle, to a side by chance."""
    height, width = picture.frames.shape[2:]
    turned = degrees if rng.random() < 0.5 else -degrees
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turned, 1.0)
    moved = per_plane(picture, lambda plane: cv2.warpAffine(plane, matrix, (width, height)))
    truth = [
        cv2.warpAffine(labels, matrix, (width, height), flags=cv2.INTER_NEAREST)
        for labels in picture.truth
    ]
    return Picture(moved.frames, np.stack(truth))


def _resample(picture: Picture, rng: np.random.Generator, *, factor: float) -> Picture:
    """Change the number of pixels along each axis of a frame."""
    height, width = picture.frames.shape[2:]
    size = max(8, round(factor * width)), max(8, round(factor * height))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    moved = per_plane(picture, lambda plane: cv2.resize(plane, size, interpolation=method))
    nearest = cv2.INTER_NEAREST_EXACT
    truth = [cv2.resize(labels, size, interpolation=nearest) for labels in picture.truth]
    return Picture(moved.frames, np.stack(truth))


_ULTRASOUND, _MAGNETIC = ("US",), ("MR",)
_CAMERA = ("US", "XC", "ES")
ARTEFACTS: tuple[Artefact, ...] = (
    Artefact("shadow of 15 deg", partial(shade, widths_deg=(15.0,)), _ULTRASOUND),
    Artefact("two shadows of 25 deg", partial(shade, widths_deg=(25.0, 25.0)), _ULTRASOUND),
    Artefact("outer quarter lost", lose_side, _ULTRASOUND),
    Artefact("speckle 0.5", partial(speckle, strength=0.5), _ULTRASOUND),
    Artefact("noise 0.05", partial(add_noise, strength=0.05), ("MR", "CT")),
    Artefact("uneven coil", tilt_gain, _MAGNETIC),
    Artefact("mirrored", _mirror),
    Artefact("rotated by 20 deg", partial(rotate, degrees=20.0)),
    Artefact("0.65 times the pixels", partial(_resample, factor=0.65)),
    Artefact("1.5 times the pixels", partial(_resample, factor=1.5)),
    Artefact("gain 0.5", partial(change_gain, factor=0.5), _CAMERA),
    Artefact("gain 1.5", partial(change_gain, factor=1.5), _CAMERA),
    Artefact("blur", _blur),
    Artefact("half resolution", _coarsen),
    Artefact("JPEG at quality 15", _compress, _CAMERA),
)
"""The planted artefacts, in the order of the table."""
