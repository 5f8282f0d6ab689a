"""Slices that are uneven and complete are read where they lie; missing ones are refused."""

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from test_dicom_seg import _find_errors

from bedside.errors import FormatError, GeometryError
from bedside.io.dicom.options import DicomOptions
from bedside.io.dicom.spacing import judge_spacing
from bedside.io.read_options import Limits
from bedside.io.sandbox.parent import open_untrusted
from bedside.io.source import Algorithm, open_source, write_labels
from bedside.volume import LabelMap
from makers import LABELS
from uneven_makers import BALL_ML, FORMS, HEAD_CT, SPACING, TILT, lay, middle_mm, write_uneven

ALGORITHM = Algorithm("a", "1", "ab" * 32)
ORIENTATIONS = {
    "axial": (1, 0, 0, 0, 1, 0),
    "coronal": (1, 0, 0, 0, 0, -1),
    "sagittal": (0, 1, 0, 0, 0, -1),
}
INTERPOLATE = DicomOptions(gaps="interpolate")


def _find_ball(source):
    """What is brighter than half, as labels: what a perfect network would draw."""
    return LabelMap((np.stack(list(source.sequence))[:, 0] > 0).astype(np.uint8), SPACING)


def _check(places, weights_mm, affine, form):
    """The ball is where it was drawn, and as large."""
    off = np.average(places, axis=0, weights=weights_mm) - middle_mm(form[0], affine)
    assert np.linalg.norm(off) < 0.5
    volume_ml = np.sum(weights_mm) * np.prod(SPACING) / 1e3
    assert volume_ml == pytest.approx(BALL_ML, rel=0.04)


def _read_seg(path):
    """Where the pixels of label 1 lie, by pydicom and the groups alone, and their thickness."""
    seg = pydicom.dcmread(path)
    shared = seg.SharedFunctionalGroupsSequence[0]
    directions = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    found = []
    for frame, group in zip(pixels, seg.PerFrameFunctionalGroupsSequence, strict=True):
        own = group.get("PixelMeasuresSequence") or shared.PixelMeasuresSequence
        rows, columns = np.nonzero(frame == 1)
        corner = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        places = corner + columns[:, None] * SPACING[1] * directions[:3]
        found.append((places + rows[:, None] * SPACING[0] * directions[3:], own[0]))
    return found


@pytest.mark.parametrize("kind", ["series", "enhanced"])
@pytest.mark.parametrize(("plane", "lean"), [("axial", TILT), ("coronal", (0.0, 0.0)),
                                             ("sagittal", TILT)])  # fmt: skip
@pytest.mark.parametrize("name", FORMS)
def test_every_slice_is_kept_and_the_ball_is_right_in_each_format(
    tmp_path, name, plane, lean, kind
):
    form = FORMS[name]
    path, affine = write_uneven(
        tmp_path, form, kind=kind, orientation=ORIENTATIONS[plane], lean=lean
    )
    source = open_source(path)
    sequence = source.sequence
    assert len(sequence) == len(form[0])
    assert -1 not in dict(source.header.frames)
    assert any("not evenly spaced" in text for text in sequence.warnings)
    heights = np.array(sequence.uneven.heights_mm)
    np.testing.assert_allclose(heights, form[0] - form[0][0], atol=1e-4)
    # Thickness goes with its slice, also where two lie at one place.
    frames = dict(enumerate(source.header.frames))
    labels = _find_ball(source)
    index = np.argwhere(labels.array)
    places = np.column_stack([heights[index[:, 0]], index[:, 1:], np.ones(len(index))])
    _check(places @ affine[:3].T, sequence.uneven.covered_mm[index[:, 0]], affine, form)

    mask = write_labels(
        labels, source, tmp_path / "mask.nii.gz", labels_spec=LABELS, algorithm=ALGORITHM,
        format="nifti",
    )  # fmt: skip
    image = nibabel.load(mask)
    index = np.argwhere(np.asarray(image.dataobj) == 1)
    places = nibabel.affines.apply_affine(image.affine, index) * [-1, -1, 1]
    # Along the normal: a sheared affine's third column is longer than the slices are apart.
    step = abs(np.linalg.det(image.affine)) / np.prod(SPACING)
    _check(places, np.full(len(places), step), affine, form)

    seg = write_labels(
        labels, source, tmp_path / "seg.dcm", labels_spec=LABELS, algorithm=ALGORITHM,
        format="dicom-labelmap",
    )  # fmt: skip
    found = _read_seg(seg)
    assert len(found) == len(sequence) == len(frames)
    thickness = [float(measures.SliceThickness) for _, measures in found]
    np.testing.assert_allclose(thickness, form[1])
    assert not any("SpacingBetweenSlices" in measures for _, measures in found)
    weights = [
        np.full(len(own), covered)
        for (own, _), covered in zip(found, sequence.uneven.covered_mm, strict=True)
    ]
    _check(np.concatenate([own for own, _ in found]), np.concatenate(weights), affine, form)


@pytest.mark.parametrize("format_", ["dicom-seg", "dicom-labelmap"])
@pytest.mark.parametrize("kind", ["series", "enhanced"])
def test_the_seg_is_valid_and_highdicom_reads_each_slice(tmp_path, kind, format_):
    path, _ = write_uneven(tmp_path, HEAD_CT, kind=kind, lean=TILT)
    source = open_source(path)
    labels = _find_ball(source)
    seg = write_labels(
        labels, source, tmp_path / "seg.dcm", labels_spec=LABELS, algorithm=ALGORITHM,
        format=format_,
    )  # fmt: skip
    assert _find_errors(seg) == []
    read = highdicom.seg.segread(seg)
    if kind == "series":
        uids = [instance.SOPInstanceUID for instance in source.header.instances]
        found = read.get_pixels_by_source_instance(
            uids, combine_segments=True, assert_missing_frames_are_empty=True
        )
    else:
        found = read.get_pixels_by_source_frame(
            source.header.first.SOPInstanceUID, [number for _, number in source.header.frames],
            combine_segments=True, assert_missing_frames_are_empty=True,
        )  # fmt: skip
    assert np.array_equal(found, labels.array)


def test_a_slicer_segmentation_lies_where_the_nifti_lies(tmp_path):
    path, affine = write_uneven(tmp_path, HEAD_CT)
    source = open_source(path)
    mask = write_labels(
        _find_ball(source), source, tmp_path / "mask.seg.nrrd", labels_spec=LABELS,
        algorithm=ALGORITHM, format="seg-nrrd",
    )  # fmt: skip
    image = SimpleITK.ReadImage(str(mask))
    index = np.argwhere(SimpleITK.GetArrayFromImage(image) == 1)[:, ::-1]
    places = [image.TransformIndexToPhysicalPoint(each) for each in index.tolist()]
    _check(np.array(places), np.full(len(places), image.GetSpacing()[2]), affine, HEAD_CT)
    # Slicer asks for the box of each segment on that grid.
    low, high = index.min(axis=0), index.max(axis=0)
    extent = " ".join(f"{a} {b}" for a, b in zip(low, high, strict=True))
    assert f"Segment0_Extent:={extent}".encode() in mask.read_bytes()


def test_the_head_ct_names_its_blocks(tmp_path):
    path, _ = write_uneven(tmp_path, HEAD_CT, lean=TILT)
    sequence = open_source(path).sequence
    (said,) = [text for text in sequence.warnings if "evenly" in text]
    assert "slices 1-14 are 4.002 mm apart, 14 and 15 1.08 mm, 15-28 6.999 mm" in said
    blocks = [(each.first, each.last, each.spacing_mm) for each in sequence.uneven.list_blocks()]
    assert blocks == [(1, 14, 4.002), (14, 15, 1.08), (15, 28, 6.999)]
    # What both blocks show counts once.
    length_mm = HEAD_CT[0][-1] - HEAD_CT[0][0] + (4.002 + 6.999) / 2
    assert sequence.uneven.covered_mm.sum() == pytest.approx(length_mm)


def test_numbers_in_any_order_and_files_from_above_change_nothing(tmp_path):
    def shuffle(dataset, index):
        dataset.InstanceNumber = 100 - index

    path, _ = write_uneven(tmp_path, HEAD_CT, edit=shuffle)
    heights = open_source(path).sequence.uneven.heights_mm
    np.testing.assert_allclose(heights, HEAD_CT[0] - HEAD_CT[0][0], atol=1e-4)


def test_two_at_one_place_are_both_kept_in_the_order_of_their_blocks(tmp_path):
    form = FORMS["two at one place"]
    path, _ = write_uneven(tmp_path, form)
    source = open_source(path)
    thickness = [float(source.header.instances[i].SliceThickness) for i, _ in source.header.frames]
    assert thickness == form[1]
    # Each stands for its own side.
    np.testing.assert_allclose(source.sequence.uneven.covered_mm[9:11], [1.5, 2.5])


def test_two_acquisitions_that_meet_at_one_place_are_kept_as_well(tmp_path):
    def edit(dataset, index):
        dataset.AcquisitionNumber = 1 + (index >= 6)
        dataset.Rows = dataset.Rows
        if index == 6:
            dataset.PixelData = bytes(len(dataset.PixelData))

    heights = np.array([0, 3, 6, 9, 12, 15, 15, 18, 21, 24.0])
    path, _ = write_uneven(tmp_path, (heights, [3.0] * 10), edit=edit)
    assert len(open_source(path).sequence) == 10


def test_different_slices_at_one_place_within_a_block_are_still_refused(tmp_path):
    def edit(dataset, index):
        if index == 3:
            dataset.SliceThickness = "5"
            dataset.PixelData = bytes(len(dataset.PixelData))

    heights = np.array([0, 3, 6, 6, 9, 12, 15, 18.0])
    path, _ = write_uneven(tmp_path, (heights, [3.0] * 8), edit=edit)
    with pytest.raises(GeometryError, match="lie at one place and differ"):
        open_source(path)


def _without(form, *gone):
    kept = [index for index in range(len(form[0])) if index not in gone]
    return form[0][kept], [form[1][index] for index in kept]


@pytest.mark.parametrize(
    ("gone", "where", "apart", "count"),
    [
        ((5,), 4, "8.004", "1 slice is"),
        ((5, 6), 4, "12.01", "2 slices are"),
        ((20,), 19, "14", "1 slice is"),
        ((20, 21), 19, "21", "2 slices are"),
        ((5, 20), 4, "8.004", "1 slice is"),
        ((13, 14), 12, "12.08", "1 slice is"),
    ],
)
def test_what_is_really_missing_is_refused_by_its_place(tmp_path, gone, where, apart, count):
    path, _ = write_uneven(tmp_path, _without(HEAD_CT, *gone))
    expected = rf"slices {where + 1} and {where + 2} \(.*\) are {apart} mm apart.*{count} missing"
    with pytest.raises(GeometryError, match=expected):
        open_source(path)


@pytest.mark.parametrize("gone", [(5,), (20,), (20, 21), (5, 6, 20)])
def test_a_gap_in_a_block_is_marked_unknown_and_the_others_stay_where_they_are(tmp_path, gone):
    path, _ = write_uneven(tmp_path, _without(HEAD_CT, *gone))
    source = open_source(path, dicom=INTERPOLATE)
    assert source.sequence.unknown == gone
    assert len(source.sequence) == 28
    np.testing.assert_allclose(source.sequence.uneven.heights_mm, HEAD_CT[0], atol=0.01)
    assert [frame for frame, (i, _) in enumerate(source.header.frames) if i < 0] == list(gone)
    whole, _ = write_uneven(tmp_path / "whole", HEAD_CT)
    np.testing.assert_allclose(
        source.sequence.uneven.covered_mm, open_source(whole).sequence.uneven.covered_mm, atol=0.02
    )


UNKNOWN = {
    "none": None,
    "0": "0",
    "empty": "",
    "text": "thin",
    "1 mm everywhere": "1",
    "10 mm everywhere": "10",
}


@pytest.mark.parametrize("thickness", UNKNOWN.values(), ids=UNKNOWN)
@pytest.mark.parametrize("between", [(1.08,), ()])
def test_without_thickness_uneven_is_not_called_missing(tmp_path, thickness, between):
    def edit(dataset, index):
        del dataset.SliceThickness
        if thickness == "thin":
            dataset.add_new(0x00180050, "LO", "thin")
        elif thickness is not None:
            dataset.SliceThickness = thickness

    form = lay((14, 4.0, 4.0), (14, 7.0, 7.0), between=between)
    path, _ = write_uneven(tmp_path, form, edit=edit)
    with pytest.raises((GeometryError, FormatError)) as error:
        open_source(path)
    text = str(error.value)
    assert "uneven" in text
    assert "missing between" not in text
    assert "--gaps interpolate" in text
    source = open_source(path, dicom=INTERPOLATE)
    assert source.sequence.unknown == ()
    assert len(source.sequence) == 28
    assert any("whether any is missing is not known" in each for each in source.sequence.warnings)


def _judge(steps, thickness, between=None):
    heights = np.concatenate([[0.0], np.cumsum(steps)])
    count = len(heights)
    thick = thickness if isinstance(thickness, list) else [thickness] * count
    spacing = between if isinstance(between, list) else [between] * count
    found = judge_spacing(heights, thick, spacing)
    missing = {int(i): int(found.missing[i]) for i in np.flatnonzero(found.missing)}
    return missing, bool(found.doubtful.any())


@pytest.mark.parametrize(
    ("steps", "thickness", "between", "missing", "doubtful"),
    [
        # Even ones are not judged, however thick.
        ([5] * 8, 4.0, None, {}, False),
        ([10] * 8, 1.0, None, {}, False),
        # Gaps between slices that SpacingBetweenSlices explains, or a share of the thickness.
        ([5] * 6 + [6.25] + [7.5] * 6, [4.0] * 7 + [6.0] * 7, None, {}, False),
        ([5] * 6 + [9] + [12] * 6, [2.0] * 7 + [4.0] * 7, [5.0] * 7 + [12.0] * 7, {}, False),
        ([5] * 6 + [9] + [12] * 6, [2.0] * 7 + [4.0] * 7, [5.0] * 14, {}, True),
        ([5] * 6 + [6.25] + [7.5] * 3 + [15] + [7.5] * 2, [4.0] * 7 + [6.0] * 7, None, {10: 1},
         False),
        # Overlapping slices: a missing one leaves no gap, but a double step.
        ([2.5, 2.5, 5, 2.5, 2.5], 5.0, None, {2: 1}, False),
        ([2.5] * 6 + [5] * 6, 5.0, None, {}, False),
        ([2] * 6 + [2.75] + [3.5] * 6, [4.0] * 7 + [7.0] * 7, None, {}, False),
        # A gap of half a slice is neither.
        ([2, 2, 1, 3, 2, 2], 2.0, None, {}, True),
        ([2, 2, 1.5, 2.5, 2, 2], 2.0, None, {}, False),
        ([2, 2.01, 1.99, 2], 2.0, None, {}, False),
        ([2, 2.01, 1.99, 2], None, None, {}, True),
        ([4, 8, 4, 8, 4, 8], 4.0, None, {1: 1, 3: 1, 5: 1}, False),
        ([2, 2, 4, 2, 2], None, None, {2: 1}, True),
        # One smaller step alone cannot hide a slice.
        ([4, 4, 1, 4, 4], None, None, {}, False),
        ([10] * 6 + [20] * 6, 1.0, None, {}, True),
        # Thickness in turn, and positions of where slices begin; then with one missing.
        ([3, 5] * 6, [3.0, 5.0] * 6 + [3.0], None, {}, False),
        ([3, 5, 3, 8, 5, 3, 5], [3.0, 5.0, 3.0, 5.0, 5.0, 3.0, 5.0, 3.0], None, {3: 1}, False),
    ],
)  # fmt: skip
def test_what_tells_missing_from_uneven(steps, thickness, between, missing, doubtful):
    assert _judge(steps, thickness, between) == (missing, doubtful)


@pytest.mark.parametrize("kind", ["series", "enhanced"])
def test_an_untrusted_scan_keeps_its_places(tmp_path, kind):
    path, _ = write_uneven(tmp_path, HEAD_CT, kind=kind, lean=TILT)
    files = sorted(path.iterdir()) if path.is_dir() else ()
    # On a busy machine a child takes long to begin.
    far = open_untrusted(path, files=files, limits=Limits(deadline_s=600.0))
    plain = open_source(path, files=files)
    assert far.sequence.uneven == plain.sequence.uneven is not None
    assert far.sequence.warnings == plain.sequence.warnings
    assert (far.sequence.geometry.affine == plain.sequence.geometry.affine).all()
    for name, source in (("own", plain), ("far", far)):
        write_labels(
            _find_ball(source), source, tmp_path / name, labels_spec=LABELS,
            algorithm=Algorithm("a", "1", "0", "source"), format="dicom-seg",
        )  # fmt: skip
    assert (tmp_path / "own").read_bytes() == (tmp_path / "far").read_bytes()


def test_slices_of_several_thicknesses_that_are_even_say_their_own(tmp_path):
    form = np.arange(8) * 4.0, [3.0, 5.0] * 4
    path, _ = write_uneven(tmp_path, form)
    source = open_source(path)
    assert source.sequence.uneven is None
    assert source.sequence.slice_spacing_mm == pytest.approx(4.0)
    labels = LabelMap(np.ones((8, *source.sequence.shape[2:]), np.uint8))
    seg = write_labels(
        labels, source, tmp_path / "seg.dcm", labels_spec=LABELS, algorithm=ALGORITHM,
        format="dicom-labelmap",
    )  # fmt: skip
    assert [float(own.SliceThickness) for _, own in _read_seg(seg)] == form[1]
    assert _find_errors(seg) == []
