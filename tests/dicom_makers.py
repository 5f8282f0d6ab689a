"""DICOM scans, classic and enhanced, with chosen cosines, tilt, gaps, order and values."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from bedside.volume import Geometry

TAGS = {"CT": CTImageStorage, "MR": MRImageStorage}


def make_affine(
    orientation=(1, 0, 0, 0, 1, 0),
    *,
    spacing=(2.0, 0.8, 0.7),
    origin=(-20.0, 15.0, 5.0),
    lean=(0, 0),
):
    """An LPS affine for (D, H, W).

    Args:
        orientation: DICOM's, along a row and along a column.
        spacing: From slice to slice along the normal, from row to row, from column to column.
        origin: Middle of the first pixel of the first slice.
        lean: How far slices move along rows' and columns' directions, mm for each mm of normal.
    """
    across, down = np.array(orientation[:3], float), np.array(orientation[3:], float)
    normal = np.cross(across, down)
    affine = np.eye(4)
    affine[:3, 0] = spacing[0] * (normal + lean[0] * down + lean[1] * across)
    affine[:3, 1], affine[:3, 2] = down * spacing[1], across * spacing[2]
    affine[:3, 3] = origin
    return affine


def make_slices(
    array: np.ndarray,
    affine: np.ndarray | None = None,
    *,
    modality: str = "CT",
    slope: float | None = 1.0,
    intercept: float | None = -1024.0,
    series: str = "series",
    edit: Callable[[Dataset, int], None] | None = None,
) -> list[Dataset]:
    """Make the single images of a series.

    Args:
        array: Stored values (D, H, W), uint16 or int16.
        affine: LPS, of (D, H, W).
        modality: "CT" or "MR".
        slope: RescaleSlope; None leaves both out.
        intercept: RescaleIntercept.
        series: What its UID is made of.
        edit: Called with each dataset and its index, to change it.
    """
    affine = make_affine() if affine is None else affine
    down, across = affine[:3, 1], affine[:3, 2]
    spacing = np.linalg.norm(down), np.linalg.norm(across)
    datasets = []
    for index, pixels in enumerate(array):
        dataset = Dataset()
        _identify(dataset, series, index, TAGS.get(modality, MRImageStorage))
        dataset.Modality = modality
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = _texts(affine[:3] @ [index, 0, 0, 1])
        dataset.ImageOrientationPatient = _texts([*across / spacing[1], *down / spacing[0]])
        dataset.PixelSpacing = _texts(spacing)
        dataset.SliceThickness = "2"
        if slope is not None:
            dataset.RescaleSlope, dataset.RescaleIntercept = str(slope), str(intercept)
        _add_pixels(dataset, pixels)
        if edit:
            edit(dataset, index)
        datasets.append(dataset)
    return datasets


def make_enhanced(
    array: np.ndarray,
    affine: np.ndarray | None = None,
    *,
    modality: str = "CT",
    slope: float = 1.0,
    intercept: float = -1024.0,
    order: list[int] | None = None,
) -> Dataset:
    """Make an enhanced image whose frames are the slices of `array`, stored in any order."""
    affine = make_affine() if affine is None else affine
    down, across = affine[:3, 1], affine[:3, 2]
    spacing = np.linalg.norm(down), np.linalg.norm(across)
    order = list(range(len(array))) if order is None else order
    dataset = Dataset()
    kind = EnhancedMRImageStorage if modality == "MR" else EnhancedCTImageStorage
    _identify(dataset, "enhanced", 0, kind)
    dataset.Modality, dataset.InstanceNumber = modality, 1
    dataset.NumberOfFrames = len(array)
    measures, orientation, transformation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = _texts(spacing), "2"
    orientation.ImageOrientationPatient = _texts([*across / spacing[1], *down / spacing[0]])
    transformation.RescaleSlope, transformation.RescaleIntercept = str(slope), str(intercept)
    transformation.RescaleType = "HU"
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelValueTransformationSequence = [transformation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for index in order:
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = _texts(affine[:3] @ [index, 0, 0, 1])
        group.PlanePositionSequence = [position]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    _add_pixels(dataset, array[order])
    return dataset


def write_series(datasets: list[Dataset], folder: Path, *, seed: int | None = 0) -> list[Path]:
    """Write datasets as files whose names are in no order, one after another if `seed` is None."""
    folder.mkdir(parents=True, exist_ok=True)
    names = np.arange(len(datasets))
    if seed is not None:
        np.random.default_rng(seed).shuffle(names)
    paths = []
    for dataset, name in zip(datasets, names, strict=True):
        paths.append(folder / f"IM{name:04d}")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def as_geometry(array: np.ndarray, affine: np.ndarray) -> Geometry:
    """Put an array's shape and an affine together."""
    return Geometry(array.shape, affine, space="LPS")


def _identify(dataset: Dataset, series: str, index: int, kind: str) -> None:
    dataset.SOPClassUID = kind
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[series, str(index)])
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[series])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame of reference"])
    dataset.PatientName, dataset.PatientID = "Test^Synthetic", "T1"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = kind
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID


def _add_pixels(dataset: Dataset, pixels: np.ndarray) -> None:
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    dataset["PixelData"].VR = "OW"


def _texts(values) -> list[str]:
    """Numbers as decimal strings of at most 16 letters."""
    return [f"{float(value):.10g}"[:16] for value in values]
