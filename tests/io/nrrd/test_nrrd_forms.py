"""Forms of NRRD that pynrrd and SimpleITK read or write: the same voxels in the same place."""

import bz2
import gzip

import nrrd
import numpy as np
import pytest
import SimpleITK

from bedside.errors import FormatError
from bedside.io.read_options import Limits, ReadOptions
from bedside.io.source import open_source
from tolerances import FLOAT64_ATOL

SCAN = np.random.default_rng(0).integers(-900, 900, (4, 3, 5)).astype(np.int16)
DIRECTIONS = np.array([[0, 0.5, 0], [0, 0, 0.75], [2.0, 0, 0]])
PLACE = {"space": "LPS", "space directions": DIRECTIONS, "space origin": [10.0, -20.0, 30.0]}
READINGS = [ReadOptions(), ReadOptions(untrusted=Limits())]


def read(source):
    return np.concatenate(list(source.sequence))


def write(path, fields, voxels=b""):
    """Write header lines in the order given, then voxels."""
    lines = "".join(f"{name}: {value}\n" for name, value in fields.items())
    path.write_bytes(f"NRRD0005\n{lines}".encode() + b"\n" + voxels)
    return path


def plain(array=SCAN, **fields):
    """Fields of a header without a space."""
    made = {"type": "short", "dimension": str(array.ndim), "endian": "little",
            "sizes": " ".join(map(str, array.shape[::-1])), "encoding": "raw"}  # fmt: skip
    return made | {name.replace("_", " "): value for name, value in fields.items()}


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii", "hex"])
@pytest.mark.parametrize("reading", READINGS)
def test_each_encoding_is_read(tmp_path, encoding, reading):
    path = tmp_path / "a.nrrd"
    if encoding == "hex":
        hexed = SCAN.tobytes().hex()
        lines = "\n".join(hexed[at : at + 35] for at in range(0, len(hexed), 35))
        write(path, plain(encoding="hex"), lines.encode())
    else:
        nrrd.write(str(path), SCAN.T, header={"encoding": encoding} | PLACE)
        assert np.array_equal(nrrd.read(str(path))[0].T, SCAN)
    assert np.array_equal(read(reading.open(path)), SCAN)


@pytest.mark.parametrize("kind", ["i1", "u1", "u2", "i4", "u8", "i8", "f4", "f8"])
def test_text_holds_every_type_whole(tmp_path, kind):
    ends = np.iinfo(kind) if kind[0] in "iu" else np.finfo(kind)
    # pynrrd writes 17 digits, which larger numbers do not fit.
    low, high = (ends.min, ends.max) if kind[1] != "8" or kind == "f8" else (ends.min // 4, 2**62)
    values = np.array([[[low, high], [0, 1]]], kind)
    nrrd.write(str(tmp_path / "a.nrrd"), values.T, header={"encoding": "ascii"})
    assert np.array_equal(read(open_source(tmp_path / "a.nrrd")), values)


def test_packed_voxels_are_unpacked_no_further_than_declared(tmp_path):
    for encoding, voxels in (
        ("bzip2", bz2.compress(bytes(9_000_000))),
        ("gzip", gzip.compress(SCAN.tobytes()) + gzip.compress(bytes(9_000_000))),
        ("hex", b"00" * 500_000),
        ("ascii", b"0 " * 500_000),
    ):
        with pytest.raises(FormatError, match="holds more than 120 bytes"):
            open_source(write(tmp_path / "a.nrrd", plain(encoding=encoding), voxels))


def test_streams_of_several_parts_are_one(tmp_path):
    content = SCAN.tobytes()
    for encoding, pack in (("bzip2", bz2.compress), ("gzip", gzip.compress)):
        path = write(tmp_path / "a.nrrd", plain(encoding=encoding),
                     pack(content[:7]) + pack(b"") + pack(content[7:]))  # fmt: skip
        assert np.array_equal(read(open_source(path)), SCAN)
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(FormatError, match="does not inflate to"):
            open_source(path)


@pytest.mark.parametrize("data", ["LIST", "LIST 2", "s%03d.raw 7 10 1", "s%d.bin 9 3 -2 2"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("reading", READINGS)
def test_slices_in_files_of_their_own_are_one_scan(tmp_path, data, packed, reading):
    names = ["z", "y", "x", "w"]
    if "%" in data:
        names = [data.split()[0] % number for number in
                 (range(7, 11) if "03" in data else range(9, 2, -2))]  # fmt: skip
    fields = plain(encoding="gzip" if packed else "raw", line_skip="1", data_file=data)
    path = write(tmp_path / "a.nhdr", fields)
    if "LIST" in data:
        content = path.read_bytes()[:-1] + "".join(f"{name}\n" for name in names).encode()
        path.write_bytes(content)
    for name, plane in zip(names, SCAN, strict=True):
        voxels = gzip.compress(plane.tobytes()) if packed else plane.tobytes()
        (tmp_path / name).write_bytes(b"a line of its own\n" + voxels)
    assert np.array_equal(read(reading.open(path)), SCAN)


def test_a_list_of_whole_scans_is_read_one_behind_another(tmp_path):
    films = np.stack([SCAN, SCAN + 1000])
    path = write(tmp_path / "a.nhdr", plain(films, data_file="LIST 3"))
    path.write_bytes(path.read_bytes()[:-1] + b"one\ntwo\n")
    for name, scan in zip(("one", "two"), films, strict=True):
        (tmp_path / name).write_bytes(scan.tobytes())
    assert np.array_equal(read(open_source(path, select={"time": 2})), SCAN + 1000)


@pytest.mark.parametrize(
    ("space", "signs"),
    [("left-posterior-superior", (1, 1, 1)), ("RAS", (-1, -1, 1)), ("LAS", (1, -1, 1)),
     ("right-anterior-superior", (-1, -1, 1)), ("left-anterior-superior", (1, -1, 1))],
)  # fmt: skip
def test_spaces_lie_where_itk_puts_them(tmp_path, space, signs):
    nrrd.write(str(tmp_path / "a.nrrd"), SCAN.T, header=PLACE | {"space": space})
    source = open_source(tmp_path / "a.nrrd")
    itk = SimpleITK.ReadImage(str(tmp_path / "a.nrrd"))
    index = (1, 2, 3)
    placed = (source.sequence.geometry.affine @ (*index, 1))[:3]
    assert np.allclose(placed, itk.TransformIndexToPhysicalPoint(index[::-1]), atol=FLOAT64_ATOL)
    own = np.array([10, -20, 30]) + DIRECTIONS.T @ index[::-1]
    assert np.allclose(placed, own * signs, atol=FLOAT64_ATOL)


@pytest.mark.parametrize("space", ["left-posterior-superior-time", "RAST", "3D-right-handed-time"])
def test_time_as_an_axis_of_space_is_one_of_times(tmp_path, space):
    films = np.stack([SCAN, SCAN + 100, SCAN + 200])
    directions = "(0,0.5,0,0) (0,0,0.75,0) (2,0,0,0) (0,0,0,0.04)"
    fields = plain(films, space=space, space_directions=directions, space_origin="(1,2,3,0)",
                   space_units='"mm" "mm" "mm" "s"')  # fmt: skip
    path = write(tmp_path / "a.nrrd", fields, films.tobytes())
    with pytest.raises(FormatError, match="3 of time"):
        open_source(path)
    sequence = open_source(path, select={"time": 3}).sequence
    assert np.array_equal(np.concatenate(list(sequence)), SCAN + 200)
    assert (sequence.geometry is None) == space.startswith("3D")
    assert (sequence.slice_spacing_mm, *sequence.spacing_mm) == (2, 0.75, 0.5)


@pytest.mark.parametrize("space", ["scanner-xyz", "3D-left-handed", None])
def test_a_space_that_is_not_the_patients_gives_a_scale_and_a_warning(tmp_path, space):
    header = {"space directions": DIRECTIONS, "space origin": [1.0, 2.0, 3.0]}
    header |= {"space": space} if space else {"space dimension": 3}
    nrrd.write(str(tmp_path / "a.nrrd"), SCAN.T, header=header)
    sequence = open_source(tmp_path / "a.nrrd").sequence
    assert sequence.geometry is None
    assert (sequence.slice_spacing_mm, *sequence.spacing_mm) == (2, 0.75, 0.5)
    assert "lies in the patient" in sequence.warnings[0]


def test_fields_that_say_nothing_of_the_place_are_passed_over(tmp_path):
    extra = {"measurement frame": np.eye(3), "centerings": ["cell", "node", "cell"],
             "content": "a: scan", "kinds": ["domain"] * 3, "sample units": "HU"}  # fmt: skip
    nrrd.write(str(tmp_path / "a.nrrd"), SCAN.T, header=PLACE | extra)
    source = open_source(tmp_path / "a.nrrd")
    assert np.array_equal(read(source), SCAN)
    assert source.sequence.geometry.spacing_mm == (2.0, 0.75, 0.5)


def test_spacings_and_units_of_each_axis_are_read_without_a_space(tmp_path):
    fields = plain(spacings="0.05 75 2", units='"cm" "um" "mm"', thicknesses="nan nan 2",
                   axis_mins="0 0 0", centers="cell cell cell")  # fmt: skip
    sequence = open_source(write(tmp_path / "a.nrrd", fields, SCAN.tobytes())).sequence
    assert (sequence.slice_spacing_mm, *sequence.spacing_mm) == pytest.approx((2, 0.075, 0.5))
    assert sequence.third_axis == "space"


def test_spacings_of_axes_behind_their_values_are_those_of_the_axes(tmp_path):
    values = np.stack([SCAN, SCAN + 9], axis=-1)
    fields = plain(values, kinds="vector domain domain domain", spacings="nan 0.5 0.75 2")
    sequence = open_source(write(tmp_path / "a.nrrd", fields, values.tobytes()),
                       select={"channel": 2}).sequence  # fmt: skip
    assert np.array_equal(np.concatenate(list(sequence)), SCAN + 9)
    assert (sequence.slice_spacing_mm, *sequence.spacing_mm) == (2, 0.75, 0.5)


def test_a_plane_that_itk_or_pynrrd_wrote_is_one_frame(tmp_path):
    image = SimpleITK.GetImageFromArray(SCAN[0])
    image.SetSpacing((0.5, 0.75))
    SimpleITK.WriteImage(image, str(tmp_path / "a.nrrd"))
    nrrd.write(str(tmp_path / "b.nrrd"), SCAN[0].T, header={"spacings": [0.5, 0.75]})
    for name in ("a.nrrd", "b.nrrd"):
        source = open_source(tmp_path / name)
        assert np.array_equal(read(source)[0], SCAN[0])
        assert (source.sequence.spacing_mm, source.sequence.slice_spacing_mm) == ((0.75, 0.5), None)


@pytest.mark.parametrize("axis", [0, 1, 3])
@pytest.mark.parametrize(("kind", "count"), [("RGB-color", 3), ("RGBA-color", 4), ("3-color", 3)])
def test_colours_are_channels_whatever_axis_they_lie_along(tmp_path, axis, kind, count):
    colours = np.random.default_rng(0).integers(0, 255, (4, 3, 5, count)).astype(np.uint8)
    stored = np.ascontiguousarray(np.moveaxis(colours, -1, axis))
    kinds = ["domain"] * 3
    kinds.insert(3 - axis, kind)
    fields = plain(stored, kinds=" ".join(kinds)) | {"type": "uchar"}
    source = open_source(write(tmp_path / "a.nrrd", fields, stored.tobytes()))
    assert np.array_equal(np.stack(list(source.sequence)), np.moveaxis(colours[..., :3], -1, 1))
    assert any("transparency" in text for text in source.sequence.warnings) == (count == 4)


@pytest.mark.parametrize("kind", ["HSV-color", "XYZ-color"])
def test_other_colours_are_refused_by_name(tmp_path, kind):
    colours = np.zeros((4, 3, 5, 3), np.uint8)
    fields = plain(colours, kinds=f"{kind} domain domain domain") | {"type": "uchar"}
    with pytest.raises(FormatError, match=f"3 values of {kind.lower()}"):
        open_source(write(tmp_path / "a.nrrd", fields, colours.tobytes()))


@pytest.mark.parametrize(("unit", "ms"), [('"mm" "mm" "s"', 40.0), ('"mm" "mm" "ms"', 0.04)])
def test_a_slice_at_several_times_is_a_film(tmp_path, unit, ms):
    for kinds in ("domain domain time", "domain domain list"):
        fields = plain(kinds=kinds, spacings="0.5 0.75 0.04", units=unit)
        sequence = open_source(write(tmp_path / "a.nrrd", fields, SCAN.tobytes())).sequence
        assert (sequence.third_axis, sequence.slice_spacing_mm, sequence.geometry) == (
            "time",
            None,
            None,
        )
        assert sequence.spacing_mm == (0.75, 0.5)
        assert sequence.frame_time_ms == pytest.approx(ms)
        assert np.array_equal(np.concatenate(list(sequence)), SCAN)


def test_films_that_itk_writes_with_four_axes_are_films(tmp_path):
    slices = [SimpleITK.GetImageFromArray(plane[None]) for plane in SCAN]
    for name in ("a.nrrd", "a.mha", "a.nii.gz"):
        image = SimpleITK.JoinSeries(slices)
        image.SetSpacing((0.5, 0.75, 3.0, 0.04))
        SimpleITK.WriteImage(image, str(tmp_path / name))
        source = open_source(tmp_path / name)
        assert np.array_equal(read(source), SCAN), name
        sequence = source.sequence
        assert (sequence.third_axis, sequence.slice_spacing_mm, sequence.geometry) == (
            "time",
            None,
            None,
        )
        assert sequence.spacing_mm == pytest.approx((0.75, 0.5))
        one = open_source(tmp_path / name, select={"time": 2}).sequence
        assert np.array_equal(np.concatenate(list(one)), SCAN[1:2])
