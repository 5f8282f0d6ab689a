"""Enhanced images that lack groups, or hold several stacks or points in time."""

import numpy as np
import pytest
from pydicom import Dataset

from bedside.errors import FormatError, GeometryError
from bedside.io.dicom.cine import open_dicom
from bedside.io.dicom.options import DicomOptions
from bedside.io.source import open_source
from dicom_makers import make_enhanced
from makers import write_dicom

SHAPE = (6, 8, 9)


def _stored(seed=0):
    return np.random.default_rng(seed).integers(100, 4000, SHAPE).astype(np.uint16)


def _read(source):
    return np.stack(list(source.sequence))[:, 0]


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
