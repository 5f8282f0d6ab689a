"""Single images that are the frames of one cine, stills that are not, and images in parts."""

import copy
import shutil

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import (
    EnhancedMRImageStorage,
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
from dicom_makers import make_enhanced
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
    assert any("1 images are there twice" in text for text in source.sequence.warnings)


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


def split_into_parts(dataset, sizes, folder, *, total=True):
    """Split a multi-frame file into the parts of a concatenation."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = len(dataset.PixelData) // int(dataset.NumberOfFrames)
    begin, paths = 0, []
    for number, size in enumerate(sizes, start=1):
        part = copy.deepcopy(dataset)
        part.SOPInstanceUID = generate_uid(entropy_srcs=["part", str(number)])
        part.file_meta.MediaStorageSOPInstanceUID = part.SOPInstanceUID
        part.ConcatenationUID = "1.2.3.4.5"
        part.SOPInstanceUIDOfConcatenationSource = dataset.SOPInstanceUID
        part.InConcatenationNumber = number
        if total:
            part.InConcatenationTotalNumber = len(sizes)
        part.ConcatenationFrameOffsetNumber = begin
        part.NumberOfFrames = size
        part.PixelData = dataset.PixelData[begin * frame : (begin + size) * frame]
        if "PerFrameFunctionalGroupsSequence" in dataset:
            groups = dataset.PerFrameFunctionalGroupsSequence[begin : begin + size]
            part.PerFrameFunctionalGroupsSequence = groups
        begin += size
        # Names do not follow the order of the parts.
        paths.append(write_dicom(part, folder / f"{9 - number}.dcm"))
    return paths


def make_whole():
    stored = np.random.default_rng(0).integers(0, 900, (9, 10, 12)).astype(np.uint16)
    dataset = make_enhanced(stored, modality="MR", intercept=0, order=[4, 0, 7, 2, 1, 8, 3, 5, 6])
    assert dataset.SOPClassUID == EnhancedMRImageStorage
    return stored, dataset


@pytest.mark.parametrize("sizes", [(5, 4), (2, 3, 4), (1, 8)])
@pytest.mark.parametrize("named", ["folder", "part"])
@pytest.mark.parametrize("opened", ["trusted", "untrusted"])
def test_a_concatenation_is_the_whole_scan(tmp_path, sizes, named, opened):
    stored, dataset = make_whole()
    whole = open_source(write_dicom(dataset, tmp_path / "whole.dcm"))
    paths = split_into_parts(dataset, sizes, tmp_path / "s")
    opener = open_source if opened == "trusted" else open_untrusted
    if named == "folder":
        found = find_sources(tmp_path / "s")
        assert found.files == {tmp_path / "s": tuple(sorted(paths))}
        source = opener(tmp_path / "s", files=found.files[tmp_path / "s"])
    else:
        source = opener(paths[1])
        assert any("its other parts lie beside it" in text for text in source.sequence.warnings)
    assert np.array_equal(frames_of(source)[:, 0], stored)
    assert np.array_equal(source.sequence.geometry.affine, whole.sequence.geometry.affine)
    for frame, (instance, number) in enumerate(source.header.frames):
        header = source.header.instances[instance]
        position = header.PerFrameFunctionalGroupsSequence[number - 1].PlanePositionSequence[0]
        expected = source.sequence.geometry.affine @ [frame, 0, 0, 1]
        np.testing.assert_allclose(position.ImagePositionPatient, expected[:3], atol=1e-6)


def test_the_seg_of_a_concatenation_refers_to_frames_of_its_files(tmp_path):
    stored, dataset = make_whole()
    paths = split_into_parts(dataset, (5, 4), tmp_path / "s")
    source = open_source(tmp_path / "s")
    labels = LabelMap(np.ones(stored.shape, np.uint8))
    target = write_labels(
        labels, source, tmp_path / "seg.dcm", labels_spec=LABELS[:1],
        algorithm=Algorithm("a", "1", "0"), format="dicom-seg",
    )  # fmt: skip
    parts = {pydicom.dcmread(path).SOPInstanceUID: pydicom.dcmread(path) for path in paths}
    seg = pydicom.dcmread(target)
    assert len(seg.PerFrameFunctionalGroupsSequence) == 9
    for group in seg.PerFrameFunctionalGroupsSequence:
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        own = parts[image.ReferencedSOPInstanceUID].PerFrameFunctionalGroupsSequence
        place = own[image.ReferencedFrameNumber - 1].PlanePositionSequence[0]
        assert place == group.PlanePositionSequence[0]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_part_is_refused_by_its_number(tmp_path, missing):
    _, dataset = make_whole()
    paths = split_into_parts(dataset, (3, 3, 3), tmp_path / "s")
    paths[missing].unlink()
    left = [path for index, path in enumerate(paths) if index != missing]
    for refused in (lambda: open_source(tmp_path / "s"), lambda: open_source(left[0])):
        with pytest.raises(FormatError, match=rf"part {missing + 1} is missing") as error:
            refused()
        assert not any(word in str(error.value) for word in ("truncated", "epair", "xport"))


def test_a_lone_part_names_what_is_missing(tmp_path):
    _, dataset = make_whole()
    paths = split_into_parts(dataset, (3, 3, 3), tmp_path / "s")
    (tmp_path / "t").mkdir()
    lone = paths[1].rename(tmp_path / "t" / "b.dcm")
    for path in (lone, lone.parent):
        found = find_sources(path)
        files = found.files.get(found.paths[0], ())
        with pytest.raises(FormatError, match=r"3 parts .*only 2 \(b.dcm\) is there: part 1, 3"):
            open_source(found.paths[0], files=files)


def test_parts_that_do_not_say_how_many_they_are_are_taken_with_a_word(tmp_path):
    stored, dataset = make_whole()
    split_into_parts(dataset, (5, 4), tmp_path / "s", total=False)
    source = open_source(tmp_path / "s")
    assert np.array_equal(frames_of(source)[:, 0], stored)
    assert any("do not say how many there are; 2 were found" in text
               for text in source.sequence.warnings)  # fmt: skip


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({"ConcatenationFrameOffsetNumber": 7}, "7 frames of its image lie in the parts before"),
        ({"InConcatenationNumber": 1}, "both say that they are part 1"),
        ({"InConcatenationNumber": 0}, "does not say which"),
        ({"PixelRepresentation": 1}, "differ in PixelRepresentation"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path, edit, says):
    _, dataset = make_whole()
    paths = split_into_parts(dataset, (5, 4), tmp_path / "s")
    part = pydicom.dcmread(paths[1])
    for keyword, value in edit.items():
        setattr(part, keyword, value)
    write_dicom(part, paths[1])
    with pytest.raises(FormatError, match=says):
        open_source(tmp_path / "s")


def test_a_copy_of_a_part_is_taken_once(tmp_path):
    stored, dataset = make_whole()
    paths = split_into_parts(dataset, (5, 4), tmp_path / "s")
    shutil.copy(paths[0], tmp_path / "s" / "copy.dcm")
    assert np.array_equal(frames_of(open_source(tmp_path / "s"))[:, 0], stored)


def test_a_cine_in_parts_is_one_cine(tmp_path):
    pixels = make_fan(7)
    dataset = make_dicom(pixels)
    split_into_parts(dataset, (4, 3), tmp_path / "s")
    source = open_source(tmp_path / "s")
    assert np.array_equal(frames_of(source)[:, 0], pixels)
    assert source.sequence.frame_time_ms == 40
    assert source.header.frames == tuple((i // 4, i % 4 + 1) for i in range(7))


def test_two_images_in_parts_are_two_cases(tmp_path):
    _, dataset = make_whole()
    split_into_parts(dataset, (5, 4), tmp_path / "s" / "one")
    other = copy.deepcopy(dataset)
    other.SeriesInstanceUID = "1.2.9"
    split_into_parts(other, (5, 4), tmp_path / "s" / "two")
    assert len(find_sources(tmp_path / "s").files) == 2


def test_a_select_reaches_the_parts(tmp_path):
    stored, dataset = make_whole()
    for index, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        content = Dataset()
        content.TemporalPositionIndex = 1
        content.StackID = "1"
        content.InStackPositionNumber = index + 1
        group.FrameContentSequence = [content]
    split_into_parts(dataset, (5, 4), tmp_path / "s")
    source = open_source(tmp_path / "s", select={"time": 1})
    assert np.array_equal(frames_of(source)[:, 0], stored)
    with pytest.raises(FormatError, match="--select time=2"):
        open_source(tmp_path / "s", select={"time": 2})
