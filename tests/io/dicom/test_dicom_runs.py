"""Single images that are the frames of one cine, stills that are not, and images in parts."""

import shutil

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    RLELossless,
    UltrasoundMultiFrameImageStorage,
    VLEndoscopicImageStorage,
    generate_uid,
)

from bedside.errors import FormatError, GeometryError
from bedside.io.discovery import find_sources
from bedside.io.sandbox.parent import find_untrusted, open_untrusted
from bedside.io.source import Algorithm, open_source, write_labels
from bedside.volume import LabelMap
from makers import LABELS, make_dicom, make_fan, make_region, write_dicom

pytest_plugins = ["memory_fixtures"]
pytestmark = pytest.mark.usefixtures("in_little_memory")

REGION = (0, 0, 63, 47)


def clock(ms):
    """Time of day, 10:10:10 and some milliseconds."""
    seconds, rest = divmod(ms, 1000)
    minutes, seconds = divmod(10 + seconds, 60)
    return f"10{10 + minutes:02d}{seconds:02d}.{rest:03d}"


def write_frames(folder, pixels, *, names=None, regions=None, edit=None, **tags):
    """Write each frame of an ultrasound cine as a file of its own, in files of any order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, frame in enumerate(pixels):
        dataset = make_dicom(frame[None], regions=regions or [make_region(REGION)])
        name = names[index] if names else f"IM{index:03d}"
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(folder), name])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.StudyDate = "20260101"
        for keyword, value in tags.items():
            setattr(dataset, keyword, value(index) if callable(value) else value)
        if edit:
            edit(dataset, index)
        paths.append(write_dicom(dataset, folder / name))
    return paths


def open_only(folder):
    found = find_sources(folder)
    assert len(found.paths) == 1
    return open_source(found.paths[0], files=found.files.get(found.paths[0], ()))


def frames_of(source):
    return np.stack(list(source.sequence))


ORDERS = {
    "number": {"InstanceNumber": lambda i: i + 1},
    "acquisition moment": {"AcquisitionDateTime": lambda i: f"20260101{clock(40 * i)}"},
    "acquisition time": {
        "AcquisitionDate": "20260101",
        "AcquisitionTime": lambda i: clock(40 * i),
    },
    "content time": {"ContentTime": lambda i: clock(40 * i)},
    "number and one time": {"InstanceNumber": lambda i: i + 1, "ContentTime": "101010"},
    "whole seconds": {
        "InstanceNumber": lambda i: i + 1,
        "ContentTime": lambda i: f"1010{10 + i // 3}",
    },
    "creation": {
        "InstanceCreationDate": "20260101",
        "InstanceCreationTime": lambda i: clock(40 * i),
    },
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("modality", ["US", "IVUS", "XA", "RF", "ES"])
def test_single_images_become_one_cine_in_their_order(tmp_path, order, modality):
    pixels = make_fan(7, seed=3)
    names = [f"IM{number}" for number in [4, 2, 6, 0, 5, 1, 3]]
    write_frames(tmp_path / "s", pixels, names=names, Modality=modality, **ORDERS[order])
    source = open_only(tmp_path / "s")
    assert np.array_equal(frames_of(source)[:, 0], pixels)
    timed = order not in ("number", "number and one time", "whole seconds")
    assert source.sequence.frame_time_ms == (pytest.approx(40) if timed else None)
    assert any("7 single images of one series" in text for text in source.sequence.warnings)
    assert source.sequence.geometry is None


def test_a_cine_of_single_images_has_its_scale_and_refers_to_each_file(tmp_path):
    pixels = make_fan(4)
    paths = write_frames(tmp_path / "s", pixels, names=["d", "b", "a", "c"],
                         InstanceNumber=lambda i: i + 1, FrameTime="20")  # fmt: skip
    source = open_only(tmp_path / "s")
    assert source.sequence.spacing_mm == (0.5, 0.5)
    assert source.sequence.region is not None
    assert source.sequence.frame_time_ms == 20
    labels = LabelMap(np.stack([np.full((48, 64), index % 2, np.uint8) for index in range(4)]))
    target = write_labels(
        labels, source, tmp_path / "seg.dcm", labels_spec=LABELS[:1],
        algorithm=Algorithm("a", "1", "0"), format="dicom-seg",
    )  # fmt: skip
    seg = pydicom.dcmread(target)
    referred = [
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        for group in seg.PerFrameFunctionalGroupsSequence
    ]
    assert referred == [pydicom.dcmread(path).SOPInstanceUID for path in paths]
    assert len(seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 4


def test_a_one_frame_file_of_a_multi_frame_class_is_referred_to_by_its_frame(tmp_path):
    def edit(dataset, index):
        dataset.NumberOfFrames = 1
        dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
        dataset.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage

    write_frames(tmp_path / "s", make_fan(3), InstanceNumber=lambda i: i + 1, edit=edit)
    assert open_only(tmp_path / "s").header.frames == ((0, 1), (1, 1), (2, 1))


def test_a_cine_of_single_images_has_the_proportions_of_its_pixels(tmp_path):
    write_frames(tmp_path / "s", make_fan(3), Modality="XA", InstanceNumber=lambda i: i + 1,
                 PixelAspectRatio=[2, 1], SequenceOfUltrasoundRegions=[])  # fmt: skip
    assert open_only(tmp_path / "s").sequence.pixel_aspect == 2


def test_colour_and_compression_do_not_keep_frames_apart(tmp_path):
    grey = make_fan(3)
    pixels = np.stack([grey, grey // 2, grey // 3], axis=-1)

    def edit(dataset, index):
        dataset.SOPClassUID = VLEndoscopicImageStorage
        dataset.file_meta.MediaStorageSOPClassUID = VLEndoscopicImageStorage
        pydicom.pixels.compress(dataset, RLELossless, generate_instance_uid=False)

    write_frames(tmp_path / "s", pixels, Modality="ES", ContentTime=lambda i: clock(33 * i),
                 edit=edit)  # fmt: skip
    source = open_only(tmp_path / "s")
    assert np.array_equal(frames_of(source), pixels.transpose(0, 3, 1, 2))
    other = open_untrusted(
        tmp_path / "s", files=find_untrusted(tmp_path / "s").files[tmp_path / "s"]
    )
    assert np.array_equal(frames_of(other), frames_of(source))
    assert other.sequence.warnings == source.sequence.warnings


STILLS = {
    "twenty seconds apart": {"ContentTime": lambda i: clock(20_000 * i)},
    "three seconds apart": {
        "AcquisitionDateTime": lambda i: f"20260101{clock(3_000 * i)}",
        "InstanceNumber": lambda i: i + 1,
    },
    "of several views": {
        "InstanceNumber": lambda i: i + 1,
        "ViewName": lambda i: f"view {i}",
    },
    "of several angles": {
        "InstanceNumber": lambda i: i + 1,
        "PositionerPrimaryAngle": lambda i: str(10 * i),
    },
    "of several scales": {
        "InstanceNumber": lambda i: i + 1,
        "SequenceOfUltrasoundRegions": lambda i: [
            make_region(REGION, delta_cm=(0.05 + 0.01 * i, 0.05))
        ],
    },
    "without any order": {},
    "with one number": {"InstanceNumber": "1"},
    "of several series": {
        "InstanceNumber": lambda i: i + 1,
        "SeriesInstanceUID": lambda i: f"1.2.{i}",
    },
    "of a photograph": {"InstanceNumber": lambda i: i + 1, "Modality": "XC"},
}


@pytest.mark.parametrize("kind", STILLS)
def test_stills_stay_a_case_each(tmp_path, kind):
    paths = write_frames(tmp_path / "s", make_fan(5), **STILLS[kind])
    found = find_sources(tmp_path / "s")
    assert found.paths == tuple(paths)
    assert found.files == {}
    assert len(found.notes) == (kind not in ("of several series", "of a photograph"))
    assert find_untrusted(tmp_path / "s") == found


def test_two_images_are_stills(tmp_path):
    write_frames(tmp_path / "s", make_fan(2), InstanceNumber=lambda i: i + 1)
    assert len(find_sources(tmp_path / "s").paths) == 2


def test_images_of_two_sizes_are_two_cines_and_it_is_said(tmp_path):
    small = write_frames(tmp_path / "s", make_fan(4, 40, 48), regions=[make_region((0, 0, 40, 30))],
                         names=list("abcd"), InstanceNumber=lambda i: i + 1)  # fmt: skip
    large = write_frames(tmp_path / "s", make_fan(3), names=list("efg"),
                         InstanceNumber=lambda i: i + 5)  # fmt: skip
    found = find_sources(tmp_path / "s")
    assert sorted(found.files.values()) == [tuple(small), tuple(large)]
    assert "2 cases" in found.notes[0]
    assert "Rows, Columns" in found.notes[0]


def test_a_pause_parts_two_cines(tmp_path):
    paths = write_frames(
        tmp_path / "s", make_fan(9),
        ContentTime=lambda i: clock(40 * i + (60_000 if i > 3 else 0)),
    )  # fmt: skip
    found = find_sources(tmp_path / "s")
    assert sorted(found.files.values()) == [tuple(paths[:4]), tuple(paths[4:])]
    assert found.notes[0].endswith("are 2 cases: they were taken more than 2 s apart.")


def test_a_slow_cine_that_says_its_pace_is_one(tmp_path):
    write_frames(tmp_path / "s", make_fan(4), FrameTime="4000",
                 ContentTime=lambda i: clock(4000 * i))  # fmt: skip
    assert open_only(tmp_path / "s").sequence.frame_time_ms == 4000


def test_uneven_times_go_to_each_frame(tmp_path):
    starts = [0, 30, 90, 120]
    write_frames(tmp_path / "s", make_fan(4), AcquisitionDate="20260101",
                 AcquisitionTime=lambda i: clock(starts[i]))  # fmt: skip
    assert open_only(tmp_path / "s").sequence.frame_starts_ms == pytest.approx(starts)


def test_times_of_acquisition_go_before_numbers_and_numbers_before_other_times(tmp_path):
    pixels = make_fan(4)
    numbers = [3, 1, 2, 4]
    write_frames(tmp_path / "a", pixels, InstanceNumber=lambda i: numbers[i],
                 AcquisitionDateTime=lambda i: f"20260101{clock(40 * i)}")  # fmt: skip
    source = open_only(tmp_path / "a")
    assert np.array_equal(frames_of(source)[:, 0], pixels)
    assert any("another order" in text for text in source.sequence.warnings)
    write_frames(tmp_path / "b", pixels, InstanceNumber=lambda i: i + 1,
                 ContentTime=lambda i: clock(40 * numbers[i]))  # fmt: skip
    assert np.array_equal(frames_of(open_only(tmp_path / "b"))[:, 0], pixels)


def test_a_missing_number_is_said(tmp_path):
    write_frames(tmp_path / "s", make_fan(4), InstanceNumber=lambda i: [1, 2, 4, 5][i])
    warnings = open_only(tmp_path / "s").sequence.warnings
    assert any("no file has InstanceNumber 3" in text for text in warnings)
    assert any("say no times" in text for text in warnings)


def test_a_copy_of_a_frame_is_taken_once(tmp_path):
    paths = write_frames(tmp_path / "s", make_fan(4), InstanceNumber=lambda i: i + 1)
    shutil.copy(paths[1], tmp_path / "s" / "copy")
    source = open_only(tmp_path / "s")
    assert np.array_equal(frames_of(source)[:, 0], make_fan(4))
    assert any(
        "1 image is there twice, and was used once" in text for text in source.sequence.warnings
    )


def test_a_cine_and_the_stills_beside_it_are_told_apart(tmp_path):
    frames = write_frames(tmp_path / "s", make_fan(4), ContentTime=lambda i: clock(40 * i))
    stills = write_frames(tmp_path / "s", make_fan(2), names=["x", "y"],
                          ContentTime=lambda i: clock(60_000 + 30_000 * i))  # fmt: skip
    film = write_dicom(make_dicom(make_fan(5)), tmp_path / "s" / "z")
    found = find_sources(tmp_path / "s")
    assert found.files == {frames[0]: tuple(frames)}
    assert found.paths == (frames[0], *stills, film)


def test_images_named_as_one_cine_must_show_one_picture(tmp_path):
    paths = write_frames(tmp_path / "s", make_fan(3), InstanceNumber=lambda i: i + 1,
                         ViewName=lambda i: f"view {i}")  # fmt: skip
    with pytest.raises(FormatError, match="differ in ViewName"):
        open_source(tmp_path / "s", files=paths)
    with pytest.raises(GeometryError, match="no order in time"):
        open_source(
            tmp_path / "t",
            files=write_frames(tmp_path / "t", make_fan(3), InstanceNumber="1"),
        )


# --- a scan in single ultrasound images ----------------------------------------------------


@pytest.mark.parametrize("colour", [False, True])
def test_ultrasound_with_positions_is_a_scan(tmp_path, colour):
    pixels = make_fan(5)
    if colour:
        pixels = np.stack([pixels] * 3, axis=-1)
    write_frames(
        tmp_path / "s", pixels, names=list("cadbe"), InstanceNumber=lambda i: 5 - i,
        FrameOfReferenceUID="1.2.3", PixelSpacing=["0.5", "0.4"],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        ImagePositionPatient=lambda i: [-10, -12, 1.5 * i],
    )  # fmt: skip
    source = open_only(tmp_path / "s")
    shown = frames_of(source)
    assert np.array_equal(shown if colour else shown[:, 0],
                          pixels.transpose(0, 3, 1, 2) if colour else pixels)  # fmt: skip
    assert source.sequence.slice_spacing_mm == pytest.approx(1.5)
    assert source.sequence.spacing_mm == (0.5, 0.4)
    assert source.sequence.geometry.affine[:3, 3].tolist() == [-10, -12, 0]


# --- concatenations --------------------------------------------------------------------------
