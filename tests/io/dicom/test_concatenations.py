"""Parts of a concatenation are read as the one image that they were."""

import copy
import shutil

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import (
    EnhancedMRImageStorage,
    generate_uid,
)

from bedside.errors import FormatError
from bedside.io.discovery import find_sources
from bedside.io.sandbox.parent import open_untrusted
from bedside.io.source import Algorithm, open_source, write_labels
from bedside.volume import LabelMap
from dicom_makers import make_enhanced
from makers import LABELS, make_dicom, make_fan, write_dicom


def frames_of(source):
    return np.stack(list(source.sequence))


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
