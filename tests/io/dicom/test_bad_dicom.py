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
from pydicom.data import get_testdata_file

from bedside.errors import FormatError, GeometryError, InputError
from bedside.io.dicom.cine import open_dicom
from bedside.io.dicom.options import DicomOptions
from bedside.io.dicom.series import open_series
from bedside.io.source import find_sources, open_source
from dicom_makers import make_slices, write_series
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
