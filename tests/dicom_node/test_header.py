"""What the head of an image says, and what is no head."""

import pytest
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from bedside.dicom_node.header import ImageHeader, read_header, scan_header
from bedside.errors import FormatError
from bedside.io.dicom.head import HEAD_BYTES
from makers import make_dicom, make_fan


def encode(dataset, *, is_implicit=False):
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = is_implicit, True
    write_dataset(file, dataset)
    return file.getvalue()


@pytest.mark.parametrize("is_implicit", [False, True])
def test_a_head_says_what_the_image_is(is_implicit):
    image = make_dicom(make_fan(3, 8, 8), tags={
        "SeriesDescription": "A4CH", "StationName": "ECHO1", "BodyPartExamined": "HEART",
        "ImagesInAcquisition": 7, "AcquisitionNumber": 2, "NumberOfSeriesRelatedInstances": 9,
    })  # fmt: skip
    header = read_header(encode(image, is_implicit=is_implicit), is_implicit=is_implicit)
    assert header.sop_instance_uid == image.SOPInstanceUID
    assert (header.modality, header.frames, header.body_part) == ("US", 3, "HEART")
    assert (header.description, header.station) == ("A4CH", "ECHO1")
    assert (header.series_images, header.acquisition, header.acquisition_images) == (9, "2", 7)


def test_parts_of_a_concatenation_are_counted_as_such():
    tags = {"ConcatenationUID": "1.2.3", "InConcatenationTotalNumber": 4, "AcquisitionNumber": 1}
    header = read_header(encode(make_dicom(make_fan(3, 8, 8), tags=tags)))
    assert (header.acquisition, header.acquisition_images) == ("1.2.3", 4)
    assert header.series_images is None


def test_only_the_first_part_of_a_file_is_parsed():
    image = make_dicom(make_fan(3, 8, 8))
    image.add_new(0x00091001, "OB", bytes(HEAD_BYTES))  # in front of the UIDs of the series
    with pytest.raises(FormatError):
        read_header(encode(image)[:HEAD_BYTES])


@pytest.mark.parametrize("value", ["0", "-3", "x", "99999999"])
def test_a_number_that_is_none_is_not_believed(value):
    image = encode(make_dicom(make_fan(3, 8, 8), tags={"ImagesInAcquisition": 12345678}))
    damaged = image.replace(b"12345678", value.encode().ljust(8))
    assert read_header(damaged).acquisition_images is None


def test_an_empty_head_is_refused():
    with pytest.raises(FormatError, match="SOPClassUID"):
        read_header(encode(Dataset()))


def without_scan(head, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("bedside.dicom_node.header.scan_header", lambda head, is_implicit: None)
        return read_header(head)


def test_the_fast_scan_says_what_pydicom_says(monkeypatch):
    tags = {
        "SeriesDescription": " 4ch ", "AcquisitionNumber": "", "ImagesInAcquisition": 7,
        "ReferencedStudySequence": [Dataset()], "StationName": "A" * 16,
    }  # fmt: skip
    head = encode(make_dicom(make_fan(3, 8, 8), tags=tags))
    assert isinstance(scan_header(head), ImageHeader)
    assert scan_header(head) == without_scan(head, monkeypatch)


@pytest.mark.parametrize("description", ["Sch\u00e4del", "a\\b"])
def test_what_is_not_plain_is_left_to_pydicom(description):
    tags = {"SpecificCharacterSet": "ISO_IR 100", "SeriesDescription": description}
    head = encode(make_dicom(make_fan(3, 8, 8), tags=tags))
    assert scan_header(head) is None
    assert "del" in read_header(head).description or "a" in read_header(head).description


def test_a_head_that_is_cut_off_is_not_believed():
    head = encode(make_dicom(make_fan(3, 8, 8)))
    found = {length: scan_header(head[:length]) for length in range(0, len(head), 7)}
    begin = head.index(b"\x28\x00\x08\x00")  # Number of Frames, the last that is asked for
    assert {each for length, each in found.items() if length < begin} == {None}
    assert {each for each in found.values() if each is not None} == {scan_header(head)}


def test_a_sequence_of_undefined_length_is_left_to_pydicom():
    image = make_dicom(make_fan(3, 8, 8), tags={"ReferencedStudySequence": [Dataset()]})
    image["ReferencedStudySequence"].is_undefined_length = True
    head = encode(image)
    assert scan_header(head) is None
    assert read_header(head).modality == "US"
