"""MetaImage: voxels and their place as ITK means them, and lies of the header found out."""

import nibabel
import numpy as np
import pytest

from bedside.errors import FormatError, GeometryError, InputError
from bedside.io.metaimage.file import open_metaimage
from bedside.io.source import Algorithm, open_source, write_labels
from bedside.volume import LabelMap
from layout_makers import write_metaimage

pytest_plugins = ["memory_fixtures"]
pytestmark = pytest.mark.usefixtures("in_little_memory")

SCAN = np.arange(24, dtype=np.int16).reshape(2, 3, 4) - 1000


def read_array(path):
    return np.concatenate(list(open_metaimage(path)[0]))


TURNED = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])


@pytest.mark.parametrize("name", ["a.mhd", "a.mha"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["<i2", ">i2", "u1", "<f4", "<u2", "<f8", "<i4"])
def test_voxels_come_out_as_they_went_in(tmp_path, name, compressed, kind):
    array = (SCAN + 1000 if kind.endswith(("u1", "u2")) else SCAN).astype(kind)
    scan = read_array(write_metaimage(tmp_path / name, array, compressed=compressed))
    assert scan.dtype == np.dtype(kind).newbyteorder("=")
    assert (scan == array).all()


def test_the_affine_maps_slice_row_and_column_to_the_patient(tmp_path):
    path = write_metaimage(
        tmp_path / "a.mhd",
        SCAN,
        spacing=(0.5, 0.75, 2.0),
        offset=(10.0, -20.0, 30.0),
        matrix=TURNED,
    )
    geometry = open_metaimage(path)[0].geometry
    assert geometry.spacing_mm == (2.0, 0.75, 0.5)
    # Slices run along -x, rows along -z, columns along y: the rows of TransformMatrix.
    placed = geometry.affine @ (1, 2, 3, 1)
    assert placed.tolist() == [10.0 - 1 * 2.0, -20.0 + 3 * 0.5, 30.0 - 2 * 0.75, 1.0]


def test_a_scan_opens_as_slices_with_a_place(tmp_path):
    source = open_source(write_metaimage(tmp_path / "scan", SCAN, spacing=(0.5, 0.75, 2.0)))
    assert source.kind == "metaimage"
    assert source.sequence.shape == (2, 1, 3, 4)
    assert source.sequence.spacing_mm == (0.75, 0.5)
    assert source.sequence.slice_spacing_mm == 2.0
    assert (source.sequence.decode(1)[0] == SCAN[1]).all()


def test_labels_of_a_scan_lie_where_it_lies(tmp_path):
    path = write_metaimage(
        tmp_path / "a.mhd",
        SCAN,
        spacing=(0.5, 0.75, 2.0),
        offset=(10.0, -20.0, 30.0),
        matrix=TURNED,
    )
    source = open_source(path)
    labels = np.zeros(SCAN.shape, np.uint8)
    labels[1, 2, 3] = 1
    target = tmp_path / "a.nii.gz"
    algorithm = Algorithm("a", "1", "0")
    write_labels(
        LabelMap(labels), source, target, labels_spec=(), algorithm=algorithm, format="nifti"
    )
    written = nibabel.load(target)
    ((x, y, z),) = np.argwhere(np.asarray(written.dataobj))
    ras = written.affine @ (x, y, z, 1)
    lps = open_metaimage(path)[0].geometry.affine @ (1, 2, 3, 1)
    assert np.allclose(ras, lps * (-1, -1, 1, 1))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"NDims": "5"}, "NDims is 5"),
        ({"NDims": "4"}, "DimSize is 4 3 2; expected 4 numbers"),
        ({"ElementNumberOfChannels": "3"}, "its header declares 144 bytes"),
        ({"ElementNumberOfChannels": "0"}, "ElementNumberOfChannels is 0"),
        ({"BinaryData": "maybe"}, "BinaryData is 'maybe'"),
        ({"DimSize": None}, "DimSize is missing"),
        ({"DimSize": "4 3"}, "DimSize is 4 3; expected 3 numbers"),
        ({"DimSize": "4 3 0"}, "expected sizes above 0"),
        ({"DimSize": "4 3 -2"}, "expected sizes above 0"),
        ({"DimSize": "4 3 3"}, "truncated or belongs to another header"),
        ({"DimSize": "4 3 1"}, "truncated or belongs to another header"),
        ({"DimSize": "90000 90000 90000"}, "at most 2 GiB"),
        ({"ElementType": "MET_STRING"}, "ElementType is MET_STRING"),
        ({"ElementType": None}, "ElementType is missing"),
        ({"DistanceUnits": "cm"}, "DistanceUnits is cm"),
        ({"ElementSpacing": "1 1 inf"}, "ElementSpacing is 1 1 inf"),
        ({"Offset": "1 2"}, "Offset is 1 2"),
        ({"CompressedData": "yes"}, "CompressedData is 'yes'"),
        ({"CompressedData": "True"}, "stream is damaged"),
        ({"ElementDataFile": "b.raw"}, r"b\.raw, are missing"),
        ({"ElementDataFile": "../a.raw"}, "in another folder"),
        ({"ElementDataFile": "LIST"}, "lists 0 files of voxels; its sizes need 2"),
        ({"ElementDataFile": "LIST 4"}, "ElementDataFile is LIST 4"),
        ({"ElementDataFile": "a%03d.raw 1 9 1"}, "9 files; its sizes need 2"),
        ({"ElementDataFile": "a%03d.raw 1 2 0"}, "a step other than 0"),
        ({"ElementDataFile": "a%s.raw 1 2 1"}, "expected one number"),
        ({"ElementDataFile": "a%03d%03d.raw 1 2 1"}, "expected one number"),
        ({"ElementDataFile": "a%03d.raw 1 2 1"}, r"a001\.raw, are missing"),
        ({"HeaderSize": "-2"}, "truncated or belongs"),
    ],
)
def test_a_header_that_cannot_be_meant_is_refused(tmp_path, fields, says):
    with pytest.raises(FormatError, match=says):
        open_metaimage(write_metaimage(tmp_path / "a.mhd", SCAN, fields=fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"ElementSpacing": "1 1 0"},
        {"ElementSpacing": "1 -1 1"},
        {"TransformMatrix": "1 0 0 0 1 0 0 1 0"},
        {"TransformMatrix": "2 0 0 0 1 0 0 0 1"},
        {"TransformMatrix": "0 0 0 0 0 0 0 0 0"},
    ],
)
def test_a_place_that_is_none_is_refused(tmp_path, fields):
    with pytest.raises(GeometryError):
        open_metaimage(write_metaimage(tmp_path / "a.mhd", SCAN, fields=fields))


@pytest.mark.parametrize("declared", ["4 3 1", "4 3 3"])
def test_a_stream_of_another_length_is_refused(tmp_path, declared):
    path = write_metaimage(tmp_path / "a.mhd", SCAN, compressed=True, fields={"DimSize": declared})
    with pytest.raises(
        FormatError, match=r"declares .* does not inflate to|holds 48 bytes of voxels"
    ):
        open_metaimage(path)


def test_slices_are_read_when_they_are_asked_for(tmp_path):
    path = write_metaimage(tmp_path / "a.mhd", SCAN)
    sequence, _ = open_metaimage(path)
    later = SCAN + 500
    with path.with_suffix(".raw").open("r+b") as file:
        file.write(later.tobytes())
    assert (sequence.decode(1)[0] == later[1]).all()


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (b"ObjectType = Image\nNDims = 3\n", "no line ElementDataFile"),
        (b"ObjectType = Image\nNDims = 3\nNDims = 3\nElementDataFile = a\n", "has the line"),
        (b"ObjectType = Image\n\x00\x01\x02 and more\nElementDataFile = a\n", "has the line"),
        (b"", "no line ElementDataFile"),
    ],
)
def test_what_is_no_header_is_refused(tmp_path, header, says):
    (tmp_path / "a.mhd").write_bytes(header)
    with pytest.raises(FormatError, match=says):
        open_metaimage(tmp_path / "a.mhd")


def test_bytes_in_front_of_the_voxels_are_skipped(tmp_path):
    path = write_metaimage(tmp_path / "a.mhd", SCAN, fields={"HeaderSize": "5"})
    raw = path.with_suffix(".raw")
    raw.write_bytes(b"12345" + raw.read_bytes())
    assert (read_array(path) == SCAN).all()
    write_metaimage(path, SCAN, fields={"HeaderSize": "-1"})
    raw.write_bytes(b"any length" + raw.read_bytes())
    assert (read_array(path) == SCAN).all()


def test_voxels_that_are_no_numbers_are_refused(tmp_path):
    scan = SCAN.astype(np.float32)
    scan[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        open_metaimage(write_metaimage(tmp_path / "a.mhd", scan))
