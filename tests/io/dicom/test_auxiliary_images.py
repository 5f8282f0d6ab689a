"""Localizers, screen captures, dose reports and renderings of a study are no cases of their own."""

import numpy as np
import pytest
from pydicom.uid import (
    CTImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from bedside.errors import FormatError
from bedside.io.read_options import Limits, ReadOptions
from bedside.io.sandbox.parent import find_untrusted
from bedside.io.source import find_sources, open_source
from dicom_makers import make_slices, write_series
from makers import make_dicom, make_fan, write_dicom, write_picture
from uneven_makers import HEAD_CT, write_uneven

# On a busy machine a child takes long to begin.
PATIENT = Limits(deadline_s=600.0)
PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")


def make_auxiliary(
    image_type, *, placed=False, storage=SecondaryCaptureImageStorage, modality="CT",
    colour=False, frames=1, study=None,
):  # fmt: skip
    """One image beside a scan, of its study unless another is named."""
    (dataset,) = make_slices(
        np.zeros((1, 16, 16), np.uint16), modality=modality, slope=None, series=str(image_type)
    )
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = storage
    dataset.ImageType = image_type
    for keyword in () if placed else PLACE:
        delattr(dataset, keyword)
    if colour:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PlanarConfiguration = 7, 0
        dataset.PixelData = bytes(frames * 16 * 16 * 3)
        dataset["PixelData"].VR = "OB"
    if frames > 1:
        dataset.NumberOfFrames = frames
    if study:
        dataset.StudyInstanceUID = study
    return dataset


SECONDARY = ["DERIVED", "SECONDARY"]
CAPTURES = {
    "screen save": (make_auxiliary([*SECONDARY, "SCREEN SAVE"]), "screen capture of the CT"),
    "plain capture": (make_auxiliary(SECONDARY), "screen capture of the CT"),
    "capture in colour": (make_auxiliary(SECONDARY, colour=True), "screen capture of the CT"),
    "turning rendering": (
        make_auxiliary(SECONDARY, colour=True, frames=3,
                       storage=MultiFrameTrueColorSecondaryCaptureImageStorage),
        "screen capture of the CT",
    ),
    "capture of MR": (make_auxiliary(SECONDARY, modality="MR"), "screen capture of the MR"),
    "dose screen": (make_auxiliary([*SECONDARY, "DOSE_INFO"]), "dose report or protocol"),
    "protocol": (
        make_auxiliary([*SECONDARY, "OTHER", "CT_SOM5 PROT"], storage=CTImageStorage),
        "dose report or protocol",
    ),
}  # fmt: skip
LOCALIZERS = {
    "localizer": make_auxiliary(
        ["ORIGINAL", "PRIMARY", "LOCALIZER"], placed=True, storage=CTImageStorage
    ),
    "scout without a place": make_auxiliary(
        ["ORIGINAL", "PRIMARY", "SCOUT"], storage=CTImageStorage
    ),
    "reference surview": make_auxiliary([*SECONDARY, "REF_SURVIEW"]),
    "topogram": make_auxiliary(
        ["ORIGINAL", "PRIMARY", "CT_SOM5 TOPOGRAM"], placed=True, storage=CTImageStorage
    ),
}
BESIDE = {
    "rendering": (
        make_auxiliary([*SECONDARY, "VOLREN"], storage=CTImageStorage), "has no place"
    ),
    "fusion in colour": (
        make_auxiliary(SECONDARY, placed=True, storage=CTImageStorage, colour=True), "in colour"
    ),
    "capture of another kind": (make_auxiliary(SECONDARY, modality="OT"), "screen capture"),
}  # fmt: skip
EVERY = {
    **{name: (dataset, "is a localizer") for name, dataset in LOCALIZERS.items()},
    **CAPTURES,
    **BESIDE,
}


@pytest.mark.parametrize("untrusted", [False, True])
def test_all_that_belongs_to_a_scan_is_skipped_with_its_reason(tmp_path, untrusted):
    write_uneven(tmp_path, HEAD_CT)
    for number, (dataset, _) in enumerate(EVERY.values()):
        write_dicom(dataset, tmp_path / "scan" / f"beside{number:02d}")
    found = find_untrusted(tmp_path, limits=PATIENT) if untrusted else find_sources(tmp_path)
    assert len(found.paths) == 1
    assert [len(files) for files in found.files.values()] == [28]
    assert len(found.skipped) == len(EVERY)
    for text, (_, words) in zip(found.skipped, EVERY.values(), strict=True):
        assert words in text
        assert "epair" not in text
        assert "xport" not in text
    assert len(open_source(tmp_path / "scan").sequence) == 28


@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.parametrize("how", ["file", "folder", "untrusted"])
def test_a_screen_capture_alone_gets_a_clear_answer(tmp_path, name, how):
    dataset, words = CAPTURES[name]
    (tmp_path / "study").mkdir()
    path = write_dicom(dataset, tmp_path / "study" / "IM1")
    if how == "folder":
        (path,) = find_sources(tmp_path / "study").paths
    reading = ReadOptions(untrusted=PATIENT if how == "untrusted" else None)
    with pytest.raises(FormatError, match=words) as error:
        reading.open(path)
    assert "epair" not in str(error.value)
    assert "xport" not in str(error.value)


@pytest.mark.parametrize("name", ["localizer", "topogram"])
def test_a_localizer_that_is_named_opens_with_a_word(tmp_path, name):
    dataset = LOCALIZERS[name]
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "0"
    (tmp_path / "study").mkdir()
    path = write_dicom(dataset, tmp_path / "study" / "IM1")
    assert find_sources(tmp_path / "study").paths == (path,)
    sequence = open_source(path).sequence
    assert sequence.shape == (1, 1, 16, 16)
    assert any("is a localizer" in text for text in sequence.warnings)


def test_pictures_of_other_kinds_stay_images_of_their_own(tmp_path):
    """Ultrasound beside a scan, and captures of another study that are no pictures of CT."""
    write_series(make_slices(np.zeros((5, 16, 16), np.uint16)), tmp_path / "scan")
    still = make_dicom(make_fan(1))
    (tmp_path / "us").mkdir()
    still.SOPClassUID = still.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    kept = [
        write_dicom(still, tmp_path / "us" / "still"),
        write_dicom(make_dicom(make_fan(3)), tmp_path / "us" / "cine"),
        write_dicom(make_auxiliary(SECONDARY, modality="OT", study="1.2.3"), tmp_path / "photo"),
        write_picture(make_fan(1)[0], tmp_path / "still.png"),
    ]
    found = find_sources(tmp_path)
    assert set(found.paths) == {tmp_path / "scan", *kept}
    assert found.skipped == ()


def test_a_capture_with_a_place_is_a_slice(tmp_path):
    """Programs that convert scans write them as secondary captures, with positions."""

    def edit(dataset, index):
        dataset.SOPClassUID = SecondaryCaptureImageStorage
        dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        dataset.ImageType = SECONDARY

    write_series(make_slices(np.zeros((5, 16, 16), np.uint16), edit=edit), tmp_path / "scan")
    assert len(open_source(tmp_path / "scan").sequence) == 5


def test_images_without_a_place_and_without_a_scan_are_taken_as_before(tmp_path):
    paths = write_series(
        [make_auxiliary(["DERIVED", "PRIMARY"], storage=CTImageStorage)], tmp_path / "lone"
    )
    assert find_sources(tmp_path / "lone").paths == tuple(paths)
