"""NIfTI: frames turned once at the door, labels back on the very grid, refusals."""

import gzip

import nibabel
import numpy as np
import pytest

from bedside.errors import FormatError, GeometryError, InputError
from bedside.io.nifti.file import open_nifti
from bedside.io.source import Algorithm, open_source, write_labels
from bedside.volume import LabelMap
from makers import LABELS, make_dicom, make_fan, make_labels, write_dicom, write_nifti
from tolerances import SPACING_RELATIVE

pytest_plugins = ["memory_fixtures"]
pytestmark = pytest.mark.usefixtures("in_little_memory")

OBLIQUE = np.array([[-0.5, 0.2, 0, 7], [0.2, 0.5, 0, -3], [0, 0.1, 1.5, 2], [0, 0, 0, 1]])


def _write_back(labels, source, target):
    return write_labels(
        LabelMap(labels, source.sequence.spacing_mm),
        source,
        target,
        labels_spec=LABELS,
        algorithm=Algorithm("a", "1", "0"),
        format="nifti",
    )


def _patch(path, offset, content):
    """Overwrite bytes of a header."""
    whole = bytearray(path.read_bytes())
    whole[offset : offset + len(content)] = content
    path.write_bytes(whole)
    return path


@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz", "no_suffix_but.gz"])
def test_a_slice_comes_out_with_y_down_and_x_across(tmp_path, name):
    array = np.random.default_rng(0).integers(0, 255, (7, 5)).astype(np.uint8)
    written = write_nifti(array, tmp_path / ("x.nii.gz" if name.endswith("gz") else "x.nii"))
    source = open_source(written.rename(tmp_path / name))
    assert source.kind == "nifti"
    assert source.sequence.shape == (1, 1, 5, 7)
    assert np.array_equal(source.sequence.decode(0)[0], array.T)
    assert source.sequence.spacing_mm == pytest.approx((0.8, 0.5), rel=SPACING_RELATIVE)
    assert source.sequence.modality is None


def test_a_stack_comes_out_as_frames_in_the_order_of_z(tmp_path):
    array = np.random.default_rng(0).integers(-9, 900, (7, 5, 4)).astype(np.int16)
    sequence, _ = open_nifti(write_nifti(array, tmp_path / "x.nii.gz"))
    assert sequence.shape == (4, 1, 5, 7)
    assert sequence.decode(2).dtype == np.int16
    assert np.array_equal(np.stack(list(sequence))[:, 0], array.transpose(2, 1, 0))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 1), (7, 5, 4), (7, 5, 4, 1)])
@pytest.mark.parametrize("codes", [(0, 2), (1, 1), (1, 0), (0, 0)])
def test_labels_go_back_on_the_very_grid(tmp_path, version, shape, codes):
    array = np.random.default_rng(0).integers(0, 4, shape).astype(np.uint8)
    affine = np.diag([-0.5, -0.8, 2, 1]) if codes[0] else OBLIQUE
    path = write_nifti(array, tmp_path / "x.nii.gz", affine=affine, codes=codes, version=version)
    source = open_source(path)
    labels = np.stack(list(source.sequence))[:, 0]
    target = _write_back(labels, source, tmp_path / "labels.nii.gz")
    image, back = nibabel.load(path), nibabel.load(target)
    assert np.array_equal(np.asarray(back.dataobj), array)
    assert back.get_data_dtype() == np.uint8
    assert np.array_equal(back.affine, image.affine)
    for field in (
        "sizeof_hdr",
        "qform_code",
        "sform_code",
        "pixdim",
        "dim",
        "srow_x",
        "xyzt_units",
    ):
        assert np.array_equal(back.header[field], image.header[field]), field
    assert np.array_equal(back.get_qform(), image.get_qform())


def test_labels_of_a_scaled_image_are_not_scaled(tmp_path):
    image = nibabel.Nifti1Image(np.arange(35, dtype=np.int16).reshape(7, 5), np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "x.nii")
    source = open_source(tmp_path / "x.nii")
    labels = np.ones((1, 5, 7), np.uint8) * 3
    target = _write_back(labels, source, tmp_path / "labels.nii")
    assert np.array_equal(np.asarray(nibabel.load(target).dataobj), np.full((7, 5), 3))


def test_labels_of_a_dicom_cine_are_x_y_frame_without_a_place(tmp_path):
    source = open_source(write_dicom(make_dicom(make_fan()), tmp_path / "x.dcm"))
    target = _write_back(make_labels(), source, tmp_path / "labels.nii.gz")
    back = nibabel.load(target)
    assert np.array_equal(np.asarray(back.dataobj), make_labels().transpose(2, 1, 0))
    assert (int(back.header["qform_code"]), int(back.header["sform_code"])) == (0, 0)
    assert back.header.get_xyzt_units()[0] == "unknown"


def test_units_other_than_mm_are_converted(tmp_path):
    path = write_nifti(np.zeros((4, 4), np.uint8), tmp_path / "x.nii", spacing_mm=(500, 800, 1))
    _patch(path, 123, b"\x03")
    assert open_nifti(path)[0].spacing_mm == pytest.approx((0.8, 0.5), rel=SPACING_RELATIVE)


def test_a_header_without_place_is_warned_of(tmp_path):
    path = write_nifti(np.zeros((4, 4), np.uint8), tmp_path / "x.nii", codes=(0, 0))
    sequence, _ = open_nifti(path)
    assert "how the image lies" in sequence.warnings[0]
    assert sequence.spacing_mm == pytest.approx((0.8, 0.5), rel=SPACING_RELATIVE)


def test_a_few_nans_are_filled_and_many_refused(tmp_path):
    array = np.full((50, 50), 2, np.float32)
    array[0, 0] = np.nan
    sequence, _ = open_nifti(write_nifti(array, tmp_path / "few.nii"))
    assert np.array_equal(sequence.decode(0)[0], np.full((50, 50), 2))
    assert "1 voxel is NaN" in sequence.warnings[0]
    array[:10] = np.nan
    with pytest.raises(InputError, match="500 of 2500"):
        open_nifti(write_nifti(array, tmp_path / "many.nii"))


def test_a_fourth_axis_is_refused(tmp_path):
    path = write_nifti(np.zeros((4, 4, 2, 3), np.uint8), tmp_path / "x.nii")
    with pytest.raises(FormatError, match=r"3 of time or channel.*--select"):
        open_nifti(path)


def test_bad_magic_is_refused(tmp_path):
    path = _patch(write_nifti(np.zeros((4, 4), np.uint8), tmp_path / "x.nii"), 344, b"abc\0")
    with pytest.raises(FormatError, match=r"x\.nii.*abc"):
        open_source(path)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("share", [0.5, 0.98])
def test_a_truncated_file_is_refused(tmp_path, name, share):
    array = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    path = write_nifti(array, tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FormatError, match="truncated"):
        open_source(path)


def test_a_nan_or_singular_affine_and_a_zero_spacing_are_refused(tmp_path):
    array = np.zeros((4, 4, 3), np.uint8)
    nan = np.array([np.nan] * 4, "<f4").tobytes()
    with pytest.raises(GeometryError, match="affine"):
        open_nifti(_patch(write_nifti(array, tmp_path / "nan.nii"), 280, nan))
    with pytest.raises(GeometryError, match="affine"):
        open_nifti(_patch(write_nifti(array, tmp_path / "flat.nii"), 280, bytes(16)))
    with pytest.raises(GeometryError, match="spacing"):
        open_nifti(_patch(write_nifti(array, tmp_path / "zero.nii"), 80, bytes(4)))


def test_a_gzip_bomb_is_refused_while_it_inflates(tmp_path):
    path = tmp_path / "bomb.nii.gz"
    head = write_nifti(np.zeros((4, 4), np.uint8), tmp_path / "x.nii").read_bytes()
    path.write_bytes(gzip.compress(head + bytes(5_000_000)))
    assert path.stat().st_size < 10_000
    with pytest.raises(FormatError, match=r"more than .* bytes and is refused"):
        open_nifti(path)


def test_a_scan_larger_than_is_read_is_refused_before_it_is_inflated(tmp_path):
    array = np.random.default_rng(0).integers(0, 4000, (40, 30, 50)).astype(np.int16)
    path = write_nifti(array, tmp_path / "large.nii.gz")
    # What lies behind the header is not looked at.
    packed = bytearray(path.read_bytes())
    packed[len(packed) // 2 :] = bytes(len(packed) - len(packed) // 2)
    path.write_bytes(packed)
    with pytest.raises(FormatError, match=r"declares \(40, 30, 50\).* are read"):
        open_nifti(path, max_bytes=100_000)


def test_bytes_behind_the_voxels_of_a_compressed_scan_are_passed_over(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    plain = write_nifti(array, tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(plain + b"rest"))
    sequence, _ = open_nifti(tmp_path / "a.nii.gz")
    assert (np.concatenate(list(sequence)) == array.T).all()


def _write_places(path, qform, sform, *, shape=(4, 5, 6)):
    """Write an image whose two places are given, both with a code."""
    image = nibabel.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4))
    image.header.set_qform(qform, code=1)
    image.header.set_sform(sform, code=1)
    nibabel.save(nibabel.Nifti1Image(image.dataobj, None, header=image.header), path)
    return path


def test_a_qform_that_mirrors_the_sform_is_refused(tmp_path):
    sform = np.diag([0.5, 0.8, 2, 1])
    path = _write_places(tmp_path / "x.nii", np.diag([-0.5, 0.8, 2, 1]), sform)
    with pytest.raises(GeometryError, match="left and right"):
        open_nifti(path)


def test_a_qform_elsewhere_is_warned_of_and_one_that_agrees_is_not(tmp_path):
    sform = np.diag([0.5, 0.8, 2, 1.0])
    moved = sform.copy()
    moved[0, 3] = 3.0
    sequence, _ = open_nifti(_write_places(tmp_path / "x.nii", moved, sform))
    assert "up to 6.0 pixels apart" in sequence.warnings[0]
    assert sequence.geometry.affine[0, 3] == 0
    # Not mirrored, but turned by half a turn: both handednesses are the same.
    turned = np.diag([-0.5, -0.8, 2, 1.0])
    assert "apart" in open_nifti(_write_places(tmp_path / "y.nii", turned, sform))[0].warnings[0]
    assert open_nifti(_write_places(tmp_path / "z.nii", sform, sform))[0].warnings == ()


def test_the_affine_counts_where_pixdim_is_another(tmp_path):
    path = write_nifti(np.zeros((4, 4, 3), np.uint8), tmp_path / "x.nii", spacing_mm=(0.5, 0.8, 2))
    _patch(path, 80, np.array([1, 1, 1], "<f4").tobytes())
    sequence, _ = open_nifti(path)
    assert sequence.spacing_mm == pytest.approx((0.8, 0.5), rel=SPACING_RELATIVE)
    assert sequence.slice_spacing_mm == pytest.approx(2, rel=SPACING_RELATIVE)
    assert "1 x 1 x 1 and an affine of 2 x 0.8 x 0.5" in sequence.warnings[0]


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_a_pixdim_that_is_none_is_refused(tmp_path, axis, value):
    path = write_nifti(np.zeros((4, 4, 3), np.uint8), tmp_path / "x.nii")
    _patch(path, 76 + 4 * axis, np.array([value], "<f4").tobytes())
    with pytest.raises(GeometryError, match="spacing"):
        open_nifti(path)


@pytest.mark.parametrize(
    "scaling",
    [(np.inf, 0), (-np.inf, np.nan), (1, np.inf), (2, np.nan), (0, -np.inf), (np.nan, np.inf)],
)
def test_voxels_scaled_by_no_number_are_refused(tmp_path, scaling):
    path = write_nifti(np.zeros((4, 4, 3), np.uint8), tmp_path / "x.nii")
    _patch(path, 112, np.array(scaling, "<f4").tobytes())
    with pytest.raises(FormatError, match="scl_slope"):
        open_nifti(path)


@pytest.mark.parametrize("scaling", [(np.nan, np.nan), (np.nan, 3), (0, np.nan), (0, 5)])
def test_a_slope_that_is_none_means_no_scaling(tmp_path, scaling):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = _patch(write_nifti(array, tmp_path / "x.nii"), 112, np.array(scaling, "<f4").tobytes())
    sequence, _ = open_nifti(path)
    assert sequence.decode(1).dtype == np.int16
    assert np.array_equal(np.concatenate(list(sequence)), array.T)
    assert sequence.warnings == ()


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_time_that_is_named_is_read_and_labels_lie_on_its_grid(tmp_path, name):
    array = np.random.default_rng(0).integers(0, 4, (7, 5, 4, 3)).astype(np.uint8)
    source = open_source(write_nifti(array, tmp_path / name), select={"time": 2})
    labels = np.stack(list(source.sequence))[:, 0]
    assert np.array_equal(labels, array[..., 1].transpose(2, 1, 0))
    back = nibabel.load(_write_back(labels, source, tmp_path / "labels.nii.gz"))
    assert np.array_equal(np.asarray(back.dataobj), array[..., 1])
    assert np.array_equal(back.affine, nibabel.load(tmp_path / name).affine)


def test_times_and_channels_are_named_apart_where_there_are_both(tmp_path):
    array = np.arange(4 * 4 * 2 * 3 * 2).reshape(4, 4, 2, 3, 2).astype(np.int16)
    path = write_nifti(array, tmp_path / "x.nii")
    source = open_source(path, select={"time": 3, "channel": 2})
    assert np.array_equal(source.sequence.decode(1)[0], array[:, :, 1, 2, 1].T)
    for select in ({}, {"time": 3}, {"channel": 1}):
        with pytest.raises(FormatError, match="time=N channel=N"):
            open_source(path, select=select)
    channels = write_nifti(array[:, :, :, :1], tmp_path / "y.nii")
    source = open_source(channels, select={"channel": 2})
    assert np.array_equal(source.sequence.decode(1)[0], array[:, :, 1, 0, 1].T)


def test_more_axes_than_five_are_refused(tmp_path):
    path = write_nifti(np.zeros((4, 4, 2, 1, 1, 3), np.uint8), tmp_path / "x.nii")
    with pytest.raises(FormatError, match="at most"):
        open_nifti(path)
