"""Bad DICOM: each row of what can be wrong, refused by name or mended and said so."""

import contextlib
import re
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file

from bedside.errors import FormatError, GeometryError, InputError
from bedside.io.dicom.cine import open_dicom
from bedside.io.dicom.options import DicomOptions
from bedside.io.dicom.series import open_series
from bedside.io.source import find_sources, open_source
from dicom_makers import make_affine, make_enhanced, make_slices, write_series
from makers import make_dicom, make_fan, write_dicom
from tolerances import REFUSAL_SECONDS

pytest_plugins = ["memory_fixtures"]
pytestmark = pytest.mark.usefixtures("in_little_memory")

SHAPE = (6, 8, 9)


def _stored(seed=0):
    return np.random.default_rng(seed).integers(100, 4000, SHAPE).astype(np.uint16)


def _series(folder, edit=None, **choices):
    datasets = make_slices(_stored(), edit=edit, **choices)
    return write_series(datasets, folder / "scan", seed=None)


def _open(folder, **choices):
    return open_source(folder / "scan", **choices)


def _read(source):
    return np.stack(list(source.sequence))[:, 0]


def _one(index, **values):
    """Change attributes of one slice."""

    def edit(dataset, place):
        if place == index:
            for keyword, value in values.items():
                setattr(dataset, keyword, value)

    return edit


def _all(**values):
    def edit(dataset, place):
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return edit


# --- files ------------------------------------------------------------------------------


def test_empty_files_junk_and_an_index_in_a_folder_are_skipped_and_counted(tmp_path):
    _series(tmp_path)
    (tmp_path / "scan" / "empty").write_bytes(b"")
    (tmp_path / "scan" / "junk").write_bytes(b"\1\2\3" * 500)
    found = find_sources(tmp_path / "scan")
    assert len(found.skipped) == 2
    assert _open(tmp_path).sequence.shape[0] == 6


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.97])
def test_a_truncated_slice_is_a_missing_one_and_is_named(tmp_path, share):
    paths = _series(tmp_path)
    content = paths[2].read_bytes()
    paths[2].write_bytes(content[: int(share * len(content))])
    with pytest.raises(GeometryError, match=r"slices 2 and 3 .*1 slice is missing.*IM0002"):
        open_series(paths, path=tmp_path / "scan")
    options = DicomOptions(gaps="interpolate")
    sequence, _ = open_series(paths, path=tmp_path / "scan", options=options)
    assert sequence.unknown == (2,)


def test_a_truncated_slice_at_the_end_is_warned_of(tmp_path):
    paths = _series(tmp_path)
    paths[5].write_bytes(paths[5].read_bytes()[:-20])
    source = _open(tmp_path)
    assert source.sequence.shape[0] == 5
    assert any("IM0005" in text and "missing" in text for text in source.sequence.warnings)


@pytest.mark.parametrize("tags", [{"Rows": 65535, "Columns": 65535}])
def test_a_huge_scan_is_refused_before_decoding(tmp_path, tags):
    paths = _series(tmp_path, _all(**tags))
    begin = time.process_time()
    with pytest.raises(FormatError, match="GiB"):
        open_series(paths, path=tmp_path)
    assert time.process_time() - begin < REFUSAL_SECONDS


@pytest.mark.parametrize("keyword", ["Rows", "BitsAllocated", "PixelRepresentation", "BitsStored"])
def test_an_attribute_that_every_slice_lacks_is_named(tmp_path, keyword):
    paths = _series(tmp_path, lambda dataset, _: delattr(dataset, keyword))
    with pytest.raises(FormatError, match=keyword):
        open_series(paths, path=tmp_path)


def test_zero_rows_are_refused(tmp_path):
    with pytest.raises(FormatError, match="Rows is 0"):
        open_series(_series(tmp_path, _all(Rows=0)), path=tmp_path)


def test_a_syntax_that_nothing_decodes_is_named(tmp_path):
    def edit(dataset, _):
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
        dataset.PixelData = pydicom.encaps.encapsulate([b"\0\0\0\1" * 20])
        dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"

    with pytest.raises(FormatError, match=r"MPEG-4.*cannot be decoded"):
        open_series(_series(tmp_path, edit), path=tmp_path)


def test_a_compressed_slice_of_another_size_than_its_header_is_refused(tmp_path):
    datasets = make_slices(np.zeros((3, 64, 64), np.uint16))
    for dataset in datasets:
        pydicom.pixels.compress(dataset, "1.2.840.10008.1.2.4.90", generate_instance_uid=False)
        dataset.Rows = 60
    write_series(datasets, tmp_path / "scan")
    with pytest.raises(FormatError):
        _open(tmp_path)


def test_loss_is_carried_on(tmp_path):
    _series(tmp_path, _all(LossyImageCompression="01", LossyImageCompressionRatio="12"))
    assert any("loss (12:1)" in text for text in _open(tmp_path).sequence.warnings)


def _nest(depth):
    """Sequences within sequences, of undefined length, as bytes behind a whole header."""
    open_sequence = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    close = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    return open_sequence * depth + close * depth


@pytest.mark.parametrize("depth", [65, 100, 300, 3000])
def test_deep_nesting_is_refused(tmp_path, depth):
    path = write_dicom(make_dicom(make_fan(1)), tmp_path / "deep.dcm")
    content = path.read_bytes()
    pixels = content.rindex(b"\xe0\x7f\x10\x00")
    path.write_bytes(content[:pixels] + _nest(depth) + content[pixels:])
    begin = time.process_time()
    with pytest.raises(FormatError, match=r"deep\.dcm nests its sequences more than 64 deep"):
        open_dicom(path)
    assert time.process_time() - begin < REFUSAL_SECONDS


def test_nesting_to_the_limit_is_read(tmp_path):
    path = write_dicom(make_dicom(make_fan(1)), tmp_path / "deep.dcm")
    content = path.read_bytes()
    pixels = content.rindex(b"\xe0\x7f\x10\x00")
    path.write_bytes(content[:pixels] + _nest(64) + content[pixels:])
    assert open_dicom(path)[0].shape[0] == 1


@pytest.mark.parametrize("meta_padding", [0, 9000])
def test_a_deflated_bomb_is_refused_in_little_memory(tmp_path, meta_padding):
    dataset = make_dicom(make_fan(1))
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    if meta_padding:
        dataset.file_meta.SourceApplicationEntityTitle = "A"
        dataset.file_meta.PrivateInformationCreatorUID = "1.2.3"
        dataset.file_meta.PrivateInformation = b"\0" * meta_padding
    path = write_dicom(dataset, tmp_path / "bomb.dcm")
    head = path.read_bytes()
    start = 144 + int.from_bytes(head[140:144], "little")
    deflate = zlib.compressobj(1, wbits=-15)
    body = b"".join(deflate.compress(b"\0" * 2**24) for _ in range(9)) + deflate.flush()
    path.write_bytes(head[:start] + body)
    assert len(body) < 2**20
    begin = time.process_time()
    for opened in (open_dicom, open_source):
        with pytest.raises(FormatError, match="inflates to more than 128 MiB"):
            opened(path)
    assert time.process_time() - begin < 2 * REFUSAL_SECONDS


# --- values -----------------------------------------------------------------------------


def test_bits_above_those_stored_are_dropped_and_told(tmp_path):
    def edit(dataset, index):
        words = np.frombuffer(dataset.PixelData, np.uint16) | 0xA000
        dataset.PixelData, dataset.BitsStored, dataset.HighBit = words.tobytes(), 12, 11

    _series(tmp_path, edit)
    source = _open(tmp_path)
    assert np.array_equal(_read(source), _stored().astype(int) - 1024)
    assert any("bits above" in text for text in source.sequence.warnings)


def test_ct_whose_sign_was_lost_is_mended_and_told(tmp_path):
    hu = np.random.default_rng(1).integers(-1000, 1000, SHAPE).astype(np.int16)
    datasets = make_slices(hu.view(np.uint16), slope=1.0, intercept=0.0)
    write_series(datasets, tmp_path / "scan")
    source = _open(tmp_path)
    assert np.array_equal(_read(source), hu)
    assert any("taken as negative" in text for text in source.sequence.warnings)


def test_padding_of_the_other_sign_is_found(tmp_path):
    hu = np.random.default_rng(1).integers(-1000, 1000, SHAPE).astype(np.int16)
    hu[:, :2] = -2000

    def edit(dataset, _):
        dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)

    write_series(make_slices(hu, slope=1.0, intercept=0.0, edit=edit), tmp_path / "scan")
    source = _open(tmp_path)
    hu[:, :2] = -1024
    assert np.array_equal(_read(source), hu)
    assert any("padding" in text for text in source.sequence.warnings)


def test_mr_needs_no_slope(tmp_path):
    _series(tmp_path, modality="MR", slope=None)
    values = _read(_open(tmp_path))
    assert values.dtype == np.uint16
    assert np.array_equal(values, _stored())


def test_ct_without_slope_is_refused_unless_its_values_are_said_to_be_hu(tmp_path):
    _series(tmp_path, slope=None)
    with pytest.raises(FormatError, match="--values-are-hu"):
        _open(tmp_path)
    source = _open(tmp_path, dicom=DicomOptions(values_are_hu=True))
    assert np.array_equal(_read(source), _stored())


NO_NUMBERS = ["NaN", "", "1,50", "inf", "1\\2"]


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("RescaleSlope", "0"),
        *(
            (keyword, text)
            for keyword in ("RescaleSlope", "RescaleIntercept")
            for text in NO_NUMBERS
        ),
    ],
)
def test_a_slope_that_is_no_number_is_refused(tmp_path, keyword, text):
    paths = _series(tmp_path, _one(3, **{keyword: "77777"}))
    content = paths[3].read_bytes()
    length = len(text) + len(text) % 2
    old = b"DS\x06\x0077777 "
    assert content.count(old) == 1
    new = b"DS" + length.to_bytes(2, "little") + text.ljust(length).encode()
    paths[3].write_bytes(content.replace(old, new))
    with pytest.raises(FormatError, match=rf"IM0003: {keyword} is"):
        _open(tmp_path)


def test_padding_is_masked_before_the_rescale(tmp_path):
    stored = _stored()
    stored[:, 0], stored[:, 1] = 50, 60
    edit = _all(PixelPaddingValue=40, PixelPaddingRangeLimit=65)
    write_series(make_slices(stored, edit=edit), tmp_path / "scan")
    values = _read(_open(tmp_path))
    assert (values[:, :2] == -1024).all()
    assert np.array_equal(values[:, 2:], stored[:, 2:].astype(int) - 1024)


def test_monochrome1_is_inverted_once(tmp_path):
    edit = _all(PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    _series(tmp_path, edit, modality="MR", slope=None)
    assert np.array_equal(_read(_open(tmp_path)), 4095 - _stored())


def test_hounsfield_units_are_not_inverted_by_how_they_are_to_be_shown(tmp_path):
    _series(tmp_path, _all(PhotometricInterpretation="MONOCHROME1"))
    source = _open(tmp_path)
    assert np.array_equal(_read(source), _stored().astype(int) - 1024)
    assert any("shown inverted" in text for text in source.sequence.warnings)


def test_a_palette_of_greys_opens_in_colour_and_is_no_scan(tmp_path):
    path = Path(get_testdata_file("examples_palette.dcm"))
    assert open_dicom(path)[0].shape[1] == 3
    edit = _all(SamplesPerPixel=3, PhotometricInterpretation="RGB")
    with pytest.raises(FormatError, match=r"colour|truncated|needs"):
        open_series(_series(tmp_path, edit), path=tmp_path)


# --- places -----------------------------------------------------------------------------


def test_a_missing_slice_is_refused_and_it_is_said_where(tmp_path):
    _series(tmp_path)[2].unlink()
    with pytest.raises(GeometryError, match=r"slices 2 and 3 \(IM0001, IM0003\) are 4 mm") as error:
        _open(tmp_path)
    assert "--gaps interpolate" in str(error.value)


@pytest.mark.parametrize(("share", "even"), [(0.5e-3, True), (2e-3, False)])
def test_spacing_may_differ_by_a_thousandth(tmp_path, share, even):
    def edit(dataset, index):
        height = 2.0 * index + (2.0 * share if index >= 3 else 0)
        dataset.ImagePositionPatient = ["0", "0", f"{height:.6f}"]
        # Its thickness would say that nothing is missing.
        del dataset.SliceThickness

    _series(tmp_path, edit)
    with contextlib.nullcontext() if even else pytest.raises(GeometryError, match="slices 3 and 4"):
        _open(tmp_path)


def test_slices_that_are_there_twice_are_taken_once(tmp_path):
    paths = _series(tmp_path)
    for path in paths[:2]:
        (tmp_path / "scan" / f"copy-{path.name}").write_bytes(path.read_bytes())
    source = _open(tmp_path)
    assert source.sequence.shape[0] == 6
    assert len(source.header.instances) == 6
    assert any("2 slices are there twice" in text for text in source.sequence.warnings)


def test_different_slices_at_one_place_are_refused(tmp_path):
    place = ["-20", "15", "7"]
    paths = _series(tmp_path, _one(3, ImagePositionPatient=place))
    with pytest.raises(GeometryError, match=r"IM0001 and IM0003 lie at one place and differ"):
        open_series(paths, path=tmp_path)


def test_all_at_one_place_or_without_one_is_no_scan(tmp_path):
    paths = _series(tmp_path, _all(ImagePositionPatient=["0", "0", "0"]))
    with pytest.raises(GeometryError, match="6 images lie at one place"):
        open_series(paths, path=tmp_path)
    assert find_sources(tmp_path / "scan").files == {}
    paths = _series(tmp_path, lambda dataset, _: delattr(dataset, "ImagePositionPatient"))
    with pytest.raises(GeometryError, match="ImagePositionPatient is missing"):
        open_series(paths, path=tmp_path)
    assert len(find_sources(tmp_path / "scan").paths) == 6


def test_fluoroscopy_at_one_place_is_a_cine(tmp_path):
    edit = _all(ImagePositionPatient=["0", "0", "0"], Modality="XA")
    paths = _series(tmp_path, edit, slope=None)
    sequence, _ = open_series(paths[::-1], path=tmp_path)
    assert sequence.geometry is None
    assert np.array_equal(np.stack(list(sequence))[:, 0], _stored())


def test_a_slice_beside_the_line_of_the_others_is_refused(tmp_path):
    affine = make_affine()
    place = [f"{x:.6g}" for x in affine[:3] @ [3, 2, 0, 1]]
    paths = _series(tmp_path, _one(3, ImagePositionPatient=place))
    with pytest.raises(GeometryError, match=r"IM0003 lies 1\.60 mm beside"):
        open_series(paths, path=tmp_path)


def test_a_localizer_is_skipped_and_a_second_size_split_off(tmp_path):
    _series(tmp_path)
    localizer = make_slices(_stored()[:1], series="series", edit=_all(
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ImageOrientationPatient=["0", "1", "0", "0", "0", "-1"],
        SOPInstanceUID="1.2.3.4",
    ))  # fmt: skip
    write_dicom(localizer[0], tmp_path / "scan" / "scout")
    other = make_slices(np.zeros((3, 4, 4), np.uint16))
    for index, dataset in enumerate(other):
        write_dicom(dataset, tmp_path / "scan" / f"small{index}")
    found = find_sources(tmp_path / "scan")
    assert [path.name for path in found.paths] == ["IM0000", "small0"]
    assert [len(found.files[path]) for path in found.paths] == [6, 3]
    assert "scout is a localizer" in found.skipped[0]
    with pytest.raises(FormatError, match=r"IM0000 \(6 slices\).*small0 \(3 slices\)"):
        _open(tmp_path)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"PatientID": "T2"}, "several patients"),
        ({"FrameOfReferenceUID": "1.2.3"}, "one origin"),
    ],
)
def test_slices_of_two_patients_or_frames_of_reference_are_refused(tmp_path, tags, words):
    _series(tmp_path, _one(4, **tags))
    with pytest.raises(FormatError, match=words) as error:
        _open(tmp_path)
    assert "T2" not in str(error.value)


def test_mixed_series_given_as_one_are_refused(tmp_path):
    first = _series(tmp_path / "a")
    second = _series(tmp_path / "b", series="other")
    with pytest.raises(FormatError, match="SeriesInstanceUID"):
        open_series([*first, *second], path=tmp_path)


@pytest.mark.parametrize(
    "orientation",
    [(-1, 0, 0, 0, -1, 0), (0, 1, 0, -1, 0, 0), (0, -1, 0, 1, 0, 0), (1, 0, 0, 0, -1, 0)],
)
@pytest.mark.parametrize("position", ["HFP", "FFDR", "HFDL", ""])
def test_prone_and_decubitus_follow_the_vectors_and_no_words(tmp_path, orientation, position):
    affine = make_affine(orientation)
    edit = _all(PatientPosition=position, InstanceNumber="7")
    datasets = make_slices(_stored(), affine, edit=edit)
    write_series(datasets, tmp_path / "scan")
    source = _open(tmp_path)
    np.testing.assert_allclose(source.sequence.geometry.affine, affine, atol=1e-6)
    assert np.array_equal(_read(source), _stored().astype(int) - 1024)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImageOrientationPatient", ["1", "0", "0", "1", "0", "0"]),
        ("ImageOrientationPatient", ["1", "0", "0"]),
        ("PixelSpacing", ["0", "1"]),
        ("PixelSpacing", ["1"]),
    ],
)
def test_a_place_that_is_none_is_refused(tmp_path, keyword, value):
    paths = _series(tmp_path, _all(**{keyword: value}))
    with pytest.raises(GeometryError, match=keyword):
        open_series(paths, path=tmp_path)


# --- enhanced ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "missing", ["PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"]
)
def test_an_enhanced_image_without_its_groups_is_refused(tmp_path, missing):
    dataset = make_enhanced(_stored())
    for groups in (
        *dataset.PerFrameFunctionalGroupsSequence,
        *dataset.SharedFunctionalGroupsSequence,
    ):
        if missing in groups:
            delattr(groups, missing)
    with pytest.raises(FormatError, match=missing):
        open_dicom(write_dicom(dataset, tmp_path / "e.dcm"))


@pytest.mark.parametrize("kept", [0, 3])
def test_an_enhanced_image_needs_groups_for_every_frame(tmp_path, kept):
    dataset = make_enhanced(_stored())
    groups = dataset.PerFrameFunctionalGroupsSequence
    dataset.PerFrameFunctionalGroupsSequence = groups[:kept]
    with pytest.raises(FormatError, match=f"groups for {kept}"):
        open_dicom(write_dicom(dataset, tmp_path / "e.dcm"))


def test_frames_at_one_place_that_nothing_tells_apart_are_refused(tmp_path):
    dataset = make_enhanced(_stored(), order=[0, 1, 2, 0, 1, 2])
    with pytest.raises(GeometryError, match=r"6 frames at 3 places.*series of its own"):
        open_dicom(write_dicom(dataset, tmp_path / "t.dcm"))


def _describe_content(groups, **values):
    content = Dataset()
    for keyword, value in values.items():
        setattr(content, keyword, value)
    groups.FrameContentSequence = [content]


@pytest.mark.parametrize("named", [True, False])
def test_stacks_are_listed_and_one_is_opened_by_its_number(tmp_path, named):
    stored = _stored()
    dataset = make_enhanced(stored)
    turned = Dataset()
    turned.ImageOrientationPatient = ["0", "1", "0", "0", "0", "1"]
    for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        if index % 2:
            groups.PlaneOrientationSequence = [turned]
            groups.PlanePositionSequence[0].ImagePositionPatient = [str(2 * index), "0", "0"]
        if named:
            _describe_content(groups, StackID="sag" if index % 2 else "ax")
    path = write_dicom(dataset, tmp_path / "s.dcm")
    name = 'StackID "sag", ' if named else ""
    with pytest.raises(FormatError, match=rf"2 of stack.*stack=2 \({name}3 frames\)"):
        open_source(path)
    for number, first in ((1, 0), (2, 1)):
        source = open_source(path, select={"stack": number})
        assert [frame for _, frame in source.header.frames] == [first + 1, first + 3, first + 5]
        assert (_read(source) == stored[first::2] - 1024.0).all()
    with pytest.raises(FormatError, match="has 2 of stack"):
        open_source(path, select={"stack": 3})


def test_points_in_time_are_listed_and_one_is_opened_by_its_number(tmp_path):
    stored = _stored()
    dataset = make_enhanced(stored, order=[0, 1, 2, 0, 1, 2])
    for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        _describe_content(groups, StackID="1", TemporalPositionIndex=2 - index // 3)
    path = write_dicom(dataset, tmp_path / "t.dcm")
    with pytest.raises(FormatError, match=r"2 of time.*time=1 .*3 frames.*time=2"):
        open_source(path)
    # The later frames are the earlier point in time.
    frames = open_source(path, select={"time": 1}).header.frames
    assert [frame for _, frame in frames] == [4, 5, 6]


def test_an_enhanced_image_with_a_gap_is_refused_and_said_where(tmp_path):
    dataset = make_enhanced(_stored()[:5])
    position = dataset.PerFrameFunctionalGroupsSequence[4].PlanePositionSequence[0]
    position.ImagePositionPatient = ["-20", "15", "15"]
    with pytest.raises(GeometryError, match="frame 4"):
        open_dicom(write_dicom(dataset, tmp_path / "g.dcm"))


def test_an_enhanced_ct_without_a_transformation_is_refused(tmp_path):
    dataset = make_enhanced(_stored())
    del dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    path = write_dicom(dataset, tmp_path / "e.dcm")
    with pytest.raises(FormatError, match="RescaleSlope"):
        open_dicom(path)
    assert open_dicom(path, options=DicomOptions(values_are_hu=True))[0].shape[0] == 6


# --- corpora ----------------------------------------------------------------------------


def _test_files():
    root = Path(pydicom.__file__).parent / "data"
    return sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".py")


def _open_or_refuse(path, files=()):
    with contextlib.suppress(InputError):
        source = open_source(path, files=files)
        for index in {0, len(source.sequence) - 1}:
            frame = source.sequence.decode(index)
            assert frame.shape == source.sequence.shape[1:]


def test_every_file_that_pydicom_ships_opens_or_is_refused_with_our_error():
    files = _test_files()
    assert len(files) > 80
    for path in files:
        _open_or_refuse(path)


def test_the_folders_that_pydicom_ships_are_sorted_into_series():
    root = Path(pydicom.__file__).parent / "data" / "test_files"
    found = find_sources(root)
    assert found.files
    for path in found.paths:
        _open_or_refuse(path, found.files.get(path, ()))


@pytest.mark.parametrize("seed", range(6))
def test_slices_with_damaged_bytes_are_read_or_refused_with_our_error(tmp_path, seed):
    paths = _series(tmp_path)
    whole = [path.read_bytes() for path in paths]
    rng = np.random.default_rng(seed)
    for _ in range(15):
        for path, content in zip(paths, whole, strict=True):
            damaged = np.frombuffer(content, np.uint8).copy()
            places = rng.integers(132, len(damaged), rng.integers(0, 3))
            damaged[places] = rng.choice([0, 255, 32, 65])
            path.write_bytes(damaged.tobytes())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with contextlib.suppress(InputError):
                sequence, _ = open_series(paths, path=tmp_path / "scan")
                assert sequence.decode(0).shape == sequence.shape[1:]
            with contextlib.suppress(InputError):
                find_sources(tmp_path / "scan")


def test_a_refusal_never_quotes_the_patient(tmp_path):
    _series(tmp_path, _one(2, PatientID="SECRET-7", PatientName="Doe^Jane"))
    with pytest.raises(InputError) as error:
        _open(tmp_path)
    assert not re.search("SECRET|Doe", str(error.value))
