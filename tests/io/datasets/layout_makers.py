"""Small data sets, each in exactly the layout and the header conventions of a real one."""

import json
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

# RAS: x to the left and y to the back, as most scanners' files come out.
AFFINE = np.diag([-1.5, -1.5, 10.0, 1.0])


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    """Write an array in NIfTI's axis order, (x, y, z)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def write_png(path: Path, array: np.ndarray) -> Path:
    """Write a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def make_image(shape: tuple[int, ...] = (9, 6, 4)) -> np.ndarray:
    """Make grey values that differ from voxel to voxel, (x, y, z) uint8."""
    return np.arange(np.prod(shape), dtype=np.uint64).reshape(shape).astype(np.uint8)


def make_truth(values: tuple[int, ...], shape: tuple[int, ...] = (9, 6, 4)) -> np.ndarray:
    """Label one voxel for each value, at (1 + i, 2, 0), i counting the values."""
    truth = np.zeros(shape, np.uint8)
    for index, value in enumerate(values):
        truth[(1 + index, 2, 0)[: len(shape)]] = value
    return truth


def make_acdc(path: Path) -> Path:
    """ACDC: two patients, two frames each, the film and its settings beside them."""
    for patient, frames in (("patient002", (1, 12)), ("patient001", (1, 9))):
        folder = path / patient
        for frame in frames:
            stem = f"{patient}_frame{frame:02d}"
            write_nifti(folder / f"{stem}.nii.gz", make_image())
            write_nifti(folder / f"{stem}_gt.nii.gz", make_truth((1, 2, 3)))
        (folder / f"{patient}_4d.nii.gz").write_bytes(b"not looked at")
        (folder / "Info.cfg").write_text("ED: 1\n")
    return path


def make_lidc(path: Path) -> Path:
    """Nodule crops: a patient with two nodules and one with one."""
    for patient, nodules in (("LIDC-IDRI-0003", (0, 1)), ("LIDC-IDRI-0001", (0,))):
        for nodule in nodules:
            stem = path / patient / f"{patient}_nodule-{nodule}"
            write_nifti(stem.with_name(f"{stem.name}.nii.gz"), make_image())
            write_nifti(stem.with_name(f"{stem.name}_raters.nii.gz"), make_truth((1, 2, 3, 4)))
    return path


def make_hc18(path: Path) -> Path:
    """HC18 with filled masks: two exams, three images."""
    rows = ["filename,pixel_size_mm,head_circumference_mm"]
    for index, stem in enumerate(("014_HC", "014_2HC", "003_HC")):
        write_png(path / "images" / f"{stem}.png", np.full((20, 30), 90, np.uint8))
        write_png(path / "masks" / f"{stem}.png", make_disc().astype(np.uint8))
        rows.append(f"{stem}.png,{0.1 + index / 100},{60 + index}")
    (path / "pixel_size_and_hc.csv").write_text("\n".join(rows) + "\n")
    return path


def make_hc18_challenge(path: Path) -> Path:
    """HC18 as the challenge hands it out: outlines beside the images."""
    disc = make_disc()
    inner = disc[1:-1, :-2] & disc[1:-1, 2:] & disc[:-2, 1:-1] & disc[2:, 1:-1]
    outline = disc.copy()
    outline[1:-1, 1:-1] &= ~inner
    folder = path / "training_set"
    write_png(folder / "003_HC.png", np.full((20, 30), 90, np.uint8))
    write_png(folder / "003_HC_Annotation.png", (255 * outline).astype(np.uint8))
    (path / "training_set_pixel_size_and_HC.csv").write_text(
        "filename,pixel size(mm),head circumference (mm)\n003_HC.png,0.1,60.5\n"
    )
    return path


def make_disc() -> np.ndarray:
    """A filled ellipse, (20, 30) bool."""
    rows, columns = np.mgrid[:20, :30]
    return ((rows - 10) / 6) ** 2 + ((columns - 14) / 9) ** 2 <= 1


def make_video(path: Path, sequences: tuple[str, ...] = ("patient1/seq2", "patient1/seq1")) -> Path:
    """Frames of videos: JPEG images, PNG masks of labels."""
    for sequence in sequences:
        for frame in ("0004", "0001"):
            colours = np.zeros((6, 9, 3), np.uint8)
            colours[..., 0] = 200
            write_png(path / "img" / sequence / f"{frame}.jpg", colours)
            write_png(path / "annot" / sequence / f"{frame}.png", make_truth((1, 6), (9, 6)).T)
    return path


def make_msd(
    path: Path, *, name: str = "Spleen", modalities: Mapping[str, str] | None = None
) -> Path:
    """The Decathlon: an index, training cases, and a test case without labels."""
    stems = [f"{name.lower()}_{number:03d}" for number in (1, 29, 31)]
    for stem in stems:
        write_nifti(path / "imagesTr" / f"{stem}.nii.gz", make_image())
        write_nifti(path / "labelsTr" / f"{stem}.nii.gz", make_truth((1, 2)))
    index = {
        "name": name,
        "tensorImageSize": "3D",
        "modality": modalities or {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "numTraining": len(stems),
        "training": [
            {"image": f"./imagesTr/{stem}.nii.gz", "label": f"./labelsTr/{stem}.nii.gz"}
            for stem in stems
        ],
        "test": [f"./imagesTs/{name.lower()}_002.nii.gz"],
    }
    (path / "dataset.json").write_text(json.dumps(index))
    return path
