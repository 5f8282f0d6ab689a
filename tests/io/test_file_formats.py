"""A file format is one row: read, found, scored as truth, written, offered and named by it."""

import sys
from types import ModuleType

import numpy as np
import pytest

from bedside.datasets.case import read_case
from bedside.datasets.folder import list_cases
from bedside.errors import UsageError
from bedside.io import formats
from bedside.io.discovery import find_sources
from bedside.io.formats import FORMATS, FileFormat, LabelFormat, expected, label_formats, load
from bedside.io.source import Algorithm, default_format, encode_labels, open_source, write_labels
from bedside.volume import ImageSequence, LabelMap
from makers import LABELS, make_fan, make_labels, write_picture

WHO = {"labels_spec": LABELS, "algorithm": Algorithm("a", "1", "0")}


def _open(path, *, select=None):
    with path.open("rb") as file:
        return ImageSequence.from_array(np.load(file)), None


def _encode(labels, source, file, *, labels_spec, algorithm):
    np.save(file, labels.array)


@pytest.fixture
def npy(monkeypatch):
    """A format of our own: arrays of NumPy."""
    module = ModuleType("npy_for_tests")
    module.open_npy, module.encode_npy = _open, _encode
    monkeypatch.setitem(sys.modules, "npy_for_tests", module)
    row = FileFormat(
        name="npy",
        title="NPY",
        suffixes=(".npy",),
        begins=(b"\x93NUMPY",),
        open="npy_for_tests:open_npy",
        label_suffixes=(".npy",),
        labels=(LabelFormat("npy", ".npy", "NPY", "npy_for_tests:encode_npy"),),
    )
    monkeypatch.setitem(FORMATS, "npy", row)


@pytest.mark.usefixtures("npy")
def test_a_row_is_all_that_a_format_needs(tmp_path):
    for folder, array in (("images", make_fan()), ("masks", make_labels())):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "a.npy", array)
    found = find_sources(tmp_path)
    assert found.paths == (tmp_path / "images" / "a.npy",)
    assert "masks/a.npy is a label map" in found.skipped[0]
    source, truth = read_case(list_cases(tmp_path)[0], (1, 2, 3))
    assert np.array_equal(truth, make_labels())
    assert (source.kind, default_format(source)) == ("npy", "npy")
    written = write_labels(LabelMap(truth), source, tmp_path / "a", **WHO, format="auto")
    assert np.array_equal(np.load(written), truth)
    again = open_source(encode_labels(LabelMap(truth), source, **WHO))
    assert np.array_equal(np.concatenate(list(again.sequence)), truth)


@pytest.mark.usefixtures("npy")
def test_a_row_is_offered_and_named(tmp_path):
    assert expected().endswith("NRRD, PNG or JPEG, NPY")
    source = open_source(write_picture(make_fan(1)[0], tmp_path / "x.png"))
    for name in ("tiff", "dicom-seg"):
        with pytest.raises(UsageError, match="npy"):
            write_labels(LabelMap(make_labels(1)), source, tmp_path / "a", **WHO, format=name)


def test_every_row_names_code_that_is_there():
    for row in FORMATS.values():
        named = [
            row.open,
            row.open_labels,
            row.open_series,
            row.recognise,
            row.why_no_image,
            row.header,
        ]
        named += [each for label in row.labels for each in (label.encode, label.write)]
        assert all(load(each) is not None for each in named if each)
        assert row.default_labels in ("", *label_formats())
        assert row.labels or row.default_labels


def test_no_two_formats_claim_the_same_first_bytes(tmp_path):
    heads = [begin for row in FORMATS.values() for begin in row.begins]
    heads += [b"\0" * 128 + b"DICM", b"NRRD0004\n", b"ObjectType = Image\n"]
    for head in heads:
        assert sum(row.matches(head) for row in FORMATS.values()) == 1
    assert not any(row.matches(b"Dear colleague") for row in FORMATS.values())
    assert formats.__doc__
