"""The page's readers of DICOM and NIfTI beside Python's, in node."""

import re
from dataclasses import replace

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from bedside.bundle import find_bundle, read_bundle
from bedside.io.source import open_source
from bedside.pipeline.axis_roles import UNKNOWN_AXIS, resolve_axes
from makers import make_dicom, make_fan, make_region, write_dicom, write_nifti
from page_makers import run_node

TYPES = {
    "Float32Array": "float32",
    "Uint8Array": "uint8",
    "Float64Array": "float64",
    "Int16Array": "int16",
}
FAN = make_fan(3, 40, 52)
COLOUR = np.random.default_rng(0).integers(0, 256, (3, 40, 52, 3), np.uint8)
SPEC = read_bundle(find_bundle("camus-4ch")).spec
REGION = (5, 4, 45, 35)


def compress_rle(dataset):
    dataset.compress(RLELossless)
    return dataset


def make_jpeg2000():
    """Named only: the page refuses it before it looks at the pixels."""
    dataset = make_dicom(FAN)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([bytes(8)] * len(FAN))
    return dataset


def make_implicit():
    dataset = make_dicom(FAN, regions=[make_region(REGION)])
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return dataset


def make_planar():
    dataset = make_dicom(COLOUR, tags={"PlanarConfiguration": 1})
    dataset.PixelData = np.ascontiguousarray(np.moveaxis(COLOUR, -1, 1)).tobytes()
    return dataset


DICOM = {
    "grey": lambda: make_dicom(FAN, regions=[make_region(REGION)]),
    "one frame": lambda: make_dicom(FAN[:1], tags={"PixelSpacing": [0.3, 0.2]}),
    "inverted": lambda: make_dicom(FAN, tags={"PhotometricInterpretation": "MONOCHROME1"}),
    "implicit": make_implicit,
    "colour": lambda: make_dicom(COLOUR),
    "planar": make_planar,
    "luminance": lambda: make_dicom(COLOUR, tags={"PhotometricInterpretation": "YBR_FULL"}),
    "rle": lambda: compress_rle(make_dicom(FAN)),
    "rle in colour": lambda: compress_rle(make_dicom(COLOUR)),
    "calibrated": lambda: make_dicom(
        FAN, tags={"PixelSpacing": [0.3, 0.2], "PixelSpacingCalibrationType": "GEOMETRY"}
    ),
    "a projection": lambda: make_dicom(
        FAN, tags={"Modality": "DX", "PixelSpacing": [0.3, 0.2], "ImagerPixelSpacing": [0.3, 0.2]}
    ),
    "a bare projection": lambda: make_dicom(
        FAN, tags={"Modality": "CR", "PixelSpacing": [0.3, 0.2], "PixelAspectRatio": ["2", "1"]}
    ),
    "a corrected projection": lambda: make_dicom(
        FAN, tags={"Modality": "XA", "PixelSpacing": [0.3, 0.2], "ImagerPixelSpacing": [0.4, 0.4]}
    ),
    "two regions": lambda: make_dicom(
        FAN, regions=[make_region((0, 0, 6, 6)), make_region(REGION, delta_cm=(-0.02, 0.03))]
    ),
    "an inset": lambda: make_dicom(
        FAN, regions=[make_region((8, 8, 20, 20), delta_cm=(0.01, 0.01)), make_region(REGION)]
    ),
    "a region one pixel too wide": lambda: make_dicom(FAN, regions=[make_region((5, 4, 52, 40))]),
    "a region of another frame": lambda: make_dicom(FAN, regions=[make_region((5, 4, 90, 35))]),
    "a spectrum": lambda: make_dicom(FAN, regions=[make_region(REGION, spatial_format=3)]),
    "no unit": lambda: make_dicom(FAN, regions=[make_region(REGION, units=0)]),
}


def check_sequence(found, pixels, sequence):
    """The page has read what Python reads: pixels, region, scale, times."""
    assert "error" not in found, found
    frames, channels, height, width = sequence.shape
    assert (found["count"], found["height"], found["width"]) == (frames, height, width)
    assert found["channels"] == channels
    ours = pixels.view(TYPES[found["dtype"]]).reshape(frames, height, width, channels)
    theirs = np.stack([np.moveaxis(sequence.decode(index), 0, -1) for index in range(frames)])
    assert np.array_equal(ours, theirs)
    box = sequence.region
    assert found.get("region") == (
        None
        if box is None
        else {"top": box.top, "left": box.left, "bottom": box.bottom, "right": box.right}
    )
    if found.get("pixelAspect") is not None or sequence.pixel_aspect is not None:
        assert found["pixelAspect"] == pytest.approx(sequence.pixel_aspect)
    if sequence.spacing_mm is None:
        assert found["spacingMm"] is None
        assert any("areas are given in pixels" in text for text in found["warnings"])
    else:
        assert found["spacingMm"] == pytest.approx(sequence.spacing_mm, rel=1e-6)


def test_dicom_is_read_as_python_reads_it(tmp_path):
    paths = [
        write_dicom(make(), tmp_path / f"{number}.dcm")
        for number, make in enumerate(DICOM.values())
    ]
    for number, (path, found) in enumerate(
        zip(paths, run_node("read.mjs", tmp_path, *paths), strict=True)
    ):
        sequence = open_source(path).sequence
        check_sequence(found, np.fromfile(tmp_path / f"{number}.raw", np.uint8), sequence)
        assert found["modality"] == sequence.modality
        assert found.get("frameMs") == sequence.frame_time_ms


def test_nifti_is_read_as_python_reads_it(tmp_path):
    grey = np.ascontiguousarray(FAN.transpose(2, 1, 0))
    arrays = {
        "frame.nii.gz": (grey[..., 0], (0.4, 0.6, 1.0)),
        "film.nii": (grey, (0.4, 0.6, 1.0)),
        "no-scale.nii.gz": (grey, (1.0, 1.0, 1.0)),
        "coarse.nii.gz": (grey, (3.0, 2.5, 1.0)),
        "tiny.nii": (grey, (0.004, 0.02, 1.0)),
        "words.nii": (grey.astype(np.int16) * 3, (0.4, 0.6, 1.0)),
        "fractions.nii.gz": (grey / 255.0, (0.4, 0.6, 1.0)),
    }
    paths = [
        write_nifti(array, tmp_path / name, spacing_mm=spacing)
        for name, (array, spacing) in arrays.items()
    ]
    for number, (path, found) in enumerate(
        zip(paths, run_node("read.mjs", tmp_path, *paths), strict=True)
    ):
        assert "error" not in found, found
        frames = open_source(path).sequence
        pixels = np.fromfile(tmp_path / f"{number}.raw", TYPES[found["dtype"]])
        theirs = np.stack([frames.decode(index)[0] for index in range(len(frames))])
        np.testing.assert_array_equal(pixels.reshape(theirs.shape), theirs)
        for modality, scale in found["scales"].items():
            spec = replace(SPEC, input=replace(SPEC.input, modality=modality))
            resolved = resolve_axes(frames, spec)
            wanted = resolved.spacing_mm
            assert scale["spacingMm"] == (None if wanted is None else pytest.approx(wanted))
            told = (
                len(resolved.warnings) - len(frames.warnings) - (UNKNOWN_AXIS in resolved.warnings)
            )
            assert len(scale["scaleWarnings"]) == told, (path, modality, resolved.warnings)


def test_files_that_are_damaged_or_not_read_are_refused_in_words(tmp_path):
    whole = write_dicom(make_dicom(FAN), tmp_path / "whole.dcm").read_bytes()
    rle = write_dicom(compress_rle(make_dicom(FAN)), tmp_path / "rle.dcm").read_bytes()
    nifti = write_nifti(FAN.transpose(2, 1, 0), tmp_path / "a.nii").read_bytes()
    contents = {
        "cut.dcm": (whole[:-500], "truncated"),
        "cut-header.dcm": (whole[:400], "truncated|missing|no image"),
        "cut-rle.dcm": (rle[:-700], "truncated"),
        "cut.nii": (nifti[:-100], "truncated"),
        "zipped.nii.gz": (b"\x1f\x8b" + bytes(40), "truncated or damaged"),
        "big-endian.nii": (b"\0\0\x01\x5c" + nifti[4:], "big-endian"),
    }
    palette = {"PhotometricInterpretation": "PALETTE COLOR"}
    datasets = {
        "jpeg2000.dcm": (make_jpeg2000(), "its compression .1.2.840.10008.1.2.4.90."),
        "palette.dcm": (make_dicom(FAN, tags=palette), "PALETTE"),
        "no-rows.dcm": (make_dicom(FAN, drop=["Rows"]), "missing"),
        "no-pixels.dcm": (make_dicom(FAN, drop=["PixelData"]), "no image"),
        "huge.dcm": (make_dicom(FAN, tags={"NumberOfFrames": 2_000_000}), "over 2 GiB"),
    }
    for name, (content, _) in contents.items():
        (tmp_path / name).write_bytes(content)
    for name, (dataset, _) in datasets.items():
        write_dicom(dataset, tmp_path / name)
    expected = contents | datasets
    found = run_node("read.mjs", tmp_path, *(tmp_path / name for name in expected))
    for (name, (_, words)), result in zip(expected.items(), found, strict=True):
        assert re.search(words, result.get("error", "")), (name, result)


def test_images_that_are_only_shown_say_why_and_keep_their_values(tmp_path):
    slope = {"RescaleSlope": 2, "RescaleIntercept": -5}
    window = {"WindowCenter": 40, "WindowWidth": 400, "BitsStored": 12, "HighBit": 11}
    words = FAN.astype(np.uint16) * 9
    datasets = {
        "words": (make_dicom(words, tags=window | slope), "have 12 bits", words * 2.0 - 5),
        "rescaled": (make_dicom(FAN, tags=slope), "rescaled", FAN),
        "padded": (make_dicom(FAN, tags={"PixelPaddingValue": 7}), "PixelPaddingValue", FAN),
    }
    paths = [write_dicom(each[0], tmp_path / f"{name}.dcm") for name, each in datasets.items()]
    found = run_node("read.mjs", tmp_path, *paths)
    for number, (_, said, values) in enumerate(datasets.values()):
        assert said in found[number]["refused"]
        dtype = TYPES[found[number]["dtype"]]
        shown = np.fromfile(tmp_path / f"{number}.raw", dtype).reshape(values.shape)
        assert np.array_equal(shown, values)
    assert found[0]["range"] == {"low": -5, "high": 8185, "level": 40, "width": 400}


def test_no_byte_of_a_header_that_is_wrong_ends_the_reader(tmp_path):
    """Each of the first bytes set to 255 is read or refused, and in time."""
    whole = write_dicom(make_dicom(FAN[:1], regions=[make_region(REGION)]), tmp_path / "a.dcm")
    content = whole.read_bytes()
    header = len(content) - FAN[0].size
    paths = []
    for place in range(132, header, 5):
        spoiled = bytearray(content)
        spoiled[place] = 255
        paths.append(tmp_path / f"spoiled{place}.dcm")
        paths[-1].write_bytes(spoiled)
    found = run_node("read.mjs", tmp_path, *paths)
    assert len(found) == len(paths)
    assert all("count" in each or each["error"] for each in found)
    assert not any("undefined" in each.get("error", "") for each in found)
