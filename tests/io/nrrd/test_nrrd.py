"""NRRD: voxels and their place as Slicer and ITK mean them, and lies of the header found out."""

import gzip

import numpy as np
import pytest

from bedside.errors import FormatError, GeometryError, InputError, UsageError
from bedside.io.nrrd.file import open_nrrd
from bedside.io.select import parse_selection
from bedside.io.source import open_source
from makers import make_fan, write_picture
from tolerances import FLOAT64_ATOL

pytest_plugins = ["memory_fixtures"]
pytestmark = pytest.mark.usefixtures("in_little_memory")

SCAN = np.arange(24, dtype=np.int16).reshape(2, 3, 4) - 1000
TYPES = {"i1": "int8", "u1": "uchar", "i2": "short", "u2": "unsigned short", "i4": "int",
         "u4": "uint32", "i8": "long long", "f4": "float", "f8": "double"}  # fmt: skip


def write_nrrd(path, array=SCAN, *, fields=None, before=b""):
    """Write (D, H, W), or more axes, as NRRD; a field of None is left out."""
    big = array.dtype.byteorder == ">"
    axes = array.ndim
    lines = {
        "type": TYPES[array.dtype.str[1:]],
        "dimension": str(axes),
        "space": "left-posterior-superior",
        "sizes": " ".join(str(size) for size in array.shape[::-1]),
        "space directions": "(0.5,0,0) (0,0.75,0) (0,0,2)" + " none" * (axes - 3),
        "endian": "big" if big else "little",
        "encoding": "raw",
        "space origin": "(10,-20,30)",
    }
    lines |= fields or {}
    voxels = array.tobytes()
    if lines["encoding"] in ("gzip", "gz"):
        voxels = gzip.compress(voxels)
    text = "NRRD0005\n# a comment\n"
    text += "".join(f"{key}: {value}\n" for key, value in lines.items() if value is not None)
    text += "a key:=and: its value\n"
    if "data file" in lines:
        path.write_bytes(text.encode())
        (path.parent / lines["data file"]).write_bytes(before + voxels)
    else:
        path.write_bytes(text.encode() + b"\n" + before + voxels)
    return path


def _stack(path):
    return np.stack([frame[0] for frame in open_nrrd(path)[0]])


@pytest.mark.parametrize("encoding", ["raw", "gzip", "gz"])
@pytest.mark.parametrize("fields", [{}, {"data file": "a.bin"}])
@pytest.mark.parametrize("kind", ["<i2", ">i2", "u1", "i1", "<f4", ">f8", "<u2", "<i4", "<i8"])
def test_voxels_come_out_as_they_went_in(tmp_path, encoding, fields, kind):
    array = (SCAN + 1000 if kind.endswith("1") or "u" in kind else SCAN).astype(kind)
    path = write_nrrd(tmp_path / "a.nhdr", array, fields={"encoding": encoding, **fields})
    sequence = open_source(path).sequence
    assert sequence.decode(1).dtype == np.dtype(kind).newbyteorder("=")
    assert (np.stack([frame[0] for frame in sequence]) == array).all()


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (1, 1, 1)),
        ("LPS", (1, 1, 1)),
        ("right-anterior-superior", (-1, -1, 1)),
        ("left-anterior-superior", (1, -1, 1)),
    ],
)
def test_the_affine_maps_slice_row_and_column_to_lps(tmp_path, space, signs):
    # Columns run along y, rows along -z, slices along -x of the file's own space.
    fields = {"space": space, "space directions": "(0,0.5,0) (0,0,-0.75) (-2,0,0)"}
    source = open_source(write_nrrd(tmp_path / "a.nrrd", fields=fields))
    assert source.kind == "nrrd"
    assert source.sequence.spacing_mm == (0.75, 0.5)
    assert source.sequence.slice_spacing_mm == 2.0
    placed = source.sequence.geometry.affine @ (1, 2, 3, 1)
    own = np.array([10 - 1 * 2.0, -20 + 3 * 0.5, 30 - 2 * 0.75])
    np.testing.assert_allclose(placed[:3], own * signs, atol=FLOAT64_ATOL)


def test_units_of_space_are_turned_to_mm(tmp_path):
    fields = {"space units": '"cm" "cm" "cm"'}
    sequence, _ = open_nrrd(write_nrrd(tmp_path / "a.nrrd", fields=fields))
    assert sequence.voxel_mm == (20.0, 7.5, 5.0)
    assert sequence.geometry.affine[:3, 3].tolist() == [100, -200, 300]
    fields = {"space units": '"mm" "mm" "furlong"'}
    with pytest.raises(FormatError, match="space units"):
        open_nrrd(write_nrrd(tmp_path / "a.nrrd", fields=fields))


def test_a_scan_that_itk_wrote_lies_where_itk_puts_it(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(SCAN)
    turned = [0.0, 0, -1, 1, 0, 0, 0, -1, 0]
    image.SetDirection(turned)
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetOrigin((10.0, -20.0, 30.0))
    for compressed in (True, False):
        sitk.WriteImage(image, str(tmp_path / "a.nrrd"), compressed)
        source = open_source(tmp_path / "a.nrrd")
        assert (source.sequence.decode(1)[0] == SCAN[1]).all()
        placed = source.sequence.geometry.affine @ (1, 2, 3, 1)
        theirs = image.TransformIndexToPhysicalPoint((3, 2, 1))
        np.testing.assert_allclose(placed[:3], theirs, atol=FLOAT64_ATOL)


@pytest.mark.parametrize(
    "fields",
    [
        {"space": None, "space directions": None, "space origin": None, "spacings": "0.5 0.75 2"},
        {"space": "scanner-xyz"},
        {"space": None, "space dimension": "3"},
    ],
)
def test_a_scan_without_a_place_has_a_scale_and_a_warning(tmp_path, fields):
    source = open_source(write_nrrd(tmp_path / "a.nrrd", fields=fields))
    assert source.sequence.geometry is None
    assert source.header is None
    assert source.sequence.spacing_mm == (0.75, 0.5)
    assert source.sequence.slice_spacing_mm == 2.0
    assert "how the image lies" in source.sequence.warnings[0]


def test_unknown_spacings_stay_unknown(tmp_path):
    fields = {"space": None, "space directions": None, "space origin": None}
    sequence = open_source(write_nrrd(tmp_path / "a.nrrd", fields=fields)).sequence
    assert (sequence.spacing_mm, sequence.slice_spacing_mm) == (None, None)
    fields["spacings"] = "0.5 0.75 nan"
    sequence = open_source(write_nrrd(tmp_path / "a.nrrd", fields=fields)).sequence
    assert (sequence.spacing_mm, sequence.slice_spacing_mm) == ((0.75, 0.5), None)


def test_a_plane_is_a_single_frame(tmp_path):
    fields = {"space": None, "space directions": None, "space origin": None, "spacings": "0.5 0.75"}
    sequence = open_source(write_nrrd(tmp_path / "a.nrrd", SCAN[0], fields=fields)).sequence
    assert sequence.shape == (1, 1, 3, 4)
    assert sequence.spacing_mm == (0.75, 0.5)
    assert (sequence.decode(0)[0] == SCAN[0]).all()


@pytest.mark.parametrize("extra", [0, 1, 2, 3])
@pytest.mark.parametrize("word", ["time", "channel"])
def test_one_of_several_times_or_channels_is_read_when_named(tmp_path, extra, word):
    films = np.stack([SCAN, SCAN + 100, SCAN + 200], axis=extra)
    directions = ["(0.5,0,0)", "(0,0.75,0)", "(0,0,2)"]
    directions.insert(3 - extra, "none")
    fields = {"space directions": " ".join(directions)}
    path = write_nrrd(tmp_path / "a.nrrd", films, fields=fields)
    with pytest.raises(FormatError, match=r"3 of time or channel.*--select"):
        open_source(path)
    with pytest.raises(FormatError, match="asks for number 4"):
        open_source(path, select={word: 4})
    source = open_source(path, select={word: 3})
    assert (source.sequence.decode(1)[0] == SCAN[1] + 200).all()
    assert source.sequence.geometry.spacing_mm == (2.0, 0.75, 0.5)


@pytest.mark.parametrize("extra", [0, 1, 2])
def test_one_of_several_planes_is_read_when_named(tmp_path, extra):
    films = np.stack([SCAN[0], SCAN[0] + 100], axis=extra)
    kinds = ["domain", "domain"]
    kinds.insert(2 - extra, "list")
    fields = {"kinds": " ".join(kinds), "space": None, "space directions": None,
              "space origin": None}  # fmt: skip
    path = write_nrrd(tmp_path / "a.nrrd", films, fields=fields)
    sequence = open_source(path, select={"time": 2}).sequence
    assert sequence.shape == (1, 1, 3, 4)
    assert (sequence.decode(0)[0] == SCAN[0] + 100).all()


def test_what_is_selected_must_be_there(tmp_path):
    path = write_nrrd(tmp_path / "a.nrrd")
    assert open_source(path, select={"time": 1}).sequence.shape == (2, 1, 3, 4)
    with pytest.raises(FormatError, match="single image"):
        open_source(path, select={"time": 2})
    picture = write_picture(make_fan(1)[0], tmp_path / "a.png")
    with pytest.raises(FormatError, match="single image"):
        open_source(picture, select={"channel": 2})


@pytest.mark.parametrize("words", [["time"], ["time=0"], ["day=1"], ["time=1", "time=2"], [""]])
def test_a_selection_of_another_form_is_refused(words):
    with pytest.raises(UsageError, match="--select"):
        parse_selection(words)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"dimension": None}, "dimension is missing"),
        ({"dimension": "5"}, "dimension is 5"),
        ({"dimension": "three"}, "dimension is three"),
        ({"dimension": "4"}, "expected 4 words"),
        ({"sizes": None}, "sizes is 'missing'"),
        ({"sizes": "4 3"}, "expected 3 words"),
        ({"sizes": "4 3 0"}, "expected sizes above 0"),
        ({"sizes": "4 3 -2"}, "expected sizes above 0"),
        ({"sizes": "4 3 3"}, "truncated or belongs to another header"),
        ({"sizes": "4 3 1"}, "truncated or belongs to another header"),
        ({"sizes": "90000 90000 90000"}, "at most 2 GiB"),
        ({"type": "block"}, "type is block"),
        ({"type": None}, "type is missing"),
        ({"encoding": "zstd"}, "encoding is zstd"),
        ({"encoding": "bzip2"}, "bzip2 stream is damaged"),
        ({"encoding": "ascii"}, "holds what is no int16"),
        ({"encoding": "hex"}, "no hexadecimal digits"),
        ({"encoding": None, "data file": "b"}, "encoding is missing"),
        ({"endian": None}, "endian is missing"),
        ({"endian": "middle"}, "endian is middle"),
        ({"space": "inside-out"}, "space is inside-out"),
        ({"byte skip": "-2"}, "byte skip is -2"),
        ({"line skip": "-1"}, "line skip is -1"),
        ({"line skip": "many"}, "line skip is many"),
        ({"line skip": "99"}, "fewer than 99 lines"),
        ({"space directions": "(1,0,0) none none"}, "1 axes in space"),
        ({"space directions": "none (1,0,0) (0,1,0)", "kinds": "RGB-color domain domain"},
         "holds 4 values of rgb-color"),
        ({"space dimension": "5", "space": None}, "space dimension is 5"),
        ({"kinds": "domain domain"}, "kinds"),
        ({"space directions": None, "spacings": "1 x 1"}, "spacings"),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_meant_is_refused(tmp_path, fields, says):
    path = write_nrrd(tmp_path / "a.nrrd", fields={"encoding": "raw"} | fields)
    with pytest.raises(FormatError, match=says):
        open_nrrd(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"space directions": "(1,0,0) (0,1,0)"},
        {"space directions": "(1,0,0) (0,1,0) (0,0,nan)"},
        {"space directions": "(1,0,0) (0,1,0) (0,0,0)"},
        {"space directions": "(1,0,0) (0,1,0) (0,1,0)"},
        {"space directions": "(1,0,0) (0,1,0) (0,0.5,1)"},
        {"space directions": "(1,0,0) (0,1,0) (0,x,1)"},
        {"space directions": "(1,0,0) (0,1,0) 7 (0,0,1)"},
        {"space origin": "(1,2)"},
        {"space origin": "(1,2,inf)"},
        {"space directions": None, "spacings": "1 0 1"},
        {"space directions": None, "spacings": "1 inf 1"},
    ],
)
def test_a_place_that_is_none_is_refused(tmp_path, fields):
    with pytest.raises(GeometryError):
        open_nrrd(write_nrrd(tmp_path / "a.nrrd", fields=fields))


@pytest.mark.parametrize("name", ["../a.bin", "/etc/passwd", "a%03d.raw 1 2 1", "../a%d 1 2 1",
                                  "LIST\n../a.bin\n/etc/passwd", "gone.raw"])  # fmt: skip
def test_voxels_are_only_looked_for_beside_the_header(tmp_path, name):
    path = write_nrrd(tmp_path / "a.nhdr", fields={"data file": "a.bin"})
    path.write_bytes(path.read_bytes().replace(b"data file: a.bin", f"data file: {name}".encode()))
    with pytest.raises(FormatError, match=r"beside it|lists 3 files"):
        open_nrrd(path)


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_bytes_and_lines_in_front_of_the_voxels_are_skipped(tmp_path, encoding):
    fields = {"data file": "a.bin", "line skip": "2", "encoding": encoding}
    path = write_nrrd(tmp_path / "a.nhdr", fields=fields, before=b"one\ntwo\n")
    assert (_stack(path) == SCAN).all()
    if encoding == "raw":
        for skip, before in (("3", b"abc"), ("-1", b"any length")):
            path = write_nrrd(tmp_path / "a.nrrd", fields={"byte skip": skip}, before=before)
            assert (_stack(path) == SCAN).all()


@pytest.mark.parametrize("sizes", ["4 3 1", "4 3 3"])
def test_a_stream_of_another_length_is_refused(tmp_path, sizes):
    path = write_nrrd(tmp_path / "a.nrrd", fields={"encoding": "gzip", "sizes": sizes})
    with pytest.raises(FormatError, match=r"inflate to|holds 48 bytes"):
        open_nrrd(path)


def test_a_damaged_stream_and_a_bomb_are_refused(tmp_path):
    path = write_nrrd(tmp_path / "a.nrrd", fields={"encoding": "gzip"})
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(FormatError, match=r"inflate to|holds 48 bytes"):
        open_nrrd(path)
    path.write_bytes(whole.replace(b"\x1f\x8b", b"\x00\x00"))
    with pytest.raises(FormatError, match="damaged"):
        open_nrrd(path)
    head = whole[: whole.index(b"\x1f\x8b")]
    path.write_bytes(head + gzip.compress(bytes(30_000_000)))
    with pytest.raises(FormatError, match="declares 48 bytes"):
        open_nrrd(path)
    with pytest.raises(FormatError, match="at most"):
        open_nrrd(path, max_bytes=47)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"NRRD0004\ntype: short\n", "no empty line"),
        (b"NRRD0004\ntype: short\ntype: short\n\n", "has the line"),
        (b"NRRD0004\n\x00\x01 and more\n\n", "has the line"),
        (b"NRRD0009\n\n", "is no NRRD file"),
    ],
)
def test_what_is_no_header_is_refused(tmp_path, content, says):
    (tmp_path / "a.nrrd").write_bytes(content)
    with pytest.raises(FormatError, match=says):
        open_nrrd(tmp_path / "a.nrrd")


def test_a_few_nans_are_filled_and_many_refused(tmp_path):
    scan = np.full((4, 50, 50), 2, np.float32)
    scan[1, 0, 0] = np.nan
    sequence = open_source(write_nrrd(tmp_path / "few.nrrd", scan)).sequence
    assert (sequence.decode(1) == 2).all()
    assert "1 voxel is NaN" in sequence.warnings[0]
    scan[2, :10] = np.inf
    with pytest.raises(InputError, match="501 of 10000"):
        open_source(write_nrrd(tmp_path / "many.nrrd", scan))


@pytest.mark.parametrize("seed", range(4))
def test_damaged_headers_are_read_or_refused_with_our_error(tmp_path, seed):
    rng = np.random.default_rng(seed)
    path = write_nrrd(tmp_path / "a.nrrd", fields={"encoding": "gzip"})
    whole = path.read_bytes()
    for _ in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, len(damaged), rng.integers(1, 5))
        damaged[places] = rng.choice([0, 255, 32, 65, 10, 48, 57])
        path.write_bytes(damaged.tobytes())
        try:
            source = open_source(path)
        except InputError:
            continue
        assert source.sequence.decode(0).shape == source.sequence.shape[1:]
