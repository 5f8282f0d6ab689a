"""Forms of NIfTI that nibabel and SimpleITK read: the same voxels in the same place, or by name."""

import gzip
import itertools
import zlib

import nibabel
import numpy as np
import pytest
import SimpleITK

from bedside.errors import FormatError
from bedside.io.discovery import find_sources
from bedside.io.read_options import Limits, ReadOptions
from bedside.io.source import Algorithm, open_source, write_labels
from bedside.volume import LabelMap
from makers import LABELS
from tolerances import NIFTI_PLACE_MM

AFFINE = np.array([[-0.5, 0, 0.1, 7], [0, 0.6, 0, -3], [0.02, 0, 1.5, 2], [0, 0, 0, 1]])
RIGID = np.array([[-0.5, 0, 0, 7], [0, 0, 1.5, -3], [0, 0.6, 0, 2], [0, 0, 0, 1]])
VOXELS = np.random.default_rng(0).integers(0, 90, (5, 4, 3))
BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def save(path, array=VOXELS, *, kind=nibabel.Nifti1Image, affine=RIGID, endianness="<", **fields):
    """Write an image by nibabel, with fields of its header as they are wanted."""
    header = kind.header_class(endianness=endianness)
    header.set_data_dtype(array.dtype)
    image = kind(array, affine, header)
    image.header.set_xyzt_units("mm")
    for name, value in fields.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def read(source):
    return np.stack([frame[0] for frame in source.sequence])


def patch(path, offset, content):
    whole = bytearray(path.read_bytes())
    whole[offset : offset + len(content)] = content
    path.write_bytes(whole)
    return path


def assert_as_elsewhere(path, reference=None):
    """The voxels are nibabel's, and lie where nibabel and SimpleITK put them."""
    source = open_source(path)
    image = nibabel.load(reference or path)
    assert np.array_equal(read(source), np.asarray(image.dataobj).T)
    itk = SimpleITK.ReadImage(str(reference or path))
    assert np.allclose(read(source), SimpleITK.GetArrayFromImage(itk))
    index = (2, 1, 3)  # slice, row, column
    lps = (source.sequence.geometry.affine @ (*index, 1))[:3]
    assert np.allclose(lps, itk.TransformIndexToPhysicalPoint(index[::-1]), atol=NIFTI_PLACE_MM)
    assert np.allclose(
        lps * (-1, -1, 1), (image.affine @ (*index[::-1], 1))[:3], atol=NIFTI_PLACE_MM
    )
    return source


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("version", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_every_type_version_and_byte_order_is_read(tmp_path, kind, endianness, version):
    path = save(tmp_path / "a.nii", VOXELS.astype(kind), kind=version, endianness=endianness)
    if version is nibabel.Nifti1Image:
        assert_as_elsewhere(path)
    assert np.array_equal(read(open_source(path)), VOXELS.T)


def members(content, cuts):
    """Compress the parts of a content as members of one gzip file."""
    edges = [0, *cuts, len(content)]
    return b"".join(gzip.compress(content[a:b]) for a, b in itertools.pairwise(edges))


@pytest.mark.parametrize(
    "packed",
    [
        lambda plain: members(plain, [400]),
        lambda plain: members(plain, [1]),
        lambda plain: members(plain, [0, 0, 100, 352, 360]),
        lambda plain: members(plain, range(1, len(plain))),
        lambda plain: members(plain, [200]) + BGZIP_END,
        lambda plain: gzip.compress(plain) + bytes(5000),
        lambda plain: gzip.compress(plain[:352]) + bytes(512) + gzip.compress(plain[352:]),
        lambda plain: members(plain, [352]) + bytes(20000) + gzip.compress(b""),
        lambda plain: gzip.compress(plain) + b"what a tape leaves",
    ],
)
@pytest.mark.parametrize("reading", [ReadOptions(), ReadOptions(untrusted=Limits())])
def test_gzip_of_several_members_is_read_whole(tmp_path, packed, reading):
    plain = save(tmp_path / "a.nii", VOXELS.astype(np.int16))
    path = tmp_path / "b.nii.gz"
    path.write_bytes(packed(plain.read_bytes()))
    if reading.untrusted is None:
        assert_as_elsewhere(path, plain)
    assert np.array_equal(read(reading.open(path)), VOXELS.T)


def test_a_bomb_of_several_members_is_refused_while_it_inflates(tmp_path):
    plain = save(tmp_path / "a.nii", VOXELS.astype(np.int16)).read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(gzip.compress(plain) + gzip.compress(bytes(1_000_000)) * 9)
    with pytest.raises(FormatError, match="and is refused"):
        open_source(path)


@pytest.mark.parametrize("missing", [1, 9, 300])
def test_a_last_member_that_is_cut_off_is_refused(tmp_path, missing):
    plain = save(tmp_path / "a.nii", VOXELS.astype(np.int16)).read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(members(plain, [352])[:-missing])
    with pytest.raises(FormatError, match=r"b\.nii\.gz"):
        open_source(path)


@pytest.mark.parametrize("names", [("a.hdr", "a.img"), ("a.hdr.gz", "a.img.gz"),
                                   ("a.hdr", "a.img.gz"), ("a.b.hdr", "a.b.img")])  # fmt: skip
@pytest.mark.parametrize("version", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
@pytest.mark.parametrize("reading", [ReadOptions(), ReadOptions(untrusted=Limits())])
def test_a_pair_is_read_by_its_header_and_gets_its_labels(tmp_path, names, version, reading):
    save(tmp_path / "x.img", VOXELS.astype(">i2"), kind=version, endianness=">")
    for name, end in zip(names, (".hdr", ".img"), strict=True):
        content = (tmp_path / f"x{end}").read_bytes()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    source = reading.open(tmp_path / names[0])
    assert np.array_equal(read(source), VOXELS.T)
    image = nibabel.load(tmp_path / "x.img")
    target = write_labels(
        LabelMap(read(source).astype(np.uint8)), source, tmp_path / "labels.nii.gz",
        labels_spec=LABELS, algorithm=Algorithm("a", "1", "0"), format="nifti",
    )  # fmt: skip
    back = nibabel.load(target)
    assert np.array_equal(np.asarray(back.dataobj), VOXELS)
    assert np.array_equal(back.affine, image.affine)


def test_the_voxels_of_a_pair_name_their_header_and_are_no_case(tmp_path):
    save(tmp_path / "x.img", VOXELS.astype("i2"), kind=nibabel.Nifti1Pair)
    with pytest.raises(FormatError, match=r"holds the voxels of x\.hdr"):
        open_source(tmp_path / "x.img")
    assert find_sources(tmp_path).paths == (tmp_path / "x.hdr",)
    (tmp_path / "x.img").unlink()
    with pytest.raises(FormatError, match=r"x\.img or x\.img\.gz, are missing"):
        open_source(tmp_path / "x.hdr")


def test_extensions_are_passed_over(tmp_path):
    image = nibabel.Nifti1Image(VOXELS.astype(np.int16), RIGID)
    image.header.set_xyzt_units("mm")
    for text in (b"a", b"b" * 5000):
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", text))
    for name in ("a.nii", "a.nii.gz"):
        nibabel.save(image, tmp_path / name)
        assert_as_elsewhere(tmp_path / name)


@pytest.mark.parametrize("alpha", [False, True])
def test_colours_are_read_as_channels(tmp_path, alpha):
    fields = [(letter, "u1") for letter in ("RGBA" if alpha else "RGB")]
    values = np.random.default_rng(0).integers(0, 255, (5, 4, 3, len(fields))).astype(np.uint8)
    array = np.ascontiguousarray(values).view(fields)[..., 0]
    source = open_source(save(tmp_path / "a.nii.gz", array))
    assert source.sequence.shape == (3, 3, 4, 5)
    assert np.array_equal(np.stack(list(source.sequence)), values[..., :3].transpose(2, 3, 1, 0))
    assert any("transparency" in text for text in source.sequence.warnings) == alpha
    if not alpha:
        itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "a.nii.gz")))
        assert np.array_equal(np.stack(list(source.sequence)), np.moveaxis(itk, -1, 1))


@pytest.mark.parametrize(
    ("code", "says"),
    [(0, "of no type"), (1, "of one bit"), (32, "complex64"), (1536, "float128"),
     (1792, "complex128"), (2048, "complex256")],
)  # fmt: skip
def test_types_that_are_not_read_are_named(tmp_path, code, says):
    path = save(tmp_path / "a.nii", VOXELS.astype("u1"))
    with pytest.raises(FormatError, match=f"numbers that are {says}"):
        open_source(patch(path, 70, np.int16(code).tobytes()))


def test_analyze_cifti_and_other_formats_are_refused_by_name(tmp_path):
    nibabel.save(nibabel.AnalyzeImage(VOXELS.astype(np.int16), None), tmp_path / "a.img")
    with pytest.raises(FormatError, match=r"ANALYZE 7\.5, which does not say left from right"):
        open_source(tmp_path / "a.hdr")
    cifti = save(
        tmp_path / "b.nii", np.zeros((1, 1, 1, 1, 6, 7), "f4"), kind=nibabel.Nifti2Image,
        intent_code=3002,
    )  # fmt: skip
    with pytest.raises(FormatError, match="is CIFTI"):
        open_source(cifti)
    nibabel.save(nibabel.MGHImage(VOXELS.astype(np.int16), RIGID), tmp_path / "c.mgz")
    with pytest.raises(FormatError, match=r"gzip file, and what it holds is a FreeSurfer"):
        open_source(tmp_path / "c.mgz")
    for name, content, says in (
        ("d.nii.bz2", b"BZh9" + bytes(20), "compressed by bzip2"),
        ("e.tif", b"II*\0" + bytes(40), "a TIFF picture"),
        ("f.npy", b"\x93NUMPY\x01\0", "an array of NumPy"),
        ("g.mha.gz", gzip.compress(b"ObjectType = Image\nNDims = 3\n"), "compressed as a whole"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FormatError, match=says):
            open_source(tmp_path / name)


@pytest.mark.parametrize("count", [0, 1, 8, -3])
def test_a_number_of_axes_that_is_none_is_refused(tmp_path, count):
    path = patch(save(tmp_path / "a.nii", VOXELS.astype("u1")), 40, np.int16(count).tobytes())
    with pytest.raises(FormatError, match=r"dim\[0\] is"):
        open_source(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_voxels_of_axes_behind_dim_0_are_not_left_out_without_a_word(tmp_path, name):
    plain = save(tmp_path / "plain.nii", np.zeros((5, 4, 3, 2), np.uint8))
    content = patch(plain, 40, np.int16(3).tobytes()).read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(FormatError, match=r"dim\[0\] says 3 axes"):
        open_source(tmp_path / name)


def test_lengths_behind_dim_0_mean_nothing_and_a_length_of_0_is_1(tmp_path):
    path = save(tmp_path / "a.nii", VOXELS.astype("u1"))
    patch(path, 48, np.array([7, 0, 3, 9], np.int16).tobytes())
    assert np.array_equal(read(open_source(path)), VOXELS.T)
    patch(path, 40, np.array([5, 5, 4, 3, 0, 0], np.int16).tobytes())
    assert np.array_equal(read(open_source(path)), VOXELS.T)


@pytest.mark.parametrize("offset", [0, 1, 348, 351])
def test_voxels_that_would_begin_in_the_header_are_refused(tmp_path, offset):
    path = save(tmp_path / "a.nii", VOXELS.astype("u1"))
    with pytest.raises(FormatError, match=f"vox_offset is {offset}"):
        open_source(patch(path, 108, np.float32(offset).tobytes()))


def test_a_zlib_stream_ends_where_it_ends(tmp_path):
    from bedside.io.gzip_stream import Inflated

    path = tmp_path / "a.zraw"
    path.write_bytes(zlib.compress(b"abc") + gzip.compress(b"no member of it"))
    assert Inflated(path, max_bytes=100, compressed=True).size == 3
