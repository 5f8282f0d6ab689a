"""From stored pixels to values: palettes, lookup tables, padding, and bits above those stored."""

import io
from itertools import pairwise

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.pixels import compress
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from bedside.errors import FormatError
from bedside.io.dicom.options import DicomOptions
from bedside.io.source import open_source
from dicom_makers import make_enhanced, make_slices, write_series
from makers import make_dicom, make_fan

pytest_plugins = ["memory_fixtures"]
pytestmark = pytest.mark.usefixtures("in_little_memory")

SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
COLOURS = ("Red", "Green", "Blue")


def save(dataset, path, syntax=ExplicitVRLittleEndian):
    """Write a dataset of little-endian values in any uncompressed transfer syntax."""
    big = not syntax.is_little_endian
    if big and dataset.BitsAllocated == 16:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(
        path, implicit_vr=syntax.is_implicit_VR, little_endian=not big, enforce_file_format=True
    )
    return path


def encode(entries, form, syntax, *, as_words=True):
    """Encode the entries of a table as a writer may: "packed", "padded" or "wide"."""
    order = "<" if syntax.is_little_endian else ">"
    if form == "packed":
        content = np.uint8(entries).tobytes() + b"\0" * (len(entries) % 2)
        words = np.frombuffer(content, "<u2")
        # A word of big-endian files has its first byte last.
        return words.astype(f"{order}u2").tobytes() if as_words else content
    return np.array(entries).astype(f"{order}u2").tobytes()


def make_palette_image(pixels, table, *, form, bits, first=0, syntax=ExplicitVRLittleEndian):
    """A PALETTE COLOR image; `table` is (entries, 3), in the range of `bits`."""
    dataset = make_dicom(pixels, tags={"PhotometricInterpretation": "PALETTE COLOR"})
    for index, colour in enumerate(COLOURS):
        name = f"{colour}PaletteColorLookupTable"
        setattr(dataset, f"{name}Descriptor", [len(table) % 2**16, first, bits])
        dataset[f"{name}Descriptor"].VR = "SS" if first < 0 else "US"
        setattr(dataset, f"{name}Data", encode(table[:, index], form, syntax))
        dataset[f"{name}Data"].VR = "OW"
    return dataset


def read(path, **options):
    return np.stack(list(open_source(path, dicom=DicomOptions(**options)).sequence))


def make_table(count=256, *, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 3))


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("form", "bits", "factor"),
    [("packed", 8, 1), ("padded", 8, 1), ("wide", 16, 257), ("wide", 16, 1), ("wide", 8, 256)],
)
def test_a_palette_gives_its_colours_however_its_entries_are_encoded(
    tmp_path, syntax, form, bits, factor
):
    """The third form is the standard's; the last two are of writers who mix up 8 and 16 bits."""
    pixels, table = make_fan(1), make_table()
    dataset = make_palette_image(pixels, table * factor, form=form, bits=bits, syntax=syntax)
    values = read(save(dataset, tmp_path / "a.dcm", syntax))
    assert np.array_equal(values[0], table[pixels[0]].transpose(2, 0, 1))


@pytest.mark.parametrize("form", ["packed", "padded"])
def test_values_beyond_a_palette_get_the_entry_at_its_end(tmp_path, form):
    pixels, table = make_fan(1), make_table(101)
    dataset = make_palette_image(pixels, table, form=form, bits=8, first=60)
    values = read(save(dataset, tmp_path / "a.dcm"))
    expected = table[np.clip(pixels[0].astype(int) - 60, 0, 100)]
    assert np.array_equal(values[0], expected.transpose(2, 0, 1))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_palette_of_signed_pixels_begins_below_zero(tmp_path, syntax):
    pixels = np.random.default_rng(1).integers(-300, 300, (1, 16, 18)).astype(np.int16)
    table = make_table(400)
    dataset = make_palette_image(pixels, table * 257, form="wide", bits=16, first=-200,
                                 syntax=syntax)  # fmt: skip
    dataset.PixelRepresentation = 1
    values = read(save(dataset, tmp_path / "a.dcm", syntax))
    expected = table[np.clip(pixels[0].astype(int) + 200, 0, 399)]
    assert np.array_equal(values[0], expected.transpose(2, 0, 1))


def test_a_palette_of_65536_entries_is_written_as_of_0(tmp_path):
    pixels = np.random.default_rng(2).integers(0, 2**16, (1, 16, 18)).astype(np.uint16)
    table = make_table(2**16)
    dataset = make_palette_image(pixels, table * 257, form="wide", bits=16)
    assert dataset.RedPaletteColorLookupTableDescriptor[0] == 0
    values = read(save(dataset, tmp_path / "a.dcm"))
    assert np.array_equal(values[0], table[pixels[0]].transpose(2, 0, 1))


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_in_segments_is_expanded(tmp_path, syntax, bits):
    """Four entries, a ramp to the last, then both once more by reference."""
    top = 2**bits - 1
    pixels = make_fan(1)
    ramp = np.rint(np.linspace(0, top, 125))[1:]
    whole = np.concatenate([[5, 6, 7, 0], ramp, [5, 6, 7, 0], ramp])
    dataset = make_palette_image(pixels, np.zeros((256, 3)), form="wide", bits=bits)
    offset = [0, 0, 0, 0] if bits == 8 else [0, 0]
    segments = [0, 4, 5, 6, 7, 0, 1, 124, top, 2, 2, *offset]
    content = encode(segments, "packed" if bits == 8 else "wide", syntax)
    for colour in COLOURS:
        del dataset[f"{colour}PaletteColorLookupTableData"]
        name = f"Segmented{colour}PaletteColorLookupTableData"
        setattr(dataset, name, content)
        dataset[name].VR = "OW"
    values = read(save(dataset, tmp_path / "a.dcm", syntax))
    expected = whole.astype(int)[pixels[0]] >> (bits - 8)
    assert np.array_equal(values[0], np.stack([expected] * 3))


@pytest.mark.parametrize(
    "segments", [[0, 4, 1, 2], [1, 5, 9], [0, 1, 5, 2, 1, 3, 0], [7, 1, 1], [0, 0] * 40000]
)
def test_segments_that_cannot_be_meant_are_refused(tmp_path, segments):
    dataset = make_palette_image(make_fan(1), np.zeros((256, 3)), form="wide", bits=16)
    for colour in COLOURS:
        del dataset[f"{colour}PaletteColorLookupTableData"]
        name = f"Segmented{colour}PaletteColorLookupTableData"
        setattr(dataset, name, np.array(segments, "<u2").tobytes())
        dataset[name].VR = "OW"
    with pytest.raises(FormatError, match=r"palette cannot be read.*Convert"):
        read(save(dataset, tmp_path / "a.dcm"))


@pytest.mark.parametrize(
    "drop", ["RedPaletteColorLookupTableData", "BluePaletteColorLookupTableDescriptor"]
)
def test_a_palette_that_is_not_whole_is_refused_by_name(tmp_path, drop):
    dataset = make_palette_image(make_fan(1), make_table(), form="packed", bits=8)
    del dataset[drop]
    with pytest.raises(FormatError, match=f"palette cannot be read: its {drop} is missing"):
        read(save(dataset, tmp_path / "a.dcm"))


def make_lut(entries, *, first=0, bits=16, vr="US", unit="US", syntax=ExplicitVRLittleEndian):
    """An item of ModalityLUTSequence."""
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 2**16, first, bits]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    item.ModalityLUTType = unit
    if vr == "US":
        item.LUTData = [int(entry) & 0xFFFF for entry in entries]
    else:
        item.LUTData = encode(entries, vr, syntax)
    item["LUTData"].VR = "US" if vr == "US" else "OW"
    return item


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(("vr", "bits"), [("US", 16), ("padded", 8), ("packed", 8), ("wide", 16)])
@pytest.mark.parametrize("frames", [1, 3])
def test_a_picture_that_a_modality_lut_inverts_equals_the_plain_one(
    tmp_path, syntax, vr, bits, frames
):
    pixels = make_fan(frames)
    plain = save(make_dicom(pixels), tmp_path / "plain.dcm")
    dataset = make_dicom(255 - pixels)
    dataset.ModalityLUTSequence = [make_lut(255 - np.arange(256), vr=vr, bits=bits, syntax=syntax)]
    found = read(save(dataset, tmp_path / "lut.dcm", syntax))
    assert found.dtype == np.uint8
    assert np.array_equal(found, read(plain))


def test_stored_values_beyond_a_lut_get_the_entry_at_its_end(tmp_path):
    stored = np.random.default_rng(0).integers(-900, 900, (4, 9, 8)).astype(np.int16)
    entries = np.random.default_rng(1).integers(0, 4000, 1001)

    def edit(dataset, index):
        # Of every slice its own.
        dataset.ModalityLUTSequence = [make_lut(entries + index, first=-500)]

    slices = make_slices(stored, modality="MR", slope=None, edit=edit)
    write_series(slices, tmp_path / "series")
    expected = entries[np.clip(stored.astype(int) + 500, 0, 1000)]
    expected += np.arange(4)[:, None, None]
    assert np.array_equal(read(tmp_path / "series")[:, 0], expected)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_ct_with_a_lut_in_hu_needs_no_option(tmp_path, syntax):
    stored = np.random.default_rng(0).integers(0, 4096, (3, 9, 8)).astype(np.uint16)

    def edit(dataset, index):
        dataset.ModalityLUTSequence = [
            make_lut((np.arange(4096) - 1024) & 0xFFFF, vr="wide", unit="HU", syntax=syntax)
        ]

    for index, dataset in enumerate(make_slices(stored, slope=None, edit=edit)):
        save(dataset, tmp_path / f"{index}.dcm", syntax)
    source = open_source(tmp_path)
    values = np.stack(list(source.sequence))[:, 0]
    assert np.array_equal(values, stored.astype(int) - 1024)
    assert any("taken as negative" in text for text in source.sequence.warnings)


def test_ct_with_a_lut_of_another_unit_needs_the_option(tmp_path):
    stored = np.random.default_rng(0).integers(0, 256, (3, 9, 8)).astype(np.uint16)

    def edit(dataset, index):
        dataset.ModalityLUTSequence = [make_lut(np.arange(256) * 2, unit="OD")]

    write_series(make_slices(stored, slope=None, edit=edit), tmp_path / "series")
    with pytest.raises(FormatError, match=r'Modality LUT of type "OD".*--values-are-hu'):
        read(tmp_path / "series")
    assert np.array_equal(read(tmp_path / "series", values_are_hu=True)[:, 0], stored * 2)


def test_a_lut_goes_before_a_rescale_and_says_so(tmp_path):
    pixels = make_fan(1)
    dataset = make_dicom(pixels, tags={"RescaleSlope": "2", "RescaleIntercept": "0"})
    dataset.ModalityLUTSequence = [make_lut(np.arange(256))]
    source = open_source(save(dataset, tmp_path / "a.dcm"))
    assert np.array_equal(source.sequence.decode(0)[0], pixels[0])
    assert any("both a Modality LUT and a rescale" in text for text in source.sequence.warnings)


def test_monochrome1_behind_a_lut_is_turned_once(tmp_path):
    pixels = make_fan(1)
    dataset = make_dicom(pixels, tags={"PhotometricInterpretation": "MONOCHROME1"})
    dataset.ModalityLUTSequence = [make_lut(255 - np.arange(256))]
    assert np.array_equal(read(save(dataset, tmp_path / "a.dcm"))[0, 0], pixels[0])


def test_padding_behind_a_lut_is_the_blackest_value(tmp_path):
    pixels = make_fan(1)
    dataset = make_dicom(pixels, tags={"PixelPaddingValue": 0})
    dataset.ModalityLUTSequence = [make_lut(255 - np.arange(256))]
    values = read(save(dataset, tmp_path / "a.dcm"))[0, 0]
    assert np.array_equal(values, np.where(pixels[0] == 0, 0, 255 - pixels[0]))


def test_an_enhanced_scan_with_a_lut_equals_the_plain_one(tmp_path):
    stored = np.random.default_rng(0).integers(0, 1000, (4, 9, 8)).astype(np.uint16)
    dataset = make_enhanced(999 - stored, modality="MR", intercept=0)
    del dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    dataset.ModalityLUTSequence = [make_lut(999 - np.arange(1000))]
    assert np.array_equal(read(save(dataset, tmp_path / "a.dcm"))[:, 0], stored)


@pytest.mark.parametrize("drop", ["LUTDescriptor", "LUTData"])
def test_a_lut_that_is_not_whole_is_refused_by_name(tmp_path, drop):
    dataset = make_dicom(make_fan(1))
    dataset.ModalityLUTSequence = [make_lut(np.arange(256))]
    del dataset.ModalityLUTSequence[0][drop]
    with pytest.raises(FormatError, match=f"Modality LUT cannot be read: its {drop} is missing"):
        read(save(dataset, tmp_path / "a.dcm"))


def test_a_lut_shorter_than_its_descriptor_is_refused(tmp_path):
    dataset = make_dicom(make_fan(1))
    dataset.ModalityLUTSequence = [make_lut(np.arange(256))]
    dataset.ModalityLUTSequence[0].LUTDescriptor = [300, 0, 16]
    with pytest.raises(FormatError, match="512 bytes, too few for 300 entries of 16 bits"):
        read(save(dataset, tmp_path / "a.dcm"))


def test_ct_in_another_unit_than_hu_is_warned_of(tmp_path):
    stored = np.zeros((3, 9, 8), np.uint16)

    def edit(dataset, index):
        dataset.RescaleType = "Z_EFF"

    write_series(make_slices(stored, edit=edit), tmp_path / "series")
    warnings = open_source(tmp_path / "series").sequence.warnings
    assert any('values of this CT are in "Z_EFF"' in text for text in warnings)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless, None])
def test_12_of_16_bits_come_out_the_same_however_compressed(tmp_path, syntax, signed):
    low = -2048 if signed else 0
    stored = np.random.default_rng(3).integers(low, low + 4096, (3, 32, 40))
    stored[:, 0, :2] = low, low + 4095

    def edit(dataset, index):
        dataset.BitsStored, dataset.HighBit = 12, 11
        if syntax is not None:
            compress(dataset, syntax, generate_instance_uid=False)

    slices = make_slices(stored.astype(np.int16 if signed else np.uint16), modality="MR",
                         intercept=3, edit=edit)  # fmt: skip
    write_series(slices, tmp_path / "series")
    assert np.array_equal(read(tmp_path / "series")[:, 0], stored + 3)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless, None])
def test_bits_above_those_stored_are_dropped_however_compressed(tmp_path, syntax, signed):
    """Older machines keep overlays there; codecs of 16 bits carry them along."""
    low = -2048 if signed else 0
    stored = np.random.default_rng(4).integers(low, low + 4096, (3, 32, 40))
    junk = np.random.default_rng(5).integers(0, 16, stored.shape) << 12
    words = ((stored & 0xFFF) | junk).astype(np.uint16)

    def edit(dataset, index):
        # Compressed as 16 bits, then declared to have 12 of them.
        if syntax is not None:
            compress(dataset, syntax, generate_instance_uid=False)
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.PixelRepresentation = int(signed)

    write_series(make_slices(words, modality="MR", intercept=3, edit=edit), tmp_path / "series")
    source = open_source(tmp_path / "series")
    assert np.array_equal(np.stack(list(source.sequence))[:, 0], stored + 3)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("keyword_vr", "syntax"),
    [
        ("right", ExplicitVRLittleEndian),
        ("wrong", ExplicitVRLittleEndian),
        ("OB", ExplicitVRLittleEndian),
        ("UN", ExplicitVRLittleEndian),
        ("OB", ExplicitVRBigEndian),
        ("right", ExplicitVRBigEndian),
        ("right", ImplicitVRLittleEndian),
    ],
)
@pytest.mark.parametrize("limit", [None, 4])
def test_padding_is_found_whatever_form_its_value_has(tmp_path, signed, keyword_vr, syntax, limit):
    """-2000 and what lies up to 4 above it, or 63536 as unsigned pixels have it."""
    base = -2000 if signed else 63536
    pixels = np.full((3, 8, 10), 100, np.int16 if signed else np.uint16)
    pixels[:, 0] = base + np.arange(10)

    def edit(dataset, index):
        ends = {"PixelPaddingValue": base}
        if limit is not None:
            ends["PixelPaddingRangeLimit"] = base + limit
        for keyword, value in ends.items():
            word = value & 0xFFFF
            vr = {"right": "SS" if signed else "US", "wrong": "US" if signed else "SS"}.get(
                keyword_vr, keyword_vr
            )
            content = word.to_bytes(2, "little" if syntax.is_little_endian else "big")
            as_signed = word - 2**16 if word >= 2**15 else word
            value = {"US": word, "SS": as_signed}.get(vr, content)
            dataset.add_new(keyword, vr, value)

    slices = make_slices(pixels, modality="MR", slope=1, intercept=7, edit=edit)
    for index, dataset in enumerate(slices):
        save(dataset, tmp_path / f"{index}.dcm", syntax)
    values = read(tmp_path)[:, 0]
    padded = 1 if limit is None else limit + 1
    expected = pixels.astype(int) + 7
    expected[:, 0, :padded] = 7
    assert np.array_equal(values, expected)


def test_values_of_files_that_were_read_from_memory_have_the_order_of_their_bytes(tmp_path):
    """A guard of the makers: what is written as big-endian is, and comes back."""
    dataset = make_palette_image(make_fan(1), make_table(), form="packed", bits=8,
                                 syntax=ExplicitVRBigEndian)  # fmt: skip
    path = save(dataset, tmp_path / "a.dcm", ExplicitVRBigEndian)
    again = pydicom.dcmread(io.BytesIO(path.read_bytes()))
    first, second = next(pairwise(again.RedPaletteColorLookupTableData))
    assert (second, first) == tuple(make_table()[:2, 0])
