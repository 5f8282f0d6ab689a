"""DICOM SEG and label map of scans: each frame refers to its slice; valid; little memory."""

import tracemalloc
from dataclasses import replace

import highdicom
import numpy as np
import pydicom
import pytest
from test_dicom_seg import _find_errors

from bedside.io.dicom.options import DicomOptions
from bedside.io.dicom.seg_pixels import pack_bits
from bedside.io.source import Algorithm, open_source, write_labels
from bedside.spec import Label
from bedside.volume import LabelMap
from dicom_makers import make_affine, make_enhanced, make_slices, write_series
from makers import LABELS, make_dicom, make_fan, make_labels, write_dicom

ALGORITHM = Algorithm("organs", "1.0", "cd" * 32)
FORMATS = ("dicom-seg", "dicom-labelmap")


def _make_labels(shape=(9, 15, 13), *, seed=0):
    labels = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    labels[0] = labels[-1] = 0
    labels[4][labels[4] == 2] = 0
    return labels


def _make_source(folder, kind, labels):
    stored = labels.astype(np.uint16)
    if kind == "enhanced":
        order = list(range(len(labels)))[::-1]
        return open_source(write_dicom(make_enhanced(stored, order=order), folder / "e.dcm"))
    if kind == "cine":
        return open_source(write_dicom(make_dicom(make_fan(*labels.shape)), folder / "c.dcm"))
    lean = (0.3, 0.0) if kind == "tilted" else (0.0, 0.0)
    datasets = make_slices(stored, make_affine(lean=lean))
    if kind == "gap":
        del datasets[5]
    write_series(datasets, folder / "series")
    return open_source(folder / "series", dicom=DicomOptions(gaps="interpolate"))


def _write(labels, source, target, format_, *, labels_spec=LABELS):
    return write_labels(
        LabelMap(labels), source, target, labels_spec=labels_spec, algorithm=ALGORITHM,
        format=format_,
    )  # fmt: skip


def _read_by_instance(path, source):
    """Put the labels together by the instance and frame that each frame refers to."""
    seg = pydicom.dcmread(path)
    names = {
        (source.header.instances[instance].SOPInstanceUID, number): frame
        for frame, (instance, number) in enumerate(source.header.frames)
        if instance >= 0
    }
    labels = np.zeros((len(source.sequence), seg.Rows, seg.Columns), np.uint8)
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, group in zip(pixels, seg.PerFrameFunctionalGroupsSequence, strict=True):
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        place = names[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber", 0)]
        if seg.SegmentationType == "BINARY":
            number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            labels[place][frame == 1] = number
        else:
            labels[place] = frame
    return labels


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("kind", ["series", "enhanced", "tilted", "gap", "cine"])
def test_each_frame_refers_to_its_slice_and_the_file_is_valid(tmp_path, kind, format_):
    labels = _make_labels()
    source = _make_source(tmp_path, kind, labels)
    labels[list(source.sequence.unknown)] = 0
    path = _write(labels, source, tmp_path / "seg.dcm", format_)
    assert np.array_equal(_read_by_instance(path, source), labels)
    assert _find_errors(path) == []
    seg = pydicom.dcmread(path)
    instances = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert len(instances) == len(source.header.instances)
    assert [item.ReferencedSOPInstanceUID for item in instances] == [
        instance.SOPInstanceUID for instance in source.header.instances
    ]


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("kind", ["series", "enhanced"])
def test_highdicom_reads_the_labels_of_each_source_slice(tmp_path, kind, format_):
    labels = _make_labels()
    source = _make_source(tmp_path, kind, labels)
    path = _write(labels, source, tmp_path / "seg.dcm", format_)
    seg = highdicom.seg.segread(path)
    if kind == "series":
        uids = [instance.SOPInstanceUID for instance in source.header.instances]
        found = seg.get_pixels_by_source_instance(
            uids, combine_segments=True, assert_missing_frames_are_empty=True
        )
    else:
        numbers = [number for _, number in source.header.frames]
        found = seg.get_pixels_by_source_frame(
            source.header.first.SOPInstanceUID, numbers, combine_segments=True,
            assert_missing_frames_are_empty=True,
        )  # fmt: skip
    assert np.array_equal(found, labels)


def test_empty_frames_of_a_scan_are_left_out_and_those_of_a_cine_kept(tmp_path):
    labels = _make_labels()
    scan = _make_source(tmp_path, "series", labels)
    seg = pydicom.dcmread(_write(labels, scan, tmp_path / "scan.dcm", "dicom-seg"))
    present = sum((frame == value).any() for frame in labels for value in (1, 2, 3))
    assert seg.NumberOfFrames == present < 27
    sequence = _make_source(tmp_path, "cine", labels)
    seg = pydicom.dcmread(_write(labels, sequence, tmp_path / "cine.dcm", "dicom-seg"))
    assert seg.NumberOfFrames == 27


@pytest.mark.parametrize("format_", FORMATS)
def test_a_scan_without_a_finding_is_a_valid_file(tmp_path, format_):
    labels = _make_labels() * 0
    source = _make_source(tmp_path, "series", labels)
    path = _write(labels, source, tmp_path / "seg.dcm", format_)
    assert np.array_equal(_read_by_instance(path, source), labels)
    assert _find_errors(path) == []


def test_a_frame_that_was_interpolated_has_a_place_and_no_source(tmp_path):
    heights = [0.0, 2.0, 4.0, 8.0, 9.5, 11.5]

    def edit(dataset, index):
        dataset.ImagePositionPatient = ["0", "0", str(heights[index])]

    labels = _make_labels((6, 8, 8), seed=3)
    write_series(make_slices(labels.astype(np.uint16), edit=edit), tmp_path / "series")
    source = open_source(tmp_path / "series", dicom=DicomOptions(gaps="interpolate"))
    assert (3, -1) in [(frame, i) for frame, (i, _) in enumerate(source.header.frames)]
    labels = np.insert(labels, 3, 1, axis=0)
    path = _write(labels, source, tmp_path / "seg.dcm", "dicom-seg")
    groups = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    made_up = [group for group in groups if not group.get("DerivationImageSequence")]
    assert len(made_up) == 1
    assert made_up[0].PlanePositionSequence[0].ImagePositionPatient[2] == pytest.approx(6.0)
    assert _find_errors(path) == []


def test_a_label_map_and_bits_are_different_instances(tmp_path):
    labels = _make_labels()
    source = _make_source(tmp_path, "series", labels)
    uids = [
        pydicom.dcmread(_write(labels, source, tmp_path / f"{format_}.dcm", format_)).SOPInstanceUID
        for format_ in FORMATS
    ]
    assert uids[0] != uids[1]


def test_a_cine_of_odd_size_is_packed_without_gaps():
    labels = make_labels(5, 7, 9)
    wanted = [(value, frame) for value in (1, 2, 3) for frame in range(5)]
    masks = np.stack([labels[frame] == value for value, frame in wanted])
    whole = np.packbits(masks.ravel(), bitorder="little").tobytes()
    assert pack_bits(LabelMap(labels), wanted)[: len(whole)] == whole


def test_writing_never_holds_a_mask_of_every_structure(tmp_path):
    """64 MiB of bool would be 16 structures times the scan; 4 MiB is the scan."""
    shape, structures = (64, 256, 256), 16
    labels = np.zeros(shape, np.uint8)
    labels[10:50, 30:60, 40:200] = 1
    labels[10:50, 60:90, 40:200] = structures
    source = _make_source(tmp_path, "series", labels)
    many = tuple(
        Label(i, f"organ {i}", (9, 9, 9), LABELS[0].category, LABELS[0].type)
        for i in range(1, structures + 1)
    )
    tracemalloc.start()
    try:
        _write(labels, source, tmp_path / "seg.dcm", "dicom-seg", labels_spec=many)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * 2**20


def test_one_label_is_a_scan_of_one_structure(tmp_path):
    labels = (_make_labels() == 1).astype(np.uint8)
    source = _make_source(tmp_path, "series", labels)
    path = _write(
        labels, source, tmp_path / "seg.dcm", "dicom-labelmap", labels_spec=(replace(LABELS[0]),)
    )
    assert _find_errors(path) == []
