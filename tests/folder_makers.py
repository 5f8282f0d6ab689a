"""Data sets in the plain layout: drawn ellipses in speckle, as pictures or as scans."""

from pathlib import Path

import numpy as np

from makers import write_nifti, write_picture

SHAPE_PX = (72, 96)


def make_folder(
    path: Path,
    *,
    patients: int = 12,
    images: int = 2,
    values: tuple[int, ...] = (255,),
    colour: bool = False,
) -> Path:
    """Write a folder of pictures with a dark ellipse, and in it a smaller one for each value.

    Args:
        path: The folder to make.
        patients: Number of patients, named "p01" and so on.
        images: Images a patient.
        values: What the masks hold, from the outer ellipse to the inner.
        colour: Whether the pictures are strongly coloured.
    """
    for part in ("images", "masks"):
        (path / part).mkdir(parents=True)
    for patient in range(1, patients + 1):
        for number in range(1, images + 1):
            image, mask = draw_ellipses(values, seed=100 * patient + number)
            if colour:
                image = np.stack([image, image // 3, image // 2], axis=-1)
            write_picture(image, path / "images" / f"p{patient:02d}_{number}.png")
            write_picture(mask, path / "masks" / f"p{patient:02d}_{number}.png")
    return path


def make_scans(
    path: Path,
    *,
    patients: int = 6,
    shape: tuple[int, int, int] = (20, 24, 16),
    spacing_mm: tuple[float, float, float] = (1.5, 1.0, 2.0),
    densities: tuple[int, int] = (20, 180),
) -> Path:
    """Write a folder of NIfTI scans with a ball labelled 1, in NIfTI's (x, y, z).

    Args:
        path: The folder to make.
        patients: Number of scans, each of another patient.
        shape: Voxels.
        spacing_mm: Distance of voxels.
        densities: Intensity around the ball and in it.
    """
    for part in ("images", "masks"):
        (path / part).mkdir(parents=True)
    index = np.indices(shape)
    middle = (np.array(shape)[:, None, None, None] - 1) / 2
    ball = (((index - middle) / (np.array(shape)[:, None, None, None] / 4)) ** 2).sum(axis=0) < 1
    for patient in range(1, patients + 1):
        noise = np.random.default_rng(patient).normal(0, 5, shape)
        scan = np.where(ball, densities[1], densities[0]) + noise
        for part, array in (("images", scan.astype(np.int16)), ("masks", ball.astype(np.uint8))):
            write_nifti(array, path / part / f"p{patient}_1.nii.gz", spacing_mm=spacing_mm)
    return path


def draw_ellipses(
    values: tuple[int, ...], *, seed: int, shape: tuple[int, int] = SHAPE_PX
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image and its mask, both (H, W) uint8."""
    rng = np.random.default_rng(seed)
    height, width = shape
    rows, columns = np.mgrid[:height, :width]
    centre = rng.uniform(0.42, 0.58, 2) * shape
    radii = rng.uniform(0.24, 0.34, 2) * shape
    squares = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2
    image = rng.integers(90, 200, shape)
    mask = np.zeros(shape, np.uint8)
    for place, value in enumerate(values):
        inside = squares < (1 - place / len(values)) ** 2
        image = np.where(inside, rng.integers(10, 50, shape) + 40 * place, image)
        mask[inside] = value
    return image.astype(np.uint8), mask
