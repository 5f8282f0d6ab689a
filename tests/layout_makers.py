"""Small data sets, each in exactly the layout and the header conventions of a real one."""

import json
import zlib
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


def make_brats(path: Path) -> Path:
    """BraTS up to 2021: enhancing tumour is 4, and all grids are one."""
    names = ("_flair", "_t1", "_t1ce", "_t2")
    for case in ("BraTS2021_00002", "BraTS2021_00000"):
        for step, channel in enumerate(names):
            file = path / case / f"{case}{channel}.nii.gz"
            write_nifti(file, make_image().astype(np.int16) + 1000 * step)
        write_nifti(path / case / f"{case}_seg.nii.gz", make_truth((1, 2, 4)))
    (path / "name_mapping.csv").write_text("Grade,BraTS_2021_subject_ID\n")
    return path


def make_brats_2023(path: Path) -> Path:
    """BraTS from 2023 on: other suffixes, enhancing tumour is 3, a patient at two times."""
    for case in ("BraTS-GLI-00005-000", "BraTS-GLI-00005-001"):
        for channel in ("t1c", "t1n", "t2f", "t2w"):
            write_nifti(path / case / f"{case}-{channel}.nii.gz", make_image().astype(np.int16))
        write_nifti(path / case / f"{case}-seg.nii.gz", make_truth((1, 2, 3)))
    return path


def make_btcv(path: Path, images: str = "img", labels: str = "label") -> Path:
    """BTCV: CT in HU, and labels numbered like their images."""
    for number in ("0002", "0001"):
        scan = make_image().astype(np.int16) * 8 - 1000
        write_nifti(path / images / f"img{number}.nii.gz", scan)
        write_nifti(path / labels / f"label{number}.nii.gz", make_truth((1, 7, 13)))
    return path


def make_nnunet(path: Path, **changes: object) -> Path:
    """nnU-Net's raw layout: two channels, as version 2 writes its index."""
    for case in ("case_b", "case_a"):
        for channel in (0, 1):
            file = path / "imagesTr" / f"{case}_{channel:04d}.nii.gz"
            write_nifti(file, make_image() + np.uint8(channel))
        write_nifti(path / "labelsTr" / f"{case}.nii.gz", make_truth((1, 2)))
    index = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "core": 1, "rim": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (path / "dataset.json").write_text(json.dumps(index | changes))
    return path


# A scan as LUNA16 has them: its corner anywhere in the patient, thick slices.
LUNA_SPACING, LUNA_OFFSET = (0.7, 0.7, 2.5), (-195.0, -180.5, -378.25)
LUNA_SHAPE = (8, 30, 32)


def make_luna16(path: Path) -> Path:
    """LUNA16: two scans in two subsets, a nodule in one, and lungs that are no scans."""
    rows = ["seriesuid,coordX,coordY,coordZ,diameter_mm"]
    centre = [o + s * i for o, s, i in zip(LUNA_OFFSET, LUNA_SPACING, (16, 12, 4), strict=True)]
    for subset, series in (("subset1", "1.3.6.1.2"), ("subset0", "1.3.6.1.9")):
        scan = np.full(LUNA_SHAPE, -800, np.int16)
        write_metaimage(
            path / subset / f"{series}.mhd", scan, spacing=LUNA_SPACING, offset=LUNA_OFFSET
        )
    rows.append("1.3.6.1.2," + ",".join(map(str, (*centre, 7.2))))
    rows.append("1.3.6.1.77,1,2,3,4")  # of a subset that is not here
    (path / "annotations.csv").write_text("\n".join(rows) + "\n")
    write_metaimage(path / "seg-lungs-LUNA16" / "1.3.6.1.2.mhd", np.ones(LUNA_SHAPE, np.uint8))
    return path


def write_metaimage(
    path: Path,
    array: np.ndarray,
    *,
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0),
    offset: tuple[float, ...] = (0.0, 0.0, 0.0),
    matrix: np.ndarray | None = None,
    compressed: bool = False,
    fields: Mapping[str, str | None] | None = None,
) -> Path:
    """Write (D, H, W) as ITK does: a header, and the voxels beside it or, for .mha, behind it.

    Args:
        path: The .mhd or .mha file.
        array: Voxels, in their byte order.
        spacing: (x, y, z).
        offset: (x, y, z), LPS.
        matrix: Rows are the directions of x, y and z.
        compressed: Whether voxels are compressed.
        fields: Lines of the header to change, or to leave out where None.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {"u1": "UCHAR", "i1": "CHAR", "i2": "SHORT", "u2": "USHORT", "i4": "INT"}
    kinds |= {"u4": "UINT", "f4": "FLOAT", "f8": "DOUBLE"}
    voxels = array.tobytes()
    if compressed:
        voxels = zlib.compress(voxels)
    beside = path.with_suffix(".zraw" if compressed else ".raw")
    big = array.dtype.byteorder == ">"
    lines: dict[str, str | None] = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": str(big),
        "CompressedData": str(compressed),
        "TransformMatrix": _words((np.eye(3) if matrix is None else matrix).ravel()),
        "Offset": _words(offset),
        "CenterOfRotation": "0 0 0",
        "AnatomicalOrientation": "RAI",
        "ElementSpacing": _words(spacing),
        "DimSize": _words(array.shape[::-1]),
        "ElementType": f"MET_{kinds[array.dtype.str[1:]]}",
        "ElementDataFile": "LOCAL" if path.suffix == ".mha" else beside.name,
    }
    if compressed:
        lines["CompressedDataSize"] = str(len(voxels))
    lines |= dict(fields or {})
    lines["ElementDataFile"] = lines.pop("ElementDataFile")  # the last one, whatever was added
    kept = {key: value for key, value in lines.items() if value is not None}
    header = "".join(f"{key} = {value}\n" for key, value in kept.items()).encode()
    if path.suffix == ".mha":
        path.write_bytes(header + voxels)
        return path
    path.write_bytes(header)
    beside.write_bytes(voxels)
    return path


def _words(numbers: object) -> str:
    return " ".join(f"{number:.10g}" for number in numbers)  # type: ignore[attr-defined]
