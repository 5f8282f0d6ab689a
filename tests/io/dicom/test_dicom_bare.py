"""DICOM without its preamble or its group 2: read by its elements, with a word; junk is not."""

import io
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from bedside.errors import FormatError
from bedside.io.detect import detect_format
from bedside.io.discovery import find_sources
from bedside.io.sandbox.parent import open_untrusted
from bedside.io.source import Algorithm, open_source, write_labels
from bedside.volume import LabelMap
from dicom_makers import make_slices
from makers import LABELS, compress_jpeg, make_dicom, make_fan, make_labels

pytest_plugins = ["memory_fixtures"]
pytestmark = pytest.mark.usefixtures("in_little_memory")

SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}


def to_bytes(dataset, syntax=ExplicitVRLittleEndian):
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    dataset.save_as(
        buffer, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )  # fmt: skip
    return buffer.getvalue()


def without_meta(content):
    """The data set alone, as ACR-NEMA and network captures leave it."""
    return content[144 + int.from_bytes(content[140:144], "little") :]


FORMS = {
    "no preamble": lambda content: content[132:],
    "no preamble and no group 2": without_meta,
    "no group 2": lambda content: content[:132] + without_meta(content),
}
READABLE = [
    (form, name)
    for form in FORMS
    for name in SYNTAXES
    if form == "no preamble" or name != "deflated"
]


@pytest.mark.parametrize(("form", "name"), READABLE)
@pytest.mark.parametrize("opener", [open_source, open_untrusted])
def test_a_file_that_lacks_its_beginning_is_read_with_a_word(tmp_path, form, name, opener):
    pixels = make_fan(3)
    content = FORMS[form](to_bytes(make_dicom(pixels), SYNTAXES[name]))
    path = tmp_path / "a"
    path.write_bytes(content)
    assert detect_format(path) == "dicom"
    assert find_sources(tmp_path).paths == (path,)
    source = opener(path)
    assert np.array_equal(np.stack(list(source.sequence))[:, 0], pixels)
    said = " ".join(source.sequence.warnings)
    assert ("no DICOM preamble" in said) == form.startswith("no preamble")
    assert ("does not state its transfer syntax" in said) == ("group 2" in form)


def test_what_was_read_without_a_beginning_can_be_referred_to(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(without_meta(to_bytes(make_dicom(make_fan(3)), ImplicitVRLittleEndian)))
    target = write_labels(
        LabelMap(make_labels(3)), open_source(path), tmp_path / "seg.dcm", labels_spec=LABELS,
        algorithm=Algorithm("a", "1", "0"), format="dicom-seg",
    )  # fmt: skip
    assert pydicom.dcmread(target).NumberOfFrames == 9


@pytest.mark.parametrize("name", ["implicit", "explicit", "big"])
def test_a_series_without_preambles_is_a_scan(tmp_path, name):
    stored = np.random.default_rng(0).integers(0, 4096, (4, 9, 8)).astype(np.uint16)
    for index, dataset in enumerate(make_slices(stored)):
        if name == "big":
            dataset.PixelData = stored[index].astype(">u2").tobytes()
        (tmp_path / str(index)).write_bytes(without_meta(to_bytes(dataset, SYNTAXES[name])))
    source = open_source(tmp_path)
    assert np.array_equal(np.stack(list(source.sequence))[:, 0], stored.astype(int) - 1024)
    assert sum("no DICOM preamble" in text for text in source.sequence.warnings) == 1


def test_compressed_pixels_need_their_transfer_syntax(tmp_path):
    dataset = compress_jpeg(make_dicom(make_fan(2)))
    syntax = dataset.file_meta.TransferSyntaxUID
    path = tmp_path / "a"
    path.write_bytes(to_bytes(dataset, syntax)[132:])
    assert len(open_source(path).sequence) == 2
    path.write_bytes(without_meta(to_bytes(dataset, syntax)))
    with pytest.raises(FormatError, match=r"does not state its transfer syntax.*compressed"):
        open_source(path)


def test_a_deflated_file_without_preamble_is_capped_too(tmp_path):
    content = to_bytes(make_dicom(make_fan(1)), DeflatedExplicitVRLittleEndian)
    begin = 144 + int.from_bytes(content[140:144], "little")
    bomb = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    zeros = b"".join([*(bomb.compress(bytes(2**20)) for _ in range(150)), bomb.flush()])
    path = tmp_path / "a"
    path.write_bytes(content[132:begin] + zeros)
    with pytest.raises(FormatError, match="inflates to more than"):
        open_source(path)


def test_a_group_2_without_its_length_is_read_to_its_end(tmp_path):
    content = to_bytes(make_dicom(make_fan(2)), DeflatedExplicitVRLittleEndian)
    path = tmp_path / "a"
    path.write_bytes(content[:132] + content[144:])
    assert len(open_source(path).sequence) == 2


@pytest.mark.parametrize("form", FORMS)
def test_a_mask_without_preamble_is_no_image_to_segment(tmp_path, form):
    path = tmp_path / "a"
    path.write_bytes(to_bytes(make_dicom(make_fan(2))))
    seg = write_labels(
        LabelMap(make_labels(2)), open_source(path), tmp_path / "s", labels_spec=LABELS,
        algorithm=Algorithm("a", "1", "0"), format="dicom-seg",
    )  # fmt: skip
    seg.write_bytes(FORMS[form](seg.read_bytes()))
    assert find_sources(tmp_path).paths == (path,)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"\x08\0",
        b"\x02\0",
        b"\0\x08",
        b"\x08\0\x16\0UI\x1a\0",
        b"\x02\0\0\0UL\x04\0\xd0\0\0\0",
        b"\x08\0\x16\0\x1a\0\0\0",
    ],
)
def test_junk_is_no_image(tmp_path, first):
    path = tmp_path / "junk"
    for seed in range(40):
        path.write_bytes(first + np.random.default_rng(seed).bytes(2000))
        with pytest.raises(FormatError, match="is no image"):
            open_source(path)


@pytest.mark.parametrize("kept", [40, 200, 400, 700, -5])
def test_a_bare_file_that_is_cut_off_is_refused(tmp_path, kept):
    path = tmp_path / "a"
    path.write_bytes(to_bytes(make_dicom(make_fan(2)))[132:][:kept])
    with pytest.raises(FormatError):
        open_source(path)
