"""Forms of MetaImage that SimpleITK reads: the same voxels in the same place, or a refusal."""

import gzip
import zlib

import nibabel
import numpy as np
import pytest
import SimpleITK

from bedside.errors import FormatError
from bedside.io.read_options import Limits, ReadOptions
from bedside.io.source import Algorithm, open_source, write_labels
from bedside.volume import LabelMap
from layout_makers import write_metaimage
from makers import LABELS
from tolerances import FLOAT64_ATOL

SCAN = np.random.default_rng(0).integers(-900, 900, (4, 3, 5)).astype(np.int16)
ANSWERS = [ReadOptions(), ReadOptions(untrusted=Limits())]


def read(source):
    return np.concatenate(list(source.sequence))


def as_itk(path):
    """The voxels are those that SimpleITK reads, and lie where it puts them."""
    source = open_source(path)
    itk = SimpleITK.ReadImage(str(path))
    assert np.array_equal(read(source), SimpleITK.GetArrayFromImage(itk))
    if source.sequence.geometry is not None:
        index = (1, 2, 3)
        placed = (source.sequence.geometry.affine @ (*index, 1))[:3]
        assert np.allclose(
            placed, itk.TransformIndexToPhysicalPoint(index[::-1]), atol=FLOAT64_ATOL
        )
    assert (source.sequence.slice_spacing_mm, *source.sequence.spacing_mm)[::-1] == itk.GetSpacing()
    return source


def split(path, names, *, before=b"", pack=bytes):
    """Put each slice into a file of its own, packed and after some bytes."""
    for name, plane in zip(names, SCAN, strict=True):
        (path.parent / name).write_bytes(before + pack(plane.tobytes()))


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("name", ["a.mha", "a.mhd"])
@pytest.mark.parametrize("compressed", [False, True])
def test_what_itk_writes_is_read_as_it_reads_it(tmp_path, kind, name, compressed):
    image = SimpleITK.GetImageFromArray(SCAN.astype(kind))
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetOrigin((10, -20, 30))
    image.SetDirection((0, 0, 1, 1, 0, 0, 0, 1, 0))
    SimpleITK.WriteImage(image, str(tmp_path / name), compressed)
    source = as_itk(tmp_path / name)
    assert source.sequence.warnings == ()


@pytest.mark.parametrize("reading", ANSWERS)
def test_a_list_of_slices_is_read_in_its_order(tmp_path, reading):
    names = ["d.raw", "a.raw", "c.raw", "b.raw"]
    path = write_metaimage(
        tmp_path / "a.mhd", SCAN, fields={"ElementDataFile": "LIST\n" + "\n".join(names)}
    )
    split(path, names)
    source = reading.open(path)
    assert np.array_equal(read(source), SCAN)
    as_itk(path)


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ("s%03d.raw 7 10 1", ["s007.raw", "s008.raw", "s009.raw", "s010.raw"]),
        ("s%d.raw 0 6 2", ["s0.raw", "s2.raw", "s4.raw", "s6.raw"]),
        ("s%02d.raw", ["s01.raw", "s02.raw", "s03.raw", "s04.raw"]),
        ("LIST 2\nw\nx\ny\nz", ["w", "x", "y", "z"]),
        ("LIST 2D\r\nw\r\nx\r\ny\r\nz\r\n", ["w", "x", "y", "z"]),
    ],
)
def test_patterns_and_lists_are_those_of_itk(tmp_path, data, names):
    path = write_metaimage(tmp_path / "a.mhd", SCAN, fields={"ElementDataFile": data})
    split(path, names)
    assert np.array_equal(read(open_source(path)), SCAN)
    if "\r" not in data:
        as_itk(path)


def test_a_list_may_name_whole_scans_and_packed_slices(tmp_path):
    path = write_metaimage(tmp_path / "a.mhd", SCAN, fields={"ElementDataFile": "LIST 3\nall"})
    (tmp_path / "all").write_bytes(SCAN.tobytes())
    assert np.array_equal(read(open_source(path)), SCAN)
    names = ["w", "x", "y", "z"]
    fields = {"ElementDataFile": "LIST\n" + "\n".join(names), "CompressedData": "True"}
    path = write_metaimage(tmp_path / "b.mhd", SCAN, fields=fields)
    split(path, names, pack=zlib.compress)
    assert np.array_equal(read(open_source(path)), SCAN)
    split(path, names, pack=lambda plain: gzip.compress(plain[:9]) + gzip.compress(plain[9:]))
    assert np.array_equal(read(open_source(path)), SCAN)
    fields = {"ElementDataFile": "LIST\n" + "\n".join(names), "HeaderSize": "-1"}
    path = write_metaimage(tmp_path / "c.mhd", SCAN, fields=fields)
    split(path, names, before=b"any length")
    assert np.array_equal(read(open_source(path)), SCAN)


def test_a_slice_that_is_short_or_elsewhere_is_named(tmp_path):
    fields = {"ElementDataFile": "LIST\nw\nx\ny\nz"}
    path = write_metaimage(tmp_path / "a.mhd", SCAN, fields=fields)
    split(path, ["w", "x", "y", "z"])
    (tmp_path / "y").write_bytes(b"short")
    with pytest.raises(FormatError, match="y holds 5 bytes of voxels"):
        open_source(path)
    (tmp_path / "y").unlink()
    with pytest.raises(FormatError, match="y, are missing"):
        open_source(path)
    path.write_bytes(path.read_bytes().replace(b"\ny\n", b"\nsub/y\n"))
    with pytest.raises(FormatError, match="'sub/y', in another folder"):
        open_source(path)


@pytest.mark.parametrize("key", ["TransformMatrix", "Rotation", "Orientation"])
@pytest.mark.parametrize("place", ["Offset", "Origin", "Position"])
def test_each_name_of_place_and_axes_means_what_itk_takes_it_for(tmp_path, key, place):
    fields = {"TransformMatrix": None, "Offset": None, "AnatomicalOrientation": None,
              key: "0 1 0 0 0 1 1 0 0",
              place: "4 5 6", "ElementSpacing": "0.5 0.75 2"}  # fmt: skip
    path = write_metaimage(tmp_path / "a.mhd", SCAN, fields=fields)
    assert as_itk(path).sequence.warnings == ()


@pytest.mark.parametrize("first", ["Offset", "Position"])
def test_two_places_that_differ_are_warned_of_and_itks_is_taken(tmp_path, first):
    places = {"Offset": "1 2 3", "Position": "4 5 6"}
    fields = {"Offset": None, first: places.pop(first), **places}
    path = write_metaimage(tmp_path / "a.mhd", SCAN, fields=fields)
    source = as_itk(path)
    assert source.sequence.geometry.affine[:3, 3].tolist() == [1, 2, 3]
    assert "Offset and Position, which differ" in source.sequence.warnings[0]


def test_element_size_stands_in_for_the_spacing_and_without_either_there_is_none(tmp_path):
    fields = {"ElementSpacing": None, "ElementSize": "0.5 0.75 2"}
    path = write_metaimage(tmp_path / "a.mhd", SCAN, fields=fields)
    as_itk(path)
    path = write_metaimage(tmp_path / "a.mhd", SCAN, fields={"ElementSpacing": None})
    sequence = open_source(path).sequence
    assert (sequence.spacing_mm, sequence.slice_spacing_mm, sequence.geometry) == (None, None, None)
    assert "how far apart voxels are" in sequence.warnings[0]


@pytest.mark.parametrize(("letters", "warned"), [("RAI", 0), ("LPS", 1), ("ARI", 1), ("???", 0)])
def test_letters_that_contradict_the_axes_are_warned_of(tmp_path, letters, warned):
    path = write_metaimage(tmp_path / "a.mhd", SCAN, fields={"AnatomicalOrientation": letters})
    assert len(as_itk(path).sequence.warnings) == warned


@pytest.mark.parametrize("matrix", [(0, 0, 1, 1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, 1, 0, 0, 0, -1)])
def test_letters_that_itk_writes_agree_with_its_axes(tmp_path, matrix):
    image = SimpleITK.GetImageFromArray(SCAN)
    image.SetDirection(matrix)
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
    assert open_source(tmp_path / "a.mha").sequence.warnings == ()


def test_a_plane_is_a_single_frame_and_gets_a_mask_of_its_size(tmp_path):
    image = SimpleITK.GetImageFromArray(SCAN[0])
    image.SetSpacing((0.5, 0.75))
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
    source = open_source(tmp_path / "a.mha")
    assert np.array_equal(read(source)[0], SCAN[0])
    assert (source.sequence.spacing_mm, source.sequence.slice_spacing_mm) == ((0.75, 0.5), None)
    back = nibabel.load(_write(source, tmp_path, np.ones((1, 3, 5), np.uint8)))
    assert np.allclose(back.header.get_zooms()[:2], (0.5, 0.75))


def _write(source, folder, labels):
    return write_labels(
        LabelMap(labels, source.sequence.spacing_mm), source, folder / "labels.nii.gz",
        labels_spec=LABELS, algorithm=Algorithm("a", "1", "0"), format="nifti",
    )  # fmt: skip


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("compressed", [False, True])
def test_colours_are_channels(tmp_path, channels, compressed):
    values = np.random.default_rng(0).integers(0, 255, (4, 3, 5, channels)).astype(np.uint8)
    image = SimpleITK.GetImageFromArray(values, isVector=True)
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"), compressed)
    source = open_source(tmp_path / "a.mha")
    assert np.array_equal(np.stack(list(source.sequence)), np.moveaxis(values[..., :3], -1, 1))
    assert any("transparency" in text for text in source.sequence.warnings) == (channels == 4)


def test_one_of_several_values_or_times_is_read_when_named(tmp_path):
    values = np.random.default_rng(0).random((4, 3, 5, 2)).astype(np.float32)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values, isVector=True), tmp_path / "a.mha")
    with pytest.raises(FormatError, match="2 of channel"):
        open_source(tmp_path / "a.mha")
    source = open_source(tmp_path / "a.mha", select={"channel": 2})
    assert np.array_equal(read(source), values[..., 1])
    times = [SimpleITK.GetImageFromArray(SCAN + step) for step in (0, 100, 200)]
    SimpleITK.WriteImage(SimpleITK.JoinSeries(times), tmp_path / "b.mha")
    with pytest.raises(FormatError, match="3 of time"):
        open_source(tmp_path / "b.mha")
    source = open_source(tmp_path / "b.mha", select={"time": 3})
    assert np.array_equal(read(source), SCAN + 200)
    assert source.sequence.geometry is not None


def test_voxels_written_as_text_are_read(tmp_path):
    text = " ".join(map(str, SCAN.ravel())).encode()
    path = write_metaimage(tmp_path / "a.mhd", SCAN, fields={"BinaryData": "False"})
    path.with_suffix(".raw").write_bytes(text)
    assert np.array_equal(read(open_source(path)), SCAN)
    path.with_suffix(".raw").write_bytes(text + b" 70000")
    with pytest.raises(FormatError, match="no int16"):
        open_source(path)
    path.with_suffix(".raw").write_bytes(text + b" 7")
    with pytest.raises(FormatError, match="holds more than"):
        open_source(path)


@pytest.mark.parametrize("first", ["Comment = by hand", "NDims=3", "ObjectType=Image"])
def test_a_header_is_known_whatever_its_first_line(tmp_path, first):
    path = write_metaimage(tmp_path / "a.mhd", SCAN)
    lines = [line for line in path.read_text().splitlines() if line.split()[0] != "NDims"]
    lines = [line for line in lines if line.split()[0] != first.split("=")[0].strip()]
    lines = [first, *lines] if first.startswith("NDims") else [first, "NDims = 3", *lines]
    path.write_text("\n".join(lines) + "\n")
    assert open_source(path).kind == "metaimage"
