"""Masks of DICOM scans lie where the patient does, through every reader and writer.

A ball at the patient's left and a larger one to the right, back and head are drawn in scans
of every order and direction of axes, oblique and tilted, and come back through readers that
are not ours.
"""

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK

from bedside.io.source import Algorithm, open_source, write_labels
from bedside.volume import Geometry, LabelMap
from dicom_makers import make_affine, make_enhanced, make_slices, write_series
from makers import LABELS, write_dicom
from volume_makers import ORIENTATIONS, centroid_mm, draw_phantom, make_geometry

SHAPE = (14, 16, 18)
SPACING = (2.5, 1.1, 0.9)
LEFT_MM = 4.0
TILT = float(np.tan(np.radians(20)))
OBLIQUE = (0.9, 0.3, np.sqrt(1 - 0.9**2 - 0.3**2))


def _oblique_affine(lean=(0.0, 0.0)):
    across = np.array(OBLIQUE)
    down = np.cross([0.2, -0.4, 0.9], across)
    down /= np.linalg.norm(down)
    return make_affine((*across, *down), spacing=SPACING, lean=lean)


def _right_handed(affine):
    """DICOM's slices are stacked along the cross product, so mirrored grids do not exist."""
    normal = np.cross(affine[:3, 2], affine[:3, 1])
    return float(normal @ affine[:3, 0]) > 0


def _make_affines():
    affines = {
        f"{order}{signs}": make_geometry(SHAPE, SPACING, order, signs).affine
        for order, signs in ORIENTATIONS
    }
    affines["oblique"] = _oblique_affine()
    affines["tilted"] = make_affine(spacing=SPACING, lean=(TILT, 0.0))
    affines["tilted the other way"] = make_affine(spacing=SPACING, lean=(-TILT, 0.1))
    affines["oblique and tilted"] = _oblique_affine(lean=(TILT, 0.05))
    return affines


AFFINES = _make_affines()


def _draw(affine):
    """Labels with 1 at the patient's left and 2 at the right, back and head."""
    geometry = Geometry(SHAPE, affine, space="LPS")
    middle = affine[:3] @ [*(np.array(SHAPE) - 1) / 2, 1]
    labels = np.zeros(SHAPE, np.uint8)
    labels[draw_phantom(geometry, middle + np.array([3.5, 0, 0]), 2.6)] = 1
    labels[draw_phantom(geometry, middle + np.array([-3.0, 2, 2]), 3.4)] = 2
    return labels, geometry


def _open(folder, kind, affine, labels):
    stored = labels.astype(np.uint16) * 500
    if kind == "series":
        write_series(make_slices(stored, affine), folder / "scan")
        return open_source(folder / "scan")
    order = np.random.default_rng(1).permutation(len(labels)).tolist()
    return open_source(write_dicom(make_enhanced(stored, affine, order=order), folder / "scan.dcm"))


def _places_of_seg(path, value):
    """Where the pixels of a structure lie, in mm, by pydicom and the groups alone."""
    seg = pydicom.dcmread(path)
    shared = seg.SharedFunctionalGroupsSequence[0]
    directions = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    row_mm, column_mm = (float(x) for x in shared.PixelMeasuresSequence[0].PixelSpacing)
    places = []
    groups = seg.PerFrameFunctionalGroupsSequence
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, group in zip(pixels, groups, strict=True):
        if seg.SegmentationType == "BINARY":
            number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            frame = frame * number
        rows, columns = np.nonzero(frame == value)
        corner = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        places.append(
            corner
            + columns[:, None] * column_mm * directions[:3]
            + rows[:, None] * row_mm * directions[3:]
        )
    return np.concatenate(places)


def _check(places, geometry, labels, value):
    expected = centroid_mm(labels == value, geometry)
    half_voxel = 0.5 * min(SPACING)
    assert np.linalg.norm(places.mean(axis=0) - expected) < half_voxel
    return places.mean(axis=0)


@pytest.mark.parametrize("kind", ["series", "enhanced"])
@pytest.mark.parametrize("name", AFFINES)
def test_left_stays_left_and_every_centroid_stays_where_it_is(tmp_path, kind, name):
    affine = AFFINES[name]
    labels, geometry = _draw(affine)
    source = _open(tmp_path, kind, affine, labels)
    # The reader: its own affine places its own voxels.
    values = np.stack(list(source.sequence))[:, 0] + 1024
    found = np.rint(values / 500).astype(np.uint8)
    for value in (1, 2):
        ours = centroid_mm(found == value, source.sequence.geometry)
        np.testing.assert_allclose(ours, centroid_mm(labels == value, geometry), atol=1e-4)
    if _right_handed(affine):
        assert np.array_equal(found, labels)
    # The writers, read back by others.
    _check_writers(tmp_path, source, found, labels, geometry)


def _check_writers(folder, source, found, labels, geometry):
    for format_ in ("dicom-seg", "dicom-labelmap", "nifti"):
        suffix = ".nii.gz" if format_ == "nifti" else ".dcm"
        path = write_labels(
            LabelMap(found), source, folder / (format_ + suffix), labels_spec=LABELS,
            algorithm=Algorithm("a", "1", "ab" * 32), format=format_,
        )  # fmt: skip
        middles = {}
        for value in (1, 2):
            if format_ == "nifti":
                image = nibabel.load(path)
                index = np.argwhere(np.asarray(image.dataobj) == value)
                places = nibabel.affines.apply_affine(image.affine, index) * [-1, -1, 1]
            else:
                places = _places_of_seg(path, value)
            middles[value] = _check(places, geometry, labels, value)
        # LPS: x grows to the left.
        assert middles[1][0] > middles[2][0] + LEFT_MM


@pytest.mark.parametrize("format_", ["dicom-seg", "dicom-labelmap"])
@pytest.mark.parametrize("name", ["(2, 1, 0)(1, 1, 1)", "(0, 2, 1)(-1, 1, -1)", "oblique"])
def test_highdicom_builds_the_same_volume(tmp_path, format_, name):
    affine = AFFINES[name]
    labels, geometry = _draw(affine)
    source = _open(tmp_path, "series", affine, labels)
    found = np.rint((np.stack(list(source.sequence))[:, 0] + 1024) / 500).astype(np.uint8)
    path = write_labels(
        LabelMap(found), source, tmp_path / "seg.dcm", labels_spec=LABELS,
        algorithm=Algorithm("a", "1", "ab" * 32), format=format_,
    )  # fmt: skip
    seg = highdicom.seg.segread(path)
    volume = seg.get_volume(combine_segments=True)
    for value in (1, 2):
        index = np.argwhere(volume.array == value)
        places = volume.map_indices_to_reference(index)
        _check(places, geometry, labels, value)


@pytest.mark.parametrize("lean", [(TILT, 0.0), (-TILT, 0.1)])
def test_a_tilted_series_is_sheared_and_says_so(tmp_path, lean):
    affine = make_affine(spacing=SPACING, lean=lean)
    labels, _ = _draw(affine)
    sequence = _open(tmp_path, "series", affine, labels).sequence
    np.testing.assert_allclose(sequence.geometry.affine, affine, atol=1e-5)
    assert sequence.slice_spacing_mm == pytest.approx(SPACING[0])
    assert any("tilted by 2" in text for text in sequence.warnings)


def _itk_affine(image):
    """The LPS affine for (D, H, W) of an image that ITK has read."""
    affine = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, :3] = directions[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return affine


@pytest.mark.parametrize("name", [name for name in AFFINES if "tilted" not in name])
def test_itk_reads_the_same_scan_and_the_same_mask(tmp_path, name):
    """Not of tilted scans: ITK takes their slices for upright ones, or refuses the affine."""
    affine = AFFINES[name]
    labels, geometry = _draw(affine)
    source = _open(tmp_path, "series", affine, labels)
    values = np.stack(list(source.sequence))[:, 0]
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "scan")))
    image = reader.Execute()
    theirs, ours = _itk_affine(image), source.sequence.geometry.affine
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), values)
    found = np.rint((values + 1024) / 500).astype(np.uint8)
    path = write_labels(
        LabelMap(found), source, tmp_path / "mask.nii.gz", labels_spec=LABELS,
        algorithm=Algorithm("a", "1", "0"), format="nifti",
    )  # fmt: skip
    mask = SimpleITK.ReadImage(str(path))
    np.testing.assert_allclose(_itk_affine(mask), ours, atol=1e-4)
    array = SimpleITK.GetArrayFromImage(mask)
    for value in (1, 2):
        places = np.argwhere(array == value) @ _itk_affine(mask)[:3, :3].T
        _check(places + _itk_affine(mask)[:3, 3], geometry, labels, value)
