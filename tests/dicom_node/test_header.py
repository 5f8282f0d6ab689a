"""What the head of an image says, and what is no head."""

import pytest
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from bedside.dicom_node.header import read_header
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
