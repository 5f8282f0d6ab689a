"""Synthetic inputs for tests: small, fast, and with every property a test may want to choose."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
from PIL import Image
from pydicom import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from bedside.spec import Code, Label

ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
LABELS = (
    Label(1, "LV cavity", (230, 60, 60), ANATOMY, Code("87878005", "SCT", "Left ventricle")),
    Label(
        2,
        "LV myocardium",
        (70, 200, 90),
        ANATOMY,
        Code("49848007", "SCT", "Left Ventricle Myocardium"),
    ),
    Label(3, "Left atrium", (80, 150, 255), ANATOMY, Code("82471001", "SCT", "Left atrium")),
)


def make_fan(frames: int = 3, height: int = 48, width: int = 64, *, seed: int = 0) -> np.ndarray:
    """Draw a speckled ultrasound fan on black, with a dark ellipse that beats.

    Returns:
        (frames, height, width) uint8.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    apex_row, apex_column = 2, width / 2
    radius = np.hypot(rows - apex_row, columns - apex_column)
    angle = np.abs(np.arctan2(columns - apex_column, rows - apex_row))
    inside = (radius < height - 4) & (angle < 0.7)
    speckle = rng.integers(90, 200, (frames, height, width))
    return np.where(
        make_labels(frames, height, width) == 1, 30, np.where(inside, speckle, 0)
    ).astype(np.uint8)


def make_labels(frames: int = 3, height: int = 48, width: int = 64) -> np.ndarray:
    """Label a beating ellipse 1 and the ring around it 2; 3 is an ellipse below.

    Returns:
        (frames, height, width) uint8.
    """
    rows, columns = np.mgrid[:height, :width]
    labels = np.zeros((frames, height, width), np.uint8)
    for index in range(frames):
        beat = 1 + 0.2 * np.cos(2 * np.pi * index / max(frames, 1))
        squares = ((rows - 0.4 * height) / 0.17 / height) ** 2
        squares = squares + ((columns - 0.5 * width) / 0.09 / width) ** 2
        below = ((rows - 0.75 * height) / 0.08 / height) ** 2
        below = below + ((columns - 0.5 * width) / 0.09 / width) ** 2
        labels[index][squares < 1.8 * beat] = 2
        labels[index][squares < beat] = 1
        labels[index][(below < 1) & (labels[index] == 0)] = 3
    return labels


def make_region(
    corners: tuple[int, int, int, int],
    *,
    delta_cm: tuple[float, float] = (0.05, 0.05),
    units: int = 3,
    spatial_format: int = 1,
    data_type: int = 1,
) -> Dataset:
    """Make an ultrasound region.

    Args:
        corners: (x0, y0, x1, y1), inclusive, as DICOM writes them.
        delta_cm: (x, y) scale in cm a pixel.
        units: DICOM's code for the physical units; 3 is cm.
        spatial_format: 1 is 2D, 2 M-mode, 3 spectral.
        data_type: 1 is tissue, 2 colour flow.
    """
    region = Dataset()
    region.RegionSpatialFormat = spatial_format
    region.RegionDataType = data_type
    region.RegionFlags = 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = corners[:2]
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = corners[2:]
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = units
    region.PhysicalDeltaX, region.PhysicalDeltaY = delta_cm
    return region


def make_dicom(
    pixels: np.ndarray,
    *,
    regions: Sequence[Dataset] = (),
    tags: Mapping[str, Any] | None = None,
    drop: Sequence[str] = (),
) -> Dataset:
    """Make an uncompressed ultrasound image: a cine where there is more than one frame.

    Args:
        pixels: (F, H, W) or (F, H, W, 3), uint8 or uint16.
        regions: Ultrasound regions; none leaves the sequence out.
        tags: Keywords to set or to overwrite.
        drop: Keywords to leave out.
    """
    frames, height, width = pixels.shape[:3]
    dataset = Dataset()
    sequence = frames > 1
    dataset.SOPClassUID = UltrasoundMultiFrameImageStorage if sequence else UltrasoundImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["instance", str(pixels.shape)])
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["series"])
    dataset.Modality = "US"
    dataset.PatientName, dataset.PatientID = "Test^Synthetic", "T1"
    dataset.Rows, dataset.Columns = height, width
    dataset.SamplesPerPixel = 3 if pixels.ndim == 4 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 4 else "MONOCHROME2"
    if pixels.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    if sequence:
        dataset.NumberOfFrames = frames
        dataset.FrameTime = "40.0"
    if regions:
        dataset.SequenceOfUltrasoundRegions = list(regions)
    content = np.ascontiguousarray(pixels).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated == 16 else "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for keyword, value in (tags or {}).items():
        setattr(dataset, keyword, value)
    for keyword in drop:
        delattr(dataset, keyword)
    return dataset


def compress_jpeg(dataset: Dataset) -> Dataset:
    """Compress a grey or RGB image of `make_dicom` as JPEG baseline, in place."""
    shape = (int(dataset.get("NumberOfFrames", 1)), dataset.Rows, dataset.Columns)
    colour = dataset.SamplesPerPixel == 3
    size = np.prod(shape) * dataset.SamplesPerPixel
    pixels = np.frombuffer(dataset.PixelData[:size], np.uint8)
    pixels = pixels.reshape(*shape, 3)[..., ::-1] if colour else pixels.reshape(shape)
    encoded = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in pixels]
    dataset.PixelData = encapsulate(encoded)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.PhotometricInterpretation = "YBR_FULL_422" if colour else "MONOCHROME2"
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = "10"
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return dataset


def write_dicom(dataset: Dataset, path: Path) -> Path:
    """Write a dataset as a DICOM file."""
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_nifti(
    array: np.ndarray,
    path: Path,
    *,
    spacing_mm: Sequence[float] = (0.5, 0.8, 1.0),
    affine: np.ndarray | None = None,
    codes: tuple[int, int] = (0, 2),
    version: int = 1,
) -> Path:
    """Write a NIfTI image.

    Args:
        array: In NIfTI's axis order, (x, y) or (x, y, z).
        path: The file, .nii or .nii.gz.
        spacing_mm: (x, y, z), used where no affine is given.
        affine: (4, 4), RAS.
        codes: qform and sform codes.
        version: 1 or 2.
    """
    kind = nibabel.Nifti2Image if version == 2 else nibabel.Nifti1Image
    place = np.diag([*spacing_mm, 1.0]) if affine is None else affine
    image = kind(array, place)
    image.header.set_qform(place if codes[0] else None, code=codes[0])
    image.header.set_sform(place if codes[1] else None, code=codes[1])
    image.header.set_xyzt_units("mm")
    # Without an affine of its own the image keeps the codes, zero ones too, when saved.
    image = kind(array, None, header=image.header)
    nibabel.save(image, path)
    return path


def write_picture(array: np.ndarray, path: Path) -> Path:
    """Write (H, W) or (H, W, 3) as the picture that the suffix names."""
    Image.fromarray(array).save(path)
    return path


# Frames that are shrunk, kept and enlarged to the input of camus-4ch, evenly and not.
FRAME_SIZES = {
    "half": (384, 512),
    "a third": (576, 768),
    "an odd ratio": (401, 613),
    "as it is": (192, 256),
    "narrower": (192, 300),
    "wider and lower": (180, 300),
    "larger": (100, 133),
    "twice as large": (96, 128),
}
