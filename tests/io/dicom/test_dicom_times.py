"""Times and scale that a header says, believed only where they can be meant."""

import numpy as np
import pytest
from PIL import Image
from pydicom.tag import Tag

from bedside.io.dicom.frame_time import read_moment_ms
from bedside.io.sandbox.parent import open_untrusted
from bedside.io.source import open_source
from bedside.report.overlay import plan_overlay, write_overlay
from bedside.volume import LabelMap
from makers import LABELS, make_dicom, make_fan, make_labels, make_region, write_dicom

pytest_plugins = ["memory_fixtures"]
pytestmark = pytest.mark.usefixtures("in_little_memory")

VECTOR, STEP = Tag("FrameTimeVector"), Tag("FrameTime")


def open_with(tmp_path, frames=5, drop=("FrameTime",), regions=(), **tags):
    dataset = make_dicom(make_fan(frames), tags=tags, drop=drop, regions=regions)
    return open_source(write_dicom(dataset, tmp_path / "a.dcm")).sequence


def test_an_even_vector_is_a_step(tmp_path):
    sequence = open_with(
        tmp_path, FrameTimeVector=[0, 40, 40, 40, 40], FrameIncrementPointer=VECTOR
    )
    assert (sequence.frame_time_ms, sequence.frame_starts_ms) == (40, None)
    assert sequence.start_ms(3) == 120


def test_an_uneven_vector_gives_each_frame_its_time(tmp_path):
    tags = {"FrameTimeVector": [0, 30, 50, 30, 70], "FrameIncrementPointer": VECTOR}
    sequence = open_with(tmp_path, **tags)
    assert sequence.frame_time_ms == pytest.approx(45)
    assert sequence.frame_starts_ms == (0, 30, 80, 110, 180)
    other = open_untrusted(tmp_path / "a.dcm").sequence
    assert other.frame_starts_ms == sequence.frame_starts_ms


def test_the_film_of_an_uneven_cine_keeps_its_time(tmp_path):
    sequence = open_with(tmp_path, FrameTimeVector=[0, 30, 50, 30, 70])
    overlay = plan_overlay(sequence, LabelMap(make_labels(5)), LABELS)
    delays = []
    with Image.open(write_overlay(overlay, tmp_path)) as film:
        for frame in range(film.n_frames):
            film.seek(frame)
            delays.append(film.info["duration"])
    assert delays[:4] == [30, 50, 30, 70]


@pytest.mark.parametrize(
    ("pointer", "expected"), [(None, 50.0), (VECTOR, 50.0), (STEP, 40.0), ([VECTOR, STEP], 50.0)]
)
def test_the_pointer_says_which_time_counts(tmp_path, pointer, expected):
    tags = {} if pointer is None else {"FrameIncrementPointer": pointer}
    sequence = open_with(tmp_path, drop=(), FrameTimeVector=[0, 50, 50, 50, 50], **tags)
    assert sequence.frame_time_ms == expected


@pytest.mark.parametrize(
    ("vector", "says"),
    [
        ([0, 40, 40], "3 times for 5 frames"),
        ([40, 40, 40, 40], "4 times for 5 frames"),
        ([0, 0, 0, 0, 0], "step of 0 ms"),
        ([0, 40, -40, 40, 40], "step of -40 ms"),
        ([0, 1e9, 1e9, 1e9, 1e9], "mean step of 1e"),
    ],
)
def test_a_vector_that_cannot_be_meant_is_left_for_a_rate_and_said(tmp_path, vector, says):
    sequence = open_with(tmp_path, FrameTimeVector=vector, CineRate="20")
    assert sequence.frame_time_ms == 50
    assert any(f"FrameTimeVector has a {says}" in text or f"FrameTimeVector has {says}" in text
               for text in sequence.warnings)  # fmt: skip


def test_a_vector_of_times_from_the_first_frame_is_known_by_its_growth(tmp_path):
    sequence = open_with(tmp_path, FrameTimeVector=[0, 33, 67, 100, 133])
    assert sequence.frame_starts_ms == (0, 33, 67, 100, 133)
    assert any("times from the first frame" in text for text in sequence.warnings)


@pytest.mark.parametrize(
    ("tags", "expected", "said"),
    [
        ({"FrameTime": "0"}, None, "FrameTime is 0 ms"),
        ({"FrameTime": "0.033"}, None, "FrameTime is 0.033 ms"),
        ({"FrameTime": "-33"}, None, "FrameTime is -33 ms"),
        ({"FrameTime": "0", "CineRate": "25"}, 40, "FrameTime is 0 ms"),
        ({"FrameTime": "1e7", "RecommendedDisplayFrameRate": "25"}, 40, "FrameTime is 1e+07 ms"),
        ({"FrameTime": "20", "CineRate": "0"}, 20, None),
        ({"FrameTime": None, "CineRate": "0"}, None, "CineRate is 0 a second"),
        ({"FrameTime": None, "RecommendedDisplayFrameRate": "20"}, 50, None),
    ],
)
def test_a_time_that_cannot_be_meant_is_not_used_and_said(tmp_path, tags, expected, said):
    sequence = open_with(tmp_path, drop=(), **tags)
    assert sequence.frame_time_ms == expected
    told = [text for text in sequence.warnings if "a second" in text or "Time" in text]
    assert len(told) == (said is not None)
    assert said is None or told[0].startswith(said)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"ContentTime": "101010.04", "ContentDate": "20260101"}, 40.0),
        ({"ContentTime": "101010.040000"}, None),
        ({"ContentTime": "10:10:10.04", "ContentDate": "2026.01.01"}, 40.0),
        ({"ContentTime": "25"}, None),
        ({"ContentTime": "996010", "ContentDate": "20260101"}, None),
    ],
)
def test_a_moment_is_read_to_the_microsecond(tags, expected):
    start = read_moment_ms({"ContentDate": "20260101", "ContentTime": "101010"}, "Content")
    found = read_moment_ms(tags, "Content")
    if expected is None:
        assert found is None or abs(found - start) > 1e6
    else:
        assert found - start == expected


def test_a_zone_belongs_to_a_moment():
    dataset = make_dicom(make_fan(1), tags={"AcquisitionDateTime": "20260101101010.5+0200"})
    one = read_moment_ms(dataset, "Acquisition")
    dataset.AcquisitionDateTime = "20260101031010.5-0500"
    assert read_moment_ms(dataset, "Acquisition") == one


def scale_of(tmp_path, **options):
    sequence = open_with(tmp_path, drop=(), **options)
    return sequence.spacing_mm, " ".join(sequence.warnings)


def test_bare_pixel_spacing_of_ultrasound_is_said_and_not_used(tmp_path):
    spacing, said = scale_of(tmp_path, PixelSpacing=["0.5", "0.4"])
    assert spacing is None
    assert "PixelSpacing of 0.5 x 0.4 mm was not used" in said
    assert "PixelSpacingCalibrationType" in said


@pytest.mark.parametrize(
    "tags",
    [
        {"PixelSpacingCalibrationType": "GEOMETRY"},
        {"PixelSpacingCalibrationType": "FIDUCIAL"},
        {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
    ],
)
def test_pixel_spacing_of_ultrasound_counts_where_something_defines_it(tmp_path, tags):
    spacing, said = scale_of(tmp_path, PixelSpacing=["0.5", "0.4"], **tags)
    assert spacing == (0.5, 0.4)
    assert "was used, since" in said


def test_pixel_spacing_beside_a_region_is_compared_with_it(tmp_path):
    region = make_region((0, 0, 63, 47), delta_cm=(0.05, 0.05))
    assert scale_of(tmp_path, regions=[region], PixelSpacing=["0.5", "0.5"]) == ((0.5, 0.5), "")
    spacing, said = scale_of(tmp_path, regions=[region], PixelSpacing=["0.25", "0.5"])
    assert spacing == (0.5, 0.5)
    assert "0.25 x 0.5 mm differs" in said
    region = make_region((0, 0, 999, 47), delta_cm=(0.05, 0.05))
    spacing, said = scale_of(tmp_path, regions=[region], PixelSpacing=["0.5", "0.5"])
    assert spacing is None
    assert "was not used, since its regions do not confirm it" in said


def test_an_empty_list_of_regions_is_none(tmp_path):
    assert "no ultrasound calibration" in scale_of(tmp_path, SequenceOfUltrasoundRegions=[])[1]


@pytest.mark.parametrize("modality", ["CR", "DX", "IO", "MG", "PX", "RF", "RG", "XA"])
@pytest.mark.parametrize(
    ("detector", "said"),
    [
        ({"ImagerPixelSpacing": ["0.2", "0.2"]}, "is that at the detector"),
        ({"NominalScannedPixelSpacing": ["0.2", "0.2"]}, "is that at the detector"),
        ({}, "may be that at the detector"),
    ],
)
def test_a_projection_has_no_scale_where_its_spacing_may_be_that_of_the_detector(
    modality, detector, said, tmp_path
):
    spacing, warned = scale_of(tmp_path, Modality=modality, PixelSpacing=["0.2", "0.2"], **detector)
    assert spacing is None
    assert said in warned
    assert "areas are given in pixels" in warned


@pytest.mark.parametrize(
    "tags",
    [
        {"PixelSpacingCalibrationType": "FIDUCIAL", "ImagerPixelSpacing": ["0.2", "0.2"]},
        {"PixelSpacingCalibrationType": "GEOMETRY"},
        {"ImagerPixelSpacing": ["0.25", "0.25"]},
    ],
)
def test_a_projection_has_the_scale_that_was_corrected_for_magnification(tags, tmp_path):
    spacing, said = scale_of(tmp_path, Modality="XA", PixelSpacing=["0.2", "0.2"], **tags)
    assert spacing == (0.2, 0.2)
    assert "was used" in said


def test_pixels_of_another_modality_keep_their_spacing(tmp_path):
    spacing, said = scale_of(tmp_path, Modality="MR", PixelSpacing=["0.5", "0.4"])
    assert (spacing, said) == ((0.5, 0.4), "")
    assert np.isfinite(spacing).all()
