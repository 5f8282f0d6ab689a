"""Compressed slices on the page: the values of the same file without compression, to the bit."""

import json
import subprocess
import zipfile

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import RLELossless

from dicom_makers import make_slices, write_series
from dicom_node_for_tests import need_dcmtk
from makers import make_dicom, make_fan, write_dicom
from page_makers import run_node

CT = {
    "PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15, "RescaleSlope": 1,
    "RescaleIntercept": -1024, "Modality": "CT",
}  # fmt: skip
MR = {"BitsStored": 12, "HighBit": 11, "Modality": "MR"}
FAN = make_fan(2, 40, 52).astype(np.uint16)
NOISE = np.random.default_rng(5).integers(-32768, 32767, (2, 40, 52)).astype(np.int16)


def make_all(folder):
    """Files without compression, by what they are."""
    datasets = {
        "ct": make_dicom(NOISE.view(np.uint16), tags=CT),
        "mr": make_dicom(FAN * 16 + 3, tags=MR),
        "inverted": make_dicom(FAN * 16, tags={**MR, "PhotometricInterpretation": "MONOCHROME1"}),
        "8 bits": make_dicom(FAN.astype(np.uint8)),
    }
    return {name: write_dicom(each, folder / f"{name}.dcm") for name, each in datasets.items()}


def compress(path, *options):
    target = path.with_name(f"{path.stem}{''.join(options)}.dcm")
    subprocess.run(
        [need_dcmtk("dcmcjpeg"), *options, path, target], check=True, capture_output=True
    )
    return target


def compress_rle(path):
    dataset = dcmread(path)
    dataset.compress(RLELossless)
    return write_dicom(dataset, path.with_name(f"{path.stem} rle.dcm"))


def read_all(folder, paths):
    found = run_node("read.mjs", folder, *paths)
    assert not [each["error"] for each in found if "error" in each]
    return [(folder / f"{number}.raw").read_bytes() for number in range(len(paths))]


def test_rle_of_16_bits_has_the_values_of_the_file_without_compression(tmp_path):
    plain = list(make_all(tmp_path).values())
    compressed = [compress_rle(path) for path in plain]
    assert read_all(tmp_path, compressed) == read_all(tmp_path, plain)


def test_lossless_jpeg_by_dcmtk_has_the_values_of_the_file_without_compression(tmp_path):
    files = make_all(tmp_path)
    pairs = [(path, compress(path, "+e1")) for path in files.values()]
    # Every predictor; with 16 bits some of them overflow in dcmtk itself.
    pairs += [
        (files["mr"], compress(files["mr"], "+el", "+sv", str(predictor)))
        for predictor in range(1, 8)
    ]
    syntaxes = {dcmread(path).file_meta.TransferSyntaxUID for _, path in pairs}
    assert syntaxes == {"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"}
    wanted = read_all(tmp_path, [plain for plain, _ in pairs])
    assert read_all(tmp_path, [packed for _, packed in pairs]) == wanted
    assert len(set(wanted)) == len(files)


def test_damaged_lossless_jpeg_is_refused_in_words(tmp_path):
    whole = compress(make_all(tmp_path)["mr"], "+e1")
    content = whole.read_bytes()
    begin = content.index(b"\xff\xd8\xff")
    paths = []
    for number, place in enumerate(range(begin, begin + 120)):
        paths.append(tmp_path / f"spoiled{number}.dcm")
        paths[-1].write_bytes(
            content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]
        )
    found = run_node("read.mjs", tmp_path, *paths)
    assert all("count" in each or each["error"] for each in found)
    assert not any("undefined" in each.get("error", "") for each in found)
    assert sum("error" in each for each in found) > 10


@pytest.mark.parametrize("packing", ["rle", "jpeg"])
def test_a_zip_of_compressed_slices_is_opened(tmp_path, packing):
    values = np.random.default_rng(1).integers(0, 1000, (4, 16, 16)).astype(np.uint16)
    paths = write_series(make_slices(values), tmp_path / "series")
    packed = [compress_rle(path) if packing == "rle" else compress(path, "+e1") for path in paths]
    for name, members in (("plain", paths), ("packed", packed)):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for path in members:
                archive.write(path, path.name)
    plain, found = (
        run_node("series.mjs", tmp_path / f"{name}.zip") for name in ("plain", "packed")
    )
    assert found == plain
    assert found["count"] == 4
    assert len({json.dumps(each) for each in found["values"]}) == 4
