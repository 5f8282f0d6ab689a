"""Label maps as .seg.nrrd: segments, places, and memory."""

import gzip

import numpy as np
import pytest

from bedside.io.source import Algorithm, find_sources, open_source, write_labels
from bedside.volume import LabelMap
from makers import LABELS, make_fan, make_labels, write_picture
from volume_makers import ORIENTATIONS, centroid_mm, draw_phantom, make_geometry

SCAN = np.arange(24, dtype=np.int16).reshape(2, 3, 4) - 1000


TYPES = {"i1": "int8", "u1": "uchar", "i2": "short", "u2": "unsigned short", "i4": "int",
         "u4": "uint32", "i8": "long long", "f4": "float", "f8": "double"}  # fmt: skip


def write_nrrd(path, array=SCAN, *, fields=None, before=b""):
    """Write (D, H, W), or more axes, as NRRD; a field of None is left out."""
    big = array.dtype.byteorder == ">"
    axes = array.ndim
    lines = {
        "type": TYPES[array.dtype.str[1:]],
        "dimension": str(axes),
        "space": "left-posterior-superior",
        "sizes": " ".join(str(size) for size in array.shape[::-1]),
        "space directions": "(0.5,0,0) (0,0.75,0) (0,0,2)" + " none" * (axes - 3),
        "endian": "big" if big else "little",
        "encoding": "raw",
        "space origin": "(10,-20,30)",
    }
    lines |= fields or {}
    voxels = array.tobytes()
    if lines["encoding"] in ("gzip", "gz"):
        voxels = gzip.compress(voxels)
    text = "NRRD0005\n# a comment\n"
    text += "".join(f"{key}: {value}\n" for key, value in lines.items() if value is not None)
    text += "a key:=and: its value\n"
    if "data file" in lines:
        path.write_bytes(text.encode())
        (path.parent / lines["data file"]).write_bytes(before + voxels)
    else:
        path.write_bytes(text.encode() + b"\n" + before + voxels)
    return path


def _write(labels, source, target):
    return write_labels(
        LabelMap(labels), source, target, labels_spec=LABELS,
        algorithm=Algorithm("a", "1", "0"), format="seg-nrrd",
    )  # fmt: skip


def test_segments_have_names_colours_values_extents_and_codes(tmp_path):
    nrrd = pytest.importorskip("nrrd")
    source = open_source(write_nrrd(tmp_path / "a.nrrd"))
    labels = np.zeros(SCAN.shape, np.uint8)
    labels[1, 1:, 2:] = 1
    labels[0, 0, 0] = 3
    target = _write(labels, source, tmp_path / "a.seg.nrrd")
    array, header = nrrd.read(str(target))
    assert (array == labels.transpose(2, 1, 0)).all()
    assert array.dtype == np.uint8
    assert header["space"] == "left-posterior-superior"
    assert header["encoding"] == "gzip"
    assert header["space origin"].tolist() == [10, -20, 30]
    assert header["Segment0_ID"] == "Segment_1"
    assert header["Segment0_Name"] == "LV cavity"
    assert header["Segment0_LabelValue"] == "1"
    assert header["Segment0_Layer"] == "0"
    assert header["Segment0_Extent"] == "2 3 1 2 1 1"
    assert header["Segment1_Extent"] == "0 -1 0 -1 0 -1"
    assert header["Segment2_Extent"] == "0 0 0 0 0 0"
    color = [float(part) for part in header["Segment0_Color"].split()]
    np.testing.assert_allclose(color, np.array(LABELS[0].color) / 255, atol=1e-5)
    assert (
        "SCT^91723000^Anatomical Structure~SCT^87878005^Left ventricle" in header["Segment0_Tags"]
    )
    assert header["Segment0_Tags"].startswith("TerminologyEntry:")
    assert header["Segmentation_SourceRepresentation"] == "Binary labelmap"
    assert header["Segmentation_ContainedRepresentationNames"] == "Binary labelmap|"
    assert "Segment3_ID" not in header


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_the_phantom_stays_where_it_was_through_reader_and_writer(tmp_path, order, signs):
    sitk = pytest.importorskip("SimpleITK")
    spacing = (2.0, 0.75, 0.5)
    geometry = make_geometry((9, 14, 20), spacing, order, signs, tilt=0.3)
    middle = (geometry.affine @ (4, 5, 12, 1))[:3]
    phantom = draw_phantom(geometry, middle, 3.0).astype(np.uint8)
    vectors = [
        "(" + ",".join(repr(float(n)) for n in geometry.affine[:3, a]) + ")" for a in (2, 1, 0)
    ]
    origin = "(" + ",".join(repr(float(n)) for n in geometry.affine[:3, 3]) + ")"
    fields = {"space directions": " ".join(vectors), "space origin": origin, "encoding": "gzip"}
    source = open_source(write_nrrd(tmp_path / "a.nrrd", phantom, fields=fields))
    labels = np.stack([frame[0] for frame in source.sequence])
    image = sitk.ReadImage(str(_write(labels, source, tmp_path / "a.seg.nrrd")))
    stored = sitk.GetArrayFromImage(image)
    index = np.argwhere(stored == 1).mean(axis=0)[::-1]
    theirs = image.TransformContinuousIndexToPhysicalPoint(index.tolist())
    np.testing.assert_allclose(theirs, centroid_mm(phantom, geometry), atol=1e-6)


def test_a_film_has_no_place_and_its_known_spacing(tmp_path):
    nrrd = pytest.importorskip("nrrd")
    source = open_source(write_picture(make_fan(1)[0], tmp_path / "a.png"))
    _, header = nrrd.read(str(_write(make_labels(1), source, tmp_path / "a.seg.nrrd")))
    assert "space" not in header
    assert np.isnan(header["spacings"]).all()


def test_a_mask_beside_its_scan_is_not_taken_for_an_image(tmp_path):
    source = open_source(write_nrrd(tmp_path / "scan.nrrd"))
    _write(np.ones(SCAN.shape, np.uint8), source, tmp_path / "scan.seg.nrrd")
    found = find_sources(tmp_path)
    assert found.paths == (tmp_path / "scan.nrrd",)
    assert "scan.seg.nrrd" in found.skipped[0]


def test_a_large_label_map_is_written_without_a_second_copy(tmp_path):
    import tracemalloc

    source = open_source(write_picture(make_fan(1)[0], tmp_path / "a.png"))
    labels = np.zeros((100, 400, 400), np.uint8)
    labels[20:80, 100:300, 100:300] = 2
    tracemalloc.start()
    _write(labels, source, tmp_path / "a.seg.nrrd")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # bincount counts a slice as int64: eight times a slice, and some slices more.
    assert peak < labels.nbytes / 5
